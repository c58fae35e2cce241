"""Logistic regression on real data against long-run HMC draws made by others' code.

Needs the folder of reference draws that the environment variable SGLD_JAX_DATA names.
"""

import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sgld_jax

Z = 5.0  # 18 statistics: 1e-5 together
CHAINS, DRAWS = 256, 20


@pytest.fixture(scope="module")
def pima():
    folder = os.environ.get("SGLD_JAX_DATA")
    if not folder:
        pytest.skip("SGLD_JAX_DATA is not set: no reference draws here")
    with np.load(
        pathlib.Path(folder) / "logistic_reference" / "pima_logit.npz"
    ) as file:
        return {name: file[name] for name in file.files}


@pytest.mark.parametrize(
    "batch_size", [pytest.param(None, marks=pytest.mark.slow), 256]
)
def test_pima_diabetes(pima, batch_size):
    """Means, and variances along eigenvectors inflated as laws.md 3.1 and 4 predict."""
    X, y = pima["X"], pima["y"].astype(float)
    reference = pima["beta"].reshape(-1, X.shape[1])
    values, vectors = np.linalg.eigh(np.linalg.inv(np.cov(reference.T)))
    step_size = 0.04 / values.max()
    potential = sgld_jax.minibatch_potential(
        sgld_jax.gaussian_prior(float(pima["prior_sd"])),
        lambda w, b: b["y"] * (b["X"] @ w) - jax.nn.softplus(b["X"] @ w),
        num_data=len(y),
    )
    batches = sgld_jax.full_batch() if batch_size is None else sgld_jax.shuffled(256)
    run = sgld_jax.sample(
        0,
        sgld_jax.sgld(step_size),
        potential,
        lambda key: jnp.asarray(pima["map"], jnp.float32),
        num_samples=DRAWS,
        num_chains=CHAINS,
        burn_in=400,
        thinning=100,
        data={"X": jnp.asarray(X), "y": jnp.asarray(y)},
        batches=batches,
    )
    errors = (np.asarray(run.params, np.float64) - reference.mean(0)) @ vectors
    exact = ((reference - reference.mean(0)) @ vectors).var(0)

    means = errors.mean(1)  # [C, 9]: chains are independent
    standard_error = np.sqrt(means.var(0) / CHAINS + exact / len(reference))
    assert np.abs(means.mean(0) / standard_error).max() < Z

    noise = 0.0
    if batch_size is not None:
        # Three disjoint batches an epoch: their noise cancels over the epoch, and
        # what is left is below the i.i.d. bound by far; the band is two-sided in it.
        p = 1 / (1 + np.exp(-X @ pima["map"]))
        scores = (X * (y - p)[:, None]) @ vectors
        noise = len(y) ** 2 * scores.var(0) / 256 * (1 - 256 / len(y))
    second = (errors**2).mean(1)
    se = np.sqrt(second.var(0) / CHAINS + 2 * exact**2 / len(reference))
    least = exact / (1 - step_size * values / 2)
    most = exact * (1 + step_size * noise / 2) / (1 - step_size * values / 2)
    assert ((second.mean(0) - least) / se).min() > -Z
    assert ((second.mean(0) - most) / se).max() < Z
