"""What the updates of a chunk see: data that stay, or batches that a loader brings."""

import collections
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sgld_jax.arguments import check_count, shown
from sgld_jax.engine.devices import Layout
from sgld_jax.potentials.batches import Batches, BatchState
from sgld_jax.potentials.data import num_rows

PyTree = Any

_MOST, _BYTES = 256, 32 * 2**20  # batches on the device at once: so many, of so much


class Fixed:
    """Data `[N, ...]` that every chunk sees."""

    most = 2**30  # updates of a chunk

    def __init__(self, data: PyTree):
        self._data = data

    def enter(self, layout: Layout) -> None:
        """Puts the data where the chains are."""
        self._data = layout.enter(jax.tree.map(jnp.asarray, self._data))

    def between(self, begin: int, end: int) -> PyTree:
        """What the updates from `begin` to `end` of the run see."""
        del begin, end
        return self._data

    def forget(self, done: int) -> None:
        """Says that no update before `done` will be asked for again."""


class Stacked(NamedTuple):
    """Some batches of a loader, one after the other.

    Attributes:
      rows: leaves `[B, n, ...]`.
      first: number of the first one in the whole stream, int32 `[]`.
    """

    rows: PyTree
    first: jax.Array


class Loaded:
    """Batches of a loader, in the order in which they come, stacked for each chunk."""

    def __init__(self, loader: Any, begun: int):
        self._stream = _stream(loader)
        for _ in range(begun):
            next(self._stream)
        self._begun, self._first = begun, 0
        self._waiting: collections.deque = collections.deque()
        self._need(1)
        size = sum(x.nbytes for x in jax.tree.leaves(self._waiting[0]))
        self.most = max(1, min(_MOST, _BYTES // max(1, size)))
        self._layout = Layout(None, None)

    @property
    def batch_size(self) -> int:
        """N."""
        return num_rows(self._waiting[0])

    def enter(self, layout: Layout) -> None:
        """Remembers where the chains are."""
        self._layout = layout

    def between(self, begin: int, end: int) -> Stacked:
        """What the updates from `begin` to `end` of the run see; `most` at most."""
        self._need(end - self._first)
        chosen = [self._waiting[i - self._first] for i in range(begin, end)]
        blank = [self._waiting[0]] * (self.most - len(chosen))  # of one shape always
        rows = jax.tree.map(lambda *x: np.stack(x), *chosen, *blank)
        first: Any = np.int32(self._begun + begin)
        return self._layout.enter(jax.tree.map(jnp.asarray, Stacked(rows, first)))

    def forget(self, done: int) -> None:
        """Lets go of the batches before update `done`."""
        while self._first < done and len(self._waiting) > 1:
            self._waiting.popleft()
            self._first += 1

    def _need(self, count: int) -> None:
        while len(self._waiting) < count:
            batch = next(self._stream)
            if self._waiting:
                _check_alike(batch, self._waiting[0])
            self._waiting.append(batch)


class FromLoader(Batches):
    """The scheme of a loader: one stream, that all chains share."""

    kind = 4
    needs_data = False

    def source(self, data: PyTree) -> np.ndarray:
        """As `Batches`, N being what the user says."""
        del data
        size = self.batch_size or 0
        return np.array([self.kind, size, 0, 0, self.shared_by], np.int32)

    def next(self, state: BatchState, num_data: int):
        """The number of the batch."""
        del num_data
        return state.count, state._replace(count=state.count + 1)

    def take(self, data: Any, indices: Any) -> PyTree:
        """The batch of that number."""
        place = indices - data.first
        return jax.tree.map(
            lambda x: jax.lax.dynamic_index_in_dim(x, place, keepdims=False), data.rows
        )


def loaded(
    loader: Any,
    num_data: int | None,
    potential: Any,
    data: PyTree,
    batches: Batches,
    num_chains: int,
    begun: int = 0,
) -> tuple[Loaded, Batches]:
    """The batches of a loader, of which `begun` have been seen, and their scheme.

    Raises:
      TypeError, ValueError: for arguments that do not go with a loader.
    """
    if data is not None or batches.batch_size is not None:
        raise ValueError(
            "loader was given with data or batches: a loader brings its own rows; pass "
            "loader=... and num_data=N alone, or data=... and batches=... alone."
        )
    if num_data is None:
        raise ValueError(
            "loader without num_data: pass num_data=N, the examples of a whole epoch, "
            "which a stream of batches does not say."
        )
    check_count("num_data", num_data, 1)
    known = getattr(potential, "num_data", None)
    if known not in (None, num_data):
        raise ValueError(
            f"num_data={num_data}, but the potential was built for {known} examples: "
            f"N/n would be wrong."
        )
    feed = Loaded(loader, begun)
    return feed, FromLoader(feed.batch_size, num_chains)


def _stream(loader: Any) -> Iterator[PyTree]:
    """Batches as NumPy arrays, epoch after epoch."""
    make: Callable[[], Any] = loader if callable(loader) else lambda: loader
    epoch = make()
    if not hasattr(epoch, "__iter__"):
        raise TypeError(
            f"loader={shown(loader)}: expected batches that can be iterated over again "
            f"and again, such as a DataLoader, or a function that makes an iterator."
        )
    if not callable(loader) and iter(epoch) is epoch:
        raise TypeError(
            f"loader is a {type(loader).__name__}, which can be read once: expected a "
            f"function that makes it, as in loader=lambda: batches(), for every epoch."
        )
    while True:
        empty = True
        for batch in epoch:
            empty = False
            yield _as_arrays(batch)
        if empty:
            raise ValueError("The loader gave no batch in an epoch.")
        epoch = make()


def _as_arrays(batch: Any) -> PyTree:
    """Lists, as torch makes them, become tuples; tensors become arrays."""
    if isinstance(batch, (list, tuple)):
        return tuple(_as_arrays(x) for x in batch)
    if isinstance(batch, dict):
        return {name: _as_arrays(x) for name, x in batch.items()}
    return np.asarray(batch)


def _check_alike(batch: PyTree, first: PyTree) -> None:
    have, want = (
        jax.tree.map(lambda x: (x.shape, x.dtype.name), x) for x in (batch, first)
    )
    if have != want:
        raise ValueError(
            f"The loader gave a batch of {shown(have)} after {shown(want)}: expected "
            f"all alike. Drop the last, smaller one of an epoch (drop_last=True), or "
            f"let the loader go on into the next epoch."
        )
