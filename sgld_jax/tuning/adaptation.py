"""The metric and the step of `mala`, from chains that are on their way."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sgld_jax.kernels.mala import mala
from sgld_jax.preconditioners import dense
from sgld_jax.seeding import seed
from sgld_jax.tuning.descent import Places
from sgld_jax.tuning.landscape import Landscape

PyTree = Any

_BLOCK = 50  # updates of one call, so that one program serves all rounds
_ROUNDS = (1, 2, 4, 6)  # blocks, each with the metric of the round before
_LAST = 4  # blocks in which only the step adapts
_BEST = 0.57  # acceptance (Roberts and Rosenthal 1998)
_SHORT, _SHORTEST = 1 / 8, 1 / 64  # of a step, in between
_LOW = 10.0  # nats above d that a starting point may lie over its optimum


def short_steps_between(step_size: Any) -> Callable[[Any], Any]:
    """A schedule: of 16 steps 12 whole ones, three of an eighth, one of a 64th.

    A chain of `mala` where U curves more than elsewhere rejects every whole step, and
    would stay for good. Since the turns do not look at the chain, π stays as it is.
    """

    def schedule(count: Any) -> Any:
        short = jnp.where(count % 16 == 15, _SHORTEST, _SHORT)
        return step_size * jnp.where(count % 4 == 3, short, 1.0)

    return schedule


class Adapted(NamedTuple):
    """What chains of `mala` have settled on.

    Attributes:
      x: where they are, `[C, d]`.
      metric: G, `[d, d]`.
      step_size: ε.
      acceptance: of whole steps, over the last blocks.
      draws: positions of the last blocks, `[n, d]`.
      gradients: what it took for each chain.
    """

    x: np.ndarray
    metric: np.ndarray
    step_size: float
    acceptance: float
    draws: np.ndarray
    gradients: int


def adapt(land: Landscape, places: Places, key: jax.Array, data: PyTree) -> Adapted:
    """Runs `mala` from places, and takes the covariance of its draws as its metric."""
    keys = iter(jax.random.split(key, 1 + sum(_ROUNDS) + _LAST))
    block = jax.jit(functools.partial(_block, land))
    x = _spread(land, places, next(keys), data)
    best = places.root[np.argmin(places.optimum)]
    G, log_eps, updates = best @ best.T, 0.0, 0
    draws, accepted = np.zeros((0, *x.shape)), 0.0
    for round, blocks in enumerate((*_ROUNDS, _LAST)):
        began = updates if round == len(_ROUNDS) else 0  # the last steps begin anew
        kept = []
        for _ in range(blocks):
            at = jnp.asarray(x), jnp.asarray(G, x.dtype), log_eps, updates - began
            x, log_eps, seen, accepted = block(*at, next(keys), data)
            kept.append(np.asarray(seen, np.float64))
            updates += _BLOCK
        draws = np.concatenate(kept)
        draws = draws[len(draws) // 2 :]
        if round < len(_ROUNDS):
            G = _shrunk(draws, places.optimum, G)
    step_size, dim = float(np.exp(log_eps)), land.dim
    ended = np.asarray(x, np.float64), G, step_size, float(accepted)
    return Adapted(*ended, draws.reshape(-1, dim), updates)


def _spread(
    land: Landscape, places: Places, key: jax.Array, data: PyTree
) -> np.ndarray:
    """Points around places by their curvature, nearer where U would be too high."""
    dtype = jnp.result_type(float)
    noise = np.asarray(jax.random.normal(key, places.x.shape, dtype), np.float64)
    away = np.einsum("cij,cj->ci", places.root, noise)
    most = places.value + 2 * land.dim + _LOW
    values = jax.jit(jax.vmap(land.value, (0, None)))
    x, near = places.x + away, np.ones(len(away))
    for _ in range(8):
        value = np.asarray(values(jnp.asarray(x, dtype), data), np.float64)
        high = ~(value < most)
        near = np.where(high, near / 2, near)
        x = places.x + near[:, None] * away
    value = np.asarray(values(jnp.asarray(x, dtype), data), np.float64)
    return np.where((value < most)[:, None], x, places.x).astype(dtype)


def _block(
    land: Landscape,
    x: jax.Array,
    G: jax.Array,
    log_eps: Any,
    updates: Any,
    key: jax.Array,
    data: PyTree,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """50 updates from x `[C, d]`; log ε climbs by what is accepted more than .57.

    Returns:
      Where chains are; log ε; all positions `[50, C, d]`; the mean acceptance.
    """
    metric = dense(G)
    keys = jax.random.split(key, len(x))
    first = mala(1.0, preconditioner=metric)
    state = jax.vmap(lambda x, key: seed(first.init(x), key))(x, keys)
    value_and_slope = jax.value_and_grad(land.value)

    def one(eps: jax.Array, params: jax.Array, state: Any) -> tuple:
        value, grads = value_and_slope(params, data)
        sampler = mala(eps, preconditioner=metric)
        updates, state = sampler.update(grads, state, params, value=value)
        return optax.apply_updates(params, updates), state

    def update(carry: tuple, i: jax.Array) -> tuple:
        params, state, log_eps, was_whole = carry
        turn = short_steps_between(1.0)(i)
        eps = jnp.exp(log_eps) * turn
        params, state = jax.vmap(one, (None, 0, 0))(eps, params, state)
        accepted = jnp.mean(state.position.acceptance)
        gain = 0.5 / (1 + (updates + i) / 20) ** 0.6
        climb = jnp.where(was_whole, gain * (accepted - _BEST), 0.0)
        log_eps = log_eps + climb.astype(log_eps.dtype)
        seen = state.position.params, accepted, was_whole
        return (params, state, log_eps, turn == 1.0), seen

    log_eps = jnp.asarray(log_eps, jnp.float32)
    carry = x, state, log_eps, jnp.array(False)
    carry, (all_x, accepted, whole) = jax.lax.scan(update, carry, jnp.arange(_BLOCK))
    state, log_eps = carry[1], carry[2]
    share = jnp.sum(accepted * whole) / jnp.sum(whole)
    return state.position.params, log_eps, all_x, share


def _shrunk(draws: np.ndarray, optimum: np.ndarray, before: np.ndarray) -> np.ndarray:
    """The covariance of draws `[n, C, d]` within each optimum, and some of `before`."""
    steps, chains, dim = draws.shape
    parts = [draws[:, optimum == k].reshape(-1, dim) for k in np.unique(optimum)]
    away = np.concatenate([part - part.mean(0) for part in parts])
    weight = dim / (dim + chains * max(1.0, steps / 20))
    return (1 - weight) * away.T @ away / len(away) + weight * before
