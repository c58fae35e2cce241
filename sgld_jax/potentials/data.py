"""Data: arrays with a row per example, and what is not."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from sgld_jax.leaves import paths

PyTree = Any

_SHOWN = 5  # parts in a message


def num_rows(data: PyTree) -> int:
    """N, the common leading length of all parts of the data.

    Raises:
      TypeError: for what is no array of numbers.
      ValueError: for data without rows, or parts of different length.
    """
    _check_kinds(data)
    lengths = {
        path: np.shape(leaf)[:1]
        for path, leaf in paths(data).items()
        if leaf is not None
    }
    if len(set(lengths.values())) != 1 or () in lengths.values():
        shown = dict(list(lengths.items())[:_SHOWN])
        raise ValueError(
            f"data must be arrays with one common leading axis, a row per example, but "
            f"the leading axes are {shown}. Pass data=... with parts of one length."
        )
    ((n,),) = set(lengths.values())
    if n == 0:
        raise ValueError("data has 0 rows: expected at least one example.")
    return n


def _check_kinds(data: PyTree) -> None:
    """Raises for what JAX would misread, or cut, in silence."""
    if hasattr(data, "__next__"):
        raise TypeError(
            f"data is a {type(data).__name__}, which can be read once: expected arrays "
            f"with all N rows. For batches from a loader of your own use "
            f"step(..., batch=batch)."
        )
    lists = jax.tree.leaves(data, is_leaf=lambda x: isinstance(x, list))
    if any(isinstance(x, list) for x in lists):
        raise TypeError(
            "data holds a list: are its entries rows, or parts of rows? Pass an array, "
            "as in jnp.asarray(rows), or a tuple or dict of arrays, one for each part."
        )
    for path, leaf in paths(data).items():
        if leaf is None or isinstance(leaf, Tracer):
            continue
        kind: Any = getattr(leaf, "dtype", None)
        if kind is None or not (jnp.issubdtype(kind, jnp.number) or kind == np.bool_):
            given = type(leaf).__name__ if kind is None else f"an array of {kind}"
            raise TypeError(
                f"data: {path} is {given}, expected an array of numbers. Encode text "
                f"and categories as integers; leave out what no likelihood uses."
            )
        if isinstance(leaf, np.ndarray) and leaf.size and kind.kind in "iu":
            info = np.iinfo(jax.dtypes.canonicalize_dtype(kind))
            if leaf.max() > info.max or leaf.min() < info.min:
                raise ValueError(
                    f"data: {path} holds integers up to {leaf.max()}, which JAX would "
                    f"cut to {info.dtype}. Number them anew from 0, or enable 64 bits: "
                    f"jax.config.update('jax_enable_x64', True)."
                )
