"""`check_potential` passes what is a potential, and says what is wrong with the rest."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sgld_jax

X = jnp.asarray(np.random.default_rng(0).normal(size=(101, 3)), jnp.float32)
W = jnp.ones(3)
MEAN = sgld_jax.minibatch_potential(
    sgld_jax.gaussian_prior(1.0), lambda w, x: -0.5 * (x @ w) ** 2, 101
)
COUNTER = itertools.count()


@pytest.mark.parametrize("rows", [101, 7, 3, 1])
def test_potentials_pass_whatever_the_number_of_rows(rows):
    potential = sgld_jax.minibatch_potential(
        sgld_jax.gaussian_prior(1.0), lambda w, x: -0.5 * (x @ w) ** 2, rows
    )
    value = sgld_jax.check_potential(potential, W, X[:rows])
    assert value == float(potential(W, X[:rows]))
    density = sgld_jax.from_log_density(lambda w: -0.5 * jnp.sum(w**2))
    assert sgld_jax.check_potential(density, W) == 1.5
    assert sgld_jax.check_potential(lambda w, x: jnp.mean((x @ w) ** 2), W, X) > 0


WRONG = {
    "N/n lost": (
        lambda w, x: 0.5 * jnp.sum(w**2) + jnp.sum((x @ w) ** 2),
        "batches of n rows must count N/n times",
    ),
    "a prior for every batch, N/n times": (
        lambda w, x: 101 / len(x) * (5 * jnp.sum(w**2) + jnp.sum((x @ w) ** 2)),
        "must count N/n times",
    ),
    "random": (
        lambda w, x: jnp.sum(w**2) + next(COUNTER),
        "when it was called once more",
    ),
    "one value per example": (lambda w, x: x @ w, r"float32\[101\]: expected a real"),
    "whole numbers": (lambda w, x: jnp.sum(x > 0), r"int32\[\]"),
    "not finite": (lambda w, x: jnp.log(-jnp.sum(w**2)), "is nan at this position"),
    "a gradient that is not finite": (
        lambda w, x: jnp.linalg.norm(w - 1),
        r"gradient .* not finite at \(the leaf\)",
    ),
    "another N": (MEAN, "num_data=101, but data has 100 rows"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_said(name):
    potential, words = WRONG[name]
    data = X[:100] if name == "another N" else X
    with pytest.raises(ValueError, match=words):
        sgld_jax.check_potential(potential, W, data)


def test_what_is_no_function_is_refused():
    with pytest.raises(TypeError, match="potential"):
        sgld_jax.check_potential(3.0, W, X)
    with pytest.raises(ValueError, match="there are no data"):
        sgld_jax.check_potential(MEAN, W)


def test_a_network_and_a_tree_of_parameters():
    def potential(p, x):
        return jnp.sum(p["a"] ** 2) + jnp.sqrt(jnp.sum(p["b"]["c"] ** 2))

    params = {"a": W, "b": {"c": jnp.zeros(2)}}
    with pytest.raises(ValueError, match=r"at \['b'\]\['c'\]"):
        sgld_jax.check_potential(potential, params, X)
    assert jax.tree.leaves(params)
