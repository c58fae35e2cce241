"""Batches: which rows of the data an update sees.

A batch scheme is a stateless recipe; its state, one per chain, is a key and a
position, so that a stream can be resumed at any step. Chains that share their batches
hold the same state. Rows are chosen inside the compiled loop, without a sort, a stored
permutation or a call to the host.
"""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sgld_jax.arguments import check_count, shown
from sgld_jax.fingerprint import fingerprint
from sgld_jax.generator import below, words
from sgld_jax.potentials.data import num_rows
from sgld_jax.potentials.shuffle import permuted

PyTree = Any


class BatchState(NamedTuple):
    """Where a chain stands in its stream of batches.

    Attributes:
      stream: number of the stream, int32 `[]`; chains of one number see the same rows.
      rng_key: a typed key `[]`, or None for `full_batch`; never changed.
      count: batches drawn, or epochs begun by schemes that have some, int32 `[]`.
      offset: rows used of this epoch, int32 `[]`; 0 for schemes without epochs.
      source: what the stream was started with and must go on with: kind of scheme,
        batch size, N, fingerprint of the data, chains that share a batch, int32 `[5]`;
        never changed.
    """

    stream: jax.Array
    rng_key: Any
    count: jax.Array
    offset: jax.Array
    source: jax.Array


_KINDS = ("full_batch", "with_replacement", "shuffled", "blocks", "loader")


@dataclasses.dataclass(frozen=True, repr=False)
class Batches:
    """A scheme that picks `batch_size` rows an update; None picks all of them.

    `shared_by` chains in a row see the same batches.
    """

    batch_size: int | None = None
    shared_by: int = 1
    kind: ClassVar[int] = 0
    needs_data: ClassVar[bool] = True

    def __repr__(self) -> str:
        return describe((self.kind, self.batch_size or 0, 0, 0, self.shared_by))

    def source(self, data: PyTree) -> np.ndarray:
        """What a stream of batches of these data begins with, see `BatchState`."""
        rows = 0 if data is None else num_rows(data)
        mark = fingerprint(data) if rows else 0
        size = self.batch_size or 0
        return np.array([self.kind, size, rows, mark, self.shared_by], np.int32)

    def init(
        self, key: jax.Array, number: Any = 0, source: Any = (0, 0, 0, 0, 1)
    ) -> BatchState:
        """The start of a stream."""
        zero = jnp.zeros([], jnp.int32)
        rng_key = None if self.batch_size is None else key
        number, source = (jnp.asarray(x, jnp.int32) for x in (number, source))
        return BatchState(number, rng_key, zero, zero, source)

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
class Sized(Batches):
    """A scheme with a batch size."""

    batch_size: int = 1


class _WithReplacement(Sized):
    kind = 1

    def next(self, state: BatchState, num_data: int):
        places = jax.lax.iota(jnp.uint32, self.batch_size)
        indices = below(state.rng_key, state.count, places, num_data)
        return indices, state._replace(count=state.count + 1)


class _Shuffled(Sized):
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


def full_batch() -> Batches:
    """Every update sees all rows: the gradient of U itself, without minibatch noise.

    Example:
      >>> import sgld_jax
      >>> batches = sgld_jax.full_batch()
    """
    return Batches()


def with_replacement(batch_size: int, *, shared_by: int = 1) -> Batches:
    """`batch_size` rows drawn independently and uniformly, for each chain its own.

    Chains that share their batches read the data once for all of them, which makes
    many chains of a model with many features several times faster. The law of each is
    the same, but they move together as far as minibatch noise moves them: R-hat is
    then too good, and `summary`, `ess` and `mcse` take errors from the means over the
    chains of a stream. Noise is each chain's own.

    Args:
      batch_size: n, at least 1 and at most the number of rows.
      shared_by: how many neighbouring chains see the same batches; divides the number
        of chains.

    Example:
      >>> import sgld_jax
      >>> batches = sgld_jax.with_replacement(32)
      >>> eight_streams_for_64_chains = sgld_jax.with_replacement(32, shared_by=8)
    """
    return _WithReplacement(*checked_sizes(batch_size, shared_by))


def shuffled(batch_size: int, *, shared_by: int = 1) -> Batches:
    """Epochs in a fresh random order: each row once an epoch, for each chain its own.

    Where n does not divide N, a batch takes the last rows of one epoch and the
    first of the next, so that no row is left out. The order is a keyed bijection of
    row numbers, computed for the rows of a batch alone: nothing is sorted or stored.

    Args:
      batch_size: n, at least 1 and at most the number of rows.
      shared_by: as `with_replacement`.

    Example:
      >>> import sgld_jax
      >>> batches = sgld_jax.shuffled(32)

    Source: the swap-or-not shuffle of Hoang, Morris and Rogaway 2012, *An
    enciphering scheme based on a card shuffle*, with a statistical hash.
    """
    return _Shuffled(*checked_sizes(batch_size, shared_by))


def describe(source: Any) -> str:
    """A scheme as one types it, from a source, see `BatchState`."""
    kind, size, _, _, shared_by = source
    shared = f", shared_by={shared_by}" if shared_by > 1 else ""
    return f"{_KINDS[kind]}({size or ''}{shared})"


def check_batches(batches: Batches, data: PyTree) -> None:
    """Raises `ValueError` unless the scheme suits the data."""
    if not isinstance(batches, Batches):
        raise TypeError(
            f"batches={shown(batches)}: expected full_batch(), with_replacement(n), "
            f"shuffled(n) or blocks(n)."
        )
    if data is None:
        if batches.batch_size is not None and batches.needs_data:
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


def checked_sizes(batch_size: int, shared_by: int) -> tuple[int, int]:
    """What schemes are made of; raises for what are not whole numbers from 1 on."""
    check_count("batch_size", batch_size, 1)
    check_count("shared_by", shared_by, 1)
    return int(batch_size), int(shared_by)
