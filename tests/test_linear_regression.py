"""Bayesian linear regression on real data, against the exact posterior.

scikit-learn's diabetes data, 442 × 10, standardised; noise variance ½, prior N(0, I).
Condition number of the posterior precision: about 400. Chains start in the exact
posterior, and every eigen-direction is held to the law of the *discretised* chain
at that time (laws.md 3.1 and 4), which tends to the posterior as ε → 0.
"""

import functools

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import sgld_jax

NOISE_VARIANCE = 0.5
CHAINS = 2_000
ALPHA = 1e-6


@functools.cache
def problem():
    """X [442, 10], y [442], the posterior mean, and its precision's eigen-decomposition."""
    datasets = pytest.importorskip("sklearn.datasets")
    X, y = datasets.load_diabetes(return_X_y=True)
    X = (X - X.mean(0)) / X.std(0)
    y = (y - y.mean()) / y.std()
    precision = X.T @ X / NOISE_VARIANCE + np.eye(10)
    mean = np.linalg.solve(precision, X.T @ y / NOISE_VARIANCE)
    values, vectors = np.linalg.eigh(precision)
    return X, y, mean, values, vectors


def run(step_size, updates, batches):
    """Errors θ − mean in the eigenbasis `[C, 10]`, after starting in the posterior."""
    X, y, mean, values, vectors = problem()
    potential = sgld_jax.minibatch_potential(
        sgld_jax.gaussian_prior(1.0),
        lambda w, batch: -0.5 * (batch["y"] - batch["X"] @ w) ** 2 / NOISE_VARIANCE,
        num_data=len(y),
    )
    exact = np.random.default_rng(0).normal(size=(CHAINS, 10)) / np.sqrt(values)
    start = sgld_jax.stacked(jnp.asarray(mean + exact @ vectors.T, jnp.float32))
    samples = sgld_jax.sample(
        1,
        sgld_jax.sgld(step_size),
        potential,
        start,
        num_samples=1,
        num_chains=CHAINS,
        thinning=updates,
        data={"X": jnp.asarray(X), "y": jnp.asarray(y)},
        batches=batches,
    )
    errors = (np.asarray(samples.params[:, 0], np.float64) - mean) @ vectors
    initial = (np.asarray(start.params, np.float64) - mean) @ vectors
    return errors, np.mean(initial**2, axis=0)


def chi_square_band(errors, variance):
    """Two-sided p of each direction's variance, Bonferroni over the ten."""
    dof = len(errors)
    chi2 = (errors**2).sum(0) / variance
    p = 2 * np.minimum(stats.chi2.sf(chi2, dof), stats.chi2.cdf(chi2, dof))
    return np.minimum(1.0, 10 * p)


def full_batch_variance(step_size, updates):
    _, _, _, values, _ = problem()
    rho = 1 - step_size * values
    limit = 1 / (values * (1 - step_size * values / 2))
    return limit * (1 - rho ** (2 * updates)) + rho ** (2 * updates) / values


@pytest.mark.parametrize(
    "stability, updates", [(0.5, 800), pytest.param(0.1, 800, marks=pytest.mark.slow)]
)
def test_full_batch(stability, updates):
    """ελ_max = .5 and .1: the stiffest direction is 33 % and 5 % too wide, and known."""
    step_size = stability / problem()[3].max()
    errors, _ = run(step_size, updates, sgld_jax.full_batch())
    expected = full_batch_variance(step_size, updates)
    assert chi_square_band(errors, expected).min() > ALPHA
    assert (
        np.abs(errors.mean(0) / np.sqrt(expected / CHAINS)).max() < 5.3
    )  # 10 tests, 1e-6
    if stability == 0.5:  # the test would see the discretisation left out
        assert chi_square_band(errors, 1 / problem()[3]).min() < ALPHA


def minibatch_variance(step_size, updates, batch_size):
    """The exact second-moment recursion: batches make curvature noise, too (laws.md 4)."""
    X, y, mean, values, vectors = problem()
    N, d = X.shape
    Z = X @ vectors  # in the eigenbasis of the precision
    A = np.einsum("ni,nj->nij", Z, Z) / NOISE_VARIANCE
    residual = Z * ((y - X @ mean) / NOISE_VARIANCE)[:, None]  # rows sum to prior pull
    spread = N * residual - residual.sum(0)
    noise = spread.T @ spread / N / batch_size
    deviation = N * A - A.sum(0)
    drift = np.eye(d) - step_size * np.diag(values)
    S = np.diag(1 / values)
    flat = deviation.reshape(N, d * d)
    fourth = (flat.T @ flat / N / batch_size).reshape(d, d, d, d)  # E[D_ij D_kl]
    for _ in range(updates):
        S = (
            drift @ S @ drift
            + step_size**2 * (np.einsum("ijkl,jl->ik", fourth, S) + noise)
            + 2 * step_size * np.eye(d)
        )
    return np.diag(S)


def test_minibatches():
    """Batches of 64 at ελ_max = .2: wider than the posterior by a known amount."""
    step_size, updates = 0.2 / problem()[3].max(), 800
    errors, _ = run(step_size, updates, sgld_jax.with_replacement(64))
    expected = minibatch_variance(step_size, updates, 64)
    assert chi_square_band(errors, expected).min() > ALPHA
    assert (
        chi_square_band(errors, full_batch_variance(step_size, updates)).min() < ALPHA
    )


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [None, 64])
def test_a_small_step_reaches_the_exact_posterior(batch_size):
    """ελ_max = .02, 6,000 updates: what is left of the bias is below the band."""
    step_size, updates = 0.02 / problem()[3].max(), 6_000
    batches = (
        sgld_jax.full_batch() if batch_size is None else sgld_jax.with_replacement(64)
    )
    errors, _ = run(step_size, updates, batches)
    law = (
        full_batch_variance(step_size, updates)
        if batch_size is None
        else minibatch_variance(step_size, updates, batch_size)
    )
    assert chi_square_band(errors, law).min() > ALPHA
    if batch_size is None:
        assert chi_square_band(errors, 1 / problem()[3]).min() > ALPHA
