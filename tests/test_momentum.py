"""The kernels of second order and Leimkuhler and Matthews' method: laws of their own.

What they share with every kernel is tested where the registry is walked.
"""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sgld_jax
from tests.kernels import baoa_variance, leimkuhler_matthews_variance, sghmc_variance
from tests.law import Z, gaussian_chains, mean_z, variance_z

CHAINS = 20_000
LIMITS = np.array([0.1, 0.5, 0.9])  # ε as a part of the largest stable one


@functools.partial(jax.jit, static_argnames=("sampler", "updates"))
def run(sampler, key, precision, sd, noise, updates):
    """Positions and states of chains on U = λθ²/2, from N(0, sd²) and from rest."""
    start_key, sampler_key, noise_key = jax.random.split(key, 3)
    theta = sd * jax.random.normal(start_key, (CHAINS, len(LIMITS)))
    keys = sampler_key, noise_key
    return gaussian_chains(sampler, *keys, theta, precision, noise, updates)


def laws():
    """Name -> the sampler, its formula, and the largest stable ελ."""
    for friction in (0.1, 0.5, 1.0):
        for make, law in (
            (sgld_jax.baoa, baoa_variance),
            (sgld_jax.sghmc, sghmc_variance),
        ):
            name = f"{make.__name__}, friction {friction}"
            of = functools.partial(law, friction=friction)
            yield name, (make(1.0, friction, 1.3), of, 2 * (2 - friction))
    sampler = sgld_jax.leimkuhler_matthews(1.0, 1.3)
    yield "leimkuhler_matthews", (sampler, leimkuhler_matthews_variance, 2.0)


LAWS = dict(laws())


@pytest.mark.parametrize("noise", [0.0, 0.7])
@pytest.mark.parametrize("name", LAWS)
def test_the_law_up_to_nine_tenths_of_the_stability_limit(name, noise):
    """ε is 1, so λ = ελ. The start at rest is forgotten: its share is below .95²⁰⁰."""
    sampler, law, limit = LAWS[name]
    precision = LIMITS * limit
    variance = law(precision, 1.0, 1.3, noise)
    sd = np.sqrt(variance)
    draws, _ = run(sampler, jax.random.key(3), precision, sd, noise, 100)
    assert np.abs(variance_z(draws, variance)).max() < Z
    assert np.abs(mean_z(draws, 0.0, variance)).max() < Z
    if noise == 0 and "sghmc" not in name:
        np.testing.assert_allclose(variance, 1.3 / precision)  # exact at any step


@pytest.mark.parametrize("make", [sgld_jax.baoa, sgld_jax.sghmc])
def test_the_velocity_has_its_own_law(make):
    """laws.md 5.1 and 5.2, with v = h p: Var v, and its covariance with θ."""
    alpha, T, V = 0.3, 1.3, 0.7
    lam = LIMITS * 2
    h2, c = 2 / (2 - alpha), 1 - alpha
    if make is sgld_jax.sghmc:
        variance = sghmc_variance(lam, 1.0, T, V, friction=alpha)
        of_v = 2 * lam / (2 - alpha) * variance
        covariance = of_v / 2
    else:
        noisy = V * h2 / (4 - h2 * lam)
        of_v = h2 * (T + 4 * c**2 * noisy / (1 - c**2))
        covariance = h2 * T / 2 + h2 * c * noisy / (1 - c)
        variance = baoa_variance(lam, 1.0, T, V, friction=alpha)
    sampler = make(1.0, alpha, T)
    theta, state = run(sampler, jax.random.key(4), lam, np.sqrt(variance), V, 100)
    v, theta = np.asarray(state.velocity, np.float64), np.asarray(theta, np.float64)
    assert np.abs(variance_z(v, of_v)).max() < Z
    error = np.sqrt((of_v * variance + covariance**2) / CHAINS)
    assert np.abs(((v * theta).mean(0) - covariance) / error).max() < Z


def test_golden_values():
    """laws.md 12: h = .5 and γ = 1 are ε = h²(1+c)/2 and α = 1 − c, c = e^(−γh)."""
    c = np.exp(-0.5)
    eps, alpha = 0.25 * (1 + c) / 2, 1 - c
    np.testing.assert_allclose(
        baoa_variance(2.0, eps, 1.3, 3.0, friction=alpha), 1.0874630, atol=1e-7
    )
    np.testing.assert_allclose(
        sghmc_variance(2.0, 0.2, 1.3, 3.0, friction=0.3), 1.3033333, atol=1e-7
    )
    np.testing.assert_allclose(
        leimkuhler_matthews_variance(2.0, 0.4, 1.3, 3.0), 1.15, atol=1e-7
    )


@pytest.mark.parametrize("preconditioned", [False, True])
def test_known_gradient_noise_is_not_injected_again(preconditioned):
    """Var θ = (T/λ)/(1 − ελG/(2(2−α))), as without noise: V a tree, a number, or none."""
    lam, T, alpha, eps = np.array([0.5, 1.0, 2.0]), 1.3, 0.5, 0.3
    V, G = np.array([0.5, 1.0, 2.0]), np.array([1.0, 0.5, 1.5])
    G = G if preconditioned else np.ones(3)
    sampler = sgld_jax.sghmc(
        eps,
        alpha,
        T,
        preconditioner=sgld_jax.diagonal(G.astype(np.float32)),
        gradient_noise=jnp.float32(V),
    )
    variance = sghmc_variance(lam, eps, T, 0.0, G, friction=alpha)
    draws, _ = run(sampler, jax.random.key(5), lam, np.sqrt(variance), V, 100)
    assert np.abs(variance_z(draws, variance)).max() < Z
    blind = sgld_jax.sghmc(
        eps, alpha, T, preconditioner=sgld_jax.diagonal(G.astype(np.float32))
    )
    draws, _ = run(blind, jax.random.key(6), lam, np.sqrt(variance), V, 100)
    assert np.abs(variance_z(draws, variance)).max() > 2 * Z  # and it would be seen


def test_gradient_noise_that_no_friction_takes_up_fails_the_chain():
    potential = sgld_jax.from_log_density(lambda x: -0.5 * jnp.sum(x**2))
    sampler = sgld_jax.sghmc(0.5, 0.1, gradient_noise=1.0)  # εV = .5 > 2αT = .2
    with pytest.warns(UserWarning, match="the temperature was negative or not"):
        samples = sgld_jax.sample(
            0, sampler, potential, lambda key: jnp.ones(2), num_samples=3
        )
    assert samples.report.failures[0].step == 0


@pytest.mark.parametrize("bad", [-1.0, np.nan, "much"])
def test_gradient_noise_out_of_range_is_refused(bad):
    with pytest.raises((ValueError, TypeError), match="gradient_noise"):
        sgld_jax.sghmc(0.1, gradient_noise=bad)


@pytest.mark.parametrize("make", [sgld_jax.baoa, sgld_jax.sghmc])
@pytest.mark.parametrize("bad", [0.0, -0.1, 1.1, np.inf, None, True, jnp.ones(2)])
def test_frictions_out_of_range_are_refused(make, bad):
    with pytest.raises((ValueError, TypeError), match="friction"):
        make(0.1, bad)


# --- reductions -----------------------------------------------------------------------

PARAMS = {"w": jnp.linspace(-1.0, 2.0, 6).reshape(2, 3), "b": jnp.array([0.1, -0.7])}


def path(sampler, same_key_as=None, updates=20):
    params, state = PARAMS, sampler.init(PARAMS)
    if same_key_as is not None:
        state = state._replace(rng_key=same_key_as.init(PARAMS).rng_key)
    seen = []
    for _ in range(updates):
        grads = jax.tree.map(lambda x: jnp.sin(3 * x) + x, params)
        delta, state = sampler.update(grads, state, params)
        params = optax.apply_updates(params, delta)
        seen.append(params)
    return seen


def assert_close(a, b, rounding=2e-5):
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=rounding, atol=rounding),
        a,
        b,
    )


def test_friction_1_turns_sghmc_into_sgld_and_baoa_into_leimkuhler_matthews():
    G = sgld_jax.diagonal(0.7)
    for second, first in (
        (sgld_jax.sghmc, sgld_jax.sgld),
        (sgld_jax.baoa, sgld_jax.leimkuhler_matthews),
    ):
        overdamped = first(0.05, 1.7, preconditioner=G, key=3)
        damped = second(0.05, 1.0, 1.7, preconditioner=G, key=3)
        ours, theirs = path(damped, same_key_as=overdamped), path(overdamped)
        if second is sgld_jax.sghmc:
            chex.assert_trees_all_equal(ours, theirs, strict=True)  # bit for bit
        else:
            assert_close(ours, theirs)


@pytest.mark.parametrize("make", [sgld_jax.baoa, sgld_jax.sghmc])
def test_temperature_zero_is_sgd_with_momentum(make):
    silent = make(0.05, 0.1, 0.0)
    assert_close(path(silent), path(optax.sgd(0.05, momentum=0.9)), 1e-5)


@pytest.mark.parametrize("make", [sgld_jax.baoa, sgld_jax.sghmc])
def test_a_friction_by_schedule_is_read_at_its_count(make):
    changing = make(0.05, lambda count: jnp.where(count < 3, 0.5, 0.1), 0.0)
    constant, later = path(make(0.05, 0.5, 0.0)), path(changing)
    assert_close(later[:3], constant[:3], 1e-6)
    with pytest.raises(AssertionError):
        assert_close(later[3], constant[3])


@pytest.mark.parametrize("make", [sgld_jax.baoa, sgld_jax.sghmc, sgld_jax.sgnht])
def test_a_friction_that_goes_below_zero_is_named_with_the_update(make):
    potential = sgld_jax.from_log_density(lambda x: -0.5 * jnp.sum(x**2))
    sampler = make(0.01, lambda count: 0.1 * (3.0 - count))
    with pytest.warns(UserWarning, match="the friction was negative or not a number"):
        samples = sgld_jax.sample(
            0, sampler, potential, lambda key: jnp.ones(2), num_samples=9
        )
    ((_, step, leaf),) = samples.report.failures
    assert (step, leaf) == (4, "the friction")  # the fourth update has a zero
