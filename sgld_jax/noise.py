"""Gaussian noise shaped like a tree: the one place that draws it."""

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp

from sgld_jax.keys import step_key
from sgld_jax.leaves import scale, wide_dtype

PyTree = Any

MAX_COUNT = 2**31 - 1  # where `optax.safe_increment` stops


def noise(state: Any, sd: Any, grads: PyTree) -> PyTree:
    """`sd ξ`, the noise of the update that `state` comes to: ξ ~ N(0, I) like `grads`.

    It follows from the state's key and count alone. Chains that a `vmap` runs from one
    shared state are told apart by what it maps, be it gradients or hyperparameters.

    Args:
      state: of a kernel, with a `count` and an `rng_key`.
      sd: standard deviation, a scalar.
      grads: leaves `[...]`.

    Raises:
      ValueError: while tracing, if the state has no key.
    """
    key = step_key(state.rng_key, state.count, (grads, sd))  # key of the step
    # At the last count the stream would repeat for ever, and in silence.
    sd = jnp.where(state.count < MAX_COUNT, sd, jnp.nan)
    return scale(sd, normal_like(key, grads))


def normal_like(key: jax.Array, tree: PyTree) -> PyTree:
    """Independent N(0, 1) for every coordinate of a tree.

    One flat draw is cut into leaves: a key per leaf compiles for half a minute
    at 50 leaves. Its length is rounded up to a multiple of 4, since odd lengths
    run three times slower. Both were measured on a CPU.

    Args:
      key: a typed key of shape `[]`, consumed.
      tree: leaves `[...]` of any real floating dtype.

    Returns:
      A tree of the same shapes, in float64 where the leaf is float64 and in
      float32 elsewhere: the caller rounds once, after adding.
    """
    leaves, treedef = jax.tree.flatten(tree)
    dtypes = [wide_dtype(leaf) for leaf in leaves]
    present = sorted(set(dtypes), key=str)
    keys = (
        [key] if len(present) == 1 else list(jax.random.split(key, len(present) or 1))
    )
    drawn: dict[int, jax.Array] = {}
    for dtype, k in zip(present, keys):
        members = [i for i, d in enumerate(dtypes) if d == dtype]
        drawn |= _flat_normal(k, dtype, {i: leaves[i].shape for i in members})
    return treedef.unflatten([drawn[i] for i in range(len(leaves))])


def _flat_normal(key: jax.Array, dtype: Any, shapes: dict[int, tuple]) -> dict:
    sizes = [math.prod(shape) for shape in shapes.values()]
    total = sum(sizes)
    flat = jax.random.normal(key, (total + -total % 4,), dtype)  # numbers
    starts = [0, *itertools.accumulate(sizes)]  # leaves
    return {
        i: flat[start : start + size].reshape(shape)
        for (i, shape), start, size in zip(shapes.items(), starts, sizes)
    }
