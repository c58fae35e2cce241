"""The draws of a run on the host: room for all from the start, filled in place."""

import functools
from typing import Any

import jax
import numpy as np

from sgld_jax.engine.devices import on_cpu
from sgld_jax.engine.loop import Draw

PyTree = Any

_PIECES = 16  # of a block, if only some of it is fetched


class Draws:
    """NumPy arrays `[C, S, ...]`, written chunk by chunk; there is no second copy.

    Attributes:
      arrays: a `Draw` of them; what has not been drawn is undefined.
    """

    def __init__(self, draw: Draw, num_samples: int):
        def room(x: Any) -> np.ndarray:
            num_chains, *event = x.shape
            return np.empty((num_chains, num_samples, *event), x.dtype)

        self.arrays: Draw = jax.tree.map(room, draw)

    def write(self, draws: slice, block: Draw, chains: Any = slice(None)) -> None:
        """Copies the first rows of a block, leaves `[K, C, ...]`, of some chains."""
        num_rows = draws.stop - draws.start

        def write(array: np.ndarray, rows: np.ndarray) -> None:
            array[chains, draws] = np.swapaxes(rows[:num_rows], 0, 1)[chains]

        jax.tree.map(write, self.arrays, _on_host(block, num_rows))

    def repeat(self, draws: slice, draw: Draw, chains: np.ndarray) -> None:
        """Writes one draw, leaves `[C, ...]`, of some chains again and again."""

        def write(array: np.ndarray, one: np.ndarray) -> None:
            array[chains, draws] = one[chains][:, None]

        jax.tree.map(write, self.arrays, draw)

    def mean_potential(self, draws: slice, chains: np.ndarray) -> float:
        """The mean potential of some chains; NaN where there is nothing to average."""
        seen = self.arrays.potential[chains, draws]
        with np.errstate(over="ignore", invalid="ignore"):
            return float(seen.mean()) if seen.size else float("nan")


def _on_host(block: Draw, num_rows: int) -> Draw:
    """The rows of a block; at least the first `num_rows` of them.

    The host reads a CPU's arrays where they are. From a GPU they are copied, and most
    chunks write a few rows of many: then only the pieces that hold those are copied.
    """
    all_rows = len(block.count)
    if on_cpu() or 2 * num_rows > all_rows:
        return jax.tree.map(np.asarray, block)
    size = -(-all_rows // _PIECES)
    pieces = [
        jax.tree.map(np.asarray, _piece(block, np.int32(begin), size))
        for begin in range(0, max(num_rows, 1), size)  # piece
    ]
    return jax.tree.map(lambda *rows: np.concatenate(rows), *pieces)


@functools.partial(jax.jit, static_argnums=2)
def _piece(block: Draw, begin: Any, size: int) -> Draw:
    return jax.tree.map(
        lambda rows: jax.lax.dynamic_slice_in_dim(rows, begin, size), block
    )


def one_weight(weights: np.ndarray) -> np.ndarray:
    """The weight of each draw, `[C, S]`, from those by each of J kernels `[C, S, J]`.

    Kernels that move different parts of the parameters have one weight if their steps
    shrink alike, in proportion. Else there is none, and NaN says so.
    """
    first = weights[:, :, 0]
    in_proportion = np.isclose(
        weights * first[:, :1, None], weights[:, :1] * first[:, :, None], 1e-5, 0
    ).all()
    # One kernel has its weight, be it NaN; a failed chain has 0 in any case.
    known = weights.shape[2] == 1 or in_proportion
    return first if known else np.where(first == 0, first, np.float32(np.nan))
