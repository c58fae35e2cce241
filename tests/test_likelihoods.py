"""Likelihoods: the densities of SciPy, one value per example, and no broadcasting."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from sgld_jax import likelihoods

RNG = np.random.default_rng(0)
N = 7
Y, M = RNG.normal(size=(2, N, 3))
SD = np.exp(RNG.normal(size=(N, 3)))
F = 3 * RNG.normal(size=(N, 3))
LABELS = RNG.integers(0, 3, N)


def as_float32(*arrays):
    return [jnp.asarray(x, jnp.float32) for x in arrays]


CASES = {
    "categorical": (
        lambda: likelihoods.categorical(jnp.asarray(F), jnp.asarray(LABELS)),
        special.log_softmax(F, axis=1)[np.arange(N), LABELS],
    ),
    "categorical, a label for each pixel": (
        lambda: likelihoods.categorical(
            *map(jnp.asarray, (F[:, None], LABELS[:, None]))
        ),
        special.log_softmax(F, axis=1)[np.arange(N), LABELS],
    ),
    "bernoulli": (
        lambda: likelihoods.bernoulli(jnp.asarray(F[:, 0]), LABELS > 0),
        stats.bernoulli.logpmf(LABELS > 0, special.expit(F[:, 0])),
    ),
    "bernoulli, several outputs": (
        lambda: likelihoods.bernoulli(jnp.asarray(F), Y > 0),
        stats.bernoulli.logpmf(Y > 0, special.expit(F)).sum(1),
    ),
    "normal": (
        lambda: likelihoods.normal(*as_float32(M, SD, Y)),
        stats.norm.logpdf(Y, M, SD).sum(1),
    ),
    "normal, one scale": (
        lambda: likelihoods.normal(jnp.asarray(M[:, 0]), 0.3, jnp.asarray(Y[:, 0])),
        stats.norm.logpdf(Y[:, 0], M[:, 0], 0.3),
    ),
    "normal, a scale for each target": (
        lambda: likelihoods.normal(*as_float32(M, SD[0], Y)),
        stats.norm.logpdf(Y, M, SD[0]).sum(1),
    ),
    "heteroscedastic": (
        lambda: likelihoods.heteroscedastic_normal(
            *as_float32(np.stack([M[:, 0], np.log(SD[:, 0])], 1), Y[:, 0])
        ),
        stats.norm.logpdf(Y[:, 0], M[:, 0], SD[:, 0]),
    ),
    "heteroscedastic, several targets": (
        lambda: likelihoods.heteroscedastic_normal(
            *as_float32(np.stack([M, np.log(SD)], -1), Y)
        ),
        stats.norm.logpdf(Y, M, SD).sum(1),
    ),
    "student_t": (
        lambda: likelihoods.student_t(*as_float32(M, SD, Y), df=2.5),
        stats.t.logpdf(Y, 2.5, M, SD).sum(1),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_densities_are_those_of_scipy(name):
    ours, expected = CASES[name]
    each = ours()
    assert each.shape == (N,)
    np.testing.assert_allclose(each, expected, rtol=2e-5, atol=2e-6)


def test_no_outlier_overflows():
    far = jnp.array([1e4, -1e4])
    assert jnp.isfinite(likelihoods.bernoulli(far, jnp.array([0, 1]))).all()
    logits = jnp.stack([far, -far], 1)
    assert jnp.isfinite(likelihoods.categorical(logits, jnp.array([1, 0]))).all()
    gradient = jax.grad(lambda f: likelihoods.bernoulli(f, jnp.array([0, 1])).sum())
    np.testing.assert_array_equal(gradient(far), [-1, 1])


def test_an_unknown_label_is_no_number():
    logits = jnp.zeros((4, 3))
    each = likelihoods.categorical(logits, jnp.array([-1, 0, 2, 3]))
    assert np.isnan(each).tolist() == [True, False, False, True]


ONE, COLUMN = jnp.zeros(N), jnp.zeros((N, 1))
REFUSED = {
    "labels in a column": (
        lambda: likelihoods.categorical(F, LABELS[:, None]),
        ValueError,
        r"labels has shape \(7, 1\), logits\[..., 0\] has \(7,\)",
    ),
    "labels that are floats": (
        lambda: likelihoods.categorical(F, ONE),
        TypeError,
        "labels have dtype float32: expected whole numbers",
    ),
    "a column of logits": (
        lambda: likelihoods.bernoulli(COLUMN, ONE),
        ValueError,
        r"\(7,\), logits has \(7, 1\)",
    ),
    "a column of means": (
        lambda: likelihoods.normal(COLUMN, 1.0, ONE),
        ValueError,
        r"make \[n, n\]. Use mean.squeeze\(-1\)",
    ),
    "a column of scales": (
        lambda: likelihoods.normal(ONE, COLUMN + 1, ONE),
        ValueError,
        r"scale has shape \(7, 1\), y has \(7,\)",
    ),
    "one output": (
        lambda: likelihoods.heteroscedastic_normal(COLUMN, ONE),
        ValueError,
        r"outputs have shape \(7, 1\)",
    ),
    "two outputs and a column": (
        lambda: likelihoods.heteroscedastic_normal(jnp.zeros((N, 2)), COLUMN),
        ValueError,
        r"y has shape \(7, 1\)",
    ),
    "a column of Student's": (
        lambda: likelihoods.student_t(COLUMN, 1.0, ONE),
        ValueError,
        "expected equal shapes",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_broadcast_is_refused(name):
    call, error, words = REFUSED[name]
    with pytest.raises(error, match=words):
        call()
