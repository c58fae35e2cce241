"""Random numbers shaped like a tree: the one place that draws them for a kernel."""

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from sgld_jax.generator import is_threefry, normal, uniform
from sgld_jax.keys import key_of_chain, tag
from sgld_jax.leaves import scale, times, wide_dtype

PyTree = Any

MAX_COUNT = 2**31 - 1  # where `optax.safe_increment` stops


def noise(state: Any, sd: Any, grads: PyTree) -> PyTree:
    """`sd ξ`, the noise of the update that `state` comes to: ξ ~ N(0, I) like `grads`.

    It follows from the state's key and count alone, so a chain can be resumed, replayed
    or skipped to any update. Chains that a `vmap` runs from one shared state are told
    apart by what it maps, be it gradients or hyperparameters.

    Args:
      state: of a kernel, with a `count` and an `rng_key`.
      sd: standard deviation, a scalar or a tree like `grads`.
      grads: leaves `[...]`.

    Raises:
      ValueError: while tracing, if the state has no key.
    """
    key = key_of_chain(state.rng_key, (grads, sd))
    # At the last count the stream would repeat for ever, and in silence.
    sd = jax.tree.map(lambda x: jnp.where(state.count < MAX_COUNT, x, jnp.nan), sd)
    return times(sd, normal_like(key, state.count, grads))  # noise of the step


def uniform_noise(state: Any, values: PyTree, like: PyTree) -> PyTree:
    """Numbers in (0, 1) for the update that `state` comes to; else as `noise`.

    Args:
      state: of a kernel, with a `count` and an `rng_key`.
      values: what the update computes with, to tell chains apart by.
      like: leaves `[...]`.
    """
    key = key_of_chain(state.rng_key, values)
    drawn = _drawn(_UNIFORM, key, state.count, like)
    stop = jnp.where(state.count < MAX_COUNT, 1.0, jnp.nan)
    return scale(stop, drawn)


def one_uniform(state: Any, values: PyTree) -> jax.Array:
    """One number in (0, 1) for an update, `[]`, of a stream beside that of `noise`."""
    key = jax.random.fold_in(key_of_chain(state.rng_key, values), _DECISION)  # decides
    return _drawn(_UNIFORM, key, state.count, jnp.zeros([]))


_DECISION = tag("decision")


def beside(sd: Any, known: PyTree) -> tuple[PyTree, jax.Array]:
    """What to inject beside noise that is there, for a variance of sd² in all.

    Args:
      sd: standard deviation, a scalar.
      known: variances, leaves `[...]`.

    Returns:
      Standard deviations like `known`; and whether nowhere more is known than sd².
    """
    left = jax.tree.map(lambda variance: sd**2 - variance, known)
    enough = [jnp.all(x >= 0) for x in jax.tree.leaves(left)]
    return jax.tree.map(jnp.sqrt, left), jnp.all(jnp.array(enough))


def normal_like(key: jax.Array, count: jax.Array, tree: PyTree) -> PyTree:
    """Independent N(0, 1) for every coordinate of a tree; see `_drawn`."""
    return _drawn(_NORMAL, key, count, tree)


class _Law(NamedTuple):
    """How numbers of one law are drawn.

    Attributes:
      ours: `(key, count, position [n]) -> float32 [n]`, for Threefry keys.
      by_jax: `(key, shape, dtype) -> array`, for all others and for float64.
    """

    ours: Callable
    by_jax: Callable


_NORMAL = _Law(normal, jax.random.normal)
_UNIFORM = _Law(uniform, jax.random.uniform)


def _drawn(law: _Law, key: jax.Array, count: jax.Array, tree: PyTree) -> PyTree:
    """Independent numbers for every coordinate of a tree.

    The leaves are laid end to end, and a number depends on its place in that line
    alone. They are drawn as one array and cut, since a draw per leaf compiles for
    12 s at 50 leaves; only leaves that are spread over a mesh are drawn one by one.

    Args:
      law: of the numbers.
      key: a typed key of shape `[]`.
      count: of the update, int32 `[]`.
      tree: leaves `[...]` of any real floating dtype.

    Returns:
      A tree of the same shapes, in float64 where the leaf is float64 and in
      float32 elsewhere: the caller rounds once, after adding.
    """
    leaves, treedef = jax.tree.flatten(tree)
    drawn: dict[int, jax.Array] = {}
    for dtype, draw in ((jnp.float32, _single), (jnp.float64, _double)):
        chosen = [i for i, x in enumerate(leaves) if wide_dtype(x) == dtype]
        if not chosen:
            continue
        drawn |= zip(chosen, draw(law, key, count, [leaves[i] for i in chosen]))
    return treedef.unflatten([drawn[i] for i in range(len(leaves))])


def _single(law: _Law, key: jax.Array, count: jax.Array, leaves: list) -> list:
    """Numbers of 32 bits, by our generator for Threefry keys."""
    if not is_threefry(key):
        return _by_jax(law, key, count, leaves, jnp.float32)
    starts = _starts(leaves)
    if any(map(_is_spread, leaves)):
        pairs = zip(leaves, starts)
        return [law.ours(key, count, _positions(x, at)) for x, at in pairs]
    # What is left over by a loop over vectors of 8 is rounded in another way.
    places = lax.iota(jnp.uint32, starts[-1] + -starts[-1] % 8)
    flat = law.ours(key, count, places)  # numbers
    # Without it every leaf would make its numbers in its own loop, at twice the cost.
    flat = lax.optimization_barrier(flat)
    return _cut(flat, leaves)


def _double(law: _Law, key: jax.Array, count: jax.Array, leaves: list) -> list:
    """Numbers of full width: those of JAX, which suffice for what is rare."""
    wide = jax.random.fold_in(key, _DOUBLE)
    return _by_jax(law, wide, count, leaves, jnp.float64)


_DOUBLE = tag("float64")


def _by_jax(law: _Law, key: jax.Array, count: jax.Array, leaves: list, dtype: Any):
    total = _starts(leaves)[-1]
    # Odd lengths run three times slower.
    shape = (total + -total % 4,)
    return _cut(law.by_jax(jax.random.fold_in(key, count), shape, dtype), leaves)


def _positions(leaf: jax.Array, at: int) -> jax.Array:
    """The places of a leaf's coordinates, each where its coordinate lives."""
    place, position = jax.typeof(leaf).sharding, jnp.asarray(at, jnp.uint32)
    strides = [math.prod(leaf.shape[axis + 1 :]) for axis in range(leaf.ndim)]
    for axis, stride in enumerate(strides):
        index = lax.broadcasted_iota(jnp.uint32, leaf.shape, axis, out_sharding=place)
        position = position + index * np.uint32(stride)
    return position


def _is_spread(leaf: Any) -> bool:
    """Whether a leaf lies on several devices of a mesh, by its type: Explicit axes."""
    return any(jax.typeof(leaf).sharding.spec)


def _starts(leaves: list) -> list[int]:
    return [0, *itertools.accumulate(x.size for x in leaves)]  # leaves


def _cut(flat: jax.Array, leaves: list) -> list[jax.Array]:
    pieces = zip(_starts(leaves), leaves)
    return [flat[at : at + x.size].reshape(x.shape) for at, x in pieces]
