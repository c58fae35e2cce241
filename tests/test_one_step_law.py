"""Two consecutive updates of 65,536 copies have exactly the law of the formula.

And the harness can tell: every mutant of the code below turns it red.
"""

import types

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sgld_jax import keys as keys_module
from sgld_jax import noise as noise_module
from sgld_jax import preconditioners as preconditioners_module
from sgld_jax.kernels import sgld as sgld_module
from tests.law import mutated, step_law, two_updates

CHAINS = 65_536
MUTANT_CHAINS = 16_384  # enough to see 1 % too much noise at p < 1e-10
TEMPERATURE = 1.7
STEP_SIZES = (0.3, 0.2)  # of the two updates
PARAMS = {
    "w": jnp.full((2, 2), 0.5),
    "b": jnp.array([1.0, -2.0, 0.25]),
    "s": jnp.array(3.0),
}
GRADS = {
    "w": jnp.full((2, 2), 2.0),
    "b": jnp.array([-1.0, 0.5, 4.0]),
    "s": jnp.array(-3.0),
}
SCALE = {"w": 0.25, "b": jnp.array([1.0, 4.0, 9.0]), "s": 2.0}


def schedule(count):
    return jnp.where(count == 0, STEP_SIZES[0], STEP_SIZES[1])


def law_of(
    make_sgld, preconditioners=preconditioners_module, scale=SCALE, chains=CHAINS
):
    """The one-step law of a preconditioned SGLD, by the formula, not by the code."""

    def make_sampler():
        G = preconditioners.diagonal(scale)
        return make_sgld(schedule, TEMPERATURE, preconditioner=G, key=20)

    updates = two_updates(make_sampler, PARAMS, GRADS, chains)
    residuals = {}
    for leaf in PARAMS:
        g, G = np.asarray(GRADS[leaf], np.float64), np.asarray(scale[leaf], np.float64)
        r = [
            (np.asarray(u[leaf], np.float64) + eps * G * g)
            / np.sqrt(2 * eps * TEMPERATURE * G)
            for eps, u in zip(STEP_SIZES, updates)
        ]
        residuals[leaf] = np.stack(r).reshape(2, chains, -1)
    return step_law(residuals)


def test_one_step_law():
    law = law_of(sgld_module.sgld)
    assert law.holds, str(law)


def test_one_step_law_without_preconditioner():
    ones = {"w": 1.0, "b": jnp.ones(3), "s": 1.0}
    identity = types.SimpleNamespace(
        diagonal=lambda scale: preconditioners_module.identity()
    )
    law = law_of(sgld_module.sgld, identity, ones)
    assert law.holds, str(law)


NOISE = "sd = jnp.sqrt(2 * eps * T)"
KERNEL_MUTANTS = {
    "noise sd 2εT": (NOISE, "sd = 2 * eps * T"),
    "noise sd √(εT)": (NOISE, "sd = jnp.sqrt(eps * T)"),
    "T for √T": (NOISE, "sd = jnp.sqrt(2 * eps) * T"),
    "noise 1 % too large": (NOISE, "sd = 1.01 * jnp.sqrt(2 * eps * T)"),
    "sign of the drift": ("scale(-eps, ", "scale(eps, "),
    "half the gradient": ("scale(-eps, ", "scale(-eps / 2, "),
    "stale step size": (
        "at(step_size, count)",
        "at(step_size, jnp.maximum(count - 1, 0))",
    ),
    "preconditioner missing in the noise": (
        "preconditioner.multiply_sqrt(metric, xi)",
        "xi",
    ),
    "preconditioner missing in the drift": (
        "preconditioner.multiply(metric, grads)",
        "grads",
    ),
    "noise scaled by G": ("preconditioner.multiply_sqrt(", "preconditioner.multiply("),
    "one key for all steps": ("(state.rng_key, count, ", "(state.rng_key, 0 * count, "),
    "count never moves": ("optax.safe_increment(count)", "count"),
}


@pytest.mark.parametrize("name", KERNEL_MUTANTS)
def test_mutants_of_the_kernel_are_killed(name):
    law = law_of(mutated(sgld_module, *KERNEL_MUTANTS[name]).sgld, chains=MUTANT_CHAINS)
    assert not law.holds, f"survived:\n{law}"
    print(f"{name}: killed by {law.worst.name}, p={law.worst.p:.1g}")


def _normal_like_mutant(old, new):
    kernel = mutated(sgld_module, "import Any, NamedTuple", "import Any, NamedTuple  #")
    kernel.normal_like = mutated(noise_module, old, new).normal_like
    return kernel.sgld


DRAW = "flat = jax.random.normal(key, (total + -total % 4,), dtype)"
NOISE_MUTANTS = {
    "uniform noise of the right variance": (
        DRAW,
        "flat = (jax.random.uniform(key, (total + 4,), dtype) - 0.5) * 12**0.5",
    ),
    "one key for all leaves": (
        DRAW,
        "flat = jax.random.normal(key, (4,), dtype).repeat(total)",
    ),
    "leaves overlap": (
        "starts = [0, *itertools.accumulate(sizes)]",
        "starts = [0] * len(sizes)",
    ),
}


@pytest.mark.parametrize("name", NOISE_MUTANTS)
def test_mutants_of_the_noise_are_killed(name):
    law = law_of(_normal_like_mutant(*NOISE_MUTANTS[name]), chains=MUTANT_CHAINS)
    assert not law.holds, f"survived:\n{law}"
    print(f"{name}: killed by {law.worst.name}, p={law.worst.p:.1g}")


KEY_MUTANTS = {
    "one key for all chains": (
        "return jax.random.key_data(chain_keys(key, num_chains))",
        "return jnp.broadcast_to(data, (num_chains, *data.shape))",
    ),
    "two chains share each key": (
        "jnp.arange(num_chains, dtype=jnp.uint32)",
        "jnp.arange(num_chains, dtype=jnp.uint32) // 2",
    ),
}


@pytest.mark.parametrize("name", KEY_MUTANTS)
def test_mutants_of_the_keys_are_killed(name):
    keys = mutated(keys_module, *KEY_MUTANTS[name])
    kernel = mutated(sgld_module, "import Any, NamedTuple", "import Any, NamedTuple  #")
    kernel.init_key, kernel.step_key = keys.init_key, keys.step_key
    law = law_of(kernel.sgld, chains=MUTANT_CHAINS)
    assert not law.holds, f"survived:\n{law}"
    print(f"{name}: killed by {law.worst.name}, p={law.worst.p:.1g}")


def test_the_harness_rarely_cries_wolf():
    """On exact normals the smallest p-value is that of the rows it has, not smaller."""
    rng = np.random.default_rng(3)
    rejected = 0
    for _trial in range(40):
        residuals = {
            "a": rng.normal(size=(2, 2048, 3)),
            "b": rng.normal(size=(2, 2048, 1)),
        }
        law = step_law(residuals)
        rejected += law.worst.p * len(law.rows) < 0.05
    assert rejected <= 8  # binomial(40, 0.05) exceeds 8 with probability 2e-4


def test_a_step_size_that_varies_by_temperature_zero_has_no_noise():
    sampler = sgld_module.sgld(schedule, optax.constant_schedule(0.0), key=0)
    first, second = two_updates(lambda: sampler, PARAMS, GRADS, 4)
    np.testing.assert_array_equal(first["b"], -0.3 * np.tile(GRADS["b"], (4, 1)))
    np.testing.assert_array_equal(
        second["b"], np.float32(-0.2) * np.tile(GRADS["b"], (4, 1))
    )
