"""R-hat, ESS and MCSE: ArviZ's numbers, and none where there is nothing to measure."""

import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sgld_jax import from_log_density, sample, sgld, stacked
from sgld_jax.analysis.arviz import import_arviz
from sgld_jax.analysis.diagnostics import ess, mcse, rhat, summary

# Short runs on purpose; the tests of these two warnings ask for them.
pytestmark = [
    pytest.mark.filterwarnings("ignore:R-hat is above:UserWarning"),
    pytest.mark.filterwarnings("ignore:ESS is below:UserWarning"),
]

COLUMNS = ["mean", "sd", "mcse_mean", "mcse_sd", "ess_bulk", "ess_tail", "r_hat"]


@pytest.fixture(scope="module")
def az():
    return import_arviz()


def iid(chains=4, draws=200, shape=(3,), seed=0):
    return np.random.default_rng(seed).normal(size=(chains, draws, *shape))


def autoregressive():
    x = iid(seed=1)
    for t in range(1, x.shape[1]):
        x[:, t] += 0.8 * x[:, t - 1]
    return x


def apart():
    x = iid(seed=2)
    x[:2] += 10
    return x


@pytest.mark.parametrize("make", [iid, autoregressive, apart])
def test_summary_is_arviz(az, make):
    x = make()
    table = summary(x)
    data = az.convert_to_dataset({"x": x})  # ArviZ's own way along the axes
    expected = {
        "mean": x.mean((0, 1)),
        "sd": x.std((0, 1), ddof=1),
        "mcse_mean": az.mcse(data, method="mean")["x"].values,
        "mcse_sd": az.mcse(data, method="sd")["x"].values,
        "ess_bulk": az.ess(data, method="bulk")["x"].values,
        "ess_tail": az.ess(data, method="tail", prob=(0.05, 0.95))["x"].values,
        "r_hat": az.rhat(data)["x"].values,
    }
    assert list(table.columns) == COLUMNS
    for column, values in expected.items():
        np.testing.assert_allclose(table[column], values, rtol=1e-9, err_msg=column)


def test_numbers_do_not_depend_on_the_version_of_arviz():
    t = np.arange(400).reshape(4, 100)  # no random generator, none to change
    x = np.sin(t**2 * 0.01) + (t * 0.6180339887498949) % 1
    # What ArviZ 0.23.4 and 1.3.0 both gave; 1.3.0 left alone says ess_tail 470.137.
    seen = [
        0.0373025991340,
        0.0172551118801,
        422.835456860,
        465.520340303,
        0.99370475102,
    ]
    np.testing.assert_allclose(summary(x).loc["x"].iloc[2:], seen, rtol=1e-9)


def test_tails_do_not_follow_the_settings_of_arviz(az):
    key = "stats.ci_prob" if "stats.ci_prob" in az.rcParams else "stats.hdi_prob"
    x = autoregressive()[..., 0]
    with az.rc_context({key: 0.5}):
        changed = summary(x)["ess_tail"]
    np.testing.assert_array_equal(changed, summary(x)["ess_tail"])


def test_chains_in_different_modes_have_a_large_r_hat():
    # Ranks cap it: two separate halves of a normal give 1.83 in the limit.
    assert (rhat(apart()) > 1.7).all()


def test_what_moves_in_no_chain_has_no_ess_and_no_r_hat():
    draws = {"moving": iid(shape=()), "still": np.ones((4, 200))}
    with pytest.warns(UserWarning, match="never move: still in every chain"):
        row = summary(draws).loc["still"]
    assert row["mean"] == 1 and row["sd"] == 0
    assert row[COLUMNS[2:]].isna().all()


def test_chains_at_rest_at_different_values_have_infinite_r_hat():
    x = np.broadcast_to(np.array([1.0, 1.0, 2.0])[:, None], (3, 50))
    with pytest.warns(UserWarning, match="never move"):
        row = summary(x).loc["x"]
    assert row["r_hat"] == np.inf and np.isnan(row["ess_bulk"])


def test_one_chain_at_rest_among_many_is_named():
    x = iid(64, 100, (2,))
    x[[0, 7], :, 1] = 0.7
    x[5, 3, 0] = np.nan  # chain 5 is left out; the others keep their numbers
    with pytest.warns(UserWarning) as caught:
        rhat({"w": x})
    messages = [str(w.message) for w in caught]
    assert "chain 5 has non-finite draws of 'w'" in messages[0]
    assert "w[1] in chains 0, 7." in messages[1]
    assert all(w.filename == __file__ for w in caught)


def failing_run():
    """Chain 2 starts next to a cliff, where the density is not a number."""
    density = from_log_density(lambda x: -0.5 * x**2 + 0 * jnp.log(x + 50))
    start = stacked(jnp.array([0.0, 1.0, -60.0, 2.0]))
    with pytest.warns(UserWarning, match="chain 2 failed in its first update"):
        return sample(0, sgld(0.5), density, start, num_samples=50, num_chains=4)


def test_failed_chains_are_left_out_of_the_table():
    samples = failing_run()
    assert samples.failed.tolist() == [False, False, True, False]
    assert np.isfinite(samples.params).all()  # frozen, so only the flag tells
    with pytest.warns(
        UserWarning, match="Left out 1 of 4 chains: chain 2 went non-fin"
    ):
        table = summary(samples)
    expected = summary(samples.params[[0, 1, 3]])
    np.testing.assert_array_equal(table, expected)
    np.testing.assert_array_equal(table, summary(samples.healthy()))


def test_non_finite_draws_are_left_out_chain_by_chain():
    draws = {"a": iid(shape=()), "b": iid(seed=1)}
    draws["b"][1, 17, 2] = np.inf
    with pytest.warns(UserWarning, match="Left out 1 of 4 chains: chain 1 .*'b'"):
        table = summary(draws)
    kept = jax.tree.map(lambda x: x[[0, 2, 3]], draws)
    np.testing.assert_array_equal(table, summary(kept))


def test_no_chain_left():
    with pytest.raises(ValueError, match="None of the 4 chains is finite"):
        summary(np.full((4, 10), np.nan))


def with_weights(x, weights=1.0, failed=(), streams=None):
    """What the analysis sees of `Samples`."""
    flags = np.isin(np.arange(len(x)), failed)
    weights = np.broadcast_to(weights, x.shape[:2])
    return types.SimpleNamespace(
        params=x,
        potential=x.reshape(*x.shape[:2], -1)[..., 0],
        failed=flags,
        weights=weights,
        num_chains=len(x),
        streams=np.arange(len(x)) if streams is None else streams,
    )


def test_weights_that_change_are_pointed_out():
    x, weights = iid(), 0.1 / (1 + np.arange(200))
    samples = with_weights(x, weights)
    for function in (summary, ess, mcse):
        with pytest.warns(
            UserWarning, match="weights change over the draws, from 0.00"
        ):
            counted_alike = function(samples)
        np.testing.assert_array_equal(counted_alike, function(x))
        assert not np.allclose(function(samples, weighted=True), counted_alike)
    np.testing.assert_array_equal(
        rhat(samples), rhat(x)
    )  # counts all alike, as it says


def test_unknown_weights_are_said():
    x = iid()
    unknown = with_weights(x, np.nan)
    with pytest.warns(UserWarning, match="weights of these draws are unknown"):
        summary(unknown)
    for draws in (unknown, x):
        with pytest.raises(ValueError, match="weighted=True, but the weights of these"):
            summary(draws, weighted=True)


@pytest.mark.parametrize("make", [iid, autoregressive, apart])
def test_equal_weights_give_the_numbers_of_arviz(make):
    x = make()
    alike, weighted = summary(x), summary(with_weights(x, 0.3), weighted=True)
    # ArviZ's error of the sd divides some sums by n, ours by n − 1.
    np.testing.assert_allclose(
        weighted["mcse_sd"], alike["mcse_sd"], rtol=2 / x[..., 0].size
    )
    for column in set(COLUMNS) - {"mcse_sd"}:
        np.testing.assert_allclose(weighted[column], alike[column], rtol=1e-9)


def test_weighted_mean_and_sd_are_of_repeated_draws():
    x, repeats = iid(draws=50, shape=()), np.arange(1, 51)
    table = summary(with_weights(x, 0.1 * repeats), weighted=True)
    repeated = np.repeat(x, repeats, axis=1)
    np.testing.assert_allclose(table["mean"], repeated.mean())
    kish = 4 * repeats.sum() ** 2 / (repeats**2).sum()
    np.testing.assert_allclose(table["sd"], repeated.std() * np.sqrt(kish / (kish - 1)))


def test_the_law_of_weighted_means():
    """The errors reported are those made: z = (m − truth) / mcse has variance 1.

    16 chains are autoregressive, ρ = .7. Weights fall as 1/(10 + t): 300 draws are
    worth some 120 of equal weights, so that errors which forget them give z² = 2.5. The
    mean of z² over 400 runs has a standard error of .07: false alarm 1e-5.
    """
    rng, runs, rho = np.random.default_rng(7), 400, 0.7
    x, chains = rng.normal(size=(16, runs)), []
    for _ in range(300):
        x = rho * x + np.sqrt(1 - rho**2) * rng.normal(size=x.shape)
        chains.append(x)
    samples = with_weights(np.stack(chains, axis=1), 1 / (10 + np.arange(300.0)))
    table = summary(samples, weighted=True)
    z = table["mean"] / table["mcse_mean"]
    assert abs(np.mean(z**2) - 1) < 4.5 * np.sqrt(2 / runs)
    np.testing.assert_allclose(ess(samples, weighted=True), table["ess_bulk"])
    np.testing.assert_allclose(mcse(samples, weighted=True), table["mcse_mean"])


@pytest.mark.parametrize("failed", [(), (2,)])
def test_the_law_of_means_of_chains_that_share_batches(failed):
    """z = (m − truth) / mcse has variance 1 where chains of a stream are correlated.

    16 chains in 8 streams, autoregressive, ρ = .7; half the variance is common to the
    two chains of a stream. Errors that take the chains for independent are too small:
    z² = 1.5. A chain may be missing. 500 runs: standard error .06.
    """
    rng, runs, rho = np.random.default_rng(8), 500, 0.7
    streams, x, chains = np.repeat(np.arange(8), 2), 0.0, []
    for _ in range(200):
        common = rng.normal(size=(8, runs))[streams]
        new = np.sqrt(0.5) * (common + rng.normal(size=(16, runs)))
        x = rho * x + np.sqrt(1 - rho**2) * new if len(chains) else new
        chains.append(x)
    draws = np.stack(chains, axis=1)
    samples = with_weights(draws, failed=failed, streams=streams)
    with pytest.warns(UserWarning) as caught:
        table = summary(samples)
    said = [str(w.message) for w in caught]
    assert any(f"{16 - len(failed)} chains saw 8 streams of batches" in s for s in said)
    z = table["mean"] / table["mcse_mean"]
    assert abs(np.mean(z**2) - 1) < 4.5 * np.sqrt(2 / runs)
    independent = summary(np.delete(draws, failed, axis=0))
    np.testing.assert_allclose(table["mean"], independent["mean"])
    np.testing.assert_allclose(table["r_hat"], independent["r_hat"])
    too_good = independent["mean"] / independent["mcse_mean"]
    assert np.mean(too_good**2) - 1 > 4.5 * np.sqrt(2 / runs)
    worth = table[["ess_bulk", "ess_tail"]] / independent[["ess_bulk", "ess_tail"]]
    assert (worth.median() < 0.85).all()  # tails are less correlated than means


def test_weighted_draws_of_a_schedule():
    """SGLD with ε falling from .5: the first draws are too wide, and count most."""
    decay = optax.polynomial_schedule(0.5, 0.05, 1, 50)
    density = from_log_density(lambda x: -0.5 * x**2)
    samples = sample(
        0, sgld(decay), density, jax.random.normal, num_samples=50, num_chains=64
    )
    table = summary(samples, weighted=True)
    w = samples.weights.astype(float)
    mean = np.average(samples.params, weights=w)
    assert w[0, 0] == 0.5 and w[0, -1] < 0.1
    np.testing.assert_allclose(table["mean"], mean, rtol=1e-6)


def test_chains_that_do_not_agree_are_pointed_out():
    with pytest.warns(
        UserWarning, match=r"R-hat is above 1.01 for 3 of 3 scalars, up to "
    ):
        summary(apart())


def test_too_few_draws_are_pointed_out():
    with pytest.warns(
        UserWarning, match=r"ESS is below 400 for 1 of 1 scalars, down to"
    ):
        summary(iid(draws=50, shape=()))


def test_a_long_run_is_not_warned_of(recwarn):
    summary(iid(draws=1000, shape=()))
    assert not recwarn.list


def log_density_run(log_density, num_chains=8, **kwargs):
    density = from_log_density(log_density)
    start = stacked(jnp.ones(num_chains))
    return sample(
        0, sgld(0.1), density, start, num_samples=200, num_chains=num_chains, **kwargs
    )


def test_a_walk_without_end_is_pointed_out():
    """p(x) = exp(−x) without its border at 0: all draws finite, all of them nonsense."""
    with pytest.warns(UserWarning) as caught:
        summary(log_density_run(lambda x: -x))
    messages = [str(w.message) for w in caught]
    assert any("R-hat is above" in m for m in messages)
    assert any("still falling in 8 of 8 chains" in m for m in messages)
    assert any("sampled as its logarithm" in m for m in messages)


def test_a_start_far_outside_is_pointed_out():
    with pytest.warns(UserWarning, match="still falling in 8 of 8 chains"):
        summary(log_density_run(lambda x: -0.5e-2 * (x - 1e6) ** 2))


def test_chains_that_have_arrived_are_not_said_to_fall(recwarn):
    summary(log_density_run(lambda x: -0.5 * x**2, burn_in=100, thinning=10))
    summary(log_density_run(lambda s: s - jnp.exp(s), burn_in=100, thinning=10))
    assert not any("falling" in str(w.message) for w in recwarn)


def test_draws_read_as_chains_are_pointed_out():
    with pytest.warns(UserWarning, match=r"read as 1000 chains of 5 draws.*x\[None\]"):
        summary(iid(1000, 5, ()))


def test_weights_that_differ_between_chains_are_no_news():
    weights = np.broadcast_to(np.array([[1.0], [2], [3], [4]]), (4, 200)).copy()
    weights[1, 50:] = 0
    samples = with_weights(iid(), weights, failed=[1])
    with pytest.warns(UserWarning) as caught:
        summary(samples)
    assert ["Left out" in str(w.message) for w in caught] == [True]


def test_one_chain_has_no_r_hat():
    with pytest.warns(UserWarning, match="One chain: r_hat is NaN"):
        row = summary(iid(chains=1, shape=())).loc["x"]
    assert np.isnan(row["r_hat"]) and row["ess_bulk"] > 0


@pytest.mark.parametrize("dtype", [np.float16, jnp.bfloat16, np.float32])
def test_low_precision_is_computed_wide(dtype):
    x = jnp.asarray(iid(), dtype)
    np.testing.assert_array_equal(summary(x), summary(np.asarray(x).astype(float)))


def test_counts_and_flags_are_numbers():
    x = iid() > 0
    np.testing.assert_array_equal(summary(x), summary(x.astype(np.int32)))


def test_errors_scale_with_the_units():
    # ArviZ alone takes a range below 1e-15 for a constant: ESS = C S, MCSE too small.
    x = autoregressive()
    tiny, plain = summary(x * 2.0**-100), summary(x)
    for column in ["mean", "sd", "mcse_mean", "mcse_sd"]:
        np.testing.assert_array_equal(tiny[column] * 2.0**100, plain[column])
    for column in ["ess_bulk", "ess_tail", "r_hat"]:
        np.testing.assert_array_equal(tiny[column], plain[column])


def test_names_of_rows():
    x = iid(draws=8, shape=(2, 2))
    draws = {"net": {"w": x, "b": x[..., 0, 0]}, "a/c": [x[..., 0]]}
    rows = ["a.c.0[0]", "a.c.0[1]", "net.b"]
    rows += ["net.w[0, 0]", "net.w[0, 1]", "net.w[1, 0]", "net.w[1, 1]"]
    table = summary(draws)
    assert list(table.index) == rows
    np.testing.assert_allclose(table["mean"][rows[3:]], x.mean((0, 1)).ravel())
    assert list(summary(draws, names=["net.b"]).index) == ["net.b"]
    assert list(summary(x[..., 0]).index) == ["x[0]", "x[1]"]


def test_functions_return_trees_of_the_same_numbers():
    draws = {"a": iid(shape=(2, 1)), "b": (autoregressive()[..., 0],)}
    table = summary(draws)
    for function, column in [(rhat, "r_hat"), (ess, "ess_bulk"), (mcse, "mcse_mean")]:
        tree = function(draws)
        assert jax.tree.map(np.shape, tree) == {"a": (2, 1), "b": ((),)}
        flat = np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)])
        np.testing.assert_array_equal(flat, table[column])


@pytest.mark.parametrize(
    "draws, error, message",
    [
        (np.ones(10), ValueError, r"Expected arrays \[C, S, ...\].*x \(10,\)"),
        ({}, ValueError, "a tree without arrays"),
        ({"a": iid(), "b": iid(3)}, ValueError, "one C and one S"),
        (iid(draws=3), ValueError, "3 draws of each chain: expected at least 4"),
        (iid() + 1j, TypeError, "'x' has dtype complex128"),
        (np.broadcast_to(0.0, (4, 9, 2001)), ValueError, "2,001 scalars.*collect="),
        ({"a.b": iid(), "a": {"b": iid()}}, ValueError, "both called 'a.b'"),
    ],
)
def test_refused(draws, error, message):
    with pytest.raises(error, match=message):
        summary(draws)


def test_names_that_are_not_there():
    with pytest.raises(ValueError, match="there is no leaf c, but a; b"):
        summary({"a": iid(), "b": iid()}, names=["a", "c"])


def test_without_arviz(monkeypatch):
    monkeypatch.setitem(sys.modules, "arviz", None)
    with pytest.raises(ImportError, match=r"pip install 'sgld-jax\[arviz\]'"):
        summary(iid())
