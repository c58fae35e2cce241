"""Seeding: filling the key slots of a state that somebody else built.

A slot is `Unseeded`, what a sampler without a key leaves in its state, or a typed
key, of this library or of any other transformation.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from sgld_jax.keys import Unseeded, as_key, chain_key, chain_keys, is_key, tag

PyTree = Any

_SEED = 0x8000_0002  # a tag of its own: see keys.py


def seed(state: PyTree, key: Any) -> PyTree:
    """Fills every key slot of an optimizer state, each with a stream of its own.

    Finds the slots of this library and typed keys of any other transformation,
    through `chain`, `masked`, `partition`, `MultiSteps`, `inject_hyperparams` and
    `apply_if_finite`. Under `vmap` over states, one key becomes one per chain.

    Args:
      state: an optimizer state; a Flax `TrainState`, or a NamedTuple like it with
        `params`, whose `opt_state` alone is touched; or an `nnx.Optimizer`, which is
        changed in place. Slots that hold keys `[C]` are filled with C different keys.
      key: a seed, a typed key of shape `[]`, or a legacy key.

    Returns:
      The same kind of object, with its slots filled.

    Raises:
      ValueError: if there is no slot to fill.

    Example:
      >>> import jax, jax.numpy as jnp, sgld_jax
      >>> sampler = sgld_jax.sgld(1e-3)
      >>> states = jax.vmap(sampler.init)(jnp.zeros((8, 3)))
      >>> states = jax.vmap(lambda s: sgld_jax.seed(s, 0))(states)
      >>> states.rng_key.shape
      (8,)
    """
    if hasattr(state, "opt_state") and hasattr(state, "params"):  # a train state
        replace = getattr(state, "_replace", None) or state.replace
        return replace(opt_state=_fill(state.opt_state, key, state))
    if isinstance(state, (tuple, Mapping)) or not hasattr(state, "opt_state"):
        return _fill(state, key, state)
    return _fill_nnx(state, key)


def has_slot(state: PyTree) -> bool:
    """Whether an optimizer state has a key slot, filled or not."""
    leaves = jax.tree.leaves(state, is_leaf=_is_unseeded)
    return any(_is_unseeded(leaf) or is_key(leaf) for leaf in leaves)


def slot_structure(state: PyTree) -> Any:
    """The structure of a state, the same whether its slots are filled or not."""
    return jax.tree.structure(state, is_leaf=_is_unseeded)


def _fill(state: PyTree, key: Any, values: PyTree) -> PyTree:
    """`state` with its slots filled, one key per chain where a `vmap` maps `values`."""
    if not has_slot(state):
        raise ValueError(
            "seed found no key slot in this state: nothing in it is random, or it is "
            "the nnx.state of an optimizer without a key, which shows no empty slot. "
            "Pass what tx.init returned, a TrainState, or the nnx.Optimizer itself."
        )
    base = jax.random.fold_in(as_key(key), _SEED)
    # The data of old keys, too: they may be all that a vmap maps.
    arrays = [x for x in jax.tree.leaves(values) if isinstance(x, jax.Array)]
    base = chain_key(base, [jax.random.key_data(x) if is_key(x) else x for x in arrays])
    slots, treedef = jax.tree_util.tree_flatten_with_path(state, is_leaf=_is_unseeded)
    return treedef.unflatten([_filled(base, path, leaf) for path, leaf in slots])


def _filled(base: jax.Array, path: tuple, leaf: Any) -> Any:
    if not (_is_unseeded(leaf) or is_key(leaf)):
        return leaf
    key = jax.random.fold_in(base, tag("slot", jax.tree_util.keystr(path)))
    shape = () if _is_unseeded(leaf) else leaf.shape
    return chain_keys(key, int(np.prod(shape))).reshape(shape) if shape else key


def _fill_nnx(optimizer: Any, key: Any) -> Any:
    """An `nnx.Optimizer` keeps its state in Variables: new keys must be one, too."""
    from flax import nnx

    def is_variable(leaf: Any) -> bool:
        return isinstance(leaf, nnx.Variable)

    old, treedef = jax.tree.flatten(
        optimizer.opt_state, is_leaf=lambda x: is_variable(x) or _is_unseeded(x)
    )
    # Without the Variables, whose paths would give other streams than `Unseeded`.
    bare = treedef.unflatten([x.get_value() if is_variable(x) else x for x in old])
    filled = treedef.flatten_up_to(_fill(bare, key, nnx.state(optimizer)))
    new = [
        x.replace(value) if is_variable(x) else nnx.OptArray(value)
        for x, value in zip(old, filled)
    ]
    optimizer.opt_state = nnx.data(treedef.unflatten(new))
    return optimizer


def _is_unseeded(leaf: Any) -> bool:
    return isinstance(leaf, Unseeded)
