"""Predictions of many draws, in bounded memory, equal to the direct computation."""

import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sgld_jax
from sgld_jax.analysis import predict as predict_module

RNG = np.random.default_rng(0)
C, S, N, K = 3, 7, 25, 4
PARAMS = {
    "w": RNG.normal(size=(C, S, 5, K)).astype(np.float32),
    "b": RNG.normal(size=(C, S, K)).astype(np.float32),
}
X = RNG.normal(size=(N, 5)).astype(np.float32)
EXPECTED = np.einsum("csik,ni->csnk", PARAMS["w"], X) + PARAMS["b"][:, :, None]


def network(params, x):
    return x @ params["w"] + params["b"]


@pytest.mark.parametrize("batch_size", [1, 4, 25, 1000])
@pytest.mark.parametrize("group", [1, 4, 64])
def test_outputs_are_those_of_the_direct_computation(monkeypatch, batch_size, group):
    monkeypatch.setattr(predict_module, "_DRAWS", group)
    outputs = sgld_jax.predict(network, PARAMS, X, batch_size=batch_size)
    assert outputs.shape == (C, S, N, K) and isinstance(outputs, np.ndarray)
    np.testing.assert_allclose(outputs, EXPECTED, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("batch_size", [4, 1000])
def test_reduced_outputs_are_those_of_all_inputs_at_once(batch_size):
    for reduce in (
        sgld_jax.predictive_probs,
        sgld_jax.entropy_split,
        lambda out: sgld_jax.variance_split(out[..., 0], np.exp(out[..., 1])),
    ):
        made = sgld_jax.predict(
            network, PARAMS, X, batch_size=batch_size, reduce=reduce
        )
        whole = reduce(EXPECTED)
        assert type(made) is type(whole) or isinstance(made, np.ndarray)
        for a, b in zip(jax.tree.leaves(made), jax.tree.leaves(whole), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_trees_of_inputs_and_of_outputs_and_several_arguments():
    def two(params, x, scale):
        return {"logits": scale[:, None] * network(params, x["x"])}

    scale = np.arange(N, dtype=np.float32)
    made = sgld_jax.predict(two, PARAMS, ({"x": X}, scale), batch_size=6)
    expected = scale[:, None] * EXPECTED
    np.testing.assert_allclose(made["logits"], expected, rtol=1e-4, atol=1e-4)


def test_chains_that_failed_are_left_out():
    potential = sgld_jax.from_log_density(lambda p: -0.5 * jnp.sum(jnp.log(p) ** 2))
    start = sgld_jax.stacked(jnp.array([[1.0, 1.0], [-1.0, 1.0], [1.0, 2.0]]))
    with pytest.warns(UserWarning, match="1 of 3 chains have failed"):
        samples = sgld_jax.sample(
            0, sgld_jax.sgld(1e-4), potential, start, num_samples=2, num_chains=3
        )
    with pytest.warns(UserWarning, match="Left out 1 of 3 chains"):
        made = sgld_jax.predict(lambda p, x: x @ p, samples, np.ones((4, 2)))
    healthy = samples.healthy()
    direct = sgld_jax.predict(lambda p, x: x @ p, healthy, np.ones((4, 2)))
    assert made.shape == (2, 2, 4)
    np.testing.assert_array_equal(made, direct)


def test_the_same_network_is_compiled_once():
    seconds = [
        sgld_jax.predict(lambda p, x: jnp.tanh(network(p, x)), PARAMS, X).sum()
        for _ in range(2)
    ]
    kept = len(predict_module.Program.__init__.__globals__["_kept"])
    sgld_jax.predict(lambda p, x: jnp.tanh(network(p, x)), PARAMS, X)
    assert len(predict_module.Program.__init__.__globals__["_kept"]) == kept
    assert seconds[0] == seconds[1]


def test_800_draws_for_10_000_inputs_in_bounded_memory():
    """All outputs would be 32 MB a batch of 1,000 and 320 MB whole; a batch is 8 MB."""
    rng = np.random.default_rng(1)
    params = {
        "w": rng.normal(size=(8, 100, 5, 10)).astype(np.float32),
        "b": np.zeros((8, 100, 10), np.float32),
    }
    x = rng.normal(size=(10_000, 5)).astype(np.float32)
    few = sgld_jax.predict(network, params, x[:512], reduce=sgld_jax.predictive_probs)
    tracemalloc.start()
    probs = sgld_jax.predict(network, params, x, reduce=sgld_jax.predictive_probs)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 6 * 800 * 256 * 10 * 4
    np.testing.assert_allclose(probs[:512], few, rtol=1e-5, atol=1e-7)
    logits = np.einsum("csik,ni->csnk", params["w"], x[-100:])
    np.testing.assert_allclose(
        probs[-100:], sgld_jax.predictive_probs(logits), rtol=1e-4, atol=1e-6
    )


REFUSED = {
    "inputs of two lengths": (
        lambda: sgld_jax.predict(lambda p, x, y: x, PARAMS, (X, X[:3])),
        ValueError,
        "inputs have the leading axes",
    ),
    "no inputs": (
        lambda: sgld_jax.predict(network, PARAMS, X[:0]),
        ValueError,
        "at least 1",
    ),
    "a function of parameters alone": (
        lambda: sgld_jax.predict(lambda p: p, PARAMS, X),
        TypeError,
        r"cannot be called with \(params, inputs\)",
    ),
    "outputs without rows": (
        lambda: sgld_jax.predict(lambda p, x: x.sum(), PARAMS, X),
        ValueError,
        "a row for each input",
    ),
    "one position": (
        lambda: sgld_jax.predict(network, {"w": X[0], "b": X[0, 0]}, X),
        ValueError,
        r"One position is x\[None, None\]",
    ),
    "a batch of none": (
        lambda: sgld_jax.predict(network, PARAMS, X, batch_size=0),
        ValueError,
        "batch_size=0",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    call, error, words = REFUSED[name]
    with pytest.raises(error, match=words):
        call()
