"""Predictions of numbers: mixtures of normals, their scores and intervals."""

import numpy as np
import pytest
import scoringrules
from scipy import stats

import sgld_jax

RNG = np.random.default_rng(0)
C, S, N = 3, 5, 11
MEAN = RNG.normal(size=(C, S, N))
SCALE = np.exp(RNG.normal(size=(C, S, N)))
W = RNG.exponential(size=(C, S))
Y = 2 * RNG.normal(size=N)
P = (W / W.sum()).ravel()
M, SD = MEAN.reshape(-1, N), SCALE.reshape(-1, N)


def density(y):
    return P @ stats.norm.pdf(y, M, SD)


def cdf(y):
    return P @ stats.norm.cdf(y, M, SD)


def test_the_density_is_that_of_the_mixture():
    log_p = sgld_jax.predictive_log_density(MEAN, SCALE, Y, weights=W)
    np.testing.assert_allclose(log_p, np.log(density(Y)), rtol=1e-10)
    far = sgld_jax.predictive_log_density(MEAN, 0.1, Y + 100)
    assert np.isfinite(far).all() and (far < -1e5).all()


@pytest.mark.parametrize("coverage", [0.1, 0.5, 0.9, 0.999])
def test_intervals_have_the_probability_that_was_asked_for(coverage):
    low, high = sgld_jax.predictive_interval(MEAN, SCALE, coverage, weights=W)
    np.testing.assert_allclose(cdf(low), (1 - coverage) / 2, rtol=1e-9)
    np.testing.assert_allclose(cdf(high), (1 + coverage) / 2, rtol=1e-9)


def test_intervals_hold_as_much_of_data_drawn_from_the_mixture():
    rng = np.random.default_rng(1)
    mean = rng.normal(size=(2, 4, 1)) + np.zeros(20_000)
    draw = rng.integers(8, size=20_000)
    y = mean.reshape(8, -1)[draw, np.arange(20_000)] + 0.3 * rng.normal(size=20_000)
    low, high = sgld_jax.predictive_interval(mean, 0.3, 0.8)
    held = np.mean((low <= y) & (y <= high))
    assert abs(held - 0.8) < 4.5 * np.sqrt(0.16 / 20_000)


def test_crps_is_that_of_scoringrules(monkeypatch):
    expected = scoringrules.crps_mixnorm(Y, M.T, SD.T, np.tile(P, (N, 1)))
    np.testing.assert_allclose(
        sgld_jax.crps(MEAN, SCALE, Y, weights=W), expected, rtol=1e-10
    )
    from sgld_jax.analysis import regression

    monkeypatch.setattr(regression, "_PAIRS", 500)  # some examples at a time
    np.testing.assert_allclose(
        sgld_jax.crps(MEAN, SCALE, Y, weights=W), expected, rtol=1e-10
    )
    one = sgld_jax.crps(MEAN[:1, :1], SCALE[:1, :1], Y)
    expected = scoringrules.crps_normal(Y, MEAN[0, 0], SCALE[0, 0])
    np.testing.assert_allclose(one, expected, rtol=1e-10)


def test_the_parts_of_a_variance_are_those_of_a_mixture():
    split = sgld_jax.variance_split(MEAN, SCALE, weights=W)
    second = P @ (M**2 + SD**2)
    np.testing.assert_allclose(split.mean, P @ M)
    np.testing.assert_allclose(split.total, second - split.mean**2)
    np.testing.assert_allclose(split.total, split.aleatoric + split.epistemic)
    alike = sgld_jax.variance_split(MEAN[..., None], 2.0)
    np.testing.assert_allclose(alike.aleatoric, 4.0)
    np.testing.assert_allclose(alike.epistemic[:, 0], MEAN.var((0, 1)))


def test_the_log_density_of_a_prediction_is_not_the_mean_of_log_densities():
    each = stats.norm.logpdf(Y, M, SD).mean(0)
    assert (sgld_jax.predictive_log_density(MEAN, SCALE, Y) > each).all()


REFUSED = {
    "scales below 0": (
        lambda: sgld_jax.variance_split(MEAN, np.log(SCALE)),
        "take np.exp",
    ),
    "scales of another shape": (
        lambda: sgld_jax.variance_split(MEAN, np.ones(3)),
        "broadcasts",
    ),
    "scales that are not numbers": (
        lambda: sgld_jax.variance_split(MEAN, np.nan),
        "scale holds nan",
    ),
    "means of one draw": (
        lambda: sgld_jax.crps(MEAN[0, 0], 1.0, Y),
        r"expected \[C, S, n\]",
    ),
    "weights of chains": (
        lambda: sgld_jax.crps(MEAN, 1.0, Y, weights=np.ones(C)),
        "one for each draw",
    ),
    "a scale of 0": (
        lambda: sgld_jax.predictive_log_density(MEAN, 0.0, Y),
        "there is no density",
    ),
    "a column of y": (
        lambda: sgld_jax.crps(MEAN, 1.0, Y[:, None]),
        r"y has shape \(11, 1\)",
    ),
    "a coverage in per cent": (
        lambda: sgld_jax.predictive_interval(MEAN, 1.0, 90),
        "between 0 and 1",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    call, words = REFUSED[name]
    with pytest.raises(ValueError, match=words):
        call()
