"""Kernels against their discretised stationary law (laws.md 2, 3.1, 3.2, 4). No rtol."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sgld_jax
from tests.kernels import KERNELS, sgld_variance
from tests.law import Z, gaussian_chains, mean_z, variance_z

PRECISIONS = np.array([0.3, 1.0, 3.0])
STEP_SIZE = 0.2
CHAINS = 20_000


@functools.partial(jax.jit, static_argnames=("chains", "updates", "make"))
def gaussian_run(key, temperature, noise, mean, sd, make, chains, updates):
    """Positions `[chains, 3]` after some updates on U = Σ λθ²/2 with noisy gradients.

    Chains start at N(mean, sd²), numbers or `[3]`.
    """
    sampler = make(temperature)
    noise_key, sampler_key, start_key = jax.random.split(key, 3)
    theta = mean + sd * jax.random.normal(start_key, (chains, 3))
    keys = sampler_key, noise_key
    return gaussian_chains(sampler, *keys, theta, PRECISIONS, noise, updates)[0]


@functools.cache
def maker(name, preconditioned):
    """`temperature -> sampler`; one object for each, so that a grid is one program."""
    scale = jnp.array(SCALE, jnp.float32)
    G = sgld_jax.diagonal(scale) if preconditioned else sgld_jax.identity()
    make = KERNELS[name].make
    return lambda temperature: make(STEP_SIZE, temperature, preconditioner=G)


SCALE = np.array([2.0, 0.5, 0.25])
SETTINGS = [(T, V) for T in (0.1, 1.0, 4.0) for V in (0.0, 3.0)]


@pytest.mark.parametrize("name", [name for name in KERNELS if KERNELS[name].law])
@pytest.mark.parametrize("preconditioned", [False, True])
@pytest.mark.parametrize("temperature, noise", SETTINGS)
def test_invariance_and_stationary_variance(name, preconditioned, temperature, noise):
    """Started in the exact discretised law, 30 updates later it is still that law."""
    make, scale = maker(name, preconditioned), SCALE if preconditioned else 1.0
    variance = KERNELS[name].law(PRECISIONS, STEP_SIZE, temperature, noise, scale)
    sd = np.sqrt(variance, dtype=np.float32)
    draws = gaussian_run(
        jax.random.key(1), temperature, noise, 0.0, sd, make, CHAINS, 30
    )
    assert np.abs(variance_z(draws, variance)).max() < Z
    assert np.abs(mean_z(draws, 0.0, variance)).max() < Z


@pytest.mark.parametrize("temperature, noise", SETTINGS)
def test_convergence_from_far_away(temperature, noise):
    """E θ_k = ρ^k θ₀ and Var_k = Var_∞ (1 − ρ^2k): the drift's sign and size."""
    far, updates = 3.0, 4
    make = maker("sgld", preconditioned=False)
    draws = gaussian_run(
        jax.random.key(2), temperature, noise, far, 0.0, make, CHAINS, updates
    )
    rho = 1 - STEP_SIZE * PRECISIONS
    limit = sgld_variance(PRECISIONS, STEP_SIZE, temperature, noise)
    variance, mean = limit * (1 - rho ** (2 * updates)), rho**updates * far
    assert np.abs(variance_z(draws, variance, mean)).max() < Z
    assert np.abs(mean_z(draws, mean, variance)).max() < Z


def test_golden_values_of_the_formula():
    """laws.md section 12, so that the tests above compare with what is published."""
    np.testing.assert_allclose(sgld_variance(2.0, 0.25, 1.3, 3.0), 1.1166667, atol=1e-7)
    np.testing.assert_allclose(sgld_variance(3.0, 0.2, 1.0), 0.4761905, atol=1e-7)
    np.testing.assert_allclose(
        sgld_variance(2.0, 0.4, 1.3, 3.0, 0.25), 0.8055556, atol=1e-7
    )


def test_stationary_law_of_a_correlated_gaussian():
    """Σ = T [Λ (I − εΛ/2)]⁻¹, through `sample`, in the eigenbasis (laws.md 3.1)."""
    precision = np.array([[2.0, 0.8], [0.8, 1.0]])
    values, vectors = np.linalg.eigh(precision)
    potential = sgld_jax.from_log_density(
        lambda x: -0.5 * x @ jnp.asarray(precision) @ x
    )
    run = sgld_jax.sample(
        5,
        sgld_jax.sgld(0.3, 1.7),
        potential,
        lambda key: jnp.zeros(2),
        num_samples=1,
        num_chains=CHAINS,
        burn_in=80,
    )
    draws = run.params[:, 0] @ vectors
    expected = sgld_variance(values, 0.3, 1.7)
    assert np.abs(variance_z(draws, expected)).max() < Z
    assert np.abs(mean_z(draws[:, :1] * draws[:, 1:], 0.0, expected.prod())).max() < Z


# The location model: x_i ~ N(θ, 1), flat prior, so λ = N, at every θ the same noise.
X = jnp.arange(8.0)
LOCATION = sgld_jax.minibatch_potential(
    log_prior=lambda theta: jnp.zeros(()),
    log_likelihood=lambda theta, x: -0.5 * (x - theta) ** 2,
    num_data=8,
)


def location_draws(batches, num_samples=1, burn_in=80, step_size=0.05):
    run = sgld_jax.sample(
        7,
        sgld_jax.sgld(step_size),
        LOCATION,
        lambda key: jnp.array(3.5),
        num_samples=num_samples,
        num_chains=CHAINS,
        burn_in=burn_in,
        data=X,
        batches=batches,
    )
    return run.params


def batch_noise_z(draws, variance):
    """z of a variance whose draws are not quite Gaussian: by their own fourth moment."""
    d = np.asarray(draws, np.float64) - 3.5
    squares = d**2
    return (squares.mean(0) - variance) / (squares.std(0) / np.sqrt(len(d)))


def test_full_batch_has_no_minibatch_noise():
    assert (
        np.abs(
            variance_z(
                location_draws(sgld_jax.full_batch()), sgld_variance(8, 0.05, 1), 3.5
            )
        )
        < Z
    )


def test_minibatches_with_replacement():
    """V = N² σ̂²/n, golden value .8125 (laws.md 12)."""
    noise = 8**2 * np.var(X) / 2
    variance = sgld_variance(8, 0.05, 1.0, noise)
    np.testing.assert_allclose(variance, 0.8125, atol=1e-6)
    assert (
        np.abs(batch_noise_z(location_draws(sgld_jax.with_replacement(2)), variance))
        < Z
    )


def test_minibatches_without_replacement_in_shuffled_epochs():
    """Batches of one epoch are correlated by −1/(m−1): a law for each phase of it."""
    n, N, eps, m = 2, 8, 0.05, 4
    rho = 1 - eps * N
    V = N**2 * np.var(X, ddof=1) / n * (1 - n / N)

    def W(k):
        powers = rho ** np.arange(k)
        return V * (m / (m - 1) * (powers**2).sum() - powers.sum() ** 2 / (m - 1))

    expected = [
        2 * eps / (1 - rho**2)
        + eps**2 * (W(k) + rho ** (2 * k) * W(m) / (1 - rho ** (2 * m)))
        for k in (1, 2, 3, 0)  # draws after burn-in by whole epochs: phases 1, 2, 3, 0
    ]
    golden = [0.5782047, 0.5241537, 0.4182953, 0.3283463]
    np.testing.assert_allclose(expected, golden, atol=1e-6)
    draws = location_draws(sgld_jax.shuffled(2), num_samples=4)
    assert np.abs(batch_noise_z(draws, np.array(expected))).max() < Z


@pytest.mark.parametrize("batch_size", [3, 8])
def test_shuffled_batches_that_do_not_divide_the_data_leave_no_row_out(batch_size):
    """The stationary mean is the posterior's, for any n: every row counts the same."""
    draws = location_draws(sgld_jax.shuffled(batch_size), num_samples=8, step_size=0.02)
    d = np.asarray(draws, np.float64)
    z = (d.mean(0) - 3.5) / (d.std(0) / np.sqrt(len(d)))
    assert np.abs(z).max() < Z


@pytest.mark.parametrize("batch_size", [2, 3])
def test_blocks(batch_size):
    """An epoch of blocks from a uniform start has the law of the blocks there are.

    With 3 of 8 rows the third block goes round, into rows that the first one had.
    """
    n, N, eps, m = batch_size, 8, 0.05, -(-8 // batch_size)
    scheme, rho = sgld_jax.blocks(n, seed=1), 1 - eps * N
    order = np.asarray(scheme._order(jnp.arange(N), N))
    rows = (np.arange(N)[:, None, None] + n * np.arange(m)[:, None] + np.arange(n)) % N
    off = X[order][rows].mean(-1) - X.mean()  # of each start and block of an epoch

    def from_batches(k):  # variance over the start of an epoch, k blocks into it
        powers = rho ** np.arange(k)[::-1]
        return np.mean((eps * N * off[:, :k] @ powers) ** 2)

    noise = lambda k: 2 * eps * (1 - rho ** (2 * k)) / (1 - rho**2)  # noqa: E731
    at_the_end = (noise(m) + from_batches(m)) / (1 - rho ** (2 * m))
    expected = [
        rho ** (2 * k) * at_the_end + noise(k) + from_batches(k)
        for k in range(1, m + 1)
    ]
    draws = location_draws(scheme, num_samples=m, burn_in=20 * m)
    assert np.abs(batch_noise_z(draws, np.array(expected))).max() < Z


def naive_rule(theta, key, prior_precision, likelihood_precision, eta):
    """θ + (η/2) ∇log p(θ) + η ∇log p(D|θ) + √η ξ: the rule often printed, signs repaired."""
    drift = -eta / 2 * prior_precision * theta - eta * likelihood_precision * theta
    return theta + drift + jnp.sqrt(eta) * jax.random.normal(key, theta.shape)


def test_the_mismatched_rule_has_the_wrong_variance_and_ours_the_right_one():
    """laws.md 2: it counts the likelihood twice. 0.2908 instead of 0.5051."""
    prior, likelihood, eps = 0.5, 1.5, 0.01
    doubled = prior + 2 * likelihood
    wrong, right = 1 / (doubled * (1 - eps * doubled / 2)), sgld_variance(2.0, eps, 1.0)
    np.testing.assert_allclose([wrong, right], [0.2908033, 0.5050505], atol=1e-7)

    def run(update, key):
        theta = jnp.zeros(CHAINS)
        keys = jax.random.split(key, 400)
        return jax.lax.scan(lambda t, k: (update(t, k), None), theta, keys)[0]

    naive = jax.jit(
        lambda key: run(lambda t, k: naive_rule(t, k, prior, likelihood, 2 * eps), key)
    )(jax.random.key(1))
    potential = sgld_jax.from_log_density(lambda t: -0.5 * (prior + likelihood) * t**2)
    ours = sgld_jax.sample(
        0,
        sgld_jax.sgld(eps),
        potential,
        lambda key: jnp.zeros(()),
        num_samples=1,
        num_chains=CHAINS,
        burn_in=400,
    ).params[:, 0]
    assert np.abs(variance_z(naive, wrong)) < Z
    assert np.abs(variance_z(ours, right)) < Z
    assert np.abs(variance_z(naive, right)) > 30  # no doubt which is which
    assert np.abs(variance_z(ours, wrong)) > 30


def test_with_its_printed_signs_the_rule_walks_down_the_density():
    """The mean grows by 1 + εP a step, P = λ_prior + 2 λ_likelihood: 31.2 after 100."""
    theta = jnp.ones(())
    for _ in range(100):
        log_prior, log_likelihood = -0.5 * theta, -1.5 * theta  # gradients
        theta = theta - 0.01 * log_prior - 0.02 * log_likelihood  # and no noise
    np.testing.assert_allclose(theta, 31.19, atol=0.01)


def test_a_decaying_step_keeps_the_transient_law():
    """Var_{k+1} = (1 − ε_k λ)² Var_k + 2 ε_k T: noise and drift use the same ε_k."""
    schedule = optax.exponential_decay(0.6, 1, 0.7)
    potential = sgld_jax.from_log_density(lambda x: -0.5 * 2.0 * x**2)
    run = sgld_jax.sample(
        3,
        sgld_jax.sgld(schedule, 1.3),
        potential,
        lambda key: jnp.zeros(()),
        num_samples=6,
        num_chains=CHAINS,
    )
    variance, expected = 0.0, []
    for eps in 0.6 * 0.7 ** np.arange(6):
        variance = (1 - eps * 2.0) ** 2 * variance + 2 * eps * 1.3
        expected.append(variance)
    assert np.abs(variance_z(run.params, np.array(expected))).max() < Z
    np.testing.assert_allclose(run.weights[0], 0.6 * 0.7 ** np.arange(6), rtol=1e-6)
