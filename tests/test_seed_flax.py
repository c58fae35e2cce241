"""`seed` takes a Flax `TrainState`, or an `nnx.Optimizer` itself."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.training.train_state import TrainState

from sgld_jax import seed
from tests.slots import (
    BUILDERS,
    NAMES,
    PARAMS,
    bits,
    distinct,
    sgld,
    stack,
)


class WithDropout(TrainState):
    dropout_key: jax.Array


def train_state(tx, params=PARAMS):
    key = jax.random.key(9)
    return WithDropout.create(
        apply_fn=lambda *args: None, params=params, tx=tx, dropout_key=key
    )


@pytest.mark.parametrize("key", [None, 0], ids=["Unseeded", "seeded"])
def test_of_a_train_state_only_the_optimizer_state_is_touched(key):
    before = train_state(BUILDERS["chain"][0](key))
    after = seed(before, 1)
    np.testing.assert_array_equal(
        bits(after.opt_state), bits(seed(before.opt_state, 1))
    )
    assert after.dropout_key is before.dropout_key
    assert after.tx is before.tx and after.apply_fn is before.apply_fn
    assert all(after.params[leaf] is x for leaf, x in before.params.items())
    after.apply_gradients(grads=PARAMS)


def test_a_dropout_key_is_no_slot():
    with pytest.raises(ValueError, match="no key slot"):
        seed(train_state(optax.adam(0.1)), 0)


def test_vmapped_train_states():
    tx = BUILDERS["chain"][0](None)
    inside = jax.vmap(lambda p: seed(train_state(tx, p), 0))(stack(4))
    over = jax.vmap(lambda s: seed(s, 0))(
        jax.vmap(lambda p: train_state(tx, p))(stack(4))
    )
    assert distinct(bits(inside.opt_state)) == distinct(bits(over.opt_state)) == 4
    assert distinct(jax.random.key_data(inside.dropout_key)) == 1  # as it was
    foreign = optax.add_noise(1.0, 0.5, 0)  # here the parameters tell the chains apart
    states = jax.vmap(lambda p: seed(train_state(foreign, p), 0))(stack(4))
    assert distinct(bits(states.opt_state)) == 4


class Model(nnx.Module):
    def __init__(self):
        self.b, self.w = nnx.Param(PARAMS["b"]), nnx.Param(PARAMS["w"])
        self.dropout = nnx.Dropout(0.5, rngs=nnx.Rngs(5))


@pytest.mark.parametrize("key", [None, 0], ids=["Unseeded", "seeded"])
@pytest.mark.parametrize("name", NAMES)
def test_an_nnx_optimizer_is_handed_over_itself(name, key):
    build, slots = BUILDERS[name]
    model = Model()
    optimizer = nnx.Optimizer(model, build(key), wrt=nnx.Param)
    others = [optimizer.step, *jax.tree.leaves(nnx.state(model))]  # a dropout key, too
    assert seed(optimizer, 1) is optimizer
    first = bits(optimizer.opt_state)
    assert distinct(first) == slots
    for slot in optax.tree.get_all_with_path(optimizer.opt_state, "rng_key"):
        assert isinstance(slot[1], nnx.Variable)
    now = [optimizer.step, *jax.tree.leaves(nnx.state(model))]
    assert all(new is old for new, old in zip(now, others, strict=True))
    gradients = jax.tree.map(jnp.ones_like, nnx.state(model, nnx.Param))
    optimizer.update(model, gradients)
    bare = seed(build(key).init(PARAMS), 1)
    np.testing.assert_array_equal(first, bits(bare))
    seed(optimizer, 1)
    np.testing.assert_array_equal(first, bits(optimizer.opt_state))


def test_the_nnx_state_of_an_optimizer_shows_filled_slots_only():
    model = Model()
    unseeded = nnx.Optimizer(model, sgld(None), wrt=nnx.Param)
    with pytest.raises(ValueError, match="the nnx.Optimizer itself"):
        seed(nnx.state(unseeded), 1)
    optimizer = nnx.Optimizer(model, sgld(0), wrt=nnx.Param)
    before = bits(optimizer.opt_state)
    nnx.update(optimizer, seed(nnx.state(optimizer), 1))
    assert not np.array_equal(before, bits(optimizer.opt_state))


def test_seed_inside_nnx_jit():
    optimizer = nnx.Optimizer(Model(), sgld(None), wrt=nnx.Param)
    nnx.jit(lambda optimizer: seed(optimizer, 1) and None)(optimizer)
    expected = nnx.Optimizer(Model(), sgld(None), wrt=nnx.Param)
    np.testing.assert_array_equal(
        bits(optimizer.opt_state), bits(seed(expected, 1).opt_state)
    )
