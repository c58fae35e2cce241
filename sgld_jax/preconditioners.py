"""Preconditioners: the matrix G in θ' = θ − ε G ∇Ũ(θ) + √(2εT) G^½ ξ.

A preconditioner goes *inside* a kernel, never around it: whatever rescales an
update after the noise was scaled breaks the noise law.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer
from jax.flatten_util import ravel_pytree

from sgld_jax.arguments import shown
from sgld_jax.fingerprint import fingerprint
from sgld_jax.leaves import check_positive, is_numeric, matched, wide_dtype

PyTree = Any


class FixedMetric(NamedTuple):
    """The state of a preconditioner that never changes.

    Attributes:
      fingerprint: of its numbers, int32 `[]`; 0 if they were being traced. A run that
        is resumed with another metric is refused by it.
    """

    fingerprint: jax.Array


class Preconditioner(NamedTuple):
    """A symmetric positive matrix G, as functions on trees.

    Attributes:
      init: `params -> state`.
      update: `(grads, state, params) -> state`, before G is used.
      multiply: `(state, v) -> G v`, in the dtypes of `v`.
      multiply_sqrt: `(state, v) -> S v` with `S Sᵀ = G`, in the dtypes of `v`.
      is_diagonal: whether G mixes no coordinates.
      divergence: `state -> Γ`, Γᵢ = Σⱼ ∂Gᵢⱼ/∂θⱼ, where G is a function of θ; else None.
      is_fixed: whether G never changes.
    """

    init: Callable[[PyTree], PyTree]
    update: Callable[[PyTree, PyTree, PyTree | None], PyTree]
    multiply: Callable[[PyTree, PyTree], PyTree]
    multiply_sqrt: Callable[[PyTree, PyTree], PyTree]
    is_diagonal: bool = True
    divergence: Callable[[PyTree], PyTree] | None = None
    is_fixed: bool = False


def check_preconditioner(preconditioner: Any) -> None:
    """Raises `TypeError` for what has not the functions of a `Preconditioner`."""
    names = ("init", "update", "multiply", "multiply_sqrt")
    functions = (getattr(preconditioner, name, None) for name in names)
    if not all(map(callable, functions)):
        raise TypeError(
            f"preconditioner is a {type(preconditioner).__name__}: expected a "
            f"Preconditioner, such as sgld_jax.identity() or sgld_jax.diagonal(scale)."
        )


def identity() -> Preconditioner:
    """G = I: no preconditioning.

    Example:
      >>> import sgld_jax
      >>> sampler = sgld_jax.sgld(1e-3, preconditioner=sgld_jax.identity(), key=0)
    """
    return Preconditioner(
        init=lambda params: optax.EmptyState(),
        update=lambda grads, state, params: state,
        multiply=lambda state, v: v,
        multiply_sqrt=lambda state, v: v,
        is_fixed=True,
    )


def diagonal(scale: PyTree) -> Preconditioner:
    """G = diag(scale), fixed: a step size of its own for every coordinate.

    The natural choice is a guess of the posterior *variance* of each coordinate;
    then ε is without units, and every coordinate relaxes in about 1/ε steps.

    Args:
      scale: one number above 0, or a tree like the parameters whose leaves have
        the parameter's shape or are numbers. Units of θ².

    Raises:
      ValueError: if a scale is not finite and above 0; while tracing, if it does
        not fit the parameters.

    Example:
      >>> import jax.numpy as jnp, sgld_jax
      >>> variance = {"w": jnp.array([0.1, 4.0]), "b": 1.0}
      >>> sampler = sgld_jax.sgld(
      ...     0.05, preconditioner=sgld_jax.diagonal(variance), key=0)
      >>> state = sampler.init({"w": jnp.zeros(2), "b": jnp.zeros(())})

    Source: Li et al. 2016, arXiv 1512.07666, with G held fixed.
    """
    check_positive(scale, "diagonal(scale)")
    code = fingerprint(scale)

    def multiply(power: float, state: PyTree, v: PyTree) -> PyTree:
        del state
        fitted = matched(scale, v, "diagonal(scale)")
        return jax.tree.map(lambda s, x: _times(s, power, x), fitted, v)

    def init(params: PyTree) -> FixedMetric:
        matched(scale, params, "diagonal(scale)")
        return FixedMetric(jnp.asarray(code, jnp.int32))

    return Preconditioner(
        init=init,
        update=lambda grads, state, params: state,
        multiply=lambda state, v: multiply(1.0, state, v),
        multiply_sqrt=lambda state, v: multiply(0.5, state, v),
        is_fixed=True,
    )


def _times(scale: Any, power: float, x: jax.Array) -> jax.Array:
    s = jnp.asarray(scale, wide_dtype(x))
    return (s if power == 1.0 else jnp.sqrt(s)).astype(x.dtype) * x


class OwnMetric(NamedTuple):
    """The state of `own_diagonal`, found by its type where chains are started.

    Attributes:
      scale: the diagonal of G, like the parameters.
    """

    scale: PyTree


def own_diagonal() -> Preconditioner:
    """G = diag(scale), fixed, and another one for every chain.

    The scales come with the starting points, `stacked(params, scale)`, and stay in the
    state. For networks: which weights can move far differs from optimum to optimum.
    A chain's scales may also differ by a factor, which is a step size of its own. The
    law of a chain is that of `diagonal` with its scale.

    Raises:
      ValueError: from `sample` and `start`, where the starting points bring no scale.

    Example:
      >>> import jax.numpy as jnp, sgld_jax
      >>> potential = sgld_jax.from_log_density(lambda x: -0.5 * jnp.sum(x**2))
      >>> starts = jnp.zeros((8, 3))
      >>> scale = jnp.linspace(0.5, 2.0, 8)[:, None] * jnp.ones((8, 3))
      >>> samples = sgld_jax.sample(
      ...     0, sgld_jax.sgld(0.1, preconditioner=sgld_jax.own_diagonal()), potential,
      ...     sgld_jax.stacked(starts, scale), num_chains=8, num_samples=10)
    """
    return Preconditioner(
        init=lambda params: OwnMetric(jax.tree.map(jnp.ones_like, params)),
        update=lambda grads, state, params: state,
        multiply=lambda state, v: _own_times(1.0, state, v),
        multiply_sqrt=lambda state, v: _own_times(0.5, state, v),
        is_fixed=True,
    )


def _own_times(power: float, state: OwnMetric, v: PyTree) -> PyTree:
    return jax.tree.map(lambda s, x: _times(s, power, x), state.scale, v)


def dense(matrix: Any) -> Preconditioner:
    """G, a fixed symmetric positive matrix over all coordinates of the tree.

    For posteriors whose coordinates are correlated: with the posterior covariance as G
    every direction relaxes in about 1/ε steps. An update costs d² operations a chain.

    Args:
      matrix: `[d, d]`, in units of θ², such as a covariance of earlier draws; rows in
        the order of `jax.flatten_util.ravel_pytree(params)`: leaf by leaf.

    Raises:
      ValueError: if the matrix is not square, symmetric, finite and positive; while
        tracing, if the parameters have not d coordinates.

    Example:
      >>> import jax.numpy as jnp, sgld_jax
      >>> covariance = jnp.array([[1.0, 0.9], [0.9, 1.0]])
      >>> sampler = sgld_jax.sgld(
      ...     0.1, preconditioner=sgld_jax.dense(covariance), key=0)
      >>> state = sampler.init({"a": jnp.zeros(()), "b": jnp.zeros(())})

    Source: Girolami and Calderhead 2011, section 5, with the metric held fixed.
    """
    _check_positive_definite(matrix)
    if isinstance(matrix, Tracer):
        root = jnp.linalg.cholesky(matrix)
    else:
        root = jnp.asarray(np.linalg.cholesky(np.asarray(matrix, np.float64)))
    matrix, code = jnp.asarray(matrix), fingerprint(matrix)

    def init(params: PyTree) -> FixedMetric:
        _check_coordinates(matrix, params)
        return FixedMetric(jnp.asarray(code, jnp.int32))

    return Preconditioner(
        init=init,
        update=lambda grads, state, params: state,
        multiply=lambda state, v: _matrix_times(matrix, v),
        multiply_sqrt=lambda state, v: _matrix_times(root, v),
        is_diagonal=False,
        is_fixed=True,
    )


def _matrix_times(matrix: Any, v: PyTree) -> PyTree:
    """The product with all leaves laid end to end, each given back in its dtype."""
    _check_coordinates(matrix, v)
    flat, unravel = ravel_pytree(v)
    # float32 in full: some devices would multiply with fewer digits.
    product = jnp.matmul(jnp.asarray(matrix, flat.dtype), flat, precision="highest")
    return unravel(product)


def _check_coordinates(matrix: Any, tree: PyTree) -> None:
    size = sum(x.size for x in jax.tree.leaves(tree))
    if np.shape(matrix)[0] != size:
        raise ValueError(
            f"dense(matrix) is {np.shape(matrix)[0]} × {np.shape(matrix)[1]}, and the "
            f"parameters have {size} coordinates: expected as many rows."
        )


def _check_positive_definite(matrix: Any) -> None:
    if not is_numeric(matrix) and not isinstance(matrix, Tracer):
        raise TypeError(f"dense({shown(matrix)}): expected an array [d, d].")
    if np.ndim(matrix) != 2 or np.shape(matrix)[0] != np.shape(matrix)[1]:
        raise ValueError(
            f"dense(matrix) has shape {np.shape(matrix)}: expected [d, d]. For one "
            f"number a coordinate: sgld_jax.diagonal(scale)."
        )
    if isinstance(matrix, Tracer):
        return
    values = np.asarray(matrix, np.float64)
    if not np.isfinite(values).all():
        raise ValueError("dense(matrix) holds numbers that are not finite.")
    if np.abs(values - values.T).max(initial=0) > 1e-5 * np.abs(values).max(initial=0):
        raise ValueError(
            "dense(matrix) is not symmetric: pass (matrix + matrix.T) / 2 if rounding "
            "is the cause."
        )
    # Of the correlations: that coordinates differ in their units harms nothing.
    units = np.sqrt(np.maximum(np.diag(values), np.finfo(float).tiny))
    lowest = np.linalg.eigvalsh(values / np.outer(units, units)).min(initial=1)
    if not lowest > _rounding():
        raise ValueError(
            f"dense(matrix) has correlations with an eigenvalue of {lowest:.3g}: "
            f"expected it above 0, and above rounding. A covariance of fewer than d "
            f"draws has zeros; add a small multiple of its diagonal. Coordinates that "
            f"are correlated like that want jax.config.update('jax_enable_x64', True)."
        )


def _rounding() -> float:
    """An eigenvalue of correlations that rounding alone could have made."""
    return 1e-12 if jax.config.jax_enable_x64 else 1e-6  # pyright: ignore
