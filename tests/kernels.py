"""The registry of kernels: one row each. The tests of input, keys, reductions,
compositions and laws walk it, so that a new kernel is one file and one row.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import optax

import sgld_jax


class Kernel(NamedTuple):
    """A kernel as the tests know it, by formulas and not by its code.

    Attributes:
      make: the factory; `make(step_size, temperature, preconditioner=, key=)`.
      law: `(precision, step_size, temperature, noise, scale) -> variance`, exact and
        stationary, on U = λθ²/2 with gradient noise of variance V and G = scale.
      noise_of: `(updates, grads, step_sizes, temperature, scale) -> ξ`: what of one leaf
        should be independent N(0, 1) in consecutive updates `[steps, chains, ...]`.
      at_zero: `step_size -> transformation` that it is, bit for bit, at T = 0.
      mutants: name -> (mark, line) of the kernel's file; each breaks a law.
    """

    make: Callable[..., optax.GradientTransformationExtraArgs]
    law: Callable
    noise_of: Callable
    at_zero: Callable
    mutants: dict[str, tuple[str, str]]


def sgld_variance(precision, step_size, temperature, noise=0.0, scale=1.0):
    """laws.md 3.1 and 3.2: the exact stationary variance of preconditioned SGLD."""
    u = step_size * scale * precision
    return (temperature + step_size * scale * noise / 2) / (precision * (1 - u / 2))


def sgld_noise(updates, grads, step_sizes, temperature, scale):
    """From −εGg + √(2εTG) ξ."""
    return np.stack(
        [
            (u + eps * scale * grads) / np.sqrt(2 * eps * temperature * scale)
            for u, eps in zip(updates, step_sizes)
        ]
    )


KERNELS = {
    "sgld": Kernel(
        make=sgld_jax.sgld,
        law=sgld_variance,
        noise_of=sgld_noise,
        at_zero=optax.sgd,
        mutants={
            "noise sd 2εT": ("noise", "sd = 2 * eps * T"),
            "noise sd √(εT)": ("noise", "sd = jnp.sqrt(eps * T)"),
            "T for √T": ("noise", "sd = jnp.sqrt(2 * eps) * T"),
            "noise 1 % too large": ("noise", "sd = 1.01 * jnp.sqrt(2 * eps * T)"),
            "sign of the drift": (
                "drift",
                "updates = scale(eps, preconditioner.multiply(metric, grads))",
            ),
            "half the gradient": (
                "drift",
                "updates = scale(-eps / 2, preconditioner.multiply(metric, grads))",
            ),
            "preconditioner missing in the drift": (
                "drift",
                "updates = scale(-eps, grads)",
            ),
            "stale step size": (
                "step size",
                "eps = at(step_size, jnp.maximum(state.count - 1, 0), 'step_size')",
            ),
            "preconditioner missing in the noise": (
                "kick",
                "updates = add(updates, sd_xi)",
            ),
            "noise scaled by G": (
                "kick",
                "updates = add(updates, preconditioner.multiply(metric, sd_xi))",
            ),
        },
    ),
}

# Mutants of what all kernels are made of.
SHARED_MUTANTS = {
    "one key for all steps": (
        "noise of the step",
        "return scale(sd, normal_like(key, 0 * state.count, grads))",
    ),
    "count never moves": ("count", "count = state.count"),
    "uniform noise of the right variance": (
        "numbers",
        "flat = (jax.random.uniform(jax.random.fold_in(key, count), places.shape) - 0.5)"
        " * 12**0.5",
    ),
    "one number for all leaves": (
        "numbers",
        "flat = normal(key, count, 0 * places)",
    ),
    "leaves overlap": (
        "leaves",
        "return [0] * len(leaves) + [sum(x.size for x in leaves)]",
    ),
    "both numbers of a pair alike": ("halves", "return cosine"),
    "neighbouring pairs alike": ("pair", "pair = position >> 2"),
    "a radius that is not √2 of its half": (
        "radius",
        "radius = jnp.sqrt(-2 * jnp.log(u))",
    ),
    "one key for all chains": (
        "key of the chain",
        "return jnp.broadcast_to(data, (num_chains, *data.shape))",
    ),
    "two chains share each key": (
        "number of the chain",
        "numbers = jnp.arange(num_chains, dtype=jnp.uint32) // 2",
    ),
}
