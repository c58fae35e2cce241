"""Potentials against sums written by hand, and the mistakes they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sgld_jax
from sgld_jax.potentials import potential as potential_module
from tests.mutants import mutated

X = jnp.array([0.5, -1.0, 2.0, 4.0, 0.0])
THETA = {"mean": jnp.array(0.7), "log_sd": jnp.array(-0.2)}


def log_likelihood(params, x):
    sd = jnp.exp(params["log_sd"])
    return -0.5 * ((x - params["mean"]) / sd) ** 2 - params["log_sd"]


def by_hand(batch):
    m, s = 0.7, -0.2
    each = [-0.5 * ((x - m) / np.exp(s)) ** 2 - s for x in np.asarray(batch)]
    log_prior = -0.5 * (m / 3) ** 2 - 0.5 * (s / 3) ** 2
    return -log_prior - 5 / len(each) * sum(each)


def agrees(module):
    potential = module.minibatch_potential(
        sgld_jax.gaussian_prior(3.0), log_likelihood, 5
    )
    values = [float(potential(THETA, X[:n])) for n in (1, 2, 5)]
    return np.allclose(values, [by_hand(X[:n]) for n in (1, 2, 5)], rtol=1e-6)


def test_minibatch_potential_is_prior_plus_n_over_n_likelihoods():
    assert agrees(potential_module)


@pytest.mark.parametrize(
    "line",
    [
        "return -log_prior - jnp.sum(each)",
        "return -(self.num_data / n) * jnp.sum(each)",
        "return log_prior - (self.num_data / n) * jnp.sum(each)",
        "return -log_prior - (self.num_data / n) * jnp.mean(each)",
    ],
)
def test_mutants_of_the_potential_are_killed(line):
    assert not agrees(mutated(potential_module, "the potential", line))


def test_batches_average_to_the_whole():
    """Over all batches of one size, values and gradients average to the full ones."""
    potential = sgld_jax.minibatch_potential(
        sgld_jax.gaussian_prior(3.0), log_likelihood, 5
    )
    batches = jnp.array(
        [[i, j] for i in range(5) for j in range(5)]
    )  # with replacement
    each = jax.vmap(lambda rows: jax.value_and_grad(potential)(THETA, X[rows]))(batches)
    whole = jax.value_and_grad(potential)(THETA, X)
    jax.tree.map(
        lambda e, w: np.testing.assert_allclose(e.mean(0), w, rtol=1e-5), each, whole
    )


@pytest.mark.parametrize(
    "lost", [jnp.mean, jnp.sum, lambda x: x[:, None], lambda x: x[:2]]
)
def test_a_likelihood_that_is_not_one_value_per_example_is_refused(lost):
    potential = sgld_jax.minibatch_potential(
        sgld_jax.gaussian_prior(1.0), lambda p, x: lost(log_likelihood(p, x)), 5
    )
    with pytest.raises(ValueError, match=r"expected \(5,\), one value per example"):
        jax.eval_shape(potential, THETA, X)


@pytest.mark.parametrize(
    "num_data, error", [(0, ValueError), (5.0, TypeError), (True, TypeError)]
)
def test_num_data_is_a_number_of_examples(num_data, error):
    with pytest.raises(error, match="num_data="):
        sgld_jax.minibatch_potential(
            sgld_jax.gaussian_prior(1.0), log_likelihood, num_data
        )


def test_densities_that_are_not_scalars_are_refused():
    for potential in (
        sgld_jax.from_log_density(lambda x: -(x**2)),
        sgld_jax.minibatch_potential(lambda x: -(x**2), lambda x, y: y, 3),
    ):
        with pytest.raises(ValueError, match="expected a scalar"):
            jax.eval_shape(potential, jnp.zeros(3), jnp.zeros(3))
    with pytest.raises(ValueError, match="expected a scalar"):
        sgld_jax.sample(
            0,
            sgld_jax.sgld(0.1),
            lambda p, batch: p**2,
            lambda key: jnp.zeros(3),
            num_samples=1,
        )


def test_from_log_density():
    potential = sgld_jax.from_log_density(lambda x: -jnp.sum(x**4))
    np.testing.assert_allclose(potential(jnp.array([1.0, 2.0]), None), 17.0)


def test_gaussian_prior_with_a_scale_per_leaf_and_in_low_precision():
    params = {"w": jnp.array([1.0, 2.0], jnp.bfloat16), "b": jnp.array(3.0)}
    log_prior = sgld_jax.gaussian_prior({"w": jnp.array([1.0, 4.0]), "b": 6.0})
    value = log_prior(params)
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, -0.5 * (1 + 0.25 + 0.25), rtol=1e-2)
    with jax.numpy_dtype_promotion("strict"):
        log_prior(params)


def test_gaussian_prior_equals_weight_decay():
    scale = 0.5
    grads = jax.grad(lambda p: -sgld_jax.gaussian_prior(scale)(p))(THETA)
    jax.tree.map(
        lambda g, p: np.testing.assert_allclose(g, p / scale**2, rtol=1e-6),
        grads,
        THETA,
    )


@pytest.mark.parametrize("scale", [0.0, -1.0, {"mean": float("inf"), "log_sd": 1.0}])
def test_prior_scales_out_of_range(scale):
    with pytest.raises(ValueError, match="above 0"):
        sgld_jax.gaussian_prior(scale)


def test_prior_scales_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="no entry for"):
        sgld_jax.gaussian_prior({"mean": 1.0})(THETA)
    with pytest.raises(ValueError, match="expected the same shape"):
        sgld_jax.gaussian_prior({"mean": jnp.ones(3), "log_sd": 1.0})(THETA)
