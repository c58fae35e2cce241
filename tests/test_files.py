"""Files: what was saved comes back, also in another process, or is refused."""

import hashlib
import json
import os
import shutil
import textwrap
import tracemalloc
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sgld_jax
from sgld_jax import archive
from tests.runs import (
    DATA,
    MEAN,
    SCHEMES,
    SMALL_STEPS,
    arrays,
    assert_equal_bits,
    normal,
    on_data,
    run,
    run_python,
)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "run"


def saved(samples, folder):
    samples.save(folder)
    return sgld_jax.load(folder)


def assert_same(a, b):
    """All but the state's classes, which a file does not decide."""
    for x, y in zip(jax.tree.leaves(a.final.state), jax.tree.leaves(b.final.state)):
        assert_equal_bits(x, y)
    a, b = (
        (
            *arrays(
                s._replace(final=s.final._replace(state=()))
                if hasattr(s, "_replace")
                else s
            )[:4],
            s.final._replace(state=()),
        )
        for s in (a, b)
    )
    assert_equal_bits(a, b)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_was_saved_comes_back_and_goes_on_bit_for_bit(folder, scheme):
    first, whole = on_data(4, scheme), on_data(9, scheme)
    again = saved(first, folder)
    assert_same(first, again)
    assert repr(again) == repr(first) and again.report.begin.tolist() == [0] * 4
    more = sgld_jax.resume(
        again.final,
        *(SMALL_STEPS, MEAN),
        num_samples=5,
        data=DATA,
        batches=SCHEMES[scheme],
    )
    assert_equal_bits(arrays(again.concatenate(more)), arrays(whole))


SAMPLERS = {
    "decay and sgld": lambda: optax.chain(
        optax.add_decayed_weights(0.1), sgld_jax.sgld(1e-3)
    ),
    "two groups": lambda: optax.partition(
        {"a": sgld_jax.sgld(1e-3), "b": sgld_jax.sgld(1e-2)}, {"x": "a", "y": "b"}
    ),
    "MultiSteps": lambda: optax.MultiSteps(
        sgld_jax.sgld(1e-3), 2
    ).gradient_transformation(),
    "hyperparameters": lambda: optax.inject_hyperparams(sgld_jax.sgld)(step_size=1e-3),
    "metric": lambda: sgld_jax.sgld(1e-3, preconditioner=sgld_jax.diagonal(2.0)),
    "optax's noise": lambda: optax.chain(
        optax.sgd(1e-3), optax.add_noise(1e-3, 0.0, 0)
    ),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_states_get_their_classes_from_the_sampler(folder, name):
    make = SAMPLERS[name]
    potential = sgld_jax.from_log_density(
        lambda p: -0.5 * sum(jnp.sum(x**2) for x in jax.tree.leaves(p))
    )
    init = lambda key: {"x": normal(key), "y": jnp.ones(3)}  # noqa: E731
    first = run(3, make(), potential, init)
    again = saved(first, folder)
    a, b = (
        sgld_jax.resume(s.final, make(), potential, num_samples=3)
        for s in (first, again)
    )
    assert_equal_bits(arrays(a), arrays(b))
    one, _ = jax.jit(lambda c: sgld_jax.step(c, make(), potential))(again.final)
    assert jax.tree.structure(one.state) == jax.tree.structure(first.final.state)
    with pytest.raises(ValueError, match="not one of this sampler"):
        sgld_jax.resume(again.final, optax.adam(1e-3), potential, num_samples=1)


def test_a_run_goes_on_in_another_process(folder):
    on_data(4, "shuffled").save(folder)
    code = """
        import sgld_jax
        from tests.runs import *
        first = sgld_jax.load({folder!r})
        more = sgld_jax.resume(first.final, SMALL_STEPS, MEAN, num_samples=5, data=DATA,
                               batches=SCHEMES["shuffled"])
        first.concatenate(more).save({folder!r} + "-all")
    """
    root = os.path.dirname(os.path.dirname(__file__))
    code = textwrap.dedent(code).format(folder=str(folder))
    env = {"JAX_PLATFORMS": "cpu", "PYTHONPATH": root}
    # Compiled as this module is, see conftest.py: other passes round otherwise.
    run_python(code, {**env, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"})
    whole, again = on_data(9, "shuffled"), sgld_jax.load(f"{folder}-all")
    assert_same(whole, again)


class Pair(NamedTuple):
    left: jax.Array
    right: jax.Array


def collected(params, dtype=jnp.float32):
    x = params.astype(dtype)
    return {
        "b": [x, (x[0],)],
        "a": {0: x, 1: x > 0, 7: None},
        "pair": Pair(x, x),
        "whole": (x * 10).astype(jnp.int8),
    }


@pytest.mark.parametrize(
    "dtype", [jnp.float32, jnp.bfloat16, jnp.float16, jnp.float8_e5m2]
)
def test_trees_come_back(folder, dtype):
    samples = run(3, collect=lambda p: collected(p, dtype))
    again = saved(samples, folder)
    expected = {**samples.params, "pair": samples.params["pair"]._asdict()}
    chex.assert_trees_all_equal(again.params, expected, strict=True)
    assert again.params["b"][1][0].shape == (4, 3)
    assert isinstance(again.params["b"][1], tuple) and 0 in again.params["a"]
    files = sorted(f.name for f in folder.iterdir())
    assert files[-2:] == ["manifest.json", "manifest.sha256"]
    for file in folder.glob("*.npy"):
        assert np.load(file, allow_pickle=False).size


def test_an_nnx_state_comes_back_as_dicts(folder):
    from flax import nnx

    graph, start = nnx.split(nnx.Linear(2, 2, rngs=nnx.Rngs(0)))
    potential = lambda p, _: 0.5 * jnp.sum(nnx.merge(graph, p)(jnp.ones(2)) ** 2)  # noqa: E731
    samples = run(3, potential=potential, init=lambda key: start)
    again = saved(samples, folder)
    expected = nnx.to_pure_dict(samples.params)
    chex.assert_trees_all_equal(again.params, expected)


def test_slices_failed_chains_and_loaded_samples_are_saved_too(folder, tmp_path):
    cliff = lambda x, _: 0.5 * jnp.sum(x**2) + 0 * jnp.sum(jnp.log(x + 1))  # noqa: E731
    start = sgld_jax.stacked(jnp.array([[0.5, 0.5], [-2.0, 0.0], [0.1, 0.2]]))
    with pytest.warns(UserWarning, match="1 of 3 chains have failed"):
        samples = run(6, sgld_jax.sgld(1e-4), cliff, start, num_chains=3)
    again = saved(samples, folder)
    assert again.report.failures == samples.report.failures
    cut = saved(again[1:, :3], tmp_path / "cut")
    assert cut.cut and cut.num_samples == 3 and cut.failed.tolist() == [True, False]
    assert_same(cut, samples[1:, :3])


def test_float64_needs_64_bits_to_go_on(folder):
    code = """
        import jax.numpy as jnp, sgld_jax
        potential = sgld_jax.from_log_density(lambda x: -0.5 * x**2)
        s = sgld_jax.sample(0, sgld_jax.sgld(0.1), potential,
                            lambda key: jnp.zeros((), jnp.float64), num_samples=4)
        assert s.params.dtype == "float64"
        s.save({folder!r})
    """
    code = textwrap.dedent(code).format(folder=str(folder))
    run_python(code, {"JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "1"})
    again = sgld_jax.load(folder)
    assert again.params.dtype == np.float64
    potential = sgld_jax.from_log_density(lambda x: -0.5 * x**2)
    with pytest.raises(TypeError, match="64 bits are off"):
        sgld_jax.resume(again.final, sgld_jax.sgld(0.1), potential, num_samples=1)


def test_nothing_is_overwritten_and_nothing_half_written_stays(folder, monkeypatch):
    samples = run(2)
    samples.save(folder)
    with pytest.raises(FileExistsError, match="Nothing is overwritten"):
        samples.save(folder)
    monkeypatch.setattr(os, "rename", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        samples.save(folder.parent / "other")
    assert [f.name for f in folder.parent.iterdir()] == ["run"]
    with pytest.raises(TypeError, match="has a key None"):
        archive_of = run(2, collect=lambda p: {None: p})
        archive_of.save(folder.parent / "other")


# --- damage --------------------------------------------------------------------------


def test_200_flipped_bits_are_found_or_harmless(folder):
    samples = on_data(3)
    samples.save(folder)
    files = sorted(folder.iterdir())
    sizes = np.array([f.stat().st_size for f in files])
    rng = np.random.default_rng(0)
    found = 0
    for i in range(200):
        # Every file in turn, or the large ones would be all that is tried.
        file = files[i % len(files)]
        content = bytearray(file.read_bytes())
        place = rng.integers(8 * sizes[i % len(files)])
        content[place // 8] ^= 1 << (place % 8)
        whole = file.read_bytes()
        file.write_bytes(content)
        try:
            assert_same(sgld_jax.load(folder), samples)
        except ValueError as error:
            assert str(folder) in str(error)
            found += 1
        file.write_bytes(whole)
    assert found == 200
    assert_same(sgld_jax.load(folder), samples)


def resealed(folder, change):
    """Changes the manifest and makes its hash fit."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    text = json.dumps(manifest).encode()
    path.write_bytes(text)
    (folder / "manifest.sha256").write_text(hashlib.sha256(text).hexdigest() + "\n")


def entry(name, **changes):
    def change(manifest):
        manifest["arrays"][name].update(changes)

    return lambda folder: resealed(folder, change)


def facts(**changes):
    def change(manifest):
        manifest["facts"].update(changes)

    return lambda folder: resealed(folder, change)


def replaced(name, array):
    """Another array in a file, with a manifest that fits."""

    def change_folder(folder):
        def change(manifest):
            entry = manifest["arrays"][name]
            path = folder / entry["file"]
            np.save(path, array)
            content = path.read_bytes()
            entry.update(
                shape=list(array.shape),
                dtype=array.dtype.name,
                bytes=len(content),
                sha256=hashlib.sha256(content).hexdigest(),
            )

        resealed(folder, change)

    return change_folder


def file_of(folder, name):
    manifest = json.loads((folder / "manifest.json").read_text())
    return folder / manifest["arrays"][name]["file"]


def linked(folder):
    file = file_of(folder, "potential")
    target = folder.parent / "elsewhere.npy"
    shutil.move(file, target)
    file.symlink_to(target)


def sparse(folder):
    """A manifest of a terabyte, which no file has."""
    with open(folder / "manifest.json", "r+b") as file:
        file.truncate(2**40)


def pickled(folder):
    file = file_of(folder, "potential")
    np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    content = file.read_bytes()
    entry("potential", bytes=len(content), sha256=hashlib.sha256(content).hexdigest())(
        folder
    )


HOSTILE = {
    "no folder": lambda f: shutil.rmtree(f),
    "no manifest": lambda f: (f / "manifest.json").unlink(),
    "no sum": lambda f: (f / "manifest.sha256").unlink(),
    "a missing array": lambda f: file_of(f, "potential").unlink(),
    "a longer array": lambda f: file_of(f, "potential").write_bytes(
        file_of(f, "potential").read_bytes() + b"0"
    ),
    "a shorter array": lambda f: file_of(f, "potential").write_bytes(
        file_of(f, "potential").read_bytes()[:-1]
    ),
    "an empty array": lambda f: file_of(f, "weights").write_bytes(b""),
    "a huge manifest": sparse,
    "a link": linked,
    "a folder for a file": lambda f: (
        file_of(f, "potential").unlink(),
        file_of(f, "counts").rename(f / "x"),
        file_of(f, "potential").mkdir(),
    ),
    "a pickle": pickled,
    "no JSON": lambda f: (f / "manifest.json").write_text("{"),
    "another hash": lambda f: (f / "manifest.sha256").write_text("0" * 64 + "\n"),
    "a longer sum": lambda f: (f / "manifest.sha256").write_text("0" * 100),
    **{
        f"schema {schema!r}": (
            lambda f, s=schema: resealed(f, lambda m: m.update(schema=s))
        )
        for schema in (0, 2, "1", None, [], 1e9)
    },
    **{
        f"file {name!r}": entry("potential", file=name)
        for name in (
            "../elsewhere.npy",
            "/etc/passwd",
            "00.a/b.npy",
            "..",
            "",
            ".npy",
            "0.npy\0",
            "manifest.json",
            "00.x.npy",
            "00." + "x" * 300 + ".npy",
            7,
            None,
        )
    },
    **{
        f"shape {shape}": entry("potential", shape=shape)
        for shape in (
            [4],
            [3, 4],
            [4, 2**40],
            [2**62, 2**62],
            [-4, -3],
            [4.0, 3],
            ["4", 3],
            [True, 12],
            [1] * 40 + [12],
            None,
            7,
        )
    },
    **{
        f"dtype {dtype!r}": entry("potential", dtype=dtype)
        for dtype in (
            "float64",
            "object",
            "O",
            "V4",
            "key<threefry2x32>",
            "key<evil>",
            "bfloat16",
            "int32",
            ">f4",
            "",
            None,
            3,
        )
    },
    **{
        f"{size} bytes": entry("potential", bytes=size)
        for size in (0, -1, 2**60, 1.5, "176", None, True)
    },
    **{f"sha256 {x!r}": entry("potential", sha256=x) for x in ("", None, "0" * 64, 3)},
    **{
        f"params are {node!r:.30}": facts(params=node)
        for node in (
            None,
            3,
            [],
            {},
            "no such array",
            {"dict": [[None, "params"]]},
            {"dict": [[["a"], "params"]]},
            {"dict": 3},
            {"set": []},
            {"tuple": None},
            {"dict": [["a", "params"]], "list": []},
            {"list": ["params", 3]},
            {"tuple": ["params", "chain.count"]},
            {"__reduce__": "os.system"},
        )
    },
    **{
        f"the report is {report!r:.30}": facts(report=report)
        for report in (None, {}, [], {"updates": 1})
    },
    **{
        f"the state is {state!r:.30}": facts(state=state)
        for state in (None, 3, ["x"], [".count", None], {"a": 1}, [[]])
    },
    **{
        f"the chain is {chain!r:.30}": facts(chain=chain)
        for chain in (3, "potential", {"dict": 1}, {"list": ["nothing"]})
    },
    "no facts": lambda f: resealed(f, lambda m: m.pop("facts")),
    "no arrays": lambda f: resealed(f, lambda m: m.pop("arrays")),
    "arrays that are a list": lambda f: resealed(f, lambda m: m.update(arrays=[1])),
    "an entry without a file": lambda f: resealed(
        f, lambda m: m["arrays"]["potential"].pop("file")
    ),
    "an entry with more": entry("potential", eval="import os"),
    "a manifest that is a list": lambda f: (
        resealed(f, lambda m: None),
        (f / "manifest.json").write_text("[]"),
        (f / "manifest.sha256").write_text(hashlib.sha256(b"[]").hexdigest() + "\n"),
    ),
    "deep nesting": lambda f: (
        (f / "manifest.json").write_text("[" * 10**5),
        (f / "manifest.sha256").write_text(
            hashlib.sha256(b"[" * 10**5).hexdigest() + "\n"
        ),
    ),
    "a name that is missing": lambda f: resealed(
        f, lambda m: m["arrays"].pop("chain.count")
    ),
    "draws of other chains": replaced("params", np.zeros((5, 3, 2), np.float32)),
    "draws of other numbers": replaced("params", np.zeros((4, 2, 2), np.float32)),
    "weights of other draws": replaced("weights", np.ones((4, 9), np.float32)),
    "a potential of one axis": replaced("potential", np.ones(4, np.float32)),
    "counts of other chains": replaced("chain.count", np.ones(3, np.int32)),
    "keys that are no keys": replaced("chain.batches.rng_key", np.ones(3, np.int32)),
    "failures of no leaf": replaced("chain.failure.step", np.ones((4, 2), np.int32)),
}


def test_there_are_a_hundred_hostile_folders():
    assert len(HOSTILE) >= 100


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / "run"
    on_data(3).save(path)
    return path


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_folders_are_refused_with_a_sentence(folder, pristine, name):
    shutil.copytree(pristine, folder)
    HOSTILE[name](folder)
    tracemalloc.start()
    try:
        with pytest.raises((ValueError, FileNotFoundError)) as caught:
            sgld_jax.load(folder)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20 * 2**20 and str(folder) in str(caught.value)


def test_keys_keep_their_implementation(tmp_path):
    for impl in ("threefry2x32", "rbg"):
        keys = jax.random.split(jax.random.key(3, impl=impl), 4)
        archive.write(tmp_path / impl, {"keys": keys}, {})
        again, _ = archive.read(tmp_path / impl)
        assert jax.random.key_impl(again["keys"]) == jax.random.key_impl(keys)
        assert (again["keys"] == keys).all()
