"""Two consecutive updates of 65,536 copies have exactly the law of the formula.

And the harness can tell: every mutant of the code below turns it red.
"""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sgld_jax
from tests.kernels import KERNELS, SHARED_MUTANTS
from tests.law import step_law, two_updates
from tests.mutants import mutated_kernel

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


def law_of(name, make=None, scale=SCALE, chains=CHAINS):
    """The one-step law of a kernel, preconditioned by G = scale unless that is None."""
    kernel = KERNELS[name]
    G = sgld_jax.identity() if scale is None else sgld_jax.diagonal(scale)

    def make_sampler():
        factory = make or kernel.make
        return factory(schedule, TEMPERATURE, preconditioner=G, key=20)

    updates = two_updates(make_sampler, PARAMS, GRADS, chains)
    residuals = {}
    for leaf in PARAMS:
        u, g, G_leaf = (
            np.asarray(x, np.float64)
            for x in (
                [u[leaf] for u in updates],
                GRADS[leaf],
                1 if scale is None else scale[leaf],
            )
        )
        r = kernel.noise_of(u, g, STEP_SIZES, TEMPERATURE, G_leaf)
        residuals[leaf] = r.reshape(2, chains, -1)
    return step_law(residuals)


@pytest.mark.parametrize("scale", [None, SCALE], ids=["identity", "diagonal"])
@pytest.mark.parametrize("name", KERNELS)
def test_one_step_law(name, scale):
    law = law_of(name, scale=scale)
    assert law.holds, str(law)


FIRST, *OTHERS = KERNELS
MUTANTS = [(FIRST, mutant) for mutant in KERNELS[FIRST].mutants | SHARED_MUTANTS]
MUTANTS += [
    pytest.param(kernel, mutant, marks=pytest.mark.slow)
    for kernel in OTHERS
    for mutant in KERNELS[kernel].mutants
]


@pytest.mark.key_reuse_off("some mutants share keys, and a law must see it")
@pytest.mark.parametrize("name, mutant", MUTANTS)
def test_mutants_are_killed(name, mutant):
    change = (KERNELS[name].mutants | SHARED_MUTANTS)[mutant]
    make = KERNELS[name].wrap(getattr(mutated_kernel(name, *change), name))
    law = law_of(name, make, chains=MUTANT_CHAINS)
    assert not law.holds, f"survived:\n{law}"
    print(f"{mutant}: killed by {law.worst.name}, p={law.worst.p:.1g}")


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
    sampler = sgld_jax.sgld(schedule, optax.constant_schedule(0.0), key=0)
    first, second = two_updates(lambda: sampler, PARAMS, GRADS, 4)
    np.testing.assert_array_equal(first["b"], -0.3 * np.tile(GRADS["b"], (4, 1)))
    np.testing.assert_array_equal(
        second["b"], np.float32(-0.2) * np.tile(GRADS["b"], (4, 1))
    )
