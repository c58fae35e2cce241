"""Draws of one's own loop reach everything that looks at `Samples`."""

import numpy as np
import pytest

import sgld_jax

pytestmark = [
    pytest.mark.filterwarnings("ignore:R-hat is above:UserWarning"),
    pytest.mark.filterwarnings("ignore:ESS is below:UserWarning"),
]
DRAWS = {
    "w": np.random.default_rng(0).normal(size=(4, 100, 3)).astype(np.float32),
    "b": np.random.default_rng(1).normal(size=(4, 100)).astype(np.float32),
}


def test_everything_takes_them(tmp_path):
    samples = sgld_jax.samples_from_draws(DRAWS)
    assert samples.num_chains == 4 and samples.num_samples == 100
    assert "4 chains of 100 draws" in repr(samples)
    np.testing.assert_array_equal(sgld_jax.summary(samples), sgld_jax.summary(DRAWS))
    assert sgld_jax.to_arviz(samples).posterior["w"].shape == (4, 100, 3)
    made = sgld_jax.predict(lambda p, x: x @ p["w"] + p["b"], samples, np.ones((5, 3)))
    assert made.shape == (4, 100, 5)
    samples.save(tmp_path / "run")
    again = sgld_jax.load(tmp_path / "run")
    np.testing.assert_array_equal(again[1:, 10:].params["w"], DRAWS["w"][1:, 10:])


def test_weights_are_heeded():
    steps = np.broadcast_to(1 / (1 + np.arange(100.0)), (4, 100))
    samples = sgld_jax.samples_from_draws(DRAWS, weights=steps)
    table = sgld_jax.summary(samples, weighted=True)
    expected = np.average(DRAWS["b"], weights=steps)
    np.testing.assert_allclose(table.loc["b", "mean"], expected, rtol=1e-6)
    with pytest.warns(UserWarning, match="The weights change over the draws"):
        sgld_jax.summary(samples)


def test_draws_that_are_not_finite_fail_their_chain():
    w = DRAWS["w"].copy()
    w[2, 30, 1] = np.nan
    samples = sgld_jax.samples_from_draws({**DRAWS, "w": w})
    assert samples.failed.tolist() == [False, False, True, False]
    (failure,) = samples.report.failures
    assert (failure.chain, failure.step, failure.leaf) == (2, 30, "['w']")
    with pytest.warns(UserWarning, match="Left out 1 of 4 chains"):
        sgld_jax.rhat(samples)


def test_there_is_no_chain_to_go_on_from():
    samples = sgld_jax.samples_from_draws(DRAWS)
    potential = sgld_jax.from_log_density(lambda p: -0.5 * (p["w"] ** 2).sum())
    with pytest.raises(ValueError, match="not one of this sampler"):
        sgld_jax.resume(samples.final, sgld_jax.sgld(0.1), potential, num_samples=2)


@pytest.mark.parametrize(
    "call, words",
    [
        (
            lambda: sgld_jax.samples_from_draws(np.ones(5)),
            r"A single chain is x\[None\]",
        ),
        (lambda: sgld_jax.samples_from_draws({}), "leading axes"),
        (
            lambda: sgld_jax.samples_from_draws(
                {"a": DRAWS["w"], "b": np.ones((4, 9))}
            ),
            "leading axes",
        ),
        (
            lambda: sgld_jax.samples_from_draws(DRAWS, weights=np.ones(4)),
            "weights has shape",
        ),
        (
            lambda: sgld_jax.samples_from_draws(DRAWS, potential=np.ones((4, 9))),
            "potential has shape",
        ),
    ],
)
def test_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
