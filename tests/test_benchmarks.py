"""The benchmarks' tables are what was kept: no figure is typed by hand."""

import json
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sgld_jax
from benchmarks import __main__ as benchmarks
from benchmarks import (
    accuracy,
    accuracy_page,
    agreement,
    agreement_page,
    frontier,
    image_methods,
    laws,
    lenet,
    mnist_page,
    posterior_page,
    posteriors,
    restart,
    small,
    tabular,
    tabular_page,
)
from tests.kernels import KERNELS
from tests.law import Z

RESULTS = sorted(benchmarks.RESULTS.glob("*.json"))


def test_the_readme_is_made_of_the_results_that_were_kept():
    assert RESULTS
    assert (benchmarks.HERE / "README.md").read_text() == benchmarks._readme()


README = benchmarks.HERE.parent / "README.md"
PAGE = [benchmarks._kept(name) for name in benchmarks.ON_A_PAGE]


def test_the_page_of_laws_is_made_of_them_too_and_covers_the_registry():
    page = benchmarks.LAWS.read_text()
    assert page == benchmarks._law_page()
    rows, peers = (json.loads(path.read_text())["rows"] for path in PAGE)
    assert {row["kernel"] for row in rows} == set(KERNELS)
    assert all(f"## {name}\n" in page for name in KERNELS)
    largest = max(abs(row["z"]) for row in rows)
    assert largest < Z
    said = f"{len(rows)} settings the largest |z| is {largest:.2f}"
    assert said in " ".join(page.split())
    readme = " ".join(README.read_text().split())
    assert said in readme
    same = [abs(row["z of it"]) for row in peers if row["sampler"] == "blackjax.sgld"]
    assert max(same) < Z  # an independent implementation of the same law


@pytest.mark.parametrize(
    "name",
    [
        name if name == "sgld" else pytest.param(name, marks=pytest.mark.slow)
        for name in laws.ENTRIES
        if name != "sgnht"  # half a minute; `test_sgnht.py` has its law
    ],
)
def test_the_measurement_of_laws_runs(name):
    rows = laws.of_kernel(name, 2_000, (1.0,))
    assert max(abs(row["z"]) for row in rows) < Z
    assert len(rows) >= 8 and {row["kernel"] for row in rows} == {name}


POSTERIORS = benchmarks._kept("posteriors")
TABULAR = benchmarks._kept("tabular")
HMC, SMALL = benchmarks._kept("hmc"), benchmarks._kept("small")
MNIST = [benchmarks._kept("mnist"), benchmarks._kept(*benchmarks.MNIST_FULL)]
FRONTIER, ACCURACY = (benchmarks._kept(name) for name in ("frontier", "accuracy"))
ON_PAGES = [*PAGE, POSTERIORS, TABULAR, HMC, SMALL, *MNIST, FRONTIER, ACCURACY]


def test_the_page_of_posteriors_is_made_of_what_was_kept():
    result = json.loads(POSTERIORS.read_text())
    assert benchmarks.POSTERIORS.read_text() == posterior_page.page(result)
    found = {(one["posterior"], one["sampler"]) for one in result["rows"]}
    expected = {(n, s) for n in posteriors.NAMES for s in posteriors.SAMPLERS}
    assert found == expected | {(name, "sghmc") for name in posteriors.LOGISTIC}
    for one in result["rows"]:
        if one["sampler"] == "sghmc":
            assert abs(one["worst sd"] - 1) < 0.05
    for sampler in ("mala", "baoa"):
        mine = [one for one in result["rows"] if one["sampler"] == sampler]
        assert sum(map(posteriors.passed, mine)) >= len(mine) - 2
        assert all(posteriors.passed(one) or one["warnings"] for one in mine)


def test_a_run_of_posteriors_goes_on_where_it_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(posteriors, "NAMES", ("a", "b"))
    seen = []

    def process(name, sampler, bits):
        seen.append((name, sampler, bits))
        coarse = sampler == "baoa" and bits == 32
        words = ["jax.config.update('jax_enable_x64', True)"] * coarse
        return {"seconds": 1.0, "warnings": words, "bits": bits}

    monkeypatch.setattr(posteriors, "_process", process)
    kept = tmp_path / "kept.json"
    posteriors.rows(kept, ["a"])
    assert seen == [("a", "mala", 32), ("a", "baoa", 32), ("a", "baoa", 64)] + [
        ("a", "NUTS", 64)
    ]
    seen.clear()
    rows = posteriors.rows(kept, [])
    assert {name for name, *_ in seen} == {"b"} and len(rows) == 6
    assert [one["seconds"] for one in rows] == [1.0, 2.0, 1.0] * 2


@pytest.mark.parametrize(
    "path", [x for x in RESULTS if x not in ON_PAGES], ids=lambda path: path.stem
)
def test_versions_and_machine_stand_beside_every_figure(path):
    result = json.loads(path.read_text())
    section = benchmarks._section(result)
    for fact in ("jax", "optax", "blackjax", "python"):
        assert f"{fact} {result[fact]}" in section
    assert result["case"] in benchmarks.CASES
    assert result["device"] in section or result["processor"] in section


def test_tables_are_readable():
    rows = [{"loop": "ours", "chains": 1024, "µs": 1.23456, "s": 123456.0}]
    assert benchmarks._table(rows).splitlines() == [
        "| loop | chains | µs | s |",
        "| --- | ---: | ---: | ---: |",
        "| ours | 1,024 | 1.23 | 123,456 |",
    ]


def test_the_page_of_tables_is_made_of_what_was_kept():
    result = json.loads(TABULAR.read_text())
    assert benchmarks.TABULAR.read_text() == benchmarks._tabular_page()
    counts = {}
    for one in result["rows"]:
        counts[one["data"]] = counts.get(one["data"], 0) + 1
    assert set(counts) <= {"airfoil", *tabular.SETS}
    if "on all six" in " ".join(README.read_text().split()):
        assert tabular_page.better(result["rows"]) == list(tabular.SETS)
    for name, n in counts.items():  # the first of its splits, none twice
        mine = {one["split"] for one in result["rows"] if one["data"] == name}
        assert mine == set(range(n))


def test_a_run_of_tables_goes_on_where_it_stopped(tmp_path, monkeypatch):
    asked = []

    def apart(module, data, split):
        assert module == "tabular"
        if len(asked) == 3:
            raise RuntimeError("somebody stopped it")
        asked.append((data, split))
        return {"RMSE": float(split)}

    monkeypatch.setattr(restart, "apart", apart)
    kept = tmp_path / "kept.json"
    with pytest.raises(RuntimeError, match="stopped"):
        tabular.rows(kept, ["yacht", "wine"], 2)
    asked_before, asked[:] = list(asked), []
    rows = tabular.rows(kept, ["yacht", "wine"], 2)
    assert asked_before == [("yacht", 0), ("wine", 0), ("yacht", 1)]
    assert asked == [("wine", 1)] and len(rows) == 4


def test_the_standard_splits_are_those_of_their_recipe():
    if "SGLD_JAX_DATA" not in os.environ:
        pytest.skip("SGLD_JAX_DATA is not set: the data sets are not at hand")
    X, y, X_test, y_test = tabular.uci("yacht", 1)
    rng = np.random.RandomState(1)
    for _ in range(2):
        order = rng.choice(308, 308, replace=False)
    with np.load(tabular.folder() / "yacht.npz") as file:
        whole = file["y"]
    assert sorted(y_test) == sorted(whole[order[round(0.9 * 308) :]])
    assert len(X) == len(y) == 277 and X_test.shape == (31, 6)


def test_small_sets_have_every_method_on_the_same_splits():
    rows = json.loads(SMALL.read_text())["rows"]
    splits = set(range(small.SPLITS))
    for data in (*small.REGRESSION, *small.CLASSIFICATION):
        for method in small.METHODS:
            mine = [
                one for one in rows if (one["data"], one["method"]) == (data, method)
            ]
            if data in small.REGRESSION or method != "Gaussian process":
                assert {one["split"] for one in mine} == splits and len(mine) == len(
                    splits
                )


def test_the_page_of_agreement_is_made_of_what_was_kept():
    result = json.loads(HMC.read_text())
    assert benchmarks.AGREEMENT.read_text() == agreement_page.page(result)
    found = [(one["method"], one["seed"]) for one in result["rows"]]
    seeds = range(agreement.SEEDS)
    assert found == [("HMC", 0), *((m, s) for m in agreement.METHODS for s in seeds)]
    far = {}
    for one in result["rows"]:
        far.setdefault(one["method"], []).append(one["total variation"])
    own = far["HMC"][0]  # what README says of it
    assert np.mean(far["baoa, warm_up"]) < 1.1 * own < np.mean(far["ensemble"]) / 4


def test_the_page_of_images_is_made_of_what_was_kept():
    assert benchmarks.MNIST.read_text() == benchmarks._mnist_page()
    for path in MNIST:
        rows = json.loads(path.read_text())["rows"]
        assert rows and {one["method"] for one in rows} <= set(image_methods.METHODS)
        assert len({(one["data"], one["method"], one["seed"]) for one in rows}) == len(
            rows
        )


def test_what_the_page_of_images_says_of_samplers():
    part, full = (
        {
            one["method"]: one
            for one in json.loads(path.read_text())["rows"]
            if one["data"] == "mnist"
        }
        for path in MNIST
    )
    for rows in (part, full):
        for name in ("sgld", "sghmc"):
            assert rows[name]["NLL"] > rows["deep ensemble"]["NLL"]
    for score, best in (
        ("AUROC, Fashion", max),
        ("AUROC, notMNIST", max),
        ("error at 95 %", min),
    ):
        others = [r for name, r in full.items() if name != "MC dropout"]
        assert best(others, key=lambda one: one[score])["method"] == "sghmc"
    assert full["MC dropout"]["AUROC, notMNIST"] < full["sghmc"]["AUROC, notMNIST"]


def test_the_page_of_accuracy_is_made_of_what_was_kept():
    result = json.loads(ACCURACY.read_text())
    assert benchmarks.ACCURACY.read_text() == accuracy_page.page(result)
    methods = [one["method"] for one in result["rows"]]
    assert methods == [*accuracy.METHODS, "NUTS"]
    assert accuracy.reference()["r_hat"] < 1.01
    rows = {one["method"]: one["times"] for one in result["rows"]}
    here, there = rows["control variate"][1], rows["NUTS"][0]
    said = [f"{one['mean']:.3f}".lstrip("0") for one in (here, there)]
    words = " ".join(README.read_text().split())
    assert said[0] == said[1] and f"s, {said[0]} of a standard deviation" in words
    assert f"after {here['seconds']:.0f} s on one core" in words
    assert f"NUTS after {there['seconds']:.0f} s," in words
    assert f"deviations are {100 * here['sd']:.1f} % too wide" in words


def test_other_settings_were_tried_on_the_same_splits():
    rows = json.loads(FRONTIER.read_text())["rows"]
    found = {(one["data"], one["split"], one["setting"]) for one in rows}
    assert found == {
        (data, split, setting)
        for data, splits in frontier.SPLITS.items()
        for split in splits
        for setting in frontier.settings_of(data)
    }


def test_agreement_and_total_variation():
    one = np.array([[0.6, 0.4, 0.0], [0.2, 0.7, 0.1]])
    other = np.array([[0.5, 0.5 - 1e-9, 0.0], [0.5, 0.3, 0.2]])
    found = agreement.compared(one, other)
    assert found["agreement"] == 0.5
    np.testing.assert_allclose(found["total variation"], (0.1 + 0.4) / 2, atol=1e-6)


def test_the_page_of_images_has_a_line_for_every_row():
    columns = {name: 0.125 for name in mnist_page.COLUMNS}
    one = {"method": "MAP", "tuned": "prior scale 4", **columns}
    one["validation NLL"] = [0.2, 0.1, 0.3]
    one |= {"data": "mnist", "size": "part", "seed": 0}
    two = one | {"method": "sgld"}
    again = two | {"seed": 1, "accuracy": 0.375, "tuned": "prior scale 2"}
    again["validation NLL"] = [0.1, 0.2, 0.3]
    facts = {"jax": "1", "optax": "2", "python": "3", "processor": "a CPU"}
    facts |= {"device": "cpu", "rows": [one, two, again]}
    page = mnist_page.page(facts)
    assert "a CPU; jax 1, optax 2, python 3" in page and "N(0, 16/fan_in)" in page
    assert "| MAP | 0.1250 | 0.1250 |" in page and "Fashion-MNIST, " not in page
    assert "| sgld | 0.2500 ± 0.1250 | 0.1250 ± 0.0000 |" in page
    edge = "; prior scale 2, the last that was tried |"
    assert f"| prior scale 4{edge}" in page and "seeds: 2 (a CPU" in page
    more = {**facts, "rows": [one | {"data": "fashion", "size": "full"}]}
    assert "## Fashion-MNIST, 50,000 training" in mnist_page.page(facts, more)


def test_long_tables_are_called_with_what_was_named(monkeypatch):
    asked = []
    monkeypatch.setitem(benchmarks.LONG, "uci", lambda *given: asked.append(given))
    monkeypatch.setattr("sys.argv", ["benchmarks", "uci", "yacht", "--splits", "2"])
    benchmarks.main()
    assert asked == [(["yacht"], 2)]


def test_the_hessian_of_a_last_layer_is_that_of_jax():
    rng = np.random.default_rng(0)
    h, labels = (
        jnp.float32(rng.normal(size=(20, 3))),
        jnp.asarray(rng.integers(0, 4, 20)),
    )
    at = jnp.float32(rng.normal(size=(4, 4)))  # the last row are biases

    def loss(flat):
        w = flat.reshape(4, 4)
        return -sgld_jax.likelihoods.categorical(h @ w[:3] + w[3], labels).sum()

    expected = jax.hessian(loss)(at.ravel())
    found = image_methods.last_hessian(h, h @ at[:3] + at[3])
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_mean_field_is_nearest_to_its_prior_at_the_prior():
    params = lenet.init(jax.random.key(0))
    assert sum(x.size for x in jax.tree.leaves(params)) == 61_706
    scale, names = 3.0, lenet.SHAPES

    def sd(name, kind):
        return scale / np.sqrt(np.prod(names[name][:-1])) if kind == "kernel" else 1.0

    q = {
        "mean": jax.tree.map(jnp.zeros_like, params),
        "log_sd": {
            name: {k: jnp.full_like(x, np.log(sd(name, k))) for k, x in layer.items()}
            for name, layer in params.items()
        },
    }
    prior = sgld_jax.fan_in_prior(scale)  # the one that all other methods have
    at = jax.tree.map(lambda x: x + 0.1, q["mean"])
    moved = image_methods.minus_divergence({**q, "mean": at}, scale)
    change = moved - image_methods.minus_divergence(q, scale)
    np.testing.assert_allclose(change, prior(at) - prior(q["mean"]), rtol=1e-3)
    grads = jax.grad(image_methods.minus_divergence)(q, scale)
    assert all(np.abs(g).max() < 1e-4 for g in jax.tree.leaves(grads))


def test_a_convolution_by_shifts_is_that_of_jax():
    keys = jax.random.split(jax.random.key(0))
    x = jax.random.normal(keys[0], (2, 9, 8, 3))
    kernel = jax.random.normal(keys[1], (5, 5, 3, 4))
    dims = ("NHWC", "HWIO", "NHWC")
    expected = jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "VALID", dimension_numbers=dims
    )
    np.testing.assert_allclose(lenet.convolved(x, kernel), expected, atol=1e-4)
