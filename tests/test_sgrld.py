"""SGRLD: its law on Gammas and Dirichlets, and its bias near 0.

The law where nothing is reflected is exact. Near 0 it is not, and there the kernel is
held to a simulation in NumPy of the same step, beside the exact transition of
dθ = (a − θ)dt + √(2θ)dW, a Gamma whose shape has a Poisson number in it.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import sgld_jax
from tests.law import ALPHA, Z, step_law, two_updates
from tests.mutants import mutated_kernel

DIM = 20_000
LARGE = {"a": 12.0, "T": 1.5, "eps": 0.1, "V": 20.0}


def gamma_chains(sgrld, a, T, eps, V, updates=100, start=None):
    """θ `[DIM]` of Gamma(a/T, 1/T) after some updates, with gradient noise."""
    phi = jnp.full(DIM, jnp.log(a)) if start is None else start
    sampler = sgrld(eps, T, key=1)

    def update(i, carry):
        phi, state = carry
        noise = jax.random.normal(jax.random.fold_in(jax.random.key(2), i), phi.shape)
        grads = jnp.exp(phi) - a + jnp.sqrt(V) * noise
        updates, state = sampler.update(grads, state, phi)
        return phi + updates, state

    run = jax.jit(lambda phi: jax.lax.fori_loop(0, updates, update, phi))
    return np.exp(np.asarray(run((phi, sampler.init(phi)))[0], np.float64))


def gamma_z(sgrld):
    """z of mean and variance, from E θ = a, Var θ = (Ta + εV/2)/(1 − ε/2)."""
    a, T, eps, V = LARGE.values()
    theta = gamma_chains(sgrld, **LARGE)
    variance = (T * a + eps * V / 2) / (1 - eps / 2)
    squares = (theta - a) ** 2
    return np.array(
        [
            (theta.mean() - a) / np.sqrt(variance / DIM),
            (squares.mean() - variance) / (squares.std() / np.sqrt(DIM)),
        ]
    )


def test_the_law_of_a_gamma():
    assert np.abs(gamma_z(sgld_jax.sgrld)).max() < Z


MUTANTS = {
    "noise √(εT)": ("noise", "sd = jnp.sqrt(eps) * jnp.sqrt(T)"),
    "T for √T": ("noise", "sd = jnp.sqrt(2 * eps) * T"),
    "half the gradient": (
        "drift",
        "moved = jax.tree.map(lambda t, g: t - eps / 2 * g, theta, grads)",
    ),
    "Γ twice": (
        "drift",
        "moved = jax.tree.map(lambda t, g: t - eps * g + eps * T, theta, grads)",
    ),
    "the metric of φ": (
        "drift",
        "moved = jax.tree.map(lambda t, g: t - eps * t * g, theta, grads)",
    ),
}


@pytest.mark.parametrize("name", list(MUTANTS))
def test_the_law_sees_a_kernel_that_is_broken(name):
    broken = mutated_kernel("sgrld", *MUTANTS[name])
    assert not np.abs(gamma_z(broken.sgrld)).max() < 2 * Z


def test_the_noise_of_an_update_is_normal_and_that_of_each_chain_its_own():
    eps, T = 0.01, 2.0
    phi = {"a": jnp.linspace(1.0, 3.0, 40), "b": jnp.linspace(2.0, 4.0, 25)}
    grads = jax.tree.map(lambda x: 3 * x, phi)
    both = two_updates(lambda: sgld_jax.sgrld(eps, T, key=0), phi, grads, 128)
    residuals = {}
    for name in phi:
        theta = np.exp(np.asarray(phi[name], np.float64))
        moved = theta * np.exp(np.stack([np.asarray(u[name]) for u in both]))
        xi = (moved - theta + eps * np.asarray(grads[name])) / np.sqrt(
            2 * eps * T * theta
        )
        residuals[name] = xi
    law = step_law(residuals)
    assert law.holds, law


# --- near 0 --------------------------------------------------------------------------

TINY, H = 0.01, 0.5


def cir_log(phi, a, h, rng):
    """log θ after time h of dθ = (a − θ)dt + √(2θ)dW, exactly, where θ underflows too."""
    kept = np.exp(-h)
    jumps = rng.poisson(np.exp(phi) * kept / (1 - kept))
    # log of Gamma(s) as that of Gamma(s + 1) and of U^(1/s), for the smallest s.
    shape = a + jumps
    log_gamma = (
        np.log(rng.gamma(shape + 1)) + np.log(rng.uniform(size=len(phi))) / shape
    )
    return np.log1p(-kept) + log_gamma


def exact_logs(a, rng, num):
    return np.log(rng.gamma(a + 1, size=num)) + np.log(rng.uniform(size=num)) / a


def euler(phi, a, eps, updates, rng):
    """log θ after some reflected steps, in 64 bits."""
    theta = np.exp(phi)
    for _ in range(updates):
        xi = rng.normal(size=len(theta))
        theta = np.abs(theta + eps * (a - theta) + np.sqrt(2 * eps * theta) * xi)
    return np.log(theta)


@functools.cache
def known():
    """Logarithms of the exact law, and of the law of reflected steps at ε = .1."""
    rng = np.random.default_rng(0)
    exact = exact_logs(TINY, rng, 200_000)
    return exact, euler(exact, TINY, 0.1, 200, rng)


def test_four_draws_of_ten_are_below_the_range_of_floats():
    exact, _ = known()
    assert 0.40 < np.mean(exact < np.log(np.finfo(np.float32).tiny)) < 0.43


def test_the_exact_transition_has_no_bias():
    rng = np.random.default_rng(1)
    phi = exact_logs(TINY, rng, 100_000)
    for _ in range(3):
        phi = cir_log(phi, TINY, H, rng)
    assert stats.ks_2samp(phi, known()[0]).pvalue > ALPHA
    # And it moves: at another a the law is another.
    assert stats.ks_2samp(cir_log(phi, 2 * TINY, 50.0, rng), known()[0]).pvalue < ALPHA


def test_near_0_the_kernel_is_the_reflected_step_with_the_bias_that_is_published():
    exact, biased = known()
    start = jnp.asarray(np.resize(exact, DIM), jnp.float32)
    theta = gamma_chains(sgld_jax.sgrld, TINY, 1.0, 0.1, 0.0, updates=200, start=start)
    assert np.isfinite(theta).all()
    assert stats.ks_2samp(np.log(theta), biased).pvalue > ALPHA
    assert stats.ks_2samp(np.log(theta), exact).pvalue < 1e-100
    error = np.exp(biased).std() / np.sqrt(len(biased))
    assert abs(np.exp(biased).mean() - 0.326) < 0.0005 + Z * error  # the docstring
    finer = np.exp(euler(exact[:50_000], TINY, 0.01, 3_000, np.random.default_rng(2)))
    error = finer.std() / np.sqrt(len(finer))
    assert abs(finer.mean() - 0.193) < 0.0005 + Z * error
    assert abs(np.exp(exact).mean() - TINY) < Z * np.exp(exact).std() / np.sqrt(
        len(exact)
    )


def concentration(phi, parts=5):
    """Σπ² of points of the simplex, whose logarithms come in rows."""
    phi = np.asarray(phi, np.float64).reshape(-1, parts)
    share = np.exp(phi - phi.max(1, keepdims=True))
    return np.sum((share / share.sum(1, keepdims=True)) ** 2, 1)


def test_a_sparse_dirichlet_and_by_how_much_the_step_misses_it():
    """Dirichlet(.1, …, .1): E Σπ² = (α + 1)/(Kα + 1), exact by the exact transition."""
    rng, a = np.random.default_rng(3), 0.1
    exact, start = (a + 1) / (5 * a + 1), exact_logs(a, rng, DIM)
    phi = start
    for _ in range(4):
        phi = cir_log(phi, a, H, rng)
    found = {"exact": phi, ".1": euler(start, a, 0.1, 200, rng)}
    found[".01"] = euler(start, a, 0.01, 2_000, rng)
    told = {"exact": exact, ".1": 0.400, ".01": 0.489}  # as the docstring says
    for name, phi in found.items():
        values = concentration(phi)
        error = Z * values.std() / np.sqrt(len(values)) + 0.0005 * (name != "exact")
        assert abs(values.mean() - told[name]) < error
    theta = gamma_chains(
        sgld_jax.sgrld, a, 1.0, 0.1, 0.0, updates=200, start=jnp.float32(start)
    )
    kernel, step = concentration(np.log(theta)), concentration(found[".1"])
    error = np.sqrt((kernel.var() + step.var()) / len(step))
    assert abs(kernel.mean() - step.mean()) < Z * error


# --- the simplex ---------------------------------------------------------------------


@pytest.mark.slow
def test_the_law_of_a_dirichlet():
    """Dirichlet(8, 5, 3), `laws.md` 12; the step's bias is below 1/4 of an error."""
    prior, counts = sgld_jax.log_gamma_prior(2.0), jnp.array([6.0, 3.0, 1.0])
    alpha = np.array([8.0, 5.0, 3.0])
    potential = sgld_jax.from_log_density(
        lambda phi: prior(phi) + counts @ jax.nn.log_softmax(phi)
    )
    exact = np.random.default_rng(0).gamma(alpha, size=(DIM, 3))
    samples = sgld_jax.sample(
        0,
        sgld_jax.sgrld(2e-3),
        potential,
        sgld_jax.stacked(jnp.asarray(np.log(exact), jnp.float32)),
        num_chains=DIM,
        num_samples=1,
        thinning=1_500,
        collect=jax.nn.softmax,
    )
    pi = np.asarray(samples.params[:, 0], np.float64)
    mean = alpha / alpha.sum()
    variance = mean * (1 - mean) / (alpha.sum() + 1)
    np.testing.assert_allclose(variance, [0.0147059, 0.0126379, 0.0089614], rtol=1e-4)
    assert np.abs((pi.mean(0) - mean) / np.sqrt(variance / DIM)).max() < Z
    squares = (pi - mean) ** 2
    z = (squares.mean(0) - variance) / (squares.std(0) / np.sqrt(DIM))
    assert np.abs(z).max() < Z


# --- input ---------------------------------------------------------------------------


def test_at_t_0_it_descends_and_needs_no_key():
    phi, grads = jnp.array([0.0, 2.0]), jnp.array([3.0, -1.0])
    sampler = sgld_jax.sgrld(0.5, temperature=0.0)
    updates, _ = sampler.update(grads, sampler.init(phi), phi)
    moved = np.log(np.abs(np.exp(phi) - 0.5 * grads))  # one of them reflected
    np.testing.assert_allclose(phi + updates, moved, rtol=1e-6)


def test_a_parameter_of_0_is_the_smallest_float():
    sampler = sgld_jax.sgrld(0.5, temperature=0.0)
    phi = jnp.array([0.0])
    updates, _ = sampler.update(jnp.array([2.0]), sampler.init(phi), phi)
    np.testing.assert_allclose(updates, np.log(np.finfo(np.float32).tiny), rtol=1e-6)


def test_what_it_needs_is_said():
    sampler = sgld_jax.sgrld(0.1, key=0)
    with pytest.raises(ValueError, match="moves by where it is"):
        sampler.update(jnp.ones(2), sampler.init(jnp.ones(2)))
    with pytest.raises(ValueError, match="step_size=-1"):
        sgld_jax.sgrld(-1.0)
    with pytest.raises(ValueError, match="audit"):
        sgld_jax.audit(sgld_jax.sgrld(0.1), key=0)
    with pytest.raises(ValueError, match="log_gamma_prior"):
        sgld_jax.log_gamma_prior(0.0)


def test_the_prior_is_that_of_scipy():
    phi, shape, rate = np.array([0.3, -2.0]), np.array([0.5, 3.0]), 2.0
    log_p = stats.gamma.logpdf(np.exp(phi), shape, scale=1 / rate) + phi
    prior = sgld_jax.log_gamma_prior(jnp.asarray(shape, jnp.float32), rate)
    constant = stats.gamma.logpdf(1.0, shape, scale=1 / rate) + rate
    assert float(prior(jnp.asarray(phi))) == pytest.approx(
        (log_p - constant).sum(), 1e-5
    )
