"""The registry of kernels: one row each. The tests of input, keys, reductions,
compositions and laws walk it, so that a new kernel is one file and one row.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

import sgld_jax


class Kernel(NamedTuple):
    """A kernel as the tests know it, by formulas and not by its code.

    Attributes:
      make: `make(step_size, temperature, preconditioner=, key=)`: the factory, with a
        friction if it takes one.
      law: `(precision, step_size, temperature, noise, scale) -> variance`, exact and
        stationary, on U = λθ²/2 with gradient noise of variance V and G = scale. None
        where nobody knows it; such a kernel has tests of its own.
      noise_of: `(updates, grads, step_sizes, temperature, scale) -> ξ`: what of one leaf
        should be independent N(0, 1) in consecutive updates `[steps, chains, ...]`.
      at_zero: `step_size -> transformation` that it is at T = 0; None if it refuses 0.
      exact_at_zero: whether it is that bit for bit, or to rounding.
      mutants: name -> (mark, line) of the kernel's file; each breaks a law.
      wrap: makes `make` of the factory of a mutant.
      is_another: whether its update is that of another row, with its arguments. What
        kernels share is then not run again.
      takes_metric: whether it has `preconditioner=`; tests with one skip it if not.
    """

    make: Callable[..., optax.GradientTransformationExtraArgs]
    law: Callable | None
    noise_of: Callable
    at_zero: Callable | None
    exact_at_zero: bool
    mutants: dict[str, tuple[str, str]]
    wrap: Callable = lambda factory: factory
    is_another: bool = False
    takes_metric: bool = True


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


IDENTITY = sgld_jax.identity()
FRICTION = 0.5  # of kernels that have one; large, so that starts are soon forgotten


def with_friction(factory):
    """A factory of a kernel with a friction, as the others are called."""

    def make(step_size, temperature=1.0, *, preconditioner=IDENTITY, key=None):
        G = preconditioner
        return factory(step_size, FRICTION, temperature, preconditioner=G, key=key)

    return make


def skip_with_a_metric(preconditioner):
    if not isinstance(preconditioner.init(()), optax.EmptyState):
        pytest.skip("takes no preconditioner")


def with_thermostats(factory):
    """`sgnht` with a thermostat for each coordinate, as the others are called."""

    def make(step_size, temperature=1.0, *, preconditioner=IDENTITY, key=None):
        skip_with_a_metric(preconditioner)
        return factory(step_size, FRICTION, temperature, per_coordinate=True, key=key)

    return make


def fading_momentum(step_size):
    """What `sgnht` is at T = 0: v ← (1−ξ) v − εg, θ ← θ + v, ξ ← ξ + v²."""

    def init(params):
        still = jax.tree.map(jnp.zeros_like, params)
        return still, jax.tree.map(lambda x: x + FRICTION, still), jnp.array(0)

    def update(grads, state, params=None):
        v, xi, count = state
        eps = step_size(count) if callable(step_size) else step_size
        v = jax.tree.map(lambda v, xi, g: (1 - xi) * v - eps * g, v, xi, grads)
        xi = jax.tree.map(lambda xi, v: xi + v**2, xi, v)
        return v, (v, xi, count + 1)

    return optax.GradientTransformation(init, update)


def thermostat_noise(updates, grads, step_sizes, temperature, scale):
    """The ξ of two updates: the first has the start of the velocity in it, too."""
    (first, second), (e0, e1), T, A = updates, step_sizes, temperature, FRICTION
    xi = A + first**2 - e0 * T
    return np.stack(
        [
            (first + e0 * grads) / np.sqrt(e0 * T * ((1 - A) ** 2 + 2 * A)),
            (second - (1 - xi) * first + e1 * grads) / np.sqrt(2 * A * e1 * T),
        ]
    )


def lattice_noise(updates, grads, step_sizes, temperature, scale):
    """The normal quantile of each update's place in its law: one of two moves.

    A place is drawn anew within the share of the move that was made; a move of another
    size than δ shows as another variance.
    """
    rng, xi = np.random.default_rng(0), []
    for u, eps in zip(updates, step_sizes):
        size = np.sqrt(2 * eps * temperature * scale)
        down = 1 - np.clip((1 - eps * scale * grads / size) / 2, 0, 1)
        place = np.where(
            u > 0, rng.uniform(down, 1, u.shape), rng.uniform(0, down, u.shape)
        )
        place = np.clip(place, 1e-12, 1 - 1e-12)  # a move that cannot be is far out
        xi.append(stats.norm.ppf(place) * np.abs(u) / size)
    return np.stack(xi)


def with_metric_one(factory):
    """`psgld` whose G is 1 to fifteen digits, as the others are called.

    What G is, and the law with it, is tested in `test_adaptive.py`.
    """

    def make(step_size, temperature=1.0, *, preconditioner=IDENTITY, key=None):
        skip_with_a_metric(preconditioner)
        metric = {"num_data": 10**15, "eps": 1.0, "freeze_after": 1}
        return factory(step_size, temperature, **metric, key=key)

    return make


def momentum(step_size):
    """What kernels with a friction are at T = 0: v ← (1−α) v − εg, θ ← θ + v."""
    return optax.chain(
        optax.scale_by_learning_rate(step_size), optax.trace(decay=1 - FRICTION)
    )


def leimkuhler_matthews_variance(
    precision, step_size, temperature, noise=0.0, scale=1.0
):
    """laws.md 3.4."""
    return baoa_variance(precision, step_size, temperature, noise, scale, friction=1.0)


def baoa_variance(
    precision, step_size, temperature, noise=0.0, scale=1.0, friction=FRICTION
):
    """laws.md 5.2, in the form of ε and α."""
    u = step_size * scale * precision
    hot = step_size * scale * noise / (2 * friction)
    return (temperature + hot / (1 - u / (2 * (2 - friction)))) / precision


def sghmc_variance(
    precision, step_size, temperature, noise=0.0, scale=1.0, friction=FRICTION
):
    """laws.md 5.1."""
    u = step_size * scale * precision
    hot = step_size * scale * noise / (2 * friction)
    return (temperature + hot) / (precision * (1 - u / (2 * (2 - friction))))


def from_rest(step_noise):
    """The ξ of two updates of a kernel with a velocity that is 0 before the first."""

    def noise_of(updates, grads, step_sizes, temperature, scale):
        velocity, xi = np.zeros_like(updates[0]), []
        for u, eps in zip(updates, step_sizes):
            kick, velocity = step_noise(u, velocity, eps * scale * grads)
            xi.append(kick / np.sqrt(2 * eps * temperature * scale))
        return np.stack(xi)

    return noise_of


def baoa_kick(u, velocity, drift):
    """The kick and the new velocity, from Δθ = (m + v)/2."""
    kicked = velocity - 2 * drift / (2 - FRICTION)
    velocity = 2 * u - kicked
    return (velocity - (1 - FRICTION) * kicked) / np.sqrt(FRICTION), velocity


def sghmc_kick(u, velocity, drift):
    """The kick and the new velocity, from Δθ = v."""
    return (u - (1 - FRICTION) * velocity + drift) / np.sqrt(FRICTION), u


def leimkuhler_matthews_kick(u, last, drift):
    """The kick, twice: it is what the next update remembers."""
    kick = 2 * (u + drift) - last
    return kick, kick


KERNELS = {
    "sgld": Kernel(
        make=sgld_jax.sgld,
        law=sgld_variance,
        noise_of=sgld_noise,
        at_zero=optax.sgd,
        exact_at_zero=True,
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
    "baoa": Kernel(
        make=with_friction(sgld_jax.baoa),
        wrap=with_friction,
        law=baoa_variance,
        noise_of=from_rest(baoa_kick),
        at_zero=momentum,
        exact_at_zero=False,
        mutants={
            "T for √T": ("noise", "sd = jnp.sqrt(2 * alpha * eps) * T"),
            "noise without friction": ("noise", "sd = jnp.sqrt(2 * eps * T)"),
            "noise of a half step": (
                "noise",
                "sd = jnp.sqrt(alpha * (2 - alpha) * eps * T)",
            ),
            "the gradient of SGLD": (
                "drift",
                "drift = scale(-eps, preconditioner.multiply(metric, grads))",
            ),
            "a kick that is forgotten": (
                "O",
                "velocity = scale(1 - alpha, state.velocity)",
            ),
            "friction twice": ("O", "velocity = scale((1 - alpha) ** 2, kicked)"),
            "moved with the new velocity": ("A", "updates = velocity"),
            "moved with the old velocity": (
                "A",
                "updates = scale(0.5, add(state.velocity, velocity))",
            ),
            "preconditioner missing in the noise": (
                "kick",
                "kick = sd_xi",
            ),
            "stale friction": (
                "friction",
                "alpha = at(lambda c: 0.5 + 0.1 * c, state.count, '')",
            ),
        },
    ),
    "sghmc": Kernel(
        make=with_friction(sgld_jax.sghmc),
        wrap=with_friction,
        law=sghmc_variance,
        noise_of=from_rest(sghmc_kick),
        at_zero=momentum,
        exact_at_zero=False,
        mutants={
            "T for √T": ("noise", "sd = jnp.sqrt(2 * alpha * eps) * T"),
            "noise of the exact friction": (
                "noise",
                "sd = jnp.sqrt(alpha * (2 - alpha) * eps * T)",
            ),
            "sign of the drift": (
                "drift",
                "drift = scale(eps, preconditioner.multiply(metric, grads))",
            ),
            "velocity redrawn": ("velocity", "velocity = drift"),
            "velocity without friction": (
                "velocity",
                "velocity = add(state.velocity, drift)",
            ),
            "preconditioner missing in the noise": (
                "kick",
                "kick = sd_xi",
            ),
        },
    ),
    "leimkuhler_matthews": Kernel(
        make=sgld_jax.leimkuhler_matthews,
        law=leimkuhler_matthews_variance,
        noise_of=from_rest(leimkuhler_matthews_kick),
        at_zero=optax.sgd,
        exact_at_zero=True,
        mutants={
            "T for √T": ("noise", "sd = jnp.sqrt(2 * eps) * T"),
            "half the gradient": (
                "drift",
                "updates = scale(-eps / 2, preconditioner.multiply(metric, grads))",
            ),
            "two fresh kicks": (
                "kick",
                "updates = add(updates, scale(0.5, add(noise(state._replace("
                "count=state.count + 1000), sd, grads), kick)))",
            ),
            "SGLD": ("kick", "updates = add(updates, kick)"),
            "the last kick alone": ("kick", "updates = add(updates, state.kick)"),
            "preconditioner missing in the noise": (
                "the new kick",
                "kick = noise(state, sd, grads)",
            ),
        },
    ),
    "psgld": Kernel(
        make=with_metric_one(sgld_jax.psgld),
        wrap=with_metric_one,
        law=sgld_variance,
        noise_of=sgld_noise,
        at_zero=optax.sgd,
        exact_at_zero=False,
        mutants={
            "the metric's N is not that of the gradients": (
                "running mean",
                "return a * v + (1 - a) * g**2",
            ),
        },
        is_another=True,
        takes_metric=False,
    ),
    "sgnht": Kernel(
        make=with_thermostats(sgld_jax.sgnht),
        wrap=with_thermostats,
        law=None,
        noise_of=thermostat_noise,
        at_zero=fading_momentum,
        exact_at_zero=False,
        mutants={
            "T for √T": ("noise", "later = jnp.sqrt(2 * alpha * eps) * T"),
            "starts at rest": ("first", "first = jnp.sqrt(2 * eps * alpha * T)"),
            "the friction of sghmc": (
                "kept",
                "kept = jax.tree.map(lambda xi: 1 - alpha + 0 * xi, state.thermostat)",
            ),
            "a thermostat at T of no step": (
                "thermostat",
                "lambda xi, v2: xi + v2 - jnp.asarray(T, xi.dtype),",
            ),
            "a thermostat of |v|": (
                "thermostat",
                "lambda xi, v2: xi + jnp.sqrt(v2) - jnp.asarray(eps * T, xi.dtype),",
            ),
            "sign of the drift": (
                "velocity",
                "velocity = add(times(kept, state.velocity), scale(eps, grads))",
            ),
        },
        takes_metric=False,
    ),
    "sglrw": Kernel(
        make=sgld_jax.sglrw,
        law=None,  # of `test_sglrw.py`: it wants smaller steps than the others
        noise_of=lattice_noise,
        at_zero=None,
        exact_at_zero=False,
        mutants={
            "moves of √(εT)": ("noise", "sd = jnp.sqrt(eps) * jnp.sqrt(T)"),
            "T for √T": ("noise", "sd = jnp.sqrt(2 * eps) * T"),
            "sign of the drift": (
                "drift",
                "drift = scale(eps, preconditioner.multiply(metric, grads))",
            ),
            "half the gradient": (
                "drift",
                "drift = scale(-eps / 2, preconditioner.multiply(metric, grads))",
            ),
            "odds of half the range": ("odds", "odds = (0.5 - u) * size"),
            "a coin for an odd": ("odds", "odds = jnp.sign(1 - 2 * u) * size"),
            "moves by G": ("δ", "sizes = preconditioner.multiply(metric, sizes)"),
            "stale step size": (
                "step size",
                "eps = at(step_size, jnp.maximum(state.count - 1, 0), 'step_size')",
            ),
        },
    ),
}

AT_ZERO = [name for name, kernel in KERNELS.items() if kernel.at_zero]

# Mutants of what all kernels are made of.
SHARED_MUTANTS = {
    "one key for all steps": (
        "noise of the step",
        "return times(sd, normal_like(key, 0 * state.count, grads))",
    ),
    "count never moves": ("count", "count = state.count"),
    "uniform noise of the right variance": (
        "numbers",
        "flat = (jax.random.uniform(jax.random.fold_in(key, count), places.shape) - 0.5)"
        " * 12**0.5",
    ),
    "one number for all leaves": (
        "numbers",
        "flat = law.ours(key, count, 0 * places)",
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
