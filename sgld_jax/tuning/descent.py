"""From starting points to the optima that they lead to.

Newton's method with |H| in place of H, so that every step goes down: saddle-free
(Dauphin et al. 2014, arXiv 1406.2572). In a funnel the density has no optimum that
holds its mass; there the best place on the way is the one with the most volume,
−U + ½ log det |H|⁻¹, Laplace's approximation of the log mass around it.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sgld_jax.tuning.landscape import Curvature, Landscape, curvature, downhill

PyTree = Any

_STEPS = 80
_CLOSE = 1e-3  # of gᵀ|H|⁻¹g, twice what U could still fall by
_WORTH = 5.0  # nats of log mass, to prefer a place on the way to its end
_NEGLIGIBLE = 10.0  # nats below the best place: a chain there starts elsewhere
_APART = 1.0  # |R⁻¹(x − y)|² of optima that are two


class Places(NamedTuple):
    """Where chains start.

    Attributes:
      x: `[C, d]`.
      value: U there, `[C]`.
      root: R of the curvature there, `[C, d, d]`.
      optimum: the number of the optimum that each chain is at, int `[C]`.
      masses: Laplace's log mass of every optimum, `[M]`, of which the best is 0.
      converged: share of the starting points that reached an optimum.
      gradients: what it took for each chain, a Hessian counted as 2d.
    """

    x: np.ndarray
    value: np.ndarray
    root: np.ndarray
    optimum: np.ndarray
    masses: np.ndarray
    converged: float
    gradients: int


class _Way(NamedTuple):
    """A descent: where it is, the best place so far, and whether it is at the end."""

    x: jax.Array
    value: jax.Array
    curve: Curvature
    best_x: jax.Array
    best_mass: jax.Array
    done: jax.Array
    steps: jax.Array


def descend(land: Landscape, starts: Any, data: PyTree) -> Places:
    """The places that starting points `[C, d]` lead to; hopeless ones start elsewhere.

    Raises:
      ValueError: if U is finite at no starting point.
    """

    def of_all(starts: jax.Array, data: PyTree) -> tuple:
        way = jax.vmap(lambda x: _descent(land, x, data))(starts)
        mass = way.curve.log_volume - way.value
        gain = way.best_mass - mass
        back = ~way.done & (jnp.nan_to_num(gain, nan=jnp.inf) > _WORTH)
        x = jnp.where(back[:, None], way.best_x, way.x)
        value = jax.vmap(land.value, (0, None))(x, data)
        curve = jax.vmap(lambda x: curvature(land, x, data))(x)
        return x, value, curve, way.done, way.steps

    x, value, curve, done, steps = jax.jit(of_all)(jnp.asarray(starts), data)
    done = np.asarray(done)
    x, value, root, volume = (
        np.asarray(a, np.float64) for a in (x, value, curve.root, curve.log_volume)
    )
    mass = np.where(np.isfinite(value), volume - value, -np.inf)
    if not np.isfinite(mass).any():
        raise ValueError(
            "The potential is finite at no starting point: look at init, and at the "
            "potential there."
        )
    good = np.flatnonzero(mass > mass.max() - _NEGLIGIBLE)
    chosen = np.arange(len(x))
    bad = ~np.isin(chosen, good)
    chosen[bad] = good[np.arange(bad.sum()) % len(good)]
    optimum, masses = _distinct(x[chosen], root[chosen], mass[chosen], done[chosen])
    cost = int(np.asarray(steps).max() + 1) * (2 * land.dim + 2)
    return Places(
        *(x[chosen], value[chosen], root[chosen], optimum, masses - masses.max()),
        converged=float(np.mean(done)),
        gradients=cost,
    )


def _descent(land: Landscape, start: jax.Array, data: PyTree) -> _Way:
    """At most 80 steps from a start, `[d]`."""
    slope = jax.grad(land.value)
    first = curvature(land, start, data)
    value = land.value(start, data)
    mass = _finite(first.log_volume - value)
    no = jnp.array(False)
    way = _Way(start, value, first, start, mass, no, jnp.array(0))

    def goes_on(way: _Way) -> jax.Array:
        return ~way.done & (way.steps < _STEPS) & jnp.isfinite(way.value)

    def step(way: _Way) -> _Way:
        g, R = slope(way.x, data), way.curve.root
        to = R @ (R.T @ g)
        fall = g @ to
        # Where U itself is known to some digits only, it can fall by no less.
        known = 10 * jnp.finfo(start.dtype).eps * jnp.abs(way.value)
        there = (fall < jnp.maximum(_CLOSE, known)) & way.curve.is_minimum
        x, value = downhill(land, way.x, way.value, to, fall, data)
        curve = curvature(land, x, data)
        mass = _finite(curve.log_volume - value)
        better = mass > way.best_mass
        return _Way(
            x,
            value,
            curve,
            jnp.where(better, x, way.best_x),
            jnp.maximum(mass, way.best_mass),
            there,
            way.steps + 1,
        )

    return jax.lax.while_loop(goes_on, step, way)


def _finite(mass: jax.Array) -> jax.Array:
    return jnp.where(jnp.isfinite(mass), mass, -jnp.inf)


def _distinct(
    x: np.ndarray, root: np.ndarray, mass: np.ndarray, done: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Which optimum each chain `[C]` is at, the best first, and their masses.

    Chains that are at no optimum are counted with the best.
    """
    number, found = np.full(len(x), -1), []
    for i in np.argsort(-mass):
        for k, j in enumerate(found):
            away = np.linalg.lstsq(root[j], x[i] - x[j], rcond=None)[0]
            if away @ away < _APART:
                number[i] = k
                break
        else:
            if done[i] or not found:
                number[i] = len(found)
                found.append(i)
            else:
                number[i] = 0
    return number, mass[found]
