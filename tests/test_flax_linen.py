"""Linen `TrainState` loops written for Adam, with SGLD in its place."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.training.train_state import TrainState

import sgld_jax
from tests.flax_setup import (
    MEMBERS,
    STEPS,
    N,
    X,
    Y,
    assert_close,
    distinct,
    key_data,
    sampler,
)


class Linen(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(1)(jnp.tanh(nn.Dense(4)(x)))


LINEN = Linen()
START = LINEN.init(jax.random.key(0), X)["params"]


def linen_loss(params):
    return 0.5 * jnp.mean((LINEN.apply({"params": params}, X) - Y) ** 2)


def train_step(ts):
    loss, grads = jax.value_and_grad(linen_loss)(ts.params)
    return ts.apply_gradients(grads=grads), loss


def create(tx, params=START):
    return TrainState.create(
        apply_fn=LINEN.apply, params=jax.tree.map(jnp.copy, params), tx=tx
    )


def python_loop(ts, step):
    losses = []
    for _ in range(STEPS):
        ts, loss = step(ts)
        losses.append(loss)
    return ts, jnp.stack(losses)


LOOPS = {
    "eager": lambda ts: python_loop(ts, train_step),
    "jit": lambda ts: python_loop(ts, jax.jit(train_step)),
    "donation": lambda ts: python_loop(ts, jax.jit(train_step, donate_argnums=0)),
    "scan": jax.jit(
        lambda ts: jax.lax.scan(lambda ts, _: train_step(ts), ts, length=STEPS)
    ),
}


TRANSFORMATIONS = {"adam": optax.adam(1e-3), "sgld": sampler()}


@functools.cache
def by_hand(name):
    """The same loop without Flax, for `LOOPS` to agree with."""
    tx, loss_of = TRANSFORMATIONS[name], jax.jit(jax.value_and_grad(linen_loss))
    params, state, losses = START, tx.init(START), []
    for _ in range(STEPS):
        loss, grads = loss_of(params)
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        losses.append(loss)
    return params, jnp.stack(losses)


@pytest.mark.parametrize("how", LOOPS)
def test_a_train_state_loop_takes_sgld_in_place_of_adam(how):
    for name, tx in TRANSFORMATIONS.items():
        ts, losses = LOOPS[how](create(tx))
        params, expected = by_hand(name)
        assert_close(ts.params, params)
        assert_close(losses, expected)
        assert int(ts.step) == STEPS


def test_noise_is_in_the_loop_and_vanishes_with_the_temperature():
    hot, _ = LOOPS["scan"](create(sampler()))
    cold, _ = LOOPS["scan"](create(sampler(temperature=0.0)))
    decay = optax.add_decayed_weights(0.1 / N)
    descent, _ = LOOPS["scan"](create(optax.chain(decay, optax.sgd(N * 1e-3))))
    assert_close(cold.params, descent.params)
    moved = [h - c for h, c in zip(*map(jax.tree.leaves, (hot.params, cold.params)))]
    assert all(np.all(m != 0) for m in moved)


@pytest.mark.parametrize(
    "key, fill",
    [
        (0, lambda ts: ts),
        (None, lambda ts: sgld_jax.seed(ts, 1)),
        (None, lambda ts: ts.replace(opt_state=sgld_jax.seed(ts.opt_state, 1))),
    ],
    ids=["key in the sampler", "seed(ts)", "seed(ts.opt_state)"],
)
def test_vmapped_train_states_draw_noise_of_their_own(key, fill):
    keys = jax.random.split(jax.random.key(0), MEMBERS)
    params = jax.vmap(lambda key: LINEN.init(key, X)["params"])(keys)
    ts = jax.vmap(functools.partial(create, sampler(key)))(params)
    ts = jax.vmap(fill)(ts)
    assert distinct(key_data(ts.opt_state)) == MEMBERS
    zero = jax.tree.map(jnp.zeros_like, START)
    step = jax.jit(
        jax.vmap(lambda ts: ts.apply_gradients(grads=zero)), donate_argnums=0
    )
    ts = step(step(ts))
    biases = ts.params["Dense_0"]["bias"]  # started at zero in every member
    assert len(np.unique(biases)) == biases.size


def test_unseeded_train_states_raise():
    tx = sampler(key=None)
    with pytest.raises(ValueError, match=r"no key.*sgld_jax.seed\(state, key\)"):
        jax.jit(train_step)(create(tx))
