"""Batches: which rows of the data an update sees.

A batch scheme is a stateless recipe; its state, one per chain, is a key and a
position, so that a stream can be resumed at any step. Rows are chosen inside
the compiled loop, without a sort, a stored permutation or a call to the host.
"""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sgld_jax.arguments import check_count, shown
from sgld_jax.fingerprint import fingerprint
from sgld_jax.generator import below, words
from sgld_jax.keys import check_key
from sgld_jax.potentials.data import num_rows
from sgld_jax.potentials.shuffle import permuted

PyTree = Any


class BatchState(NamedTuple):
    """Where a chain stands in its stream of batches.

    Attributes:
      rng_key: a typed key `[]`, or None for `full_batch`; never changed.
      count: batches drawn, or epochs begun by schemes that have some, int32 `[]`.
      offset: rows used of this epoch, int32 `[]`; 0 for schemes without epochs.
      source: what the stream was started with and must go on with: kind of scheme,
        batch size, N, fingerprint of the data, int32 `[4]`; never changed.
    """

    rng_key: Any
    count: jax.Array
    offset: jax.Array
    source: jax.Array


_KINDS = ("full_batch", "with_replacement", "shuffled", "blocks")


@dataclasses.dataclass(frozen=True, repr=False)
class Batches:
    """A scheme that picks `batch_size` rows an update; None picks all of them."""

    batch_size: int | None = None
    kind: ClassVar[int] = 0

    def __repr__(self) -> str:
        return describe((self.kind, self.batch_size or 0))

    def source(self, data: PyTree) -> np.ndarray:
        """What a stream of batches of these data begins with, see `BatchState`."""
        rows = 0 if data is None else num_rows(data)
        return np.array(
            [self.kind, self.batch_size or 0, rows, fingerprint(data) if rows else 0],
            np.int32,
        )

    def init(self, key: jax.Array, source: Any = (0, 0, 0, 0)) -> BatchState:
        """The start of one chain's stream."""
        zero = jnp.zeros([], jnp.int32)
        rng_key = None if self.batch_size is None else key
        return BatchState(rng_key, zero, zero, jnp.asarray(source, jnp.int32))

    def next(
        self, state: BatchState, num_data: int
    ) -> tuple[jax.Array | None, BatchState]:
        """Row indices `[n]` for this update, None for all rows, and the next state."""
        del num_data
        return None, state._replace(count=state.count + 1)

    def laid_out(self, data: PyTree) -> tuple["Batches", PyTree]:
        """The same scheme for data arranged as suits it, and the data so arranged."""
        return self, data

    def take(self, data: PyTree, indices: jax.Array | None) -> PyTree:
        """The rows of every part of the data."""
        if indices is None:
            return data
        return jax.tree.map(
            lambda x: jnp.asarray(x).at[indices].get(mode="promise_in_bounds"), data
        )


@dataclasses.dataclass(frozen=True, repr=False)
class _Sized(Batches):
    batch_size: int = 1


class _WithReplacement(_Sized):
    kind = 1

    def next(self, state: BatchState, num_data: int):
        places = jax.lax.iota(jnp.uint32, self.batch_size)
        indices = below(state.rng_key, state.count, places, num_data)
        return indices, state._replace(count=state.count + 1)


class _Shuffled(_Sized):
    kind = 2

    def next(self, state: BatchState, num_data: int):
        position = state.offset + jnp.arange(self.batch_size, dtype=jnp.int32)
        # Of this epoch and the next: a batch may end one and begin the other.
        epochs = state.count + jnp.arange(2, dtype=jnp.int32)
        keys = jnp.stack(words(state.rng_key, epochs, jnp.zeros(2, jnp.uint32)))
        over = position >= num_data
        position = jnp.where(over, position - num_data, position)
        indices = permuted(
            position, jnp.where(over, keys[:, 1:], keys[:, :1]), num_data
        )
        end = state.offset + self.batch_size
        done = (end >= num_data).astype(jnp.int32)
        return indices, state._replace(
            count=state.count + done, offset=end - done * num_data
        )


@dataclasses.dataclass(frozen=True, repr=False)
class _Blocks(_Sized):
    seed: int = 0
    kind = 3

    def __repr__(self) -> str:
        seed = f", seed={self.seed}" if self.seed else ""
        return f"blocks({self.batch_size}{seed})"

    def source(self, data: PyTree) -> np.ndarray:
        source = super().source(data)
        # Another order of the rows is as other data. 0 says that they are not known.
        mixed = np.array([source[3], self.seed], np.uint32)
        source[3] = fingerprint(mixed) if source[3] and self.seed else source[3]
        return source

    def next(self, state: BatchState, num_data: int):
        start, state = self.next_start(state, num_data)
        place = (start + jnp.arange(self.batch_size, dtype=jnp.int32)) % num_data
        return self._order(place, num_data), state

    def next_start(self, state: BatchState, num_data: int):
        """Where the next block begins in the order of the rows."""
        turn = below(state.rng_key, state.count, jnp.zeros(1, jnp.uint32), num_data)
        start = (turn[0] + state.offset) % num_data  # start of the block
        end = state.offset + self.batch_size
        done = (end >= num_data).astype(jnp.int32)
        return start, state._replace(count=state.count + done, offset=end * (1 - done))

    def laid_out(self, data: PyTree) -> tuple[Batches, PyTree]:
        num_data = num_rows(data)
        places = np.arange(num_data + self.batch_size - 1, dtype=np.int32) % num_data
        rows = np.asarray(self._order(jnp.asarray(places), num_data))
        return _LaidOut(self.batch_size, self), jax.tree.map(lambda x: x[rows], data)

    def _order(self, place: jax.Array, num_data: int) -> jax.Array:
        """The rows at some places of the order, a shuffle that the seed makes."""
        first, zero = jnp.int32(0), jnp.zeros(1, jnp.uint32)
        keys = jnp.stack(words(jax.random.key(self.seed), first, zero))
        return permuted(place, jnp.broadcast_to(keys, (2, len(place))), num_data)


@dataclasses.dataclass(frozen=True, repr=False)
class _LaidOut(_Sized):
    """Blocks of rows that lie in order, the first ones once more at the end."""

    scheme: _Blocks = _Blocks()

    def next(self, state: BatchState, num_data: int):
        return self.scheme.next_start(state, num_data)

    def take(self, data: PyTree, indices: Any) -> PyTree:
        def block(x: Any) -> jax.Array:
            return jax.lax.dynamic_slice_in_dim(x, indices, self.batch_size)

        return jax.tree.map(block, data)


def full_batch() -> Batches:
    """Every update sees all rows: the gradient of U itself, without minibatch noise.

    Example:
      >>> import sgld_jax
      >>> batches = sgld_jax.full_batch()
    """
    return Batches()


def with_replacement(batch_size: int) -> Batches:
    """`batch_size` rows drawn independently and uniformly, for each chain its own.

    Args:
      batch_size: n, at least 1 and at most the number of rows.

    Example:
      >>> import sgld_jax
      >>> batches = sgld_jax.with_replacement(32)
    """
    return _WithReplacement(_checked(batch_size))


def shuffled(batch_size: int) -> Batches:
    """Epochs in a fresh random order: each row once an epoch, for each chain its own.

    Where n does not divide N, a batch takes the last rows of one epoch and the
    first of the next, so that no row is left out. The order is a keyed bijection of
    row numbers, computed for the rows of a batch alone: nothing is sorted or stored.

    Args:
      batch_size: n, at least 1 and at most the number of rows.

    Example:
      >>> import sgld_jax
      >>> batches = sgld_jax.shuffled(32)

    Source: the swap-or-not shuffle of Hoang, Morris and Rogaway 2012, *An
    enciphering scheme based on a card shuffle*, with a statistical hash.
    """
    return _Shuffled(_checked(batch_size))


def blocks(batch_size: int, seed: int = 0) -> Batches:
    """Blocks of neighbouring rows, of an order that the rows are laid into once.

    Nothing is gathered, which is most of the time of a small model's update.
    `sample` lays the rows out once, which takes the memory of the data again. Each
    epoch of each chain begins at a row of its own, drawn uniformly, and goes round;
    where n does not divide N its last block runs on into its first rows.

    Every block is as likely as every other, so gradients are unbiased. Their variance
    is that of the means of the N blocks that there are: larger for one order of the
    rows and smaller for another, and on average over seeds that of rows drawn without
    replacement. Chains share the order: with few blocks, use `shuffled`.

    Args:
      batch_size: n, at least 1 and at most the number of rows.
      seed: of the order of the rows, 0 to 2³² − 1.

    Example:
      >>> import sgld_jax
      >>> batches = sgld_jax.blocks(32)
    """
    check_count("seed", seed, 0)
    check_key(seed)
    return _Blocks(_checked(batch_size), int(seed))


def describe(source: Any) -> str:
    """A scheme as one types it, from the first two numbers of a source."""
    kind, size = source[:2]
    return f"{_KINDS[kind]}({size or ''})"


def check_batches(batches: Batches, data: PyTree) -> None:
    """Raises `ValueError` unless the scheme suits the data."""
    if not isinstance(batches, Batches):
        raise TypeError(
            f"batches={shown(batches)}: expected full_batch(), with_replacement(n), "
            f"shuffled(n) or blocks(n)."
        )
    if data is None:
        if batches.batch_size is not None:
            raise ValueError(
                f"batches asks for {batches.batch_size} rows, but there is no data: "
                f"pass data=..., or leave batches out."
            )
        return
    n = num_rows(data)
    if batches.batch_size is not None and batches.batch_size > n:
        raise ValueError(
            f"batch_size={batches.batch_size} is more than the {n} rows of the data: "
            f"use at most {n}, or full_batch()."
        )


def _checked(batch_size: int) -> int:
    check_count("batch_size", batch_size, 1)
    return int(batch_size)
