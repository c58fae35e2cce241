"""Blocks: batches of neighbouring rows, in an order that they are laid into once."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sgld_jax.arguments import check_count
from sgld_jax.fingerprint import fingerprint
from sgld_jax.generator import below, words
from sgld_jax.keys import check_key
from sgld_jax.potentials.batches import Batches, BatchState, Sized, checked_sizes
from sgld_jax.potentials.data import num_rows
from sgld_jax.potentials.shuffle import permuted

PyTree = Any


def blocks(batch_size: int, seed: int = 0, *, shared_by: int = 1) -> Batches:
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
      shared_by: as `with_replacement`.

    Example:
      >>> import sgld_jax
      >>> batches = sgld_jax.blocks(32)
    """
    check_count("seed", seed, 0)
    check_key(seed)
    return _Blocks(*checked_sizes(batch_size, shared_by), int(seed))


@dataclasses.dataclass(frozen=True, repr=False)
class _Blocks(Sized):
    seed: int = 0
    kind = 3

    def __repr__(self) -> str:
        seed = f", seed={self.seed})" if self.seed else ")"
        return super().__repr__().removesuffix(")") + seed

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
        scheme = _LaidOut(self.batch_size, self.shared_by, self)
        return scheme, jax.tree.map(lambda x: x[rows], data)

    def _order(self, place: jax.Array, num_data: int) -> jax.Array:
        """The rows at some places of the order, a shuffle that the seed makes."""
        first, zero = jnp.int32(0), jnp.zeros(1, jnp.uint32)
        keys = jnp.stack(words(jax.random.key(self.seed), first, zero))
        return permuted(place, jnp.broadcast_to(keys, (2, len(place))), num_data)


@dataclasses.dataclass(frozen=True, repr=False)
class _LaidOut(Sized):
    """Blocks of rows that lie in order, the first ones once more at the end."""

    scheme: _Blocks = _Blocks()

    def next(self, state: BatchState, num_data: int):
        return self.scheme.next_start(state, num_data)

    def take(self, data: PyTree, indices: Any) -> PyTree:
        def block(x: Any) -> jax.Array:
            return jax.lax.dynamic_slice_in_dim(x, indices, self.batch_size)

        return jax.tree.map(block, data)
