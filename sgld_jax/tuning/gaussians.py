"""Many chains of any optax transformation on Gaussians: what `audit` measures.

The target is π(θ) ∝ exp(−(λ + p) θ²/(2T)) in every coordinate; a sampler is handed the
gradient s λ θ, and p is what it adds by itself, as weight decay before it does.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.flatten_util import ravel_pytree

from sgld_jax.adaptive import FrozenMetric
from sgld_jax.keys import Unseeded, is_key
from sgld_jax.leaves import instances
from sgld_jax.seeding import has_slot, seed
from sgld_jax.tuning.laws import Law

PyTree = Any

_MOST_CALLS = 64  # of update, until a sampler moves for the first time
_MOST_UPDATES = 20_000  # until a metric is frozen


class Problem(NamedTuple):
    """What a sampler is tried on.

    Attributes:
      sampler: an optax transformation.
      law: what is known of it.
      friction: α, 1 without one.
      params: a tree that it fits, d coordinates in all.
      calls: of update, for one move: 1, or more around `optax.MultiSteps`.
      temperature: T of the target.
      gradient_scale: s.
      prior_precision: p.
    """

    sampler: optax.GradientTransformationExtraArgs
    law: Law
    friction: float
    params: PyTree
    calls: int
    temperature: float
    gradient_scale: float
    prior_precision: float


class Moves(NamedTuple):
    """One move from θ = 0 with gradients g, −g and 0, and one from θ = x, `[C, d]`."""

    up: np.ndarray
    down: np.ndarray
    still: np.ndarray
    away: np.ndarray


def calls_of_a_move(sampler: Any, params: PyTree, key: jax.Array) -> int:
    """How many calls of update it takes to move; 1 where it never does."""
    ones = jax.tree.map(jnp.ones_like, params)

    def call(state: PyTree, _: None) -> tuple[PyTree, jax.Array]:
        updates, state = sampler.update(ones, state, params, value=jnp.zeros([]))
        return state, jnp.any(ravel_pytree(updates)[0] != 0)

    def run(key: jax.Array) -> jax.Array:
        state = _started(sampler, params, key)
        return lax.scan(call, state, length=_MOST_CALLS)[1]

    moved = np.asarray(jax.jit(run)(key))
    return int(moved.argmax()) + 1


def moves_of(problem: Problem) -> Callable[..., Moves]:
    """`(state, g, x) -> Moves` of all chains from one state each, with the same noise.

    `g` is what is handed over, `[d]`; `x` is where the last of the moves starts, `[d]`.
    """
    move = _move(problem)

    def four(state: PyTree, g: jax.Array, x: jax.Array) -> Moves:
        zero = jnp.zeros_like(g)
        ways = (zero, g), (zero, -g), (zero, zero), (x, zero)
        return Moves(*(move(state, at, way)[1] for at, way in ways))

    run = jax.jit(jax.vmap(four, (0, None, None)))

    def moves(state: PyTree, g: np.ndarray, x: np.ndarray) -> Moves:
        made = run(state, jnp.asarray(g, jnp.float32), jnp.asarray(x, jnp.float32))
        return Moves(*(np.asarray(m, np.float64) for m in made))

    return moves


def fresh(problem: Problem, key: jax.Array, num_chains: int, reseed: bool) -> PyTree:
    """The states of chains before their first update, leaves `[C, ...]`.

    With `reseed` every chain has a key of its own in any case, else only where the
    sampler left the slot empty: as it comes out of a `vmap` of its init.
    """

    def make(keys: jax.Array) -> PyTree:
        def one(params: PyTree, key: jax.Array) -> PyTree:
            return _started(problem.sampler, params, key, reseed)

        copies = jax.tree.map(
            lambda x: jnp.broadcast_to(x, (num_chains, *jnp.shape(x))), problem.params
        )
        return jax.vmap(one)(copies, keys)

    return jax.jit(make)(jax.random.split(key, num_chains))


def settled(
    problem: Problem,
    key: jax.Array,
    start: np.ndarray,
    precision: np.ndarray,
    updates: int,
) -> tuple[np.ndarray, PyTree]:
    """Positions `[C, d]` and states of chains after so many moves, and once more as
    many after a metric that is frozen at some time has been.

    Args:
      problem: as above.
      key: a typed key.
      start: positions `[C, d]`.
      precision: λ `[d]`, without p.
      updates: moves, the time in which a start is forgotten.
    """
    move, lam = _move(problem), jnp.asarray(precision, jnp.float32)

    def one(theta: jax.Array, state: PyTree) -> tuple[jax.Array, PyTree]:
        def update(_: Any, carry: tuple) -> tuple:
            theta, state = carry
            state, delta = move(state, theta, problem.gradient_scale * lam * theta)
            return theta + delta, state

        return lax.fori_loop(0, updates, update, (theta, state))

    run = jax.jit(jax.vmap(one))
    theta = jnp.asarray(start, jnp.float32)
    state, made = fresh(problem, key, len(start), reseed=True), 0
    while True:
        theta, state = run(theta, state)
        made += updates
        metrics = instances(state, FrozenMetric)
        if not metrics:
            break
        if all(int(m.count[0]) < made for m in metrics) or made > _MOST_UPDATES:
            theta, state = run(theta, state)
            break
    return np.asarray(theta, np.float64), state


def _started(
    sampler: Any, params: PyTree, key: jax.Array, reseed: bool = True
) -> PyTree:
    state = sampler.init(params)
    if has_slot(state) and (reseed or instances(state, Unseeded)):
        state = seed(state, key)
    # A weakly typed start would change its type in the first update.
    return jax.tree.map(
        lambda x: x if is_key(x) else lax.convert_element_type(x, jnp.result_type(x)),
        state,
    )


def _move(problem: Problem) -> Callable:
    """`(state, θ [d], gradient [d]) -> (state, Δθ [d])`, one move of one chain."""
    _, unravel = ravel_pytree(problem.params)

    def call(_: Any, carry: tuple) -> tuple:
        state, moved, theta, grads = carry
        here = unravel(theta + moved)
        value = jnp.sum(theta * grads) / 2
        updates, state = problem.sampler.update(
            unravel(grads), state, here, value=value
        )
        return state, moved + ravel_pytree(updates)[0], theta, grads

    def move(state: PyTree, theta: jax.Array, grads: jax.Array) -> tuple:
        carry = (state, jnp.zeros_like(theta), theta, grads)
        if problem.calls == 1:
            carry = call(0, carry)
        else:
            carry = lax.fori_loop(0, problem.calls, call, carry)
        return carry[:2]

    return move
