"""Chains in groups, one group after the other, so that a group stays in the cache.

One `vmap` over many chains writes the batches of all of them, [C, n, ...], at every
update, and reads them back from memory. Where a group's batches fit the cache, many
updates of a group are made before the next one has its turn. Noise and batches are the
same numbers; paths agree to rounding, as between other numbers of chains.
"""

import functools
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sgld_jax.arguments import check_count
from sgld_jax.engine.devices import layout_of, on_cpu
from sgld_jax.potentials.batches import Batches

PyTree = Any

# Of the batches of a group: what a core has to itself on processors of today. Chains
# without batches of their own gain nothing: what they share is in the cache anyway.
_CACHE = 2**20
# A smaller group is too little work for several cores. It pays only where the batches
# of all chains do not fit the cache that the cores share, a quarter of it to be safe.
_FEW = 16
_SHARED_CACHE = pathlib.Path("/sys/devices/system/cpu/cpu0/cache/index3/size")


def chosen_size(groups: int | None, num_chains: int) -> int:
    """Chains in a group as the user asked, 0 to leave it to the driver.

    Raises:
      TypeError, ValueError: unless `groups` divides the chains evenly.
    """
    if groups is None:
        return 0
    check_count("groups", groups, 1)
    if num_chains % groups:
        raise ValueError(
            f"groups={groups} does not divide {num_chains} chains evenly: use one of "
            f"{[g for g in range(1, num_chains + 1) if num_chains % g == 0][:12]}, or "
            f"None."
        )
    return num_chains // groups


def group_size(chain: Any, data: PyTree, batches: Batches) -> int:
    """How many chains are updated at once; divides their number."""
    num_chains = len(chain.count)
    if layout_of(chain.params, data).mesh is not None:
        return num_chains  # a group would lie on some of the devices only
    asked, together = int(np.asarray(chain.group)[0]), batches.shared_by
    if asked % together:
        raise ValueError(
            f"groups={num_chains // asked} makes groups of {asked} chains, but "
            f"{together} chains share their batches: use at most "
            f"{num_chains // together} groups, of whole streams, or None."
        )
    num_streams = num_chains // together
    limit = asked // together or _suited(data, batches, num_streams)
    return together * _largest_divisor(num_streams, limit)


def _suited(data: PyTree, batches: Batches, num_streams: int) -> int:
    """As many streams as have batches that fit the cache of a CPU."""
    if batches.batch_size is None or not on_cpu():
        return num_streams
    leaves = jax.tree.leaves(data)
    row = sum(np.prod(np.shape(x)[1:]) * x.dtype.itemsize for x in leaves)
    batch = max(1, int(row * batches.batch_size))
    fitting = max(1, _CACHE // batch)
    if fitting < _FEW and num_streams * batch <= _shared_cache() // 4:
        return num_streams
    return fitting


@functools.cache
def _shared_cache() -> int:
    """Bytes of the last-level cache as Linux says; a common size elsewhere."""
    try:
        return 1024 * int(_SHARED_CACHE.read_text().strip().removesuffix("K"))
    except (OSError, ValueError):
        return 32 * 2**20


def _largest_divisor(number: int, limit: int) -> int:
    return next(d for d in range(min(limit, number), 0, -1) if number % d == 0)


def in_groups(chunk: Callable, size: int, chain: Any, block: Any) -> tuple:
    """`chunk(chain, block) -> (chain, block, finite)`, group after group.

    Args:
      chunk: for `size` chains.
      size: divides C.
      chain: leaves `[C, ...]`.
      block: leaves `[K, C, ...]`.
    """
    if size == len(chain.count):
        return chunk(chain, block)

    def split(x: jax.Array, axis: int) -> jax.Array:
        shape = (*x.shape[:axis], -1, size, *x.shape[axis + 1 :])
        return jnp.moveaxis(x.reshape(shape), axis, 0)

    def joined(x: jax.Array, axis: int) -> jax.Array:
        x = jnp.moveaxis(x, 0, axis)
        return x.reshape(*x.shape[:axis], -1, *x.shape[axis + 2 :])

    parts = jax.tree.map(lambda x: split(x, 0), chain)
    rows = jax.tree.map(lambda x: split(x, 1), block)
    parts, rows, finite = jax.lax.map(lambda group: chunk(*group), (parts, rows))
    chain = jax.tree.map(lambda x: joined(x, 0), parts)
    return chain, jax.tree.map(lambda x: joined(x, 1), rows), finite.reshape(-1)
