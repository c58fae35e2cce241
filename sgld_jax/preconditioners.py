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

from sgld_jax.leaves import paths, wide_dtype

PyTree = Any


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
    for path, leaf in paths(scale).items():
        if leaf is None or isinstance(leaf, jax.core.Tracer):
            continue
        value = np.asarray(leaf, np.float64)
        if not (np.isfinite(value).all() and (value > 0).all()):
            raise ValueError(
                f"diagonal(scale): {path} holds {value.min():.3g} to {value.max():.3g}; "
                f"expected finite numbers above 0, such as prior variances."
            )

    def multiply(power: float, state: PyTree, v: PyTree) -> PyTree:
        del state
        return jax.tree.map(lambda s, x: _times(s, power, x), _like(scale, v), v)

    return Preconditioner(
        init=lambda params: (_like(scale, params), optax.EmptyState())[1],
        update=lambda grads, state, params: state,
        multiply=lambda state, v: multiply(1.0, state, v),
        multiply_sqrt=lambda state, v: multiply(0.5, state, v),
    )


def _times(scale: Any, power: float, x: jax.Array) -> jax.Array:
    s = jnp.asarray(scale, wide_dtype(x))
    return (s if power == 1.0 else jnp.sqrt(s)).astype(x.dtype) * x


def _like(scale: PyTree, tree: PyTree) -> PyTree:
    """`scale` as a tree with the structure of `tree`, checked leaf by leaf."""
    if np.ndim(scale) == 0 and jax.tree.structure(scale) == jax.tree.structure(0):
        return jax.tree.map(lambda _: scale, tree)
    have, want = paths(scale), paths(tree)
    missing = sorted(p for p in want.keys() - have.keys() if want[p] is not None)
    if missing:
        raise ValueError(
            f"diagonal(scale) has no entry for {missing}; it has {sorted(have)}. Pass one "
            f"number, or a tree with the structure of the parameters."
        )
    for path, x in want.items():
        if x is not None and np.shape(have[path]) not in ((), np.shape(x)):
            raise ValueError(
                f"diagonal(scale): {path} has shape {np.shape(have[path])}, the parameter "
                f"has {np.shape(x)}; expected the same shape, or a number."
            )
    leaves, treedef = jax.tree_util.tree_flatten_with_path(tree)
    name = lambda path: jax.tree_util.keystr(path) or "(the leaf)"  # noqa: E731
    return treedef.unflatten([have[name(path)] for path, _ in leaves])
