"""Key slots in the states of compositions, for the tests of `seed`."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import sgld_jax
from sgld_jax import Unseeded
from tests.compositions import checker_off_where_optax_selects

PARAMS = {"b": jnp.zeros(3), "w": jnp.ones(3)}


def sgld(key):
    return sgld_jax.sgld(0.1, 1.3, key=key)


def groups(params):
    """By path, so that dicts and an `nnx.State` are labelled alike."""
    name = lambda path: "b" if "b" in jax.tree_util.keystr(path) else "w"  # noqa: E731
    return jax.tree_util.tree_map_with_path(lambda path, _: name(path), params)


def two_groups(key):
    return optax.partition({"b": sgld(key), "w": sgld(key)}, groups)


def one_group(key):
    return optax.masked(
        sgld(key), lambda params: jax.tree.map(lambda g: g == "b", groups(params))
    )


BUILDERS = {  # key -> transformation; how many slots it has
    "sgld": (sgld, 1),
    "chain": (lambda key: optax.chain(optax.add_decayed_weights(0.1), sgld(key)), 1),
    "named_chain": (lambda key: optax.named_chain(("x", sgld(key))), 1),
    "masked": (one_group, 1),
    "partition": (two_groups, 2),
    "MultiSteps": (
        lambda key: optax.MultiSteps(sgld(key), 2).gradient_transformation(),
        1,
    ),
    "inject_hyperparams": (
        lambda key: optax.inject_hyperparams(sgld_jax.sgld)(0.1, 1.3, key=key),
        1,
    ),
    "apply_if_finite": (lambda key: optax.apply_if_finite(sgld(key), 2), 1),
    "chain with add_noise": (
        lambda key: optax.chain(optax.add_noise(1.0, 0.5, 3), sgld(key)),
        2,
    ),
}


NAMES = checker_off_where_optax_selects([(name,) for name in BUILDERS])


def is_slot(leaf):
    return isinstance(leaf, Unseeded) or jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def split_slots(state):
    """The slots of a state, and the other leaves."""
    leaves = jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, Unseeded))
    return [x for x in leaves if is_slot(x)], [x for x in leaves if not is_slot(x)]


def bits(state):
    """The key data in the slots of a state, `[slots, ..., 2]`."""
    return np.stack([jax.random.key_data(key) for key in split_slots(state)[0]])


def distinct(key_data):
    return len(np.unique(np.reshape(key_data, (-1, 2)), axis=0))


def stack(n):
    return jax.tree.map(lambda x: jnp.stack([x] * n), PARAMS)
