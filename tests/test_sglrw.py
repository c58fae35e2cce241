"""The lattice random walk: its law without clipping, what clips, and what is said of it.

What it shares with every kernel is tested where the registry is walked, one update at
the step sizes of the others included: there most gradients are beyond the limit.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sgld_jax
from tests import compositions
from tests.compositions import ALPHA, TEMPERATURE, Row, law_p_value, simulate
from tests.law import Z, gaussian_chains, mean_z, variance_z

PRECISIONS = np.array([0.5, 1.0, 3.0])


@functools.partial(jax.jit, static_argnames="updates")
def run(key, step_size, temperature, noise, scale, start, updates):
    """Positions `[chains, 3]` and states after some updates on U = Σ λθ²/2."""
    G = sgld_jax.diagonal(scale)
    sampler = sgld_jax.sglrw(step_size, temperature, preconditioner=G)
    keys = jax.random.split(key)
    return gaussian_chains(sampler, *keys, start, PRECISIONS, noise, updates)


def unclipped(temperature, noise, scale):
    """The step at which gradients of six standard deviations reach the limit."""
    return 2 * temperature / (36 * np.max(scale * (PRECISIONS * temperature + noise)))


SETTINGS = [
    (T, V, scale)
    for T in (0.5, 1.0, 4.0)
    for V in (0.0, 3.0)
    for scale in ((1.0, 1.0, 1.0), (2.0, 0.5, 0.25))
]


@pytest.mark.parametrize("temperature, noise, scale", SETTINGS)
def test_the_variance_is_that_of_the_target(temperature, noise, scale):
    """laws.md 3.5: T/λ, whatever the step and the noise; and no move was cut short."""
    scale, variance = np.array(scale), temperature / PRECISIONS
    eps = unclipped(temperature, noise, scale)
    start = np.sqrt(variance) * np.random.default_rng(0).normal(size=(20_000, 3))
    start = start.astype(np.float32)
    key = jax.random.key(1)
    theta, state = run(key, eps, temperature, noise, scale, start, updates=150)
    assert np.abs(variance_z(theta, variance)).max() < Z
    assert np.abs(mean_z(theta, 0.0, variance)).max() < Z
    assert float(np.mean(state.trace.clipped)) < 1e-6


def stationary(precision, step_size, noise):
    """laws.md 3.5: (ΛΣ)_ii = T and (ΛΣ + ΣΛ)_ij = ε(ΛΣΛ + V)_ij, for T = 1 and d = 2."""
    shapes = [
        np.array(s, float)
        for s in ([[1, 0], [0, 0]], [[0, 1], [1, 0]], [[0, 0], [0, 1]])
    ]

    def sides(S):
        P, left = precision @ S, precision @ S + S @ precision
        return np.array(
            [P[0, 0], P[1, 1], left[0, 1] - step_size * (P @ precision)[0, 1]]
        )

    system = np.stack([sides(S) for S in shapes], axis=1)
    a, b, c = np.linalg.solve(system, [1.0, 1.0, step_size * noise[0][1]])
    return np.array([[a, b], [b, c]])


CORRELATED = [  # laws.md 12: ε, V, Σ
    (0.05, [[0.0, 0.0], [0.0, 0.0]], [0.7271805, -0.5679513, 1.4543611]),
    (0.02, [[3.0, 2.0], [2.0, 3.0]], [0.7241653, -0.5604134, 1.4483307]),
]


@pytest.mark.parametrize("eps, noise, golden", CORRELATED)
def test_what_correlation_leaves(eps, noise, golden):
    """2,000 chains of 200 pairs that are independent of each other."""
    precision = np.array([[2.0, 0.8], [0.8, 1.0]])
    expected = stationary(precision, eps, noise)
    np.testing.assert_allclose(expected[np.triu_indices(2)], golden, atol=1e-7)
    sampler = sgld_jax.sglrw(eps, key=2)
    root = np.linalg.cholesky(np.array(noise) + 1e-12 * np.eye(2))

    @jax.jit
    def end(start, key):
        def update(carry, key):
            theta, state = carry
            grads = theta @ precision + jax.random.normal(key, theta.shape) @ root.T
            updates, state = jax.vmap(sampler.update)(grads, state)
            return (theta + updates, state), None

        keys = jax.random.split(key, round(3 / eps))
        return jax.lax.scan(update, (start, jax.vmap(sampler.init)(start)), keys)[0][0]

    rng = np.random.default_rng(0)
    start = rng.multivariate_normal([0, 0], expected, (2_000, 200)).astype(np.float32)
    theta = np.float64(end(start, jax.random.key(2))).reshape(-1, 2)
    for i, j in ((0, 0), (0, 1), (1, 1)):
        products = theta[:, i] * theta[:, j]
        error = products.std() / np.sqrt(len(products))
        assert abs(products.mean() - expected[i, j]) < Z * error
        if i != j:  # and it is not the covariance of the target
            assert abs(products.mean() - np.linalg.inv(precision)[i, j]) > Z * error


# --- compositions ---------------------------------------------------------------------

SMALL = 0.02  # of `compositions`: gradients of five standard deviations at the limit


def small(**kwargs):
    return sgld_jax.sglrw(SMALL, TEMPERATURE, key=0, **kwargs)


def law(prior=0.0, leaves=("b", "w")):
    return {x: TEMPERATURE / (compositions.PRECISION[x] + prior) for x in leaves}


ROWS = {
    "alone": Row(small, law()),
    "weight decay before": Row(
        lambda: optax.chain(optax.add_decayed_weights(0.5), small()), law(prior=0.5)
    ),
    "MultiSteps": Row(
        lambda: optax.MultiSteps(small(), 3).gradient_transformation(),
        law(),
        calls=3,
        noise=1.0,
    ),
    "apply_if_finite": Row(
        lambda: optax.apply_if_finite(small(), 3), law(), calls=3, bad=3
    ),
}


@pytest.mark.key_reuse_off("optax selects between states")
@pytest.mark.parametrize("row", ROWS)
def test_compositions_keep_the_law(row):
    _, end = simulate(ROWS[row], draws=60, chains=10_000)
    assert law_p_value(end, ROWS[row].law) > ALPHA


def test_a_composition_that_rescales_it_does_not():
    row = Row(lambda: optax.chain(small(), optax.scale(0.5)), law())
    _, end = simulate(row, draws=60, chains=10_000)
    assert law_p_value(end, row.law) < ALPHA


# --- clipping ---------------------------------------------------------------------------


def test_a_gradient_beyond_the_limit_moves_by_delta_downhill_and_is_counted():
    sampler = sgld_jax.sglrw(0.5, 1.0, key=0)  # δ = 1, limit 2
    grads = jnp.array([3.0, -3.0, jnp.inf, 1.0, -1.0])
    state = sampler.init(jnp.zeros(5))
    for _ in range(3):
        updates, state = sampler.update(grads, state)
        np.testing.assert_array_equal(updates[:3], [-1.0, 1.0, -1.0])
        np.testing.assert_array_equal(np.abs(updates), 1.0)
        assert float(state.trace.clipped) == pytest.approx(3 / 5)
    _, state = sampler.update(0 * grads[:5].at[2].set(0.0), state)
    assert float(state.trace.clipped) == pytest.approx(9 / 20)  # of four updates


def test_the_share_forgets_what_was_long_ago():
    """Burn-in from far away clips, and is not what the draws have."""
    sampler = sgld_jax.sglrw(0.01)
    potential = sgld_jax.from_log_density(lambda x: -0.5 * jnp.sum(x**2))
    settings = {"num_samples": 10, "num_chains": 4}
    far = sgld_jax.sample(
        0, sampler, potential, lambda key: jnp.full(3, 30.0), **settings
    )
    assert far.report.clipped == 1.0
    assert "1 of all moves were cut short" in str(far.report)
    near = sgld_jax.resume(far.final, sampler, potential, num_samples=10, burn_in=6_000)
    assert near.report.clipped < 0.005  # a mean over all updates would be .02
    exact = sgld_jax.sample(0, sampler, potential, lambda key: jnp.zeros(3), **settings)
    assert exact.report.clipped == 0.0 and "cut short" not in str(exact.report)


def test_gradients_that_are_not_numbers_fail_the_chain():
    potential = sgld_jax.from_log_density(lambda x: -jnp.sum(jnp.log(x)))
    with pytest.warns(UserWarning, match="non-finite"):
        samples = sgld_jax.sample(
            0, sgld_jax.sglrw(0.5), potential, lambda key: jnp.ones(2), num_samples=50
        )
    assert samples.failed.all()


# --- input ----------------------------------------------------------------------------


@pytest.mark.parametrize("zero", [0, 0.0])
def test_temperature_zero_is_refused_with_what_to_take(zero):
    with pytest.raises(ValueError, match="sgld"):
        sgld_jax.sglrw(0.1, zero)


def test_a_temperature_that_comes_to_zero_stands_still():
    sampler = sgld_jax.sglrw(0.1, lambda count: jnp.where(count < 1, 1.0, 0.0), key=0)
    grads = jnp.array([0.0, 1.0, -2.0])
    first, state = sampler.update(grads, sampler.init(grads))
    second, _ = sampler.update(grads, state)
    assert np.all(first != 0) and not np.any(second)


def test_a_preconditioner_that_mixes_coordinates_is_refused():
    with pytest.raises(ValueError, match="mixes no coordinates"):
        sgld_jax.sglrw(0.1, preconditioner=sgld_jax.dense(np.eye(2)))
