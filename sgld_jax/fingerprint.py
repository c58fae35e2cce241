"""Fingerprints: what a chain was started with, in one number that its state can hold.

A run that is resumed with other data or another metric would sample from neither law.
"""

import zlib
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from sgld_jax.leaves import paths

PyTree = Any

_ROWS = 32  # of an array that are looked at, evenly spaced, first and last included


def fingerprint(tree: PyTree) -> int:
    """A number from 1 to 2³¹ − 1 for shapes, types and some rows of the leaves.

    0, for unknown, where numbers are out of reach: those of an array that is being
    traced, or that lies on other hosts, too.
    """
    leaves = {path: leaf for path, leaf in paths(tree).items() if leaf is not None}
    if not all(map(_is_at_hand, leaves.values())):
        return 0
    code = 0
    for path, leaf in leaves.items():
        rows = np.ascontiguousarray(_some_rows(leaf))
        code = zlib.crc32(f"{path} {np.shape(leaf)} {rows.dtype}".encode(), code)
        code = zlib.crc32(rows.tobytes(), code)
    return code & 0x7FFF_FFFF or 1


def _is_at_hand(leaf: Any) -> bool:
    return not isinstance(leaf, Tracer) and getattr(leaf, "is_fully_addressable", True)


def _some_rows(leaf: Any) -> Any:
    if np.ndim(leaf) == 0:
        return leaf
    if isinstance(leaf, jax.Array) and len(leaf.sharding.device_set) > 1:
        leaf = np.asarray(leaf)  # rows of a sharded array are not taken one by one
    return leaf[np.unique(np.linspace(0, len(leaf) - 1, _ROWS).astype(int))]
