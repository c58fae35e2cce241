"""Metrics that follow the gradients or the position: their formulas and their laws."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sgld_jax
from tests.kernels import KERNELS, sgld_noise, sgld_variance
from tests.law import Z, gaussian_chains, step_law, two_updates, variance_z
from tests.mutants import mutated_kernel

CHAINS = 20_000
METRIC = {"num_data": 4, "decay": 0.9, "eps": 0.25}
STEP_SIZES = (0.3, 0.2)  # of two updates
GRADS = {"w": jnp.array([[-1.0, 0.5], [4.0, 9.0]]), "b": jnp.array(-3.0)}
PARAMS = jax.tree.map(jnp.zeros_like, GRADS)


def schedule(count):
    return jnp.where(count == 0, STEP_SIZES[0], STEP_SIZES[1])


# --- rmsprop ---------------------------------------------------------------------------


def one_step_law(make_sampler, noise_of, chains=65_536):
    """Two updates with equal gradients, whose G is 1/(δ + |g|/N) in both."""
    updates, residuals = two_updates(make_sampler, PARAMS, GRADS, chains), {}
    for leaf in GRADS:
        g = np.asarray(GRADS[leaf], np.float64)
        G = 1 / (METRIC["eps"] + np.abs(g) / METRIC["num_data"])
        u = np.asarray([u[leaf] for u in updates], np.float64)
        residuals[leaf] = noise_of(u, g, STEP_SIZES, 1.7, G).reshape(2, chains, -1)
    return step_law(residuals)


@pytest.mark.parametrize("name", ["sgld", "sghmc", "baoa", "leimkuhler_matthews"])
def test_one_step_law_with_rmsprop(name):
    kernel, G = KERNELS[name], sgld_jax.rmsprop(**METRIC)
    make = lambda: kernel.make(schedule, 1.7, preconditioner=G, key=20)
    law = one_step_law(make, kernel.noise_of)
    assert law.holds, str(law)


def psgld_law(psgld, **kwargs):
    make = lambda: psgld(schedule, 1.7, **METRIC, freeze_after=None, key=20)
    return one_step_law(make, sgld_noise, **kwargs)


def test_one_step_law_of_psgld():
    law = psgld_law(sgld_jax.psgld)
    assert law.holds, str(law)


MUTANTS = {
    "sum for mean": ("running mean", "return a * v + (1 - a) * g**2"),
    "not corrected for its start": ("start", "filled = 1.0"),
    "no root": ("G", "G = 1 / (jnp.asarray(eps, wide) + v.astype(wide) / filled)"),
    "no δ": ("G", "G = 1 / jnp.sqrt(v.astype(wide) / filled)"),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutants_of_the_metric_are_killed(mutant):
    mutated = mutated_kernel("psgld", *MUTANTS[mutant])
    law = psgld_law(mutated.psgld, chains=16_384)
    assert not law.holds, f"survived:\n{law}"


def test_rmsprop_is_its_formula_along_a_path():
    a, N, delta = 0.9, 7, 0.05
    tx = sgld_jax.sgld(0.1, 0.0, preconditioner=sgld_jax.rmsprop(N, a, delta))
    state, v = tx.init(jnp.zeros(3)), np.zeros(3)
    for k, g in enumerate(np.random.default_rng(0).normal(size=(6, 3)), start=1):
        updates, state = tx.update(jnp.float32(g), state)
        v = a * v + (1 - a) * (g / N) ** 2
        expected = -0.1 * g / (delta + np.sqrt(v / (1 - a**k)))
        np.testing.assert_allclose(updates, expected, rtol=1e-5)


def test_at_temperature_zero_psgld_is_rmsprop_on_the_mean_loss():
    N, step_size = 50, 1e-3
    ours = sgld_jax.psgld(step_size, 0.0, num_data=N, decay=0.9, freeze_after=None)
    theirs = optax.rmsprop(
        step_size * N, decay=0.9, eps=1e-5, eps_in_sqrt=False, bias_correction=True
    )
    a = b = jnp.array([1.0, -2.0, 0.3])
    states = ours.init(a), theirs.init(b)
    for _ in range(20):
        u, mine = ours.update(N * (jnp.sin(3 * a) + a), states[0])
        v, other = theirs.update(jnp.sin(3 * b) + b, states[1])
        a, b, states = a + u, b + v, (mine, other)
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-5)


def test_once_frozen_every_chain_has_the_law_of_its_own_metric():
    """θ/√Var(G) of chains with as many G is N(0, 1), with noise on the gradient."""
    precision, V, T, eps = np.array([0.3, 1.0, 3.0]), 2.0, 1.3, 0.4
    tx = sgld_jax.psgld(eps, T, num_data=1, eps=0.5, freeze_after=5)

    @jax.jit
    def run(key):
        keys, start = jax.random.split(key), jnp.zeros((CHAINS, 3))
        lam = jnp.float32(precision)
        theta, state = gaussian_chains(tx, *keys, start, lam, V, 200)
        # The metric as a tree of its own diagonal.
        G = tx_metric.multiply(state.metric, jnp.ones_like(theta))
        return theta, G

    frozen = sgld_jax.freeze(sgld_jax.rmsprop(1, eps=0.5), 5)
    tx_metric = frozen._replace(multiply=jax.vmap(frozen.multiply))
    theta, G = (np.asarray(x, np.float64) for x in run(jax.random.key(1)))
    assert (G.std(0) > 0.05).all()  # chains do differ in it
    standard = theta / np.sqrt(sgld_variance(precision, eps, T, V, G))
    assert np.abs(variance_z(standard, 1.0)).max() < Z


def test_another_rmsprop_is_refused_on_resume():
    potential = sgld_jax.from_log_density(lambda x: -0.5 * jnp.sum(x**2))
    tx = lambda a: sgld_jax.psgld(0.1, num_data=1, decay=a, freeze_after=9)
    run = {"num_samples": 2}
    first = sgld_jax.sample(0, tx(0.9), potential, lambda key: jnp.zeros(2), **run)
    sgld_jax.resume(first.final, tx(0.9), potential, **run)
    with pytest.raises(ValueError, match="preconditioner has other numbers"):
        sgld_jax.resume(first.final, tx(0.99), potential, **run)


def test_optax_may_inject_the_settings_of_psgld():
    injected = optax.inject_hyperparams(sgld_jax.psgld)(
        step_size=0.1, num_data=5, decay=0.9, eps=0.1, freeze_after=2, key=0
    )
    plain = sgld_jax.psgld(0.1, num_data=5, decay=0.9, eps=0.1, freeze_after=2, key=0)
    states = [tx.init(jnp.zeros(3)) for tx in (injected, plain)]
    for k in range(4):
        both = [
            tx.update(jnp.arange(3.0) + k, state)
            for tx, state in zip((injected, plain), states)
        ]
        (a, _), (b, _) = both
        np.testing.assert_allclose(a, b, rtol=1e-5)
        states = [state for _, state in both]


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"num_data": 0}, "num_data=0"),
        ({"num_data": 1.5}, "num_data=1.5"),
        ({"decay": 1.0}, "decay=1.0"),
        ({"decay": -0.1}, "decay=-0.1"),
        ({"decay": "0.9"}, "decay='0.9'"),
        ({"eps": 0.0}, "eps"),
        ({"freeze_after": 0}, "after=0"),
        ({"freeze_after": 2.5}, "after=2.5"),
    ],
)
def test_settings_out_of_range_are_refused(settings, words):
    with pytest.raises((ValueError, TypeError), match=words):
        sgld_jax.psgld(0.1, **{"num_data": 10, "freeze_after": 5, **settings})


def test_whether_to_freeze_must_be_said():
    with pytest.raises(TypeError, match="freeze_after"):
        sgld_jax.psgld(0.1, num_data=10)


# --- Γ -----------------------------------------------------------------------------------


def small_step_z(preconditioner, variance):
    """z of the variance of chains on N(0, 1), at a step whose bias is below one."""
    potential = sgld_jax.from_log_density(lambda x: -0.5 * jnp.sum(x**2))
    draws = sgld_jax.sample(
        3,
        sgld_jax.sgld(0.01, preconditioner=preconditioner),
        potential,
        jax.random.normal,
        num_samples=1,
        num_chains=CHAINS,
        burn_in=1_200,
    ).params[:, 0]
    squares = np.asarray(draws, np.float64) ** 2
    return (squares.mean() - variance) / (squares.std() / np.sqrt(CHAINS))


def test_what_rmsprop_leaves_out_and_what_the_divergence_puts_right():
    """Without Γ a chain samples π(θ)/G(θ): here (1 + E|θ|³)/(1 + E|θ|) = 1.44, not 1."""
    mean, third = np.sqrt(2 / np.pi), 2 * np.sqrt(2 / np.pi)
    wrong = (1 + third) / (1 + mean)
    without = sgld_jax.rmsprop(num_data=1, decay=0.0, eps=1.0)  # G = 1/(1 + |θ|)
    complete = sgld_jax.position_dependent(lambda x: 1 / (1 + jnp.abs(x)))
    assert abs(small_step_z(without, wrong)) < Z
    assert abs(small_step_z(complete, 1.0)) < Z
    assert wrong == pytest.approx(1.4438, abs=1e-4)


def gamma_z(sgld, beta, step_size, temperature):
    """z of mean and variance on Gamma(β, 1) with G = θ, reflected at 0.

    laws.md 3.3: mean β − 1 + T, variance T (β − 1 + T)/(1 − ε/2), at every step.
    """
    metric = sgld_jax.position_dependent(lambda x: x)
    tx = sgld(step_size, temperature, preconditioner=metric, key=4)
    mean = beta - 1 + temperature

    @jax.jit
    def run():
        theta = jnp.full(CHAINS, mean)
        state = jax.vmap(tx.init)(theta)

        def update(carry, _):
            theta, state = carry
            grads = 1 - (beta - 1) / theta
            updates, state = jax.vmap(tx.update)(grads, state, theta)
            return (jnp.abs(theta + updates), state), None

        return jax.lax.scan(update, (theta, state), length=120)[0][0]

    theta = np.asarray(run(), np.float64)
    squares = (theta - mean) ** 2
    variance = temperature * mean / (1 - step_size / 2)
    return [
        (x.mean() - expected) / (x.std() / np.sqrt(CHAINS))
        for x, expected in ((theta, mean), (squares, variance))
    ]


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_gamma_with_the_position_as_metric(temperature):
    assert np.abs(gamma_z(sgld_jax.sgld, 5.0, 0.1, temperature)).max() < Z


@pytest.mark.parametrize(
    "line",
    [
        "updates = add(updates, scale(0 * eps * T, gamma))",
        "updates = add(updates, scale(-eps * T, gamma))",
        "updates = add(updates, scale(eps, gamma))",
    ],
)
def test_a_missing_or_wrong_divergence_is_seen(line):
    mutant = mutated_kernel("sgld", "Γ", line)
    assert np.abs(gamma_z(mutant.sgld, 5.0, 0.1, 2.0)).max() > 20


def test_the_divergence_is_the_own_derivative_of_every_coordinate():
    def scale(p):
        return {"a": p["a"] ** 2 + p["b"].sum(), "b": jnp.exp(p["a"] * p["b"])}

    p = {"a": jnp.array(0.5), "b": jnp.array([0.2, -0.3])}
    metric = sgld_jax.position_dependent(scale)
    gamma = metric.divergence(metric.init(p))
    expected = {"a": 2 * p["a"], "b": p["a"] * jnp.exp(p["a"] * p["b"])}
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), gamma, expected
    )


@pytest.mark.parametrize(
    "make", [sgld_jax.baoa, sgld_jax.sghmc, sgld_jax.leimkuhler_matthews]
)
def test_kernels_without_a_place_for_the_divergence_refuse_it(make):
    metric = sgld_jax.position_dependent(jnp.abs)
    with pytest.raises(ValueError, match="no place for the Γ"):
        make(0.1, preconditioner=metric)
    make(0.1, preconditioner=sgld_jax.freeze(metric, after=10))


def test_functions_that_are_no_metric_are_refused():
    with pytest.raises(TypeError, match=r"expected a function of \(params\)"):
        sgld_jax.position_dependent(2.0)
    for wrong in (jnp.sum, lambda x: {"x": x}, lambda x: x.astype(int)):
        tx = sgld_jax.sgld(0.1, preconditioner=sgld_jax.position_dependent(wrong))
        with pytest.raises(ValueError, match="expected a tree like the parameters"):
            tx.init(jnp.ones(3))


def test_the_position_must_be_handed_over():
    metric = sgld_jax.position_dependent(jnp.abs)
    tx = sgld_jax.sgld(0.1, preconditioner=metric, key=0)
    with pytest.raises(ValueError, match="needs the position"):
        tx.update(jnp.ones(3), tx.init(jnp.ones(3)))
