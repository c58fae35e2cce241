"""Short runs of `sample`, and their comparison, for the tests of the engine."""

import os
import subprocess
import sys
import textwrap

import chex
import jax
import jax.numpy as jnp
import optax

import sgld_jax

QUADRATIC = sgld_jax.from_log_density(lambda x: -0.5 * jnp.sum(x**2))
SAMPLER = sgld_jax.sgld(0.1)
SMALL_STEPS = sgld_jax.sgld(1e-3)
N = 20
DATA = {"x": jnp.arange(N, dtype=jnp.float32), "y": jnp.ones((N, 2))}
MEAN = sgld_jax.minibatch_potential(
    sgld_jax.gaussian_prior(10.0),
    lambda theta, batch: (
        -0.5 * jnp.sum((batch["x"][:, None] - theta) ** 2 * batch["y"], 1)
    ),
    N,
)
SCHEMES = {
    "full": sgld_jax.full_batch(),
    "with replacement": sgld_jax.with_replacement(3),
    "shuffled": sgld_jax.shuffled(6),
    "blocks": sgld_jax.blocks(6),
}


def normal(key):
    return jax.random.normal(key, (2,))


def run(num_samples, sampler=SAMPLER, potential=QUADRATIC, init=normal, **kwargs):
    kwargs = {"num_chains": 4, **kwargs}
    return sgld_jax.sample(
        3, sampler, potential, init, num_samples=num_samples, **kwargs
    )


def on_data(num_samples, scheme="shuffled", **kwargs):
    kwargs = {"data": DATA, "batches": SCHEMES[scheme], **kwargs}
    return run(num_samples, SMALL_STEPS, MEAN, **kwargs)


def assert_equal_bits(a, b):
    a, b = (optax.tree.unwrap_random_key_data(tree) for tree in (a, b))
    chex.assert_trees_all_equal(a, b, strict=True)


def arrays(samples):
    return (
        samples.params,
        samples.potential,
        samples.weights,
        samples.counts,
        samples.final,
    )


def run_python(code, env):
    """Runs code in a new process, with more in its environment."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
