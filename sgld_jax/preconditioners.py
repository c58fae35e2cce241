"""Preconditioners: the matrix G in θ' = θ − ε G ∇Ũ(θ) + √(2εT) G^½ ξ.

A preconditioner goes *inside* a kernel, never around it: whatever rescales an
update after the noise was scaled breaks the noise law.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from sgld_jax.fingerprint import fingerprint
from sgld_jax.leaves import check_positive, matched, wide_dtype

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
    """

    init: Callable[[PyTree], PyTree]
    update: Callable[[PyTree, PyTree, PyTree | None], PyTree]
    multiply: Callable[[PyTree, PyTree], PyTree]
    multiply_sqrt: Callable[[PyTree, PyTree], PyTree]


def check_preconditioner(preconditioner: Any) -> None:
    """Raises `TypeError` for what has not the functions of a `Preconditioner`."""
    functions = (getattr(preconditioner, f, None) for f in Preconditioner._fields)
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
    )


def _times(scale: Any, power: float, x: jax.Array) -> jax.Array:
    s = jnp.asarray(scale, wide_dtype(x))
    return (s if power == 1.0 else jnp.sqrt(s)).astype(x.dtype) * x
