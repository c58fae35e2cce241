"""Identities: T = 0 is an optimizer, Welling and Teh's step is twice ours, mean loss and sum loss."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sgld_jax
from tests.kernels import AT_ZERO, KERNELS

PARAMS = {"w": jnp.linspace(-1.0, 2.0, 6).reshape(2, 3), "b": jnp.array([0.1, -0.7])}


def gradients(params):
    return jax.tree.map(lambda x: jnp.sin(3 * x) + x, params)


def path(tx, params, updates=20, jit=False):
    """Parameters and updates along a path of the transformation."""
    state = tx.init(params)
    step = jax.jit(tx.update) if jit else tx.update
    seen = []
    for _ in range(updates):
        delta, state = step(gradients(params), state, params)
        params = optax.apply_updates(params, delta)
        seen.append((delta, params))
    return seen


def cast(dtype):
    return jax.tree.map(lambda x: x.astype(dtype), PARAMS)


STEPS = {"number": 0.037, "schedule": optax.exponential_decay(0.05, 3, 0.8)}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("name", AT_ZERO)
def test_temperature_zero_is_its_twin(name, step, dtype, jit):
    kernel, step = KERNELS[name], STEPS[step]
    if not kernel.exact_at_zero and dtype != jnp.float32:
        pytest.skip("equal to rounding only, and these dtypes round coarsely")
    ours = path(kernel.make(step, temperature=0.0), cast(dtype), jit=jit)
    twin = path(kernel.at_zero(step), cast(dtype), jit=jit)
    assert_twins(kernel, ours, twin, rounding=1e-5)


@pytest.mark.parametrize("name", AT_ZERO)
def test_temperature_zero_is_its_twin_in_float64(name):
    with jax.enable_x64(True):
        params, kernel = cast(jnp.float64), KERNELS[name]
        ours = path(kernel.make(0.037, temperature=0.0), params)
        twin = path(kernel.at_zero(0.037), params)
        assert_twins(kernel, ours, twin, rounding=1e-13)


def assert_twins(kernel, ours, twin, rounding):
    """Bit for bit, or to rounding where the kernel says so."""
    if kernel.exact_at_zero:
        chex.assert_trees_all_equal(ours, twin, strict=True)
    else:
        chex.assert_trees_all_close(ours, twin, rtol=rounding, atol=rounding)


@pytest.mark.parametrize("zero", [0, 0.0])
@pytest.mark.parametrize("name", AT_ZERO)
def test_a_literal_zero_draws_no_noise_and_needs_no_key(name, zero):
    sampler = KERNELS[name].make(0.1, zero)
    state = sampler.init(PARAMS)
    jaxpr = str(jax.make_jaxpr(sampler.update)(PARAMS, state, PARAMS))
    assert "log" not in jaxpr and "shift" not in jaxpr  # what numbers are made by
    noisy = KERNELS[name].make(0.1, 1.0, key=0)
    assert "shift" in str(jax.make_jaxpr(noisy.update)(PARAMS, noisy.init(PARAMS)))


@pytest.mark.parametrize("name", AT_ZERO)
def test_a_traced_zero_agrees_with_its_twin_to_rounding(name):
    sampler = KERNELS[name].make(0.037, lambda count: jnp.zeros(()), key=0)
    twin = KERNELS[name].at_zero(0.037)
    for (_, ours), (_, theirs) in zip(path(sampler, PARAMS), path(twin, PARAMS)):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
            ours,
            theirs,
        )


def test_welling_and_teh_in_their_own_letters():
    """Drift (η/2) ∇log π, noise of *variance* η: with η = 2ε the same path, given ξ."""
    eps = 0.013
    eta = 2 * eps
    sampler = sgld_jax.sgld(eps, key=4)
    silent = sgld_jax.sgld(eps, temperature=0.0)
    theta = theirs = PARAMS
    state, grad_free = sampler.init(PARAMS), silent.init(PARAMS)
    for _ in range(10):
        noisy, state_after = sampler.update(gradients(theta), state, theta)
        drift, _ = silent.update(gradients(theta), grad_free, theta)
        xi = jax.tree.map(lambda u, d: (u - d) / np.sqrt(2 * eps), noisy, drift)
        log_density_gradient = jax.tree.map(jnp.negative, gradients(theirs))
        theirs = jax.tree.map(
            lambda t, g, z: t + eta / 2 * g + np.sqrt(eta) * z,
            theirs,
            log_density_gradient,
            xi,
        )
        theta, state = optax.apply_updates(theta, noisy), state_after
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        theta,
        theirs,
    )


def test_mean_loss_with_temperature_1_over_n_is_the_sum_loss():
    """Step Nε at temperature 1/N on U/N is (ε, 1) on U: the same path, the same key."""
    num_data, eps = 512, 2**-9
    on_sum = sgld_jax.sgld(eps, 1.0, key=3)
    on_mean = sgld_jax.sgld(num_data * eps, 1 / num_data, key=3)
    a, b = PARAMS, PARAMS
    state_a, state_b = on_sum.init(a), on_mean.init(b)
    for _ in range(20):
        summed = gradients(a)
        mean = jax.tree.map(lambda g: g / num_data, gradients(b))
        delta, state_a = on_sum.update(summed, state_a)
        a = optax.apply_updates(a, delta)
        delta, state_b = on_mean.update(mean, state_b)
        b = optax.apply_updates(b, delta)
    # √(2 · Nε · 1/N) and √(2ε) differ in the last bit; powers of two do the rest.
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), a, b
    )


@pytest.mark.parametrize("name", KERNELS)
def test_identity_preconditioner_is_the_plain_kernel_and_ones_too(name):
    def preconditioned(**kwargs):
        return path(KERNELS[name].make(0.1, key=1, **kwargs), PARAMS)

    plain = preconditioned()
    identity = preconditioned(preconditioner=sgld_jax.identity())
    ones = preconditioned(preconditioner=sgld_jax.diagonal(1.0))
    chex.assert_trees_all_equal(plain, identity, strict=True)
    chex.assert_trees_all_equal(plain, ones, strict=True)


@pytest.mark.parametrize("name", KERNELS)
def test_scale_identity(name):
    """θ → cθ with ε → c²ε gives the same path times c (laws.md 1.1)."""
    if name == "sgnht":
        pytest.skip("a thermostat moves by ε, whatever the units of θ are")
    c, make = 4.0, KERNELS[name].make
    small, large = make(0.01, key=2), make(0.01 * c**2, key=2)
    a, b = PARAMS, jax.tree.map(lambda x: c * x, PARAMS)
    state_a, state_b = small.init(a), large.init(b)
    for _ in range(10):
        delta, state_a = small.update(a, state_a, a)  # U = θ²/2
        a = optax.apply_updates(a, delta)
        grads = jax.tree.map(lambda x: x / c**2, b)  # the same U, in units of cθ
        delta, state_b = large.update(grads, state_b, b)
        b = optax.apply_updates(b, delta)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(c * x, y, rtol=1e-5), a, b)
