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
from sgld_jax.potentials.data import num_rows

PyTree = Any

# Each round halves what is left of the order: after 20, pairs are uniform to 2⁻²⁰.
_ROUNDS = 20  # rounds


class BatchState(NamedTuple):
    """Where a chain stands in its stream of batches.

    Attributes:
      rng_key: a typed key `[]`, or None for `full_batch`; never changed.
      count: batches drawn, or for `shuffled` epochs begun, int32 `[]`.
      offset: rows used of this epoch, int32 `[]`; 0 except for `shuffled`.
      source: what the stream was started with and must go on with: kind of scheme,
        batch size, N, fingerprint of the data, int32 `[4]`; never changed.
    """

    rng_key: Any
    count: jax.Array
    offset: jax.Array
    source: jax.Array


_KINDS = ("full_batch", "with_replacement", "shuffled")


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
        indices = _permuted(
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


def describe(source: Any) -> str:
    """A scheme as one types it, from the first two numbers of a source."""
    kind, size = source[:2]
    return f"{_KINDS[kind]}({size or ''})"


def check_batches(batches: Batches, data: PyTree) -> None:
    """Raises `ValueError` unless the scheme suits the data."""
    if not isinstance(batches, Batches):
        raise TypeError(
            f"batches={shown(batches)}: expected full_batch(), with_replacement(n) or "
            f"shuffled(n)."
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


def _permuted(position: jax.Array, keys: jax.Array, num_data: int) -> jax.Array:
    """Entries `position` [n] of permutations of 0 ... N−1, keyed by words [2, n].

    In each round x and K − x (mod N) change places or not, by a bit that both share;
    so every round is a bijection, for any N. The rounds stay a loop: unrolled they
    compile three times longer and run no faster.
    """
    size = np.uint32(num_data)

    def swap_or_not(r: jax.Array, x: jax.Array) -> jax.Array:
        key = _mix(keys[0] + r.astype(jnp.uint32) * np.uint32(0x9E3779B9))
        pivot = _mix(key ^ keys[1]) % size
        partner = jnp.where(pivot >= x, pivot - x, pivot + size - x)
        swap = _mix(jnp.maximum(x, partner) ^ key) >> 31  # one bit for both
        return jnp.where(swap == 1, partner, x)

    x = position.astype(jnp.uint32)
    return jax.lax.fori_loop(0, _ROUNDS, swap_or_not, x).astype(jnp.int32)


def _mix(h: jax.Array) -> jax.Array:
    """The finaliser of MurmurHash3: a bit flips each output bit half the time."""
    h = (h ^ (h >> 16)) * np.uint32(0x85EBCA6B)
    h = (h ^ (h >> 13)) * np.uint32(0xC2B2AE35)
    return h ^ (h >> 16)
