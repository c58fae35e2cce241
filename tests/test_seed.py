"""`seed` fills every key slot of an optimizer state, each with a stream of its own.

In Flax: `test_seed_flax.py`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sgld_jax
from sgld_jax import seed
from tests.compositions import checker_off_where_optax_selects
from tests.slots import (
    BUILDERS,
    NAMES,
    PARAMS,
    bits,
    distinct,
    sgld,
    split_slots,
    stack,
    two_groups,
)


@pytest.mark.parametrize("key", [None, 0], ids=["Unseeded", "seeded"])
@pytest.mark.parametrize("name", NAMES)
def test_seed_fills_every_slot_and_nothing_else(name, key):
    build, slots = BUILDERS[name]
    tx = build(key)
    state = tx.init(PARAMS)
    filled = seed(state, 1)
    assert type(filled) is type(state)
    assert bits(filled).shape == (slots, 2) and distinct(bits(filled)) == slots
    np.testing.assert_array_equal(bits(filled), bits(jax.jit(seed)(state, 1)))
    assert not np.isin(bits(filled), bits(seed(state, 2))).any()
    for old, new in zip(split_slots(state)[1], split_slots(filled)[1], strict=True):
        assert new is old
    updates, _ = tx.update(PARAMS, filled, PARAMS)  # no longer raises
    assert jax.tree.structure(updates) == jax.tree.structure(PARAMS)


@pytest.mark.parametrize("name", NAMES)
def test_what_was_in_the_slot_does_not_matter(name):
    build, _ = BUILDERS[name]
    once = seed(build(None).init(PARAMS), 1)
    np.testing.assert_array_equal(bits(seed(build(0).init(PARAMS), 1)), bits(once))
    np.testing.assert_array_equal(bits(seed(once, 1)), bits(once))
    assert not np.isin(bits(build(1).init(PARAMS)), bits(once)).all()


def test_every_slot_draws_noise_of_its_own():
    tx = two_groups(None)
    zero = {"b": jnp.zeros(3), "w": jnp.zeros(3)}
    updates, _ = tx.update(zero, seed(tx.init(zero), 0), zero)
    assert not np.isin(updates["b"], updates["w"]).any()


@pytest.mark.key_reuse_off("draws from one key twice to compare")
def test_nobody_elses_stream_is_repeated():
    """Neither the normals of the key itself, nor those optax draws from it."""
    x, tx, n = jnp.zeros(3), sgld_jax.sgld(0.5), np.sqrt(2 * 0.5)  # noise of variance 1
    updates, _ = tx.update(x, seed(tx.init(x), 0), x)
    theirs, noise = optax.add_noise(1.0, 0.0, 0), []
    noise.append(theirs.update(x, theirs.init(x))[0])
    noise.append(jax.random.normal(jax.random.key(0), x.shape))
    noise.append(jax.random.normal(jax.random.fold_in(jax.random.key(0), 0), x.shape))
    own = sgld_jax.sgld(0.5, key=0)
    noise.append(own.update(x, own.init(x), x)[0])
    for other in noise:
        assert not np.isclose(updates / n, np.reshape(other, (3, 1)), atol=1e-6).any()
    # optax's own slot, seeded with the very number it was built with
    reseeded = seed(theirs.init(x), 0)
    assert not np.allclose(theirs.update(x, reseeded)[0], noise[0])


@pytest.mark.parametrize(
    "state",
    [
        (),
        None,
        {"w": jnp.ones(2)},
        optax.adam(0.1).init(PARAMS),
        sgld_jax.sgld(0.1, key=0),  # the transformation in place of its state
    ],
)
def test_seed_raises_where_there_is_no_slot(state):
    with pytest.raises(ValueError, match="no key slot .* what tx.init returned"):
        seed(state, 0)


@pytest.mark.parametrize(
    "key, error",
    [
        (None, TypeError),
        (True, TypeError),
        (0.5, TypeError),
        (-1, ValueError),
        (2**32, ValueError),
        (jax.random.split(jax.random.key(0), 2), ValueError),
    ],
)
def test_seed_takes_what_samplers_take_for_a_key(key, error):
    with pytest.raises(error, match="key"):
        seed(sgld(None).init(PARAMS), key)


def test_seeds_typed_and_legacy_keys_are_one_stream():
    state = sgld(None).init(PARAMS)
    for key in (jax.random.key(7), jax.random.PRNGKey(7), np.int64(7), jnp.array(7)):
        np.testing.assert_array_equal(bits(seed(state, key)), bits(seed(state, 7)))


# ---------------------------------------------------------------------- chains


def over_states(build, n):
    return jax.vmap(lambda s: seed(s, 0))(jax.vmap(build.init)(stack(n)))


def built_inside(build, n):
    return jax.vmap(lambda p: seed(build.init(p), 0))(stack(n))


def outside(build, n):
    return seed(jax.vmap(build.init)(stack(n)), 0)


def one_key_each(build, n):
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(0), i))(jnp.arange(n))
    return jax.vmap(seed)(jax.vmap(build.init)(stack(n)), keys)


@pytest.mark.parametrize(
    "how, key",
    [
        *((how, None) for how in (over_states, built_inside, one_key_each)),
        *((how, 0) for how in (over_states, built_inside, one_key_each, outside)),
    ],
)
@pytest.mark.parametrize(
    "name",
    checker_off_where_optax_selects([("sgld",), ("partition",), ("MultiSteps",)]),
)
def test_every_chain_gets_its_own_key(how, key, name):
    build, slots = BUILDERS[name]
    keys = bits(how(build(key), 5))
    assert keys.shape == (slots, 5, 2) and distinct(keys) == 5 * slots
    np.testing.assert_array_equal(bits(how(build(key), 3)), keys[:, :3])


def test_an_empty_slot_does_not_say_how_many_chains_there_are():
    """Filled outside the vmap it gets one key, which no vmap over states takes."""
    states = outside(sgld(None), 4)
    assert states.rng_key.shape == ()
    with pytest.raises(ValueError, match="vmap was requested to map"):
        jax.vmap(sgld(None).update)(stack(4), states)


def test_slots_of_any_shape_are_filled_with_different_keys():
    states = jax.vmap(jax.vmap(sgld(0).init))(jnp.zeros((2, 3, 4)))
    filled = seed(states, 1)
    assert filled.rng_key.shape == (2, 3) and distinct(bits(filled)) == 6
    nested = jax.vmap(jax.vmap(lambda p: seed(sgld(None).init(p), 1)))
    assert distinct(bits(nested(jnp.zeros((2, 3, 4))))) == 6


def test_a_foreign_state_built_inside_a_vmap_needs_a_key_per_chain():
    """Nothing in the state of `add_noise` tells chains apart."""
    tx = optax.add_noise(1.0, 0.5, 0)
    shared = jax.vmap(lambda p: seed(tx.init(p), 0))(jnp.zeros((4, 3)))
    assert distinct(bits(shared)) == 1
    own = jax.vmap(lambda p, i: seed(tx.init(p), i))(jnp.zeros((4, 3)), jnp.arange(4))
    assert distinct(bits(own)) == 4
    again = jax.vmap(lambda p, i: seed(seed(tx.init(p), i), 0))  # its keys do tell
    assert distinct(bits(again(jnp.zeros((4, 3)), jnp.arange(4)))) == 4
    assert distinct(bits(seed(shared, 0))) == 4


def test_a_known_limit_one_state_broadcast_into_two_vmaps():
    """`update` tells the chains apart, but the state it returns holds one key for all.

    Where that state goes into a second `vmap`, its keys are mapped, and equal. `sample`
    refuses such a state; `seed` mends it.
    """
    tx, x = sgld(0), jnp.arange(12.0).reshape(4, 3)
    zero, state = jnp.zeros_like(x), tx.init(x[0])
    noise, states = jax.vmap(tx.update, (0, None))(zero, state)
    assert distinct(bits(states)) == 1 and len(np.unique(noise)) == 12
    again, _ = jax.vmap(tx.update)(zero, states)
    assert len(np.unique(again)) == 3
    mended, _ = jax.vmap(tx.update)(zero, jax.vmap(lambda s: seed(s, 0))(states))
    assert len(np.unique(mended)) == 12


def test_a_train_state_of_ones_own_keeps_its_other_keys():
    class TrainState(NamedTuple):
        params: object
        opt_state: object
        dropout_key: object

    state = TrainState(PARAMS, sgld_jax.sgld(0.1).init(PARAMS), jax.random.key(7))
    filled = sgld_jax.seed(state, 0)
    assert filled.dropout_key is state.dropout_key
    assert bits(filled.opt_state).shape == (1, 2)


def test_keys_that_an_inner_vmap_maps_and_an_outer_one_does_not():
    """Two groups of four chains: the group is mapped by its starting points alone."""
    tx, keys = sgld(None), jax.random.split(jax.random.key(0), 4)

    def group(params):
        return jax.vmap(lambda p, k: seed(tx.init(p), k))(params, keys)

    params = jax.tree.map(lambda x: jnp.stack([jnp.stack([x] * 4)] * 2), PARAMS)
    assert distinct(jax.random.key_data(jax.vmap(group)(params).rng_key)) == 8
