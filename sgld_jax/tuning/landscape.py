"""A potential as a function of one vector, where it falls and how it curves."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from sgld_jax.potentials.potential import Potential, without_jit

PyTree = Any

_FLAT = 1e-8  # of the largest curvature, in units of the diagonal; the least
_HALVINGS = 40  # of a step that does not go down
_SEEN = 256  # draws
_SLOPE = 1e-4  # of what the gradient promises, the least that a step must go down


class Landscape(NamedTuple):
    """U as a function of all coordinates laid end to end.

    Attributes:
      value: `(x [d], data) -> U`, a scalar.
      unravel: `x [d] -> params`.
      dim: d.
    """

    value: Callable[[jax.Array, PyTree], jax.Array]
    unravel: Callable[[jax.Array], PyTree]
    dim: int


class Curvature(NamedTuple):
    """The Hessian H at a point, with its eigenvalues made positive: |H|.

    Attributes:
      root: R, `[d, d]`, with R Rᵀ = |H|⁻¹.
      log_volume: ½ log det |H|⁻¹, of the Gaussian that has this curvature.
      is_minimum: whether no eigenvalue of H was below 0, bool `[]`.
    """

    root: jax.Array
    log_volume: jax.Array
    is_minimum: jax.Array


def landscape(potential: Potential, params: PyTree) -> Landscape:
    """A potential of all data, for parameters like these."""
    flat, unravel = ravel_pytree(params)
    potential = without_jit(potential)

    def value(x: jax.Array, data: PyTree) -> jax.Array:
        return potential(unravel(x), data)

    return Landscape(value, unravel, flat.size)


def curvature(land: Landscape, x: jax.Array, data: PyTree) -> Curvature:
    """How U curves at x, `[d]`; as in a sphere where it has no second derivative.

    Eigenvalues are those of the matrix with a diagonal of 1, so that the units of the
    coordinates do not matter.
    """
    H = jax.hessian(land.value)(x, data)
    diagonal = jnp.abs(jnp.diagonal(H))
    curved = jnp.isfinite(diagonal) & (diagonal > 0)
    units = jnp.sqrt(jnp.where(curved, diagonal, 1.0))
    scaled = H / units[:, None] / units
    fine = jnp.all(jnp.isfinite(scaled))
    values, vectors = jnp.linalg.eigh(jnp.where(fine, scaled, jnp.eye(land.dim)))
    size = jnp.abs(values)
    size = jnp.where(size.max() > 0, jnp.maximum(size, _FLAT * size.max()), 1.0)
    root = vectors / jnp.sqrt(size) / units[:, None]
    log_volume = -jnp.sum(jnp.log(units)) - jnp.sum(jnp.log(size)) / 2
    return Curvature(root, log_volume, fine & (values.min() > 0))


def downhill(
    land: Landscape,
    x: jax.Array,
    value: jax.Array,
    way: jax.Array,
    fall: jax.Array,
    data: PyTree,
) -> tuple[jax.Array, jax.Array]:
    """A step along `-way`, halved until U falls by some share of what is promised.

    Args:
      land: the landscape.
      x: where it begins, `[d]`.
      value: U there.
      way: `[d]`.
      fall: gradient times `way`, twice what a full step promises.
      data: of the potential.

    Returns:
      x and U after the step; x itself if none goes down. A value that is not finite is
      no fall.
    """

    def at(size: jax.Array) -> tuple[jax.Array, jax.Array]:
        there = x - size * way
        return there, land.value(there, data)

    def goes_on(carry: tuple) -> jax.Array:
        size, _, new = carry
        falls = jnp.isfinite(new) & (new <= value - _SLOPE * size * fall)
        return ~falls & (size > 0)

    def halved(carry: tuple) -> tuple:
        size = carry[0] / 2
        size = jnp.where(size > 2.0**-_HALVINGS, size, 0.0)
        return size, *at(size)

    one = jnp.ones([], x.dtype)
    size, there, new = jax.lax.while_loop(goes_on, halved, (one, *at(one)))
    return jnp.where(size > 0, there, x), jnp.where(size > 0, new, value)


def steepest(
    land: Landscape, metric: np.ndarray, draws: np.ndarray, data: PyTree
) -> np.ndarray:
    """The largest curvature in the units of a metric, at some of the draws, `[n]`.

    Args:
      land: the landscape.
      metric: G, `[d, d]`.
      draws: `[n, d]`, of which some 256 are looked at.
      data: of the potential.
    """
    dtype = jnp.result_type(float)
    root = jnp.asarray(np.linalg.cholesky(metric), dtype)

    def largest(x: jax.Array, data: PyTree) -> jax.Array:
        H = root.T @ jax.hessian(land.value)(x, data) @ root
        fine = jnp.all(jnp.isfinite(H))
        return jnp.linalg.eigvalsh(jnp.where(fine, H, jnp.eye(land.dim)))[-1]

    x = jnp.asarray(draws[:: max(1, len(draws) // _SEEN)][:_SEEN], dtype)
    return np.asarray(jax.jit(jax.vmap(largest, (0, None)))(x, data), np.float64)
