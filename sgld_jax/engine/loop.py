"""The compiled loop: draws → updates → one update of all chains.

    chunk     some draws, written to the rows of a block          [K, C, ...]
    draw      some updates, then a record of where chains are     [C, ...]
    update    gradient, sampler, new positions; `chain.step`      vmap over C

How many draws and updates are arguments. Burn-in, thinning, the tail of a run and
chunks of any duration are so one program, and m then k draws have the bits of m + k.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sgld_jax.arguments import shown
from sgld_jax.engine.chain import Chain, Failure, pick
from sgld_jax.engine.devices import on_cpu
from sgld_jax.engine.groups import in_groups
from sgld_jax.leaves import is_numeric
from sgld_jax.program import traced
from sgld_jax.states import HYPERPARAMETERS, traces

PyTree = Any

_MAX_ROWS = 2**14  # of a block: enough for tiny draws, too, and quick to hand over
_TURNS = 32  # of a loop of constant length


class Draw(NamedTuple):
    """What is kept of the chains at one moment; a block of them has K in front.

    Attributes:
      params: what `collect` returned, leaves `[C, ...]`.
      potential: U as the last update saw it, one update earlier, `[C]`; NaN once a
        chain has gone non-finite.
      weights: importance weights by each of J kernels, 0 once a chain has gone
        non-finite, float32 `[C, J]`. NaN `[C, 1]` where there is no kernel.
      count: updates made, int32 `[C]`.
    """

    params: PyTree
    potential: jax.Array
    weights: jax.Array
    count: jax.Array


class Model(NamedTuple):
    """What a run computes, for chains and data of certain shapes.

    Attributes:
      step: `(chain, data) -> (chain, U [C])`, one update of all chains.
      record: `(chain, U [C]) -> Draw`.
      draw: the shapes of a `Draw`.
    """

    step: Callable[[Chain, PyTree], tuple[Chain, jax.Array]]
    record: Callable[[Chain, jax.Array], Draw]
    draw: Draw


class _Carry(NamedTuple):
    """What the loop over the updates of a draw carries along.

    Attributes:
      chain: after the last update.
      value: U as that update saw it, `[C]`.
      finite: whether U has been finite at every update of this chunk, bool `[C]`.
    """

    chain: Chain
    value: jax.Array
    finite: jax.Array


def chunk(
    model: Model,
    size: int,
    watched: bool,
    chain: Chain,
    data: PyTree,
    block: Draw,
    updates: jax.Array,
    num_stops: jax.Array,
) -> tuple[Chain, Draw, jax.Array]:
    """`updates[k]` updates and then a record, for k below `num_stops`.

    Args:
      model: what is computed, for `size` chains.
      size: chains that are updated at once, a divisor of C; see `groups.py`.
      watched: whether to look at every update: a chain that would go non-finite stays
        at its last finite position, and notes the update and the leaf.
      chain: leaves `[C, ...]`.
      data: what batches are taken from, leaves `[N, ...]`.
      block: leaves `[K, C, ...]`; the first `num_stops` rows are written.
      updates: int32 `[K]`.
      num_stops: int32 `[]`, at most K.

    Returns:
      The chains at the end; the block; whether all was finite, bool `[C]`.
    """
    update = functools.partial(_watched if watched else _unwatched, model, data)

    def of_group(chain: Chain, block: Draw) -> tuple[Chain, Draw, jax.Array]:
        return _chunk_of_group(model, update, chain, block, updates, num_stops)

    return in_groups(of_group, size, chain, block)


def _chunk_of_group(
    model: Model,
    update: Callable[["_Carry"], "_Carry"],
    chain: Chain,
    block: Draw,
    updates: jax.Array,
    num_stops: jax.Array,
) -> tuple[Chain, Draw, jax.Array]:
    no_value = jnp.zeros(model.draw.potential.shape, model.draw.potential.dtype)

    def draw(k: jax.Array, carry: tuple) -> tuple[Chain, jax.Array, Draw]:
        chain, finite, block = carry
        now = _Carry(chain, no_value, finite)
        now = _repeated(update, updates[k], now)
        block = jax.tree.map(
            lambda rows, row: jax.lax.dynamic_update_index_in_dim(rows, row, k, 0),
            block,
            model.record(now.chain, now.value),
        )
        return now.chain, now.finite, block

    finite = jnp.ones(no_value.shape, bool)
    chain, finite, block = jax.lax.fori_loop(0, num_stops, draw, (chain, finite, block))
    return chain, block, finite & _all_finite(chain.params)


def _repeated(update: Callable, times: jax.Array, now: _Carry) -> _Carry:
    """What is left after so many updates.

    A GPU asks the host at every turn of a loop whether there is another one, which
    takes as long as a third of a small update, unless the length is a constant. So most
    updates are made by loops of constant length there. A CPU has nothing to gain.
    """

    def once(_: Any, now: _Carry) -> _Carry:
        return update(now)

    def some(_: Any, now: _Carry) -> _Carry:
        return jax.lax.fori_loop(0, _TURNS, once, now)

    if not on_cpu():
        now = jax.lax.fori_loop(0, times // _TURNS, some, now)
        times = times % _TURNS  # rest
    return jax.lax.fori_loop(0, times, once, now)


def model_of(
    step: Callable, collect: Callable, chain: Chain, data: PyTree, size: int
) -> tuple[Model, Draw]:
    """The model of an update and of what is kept, each traced once for the whole run.

    And the shapes of a `Draw` of all chains.

    Args:
      step: `(chain, data) -> (chain, U [C])`.
      collect: `params -> tree`, what is kept of one position.
      chain: leaves `[C, ...]`.
      data: leaves `[N, ...]`.
      size: chains that are updated at once.
    """
    group = chain
    if size < len(chain.count):
        group = jax.eval_shape(lambda: jax.tree.map(lambda x: x[:size], chain))
    step, (_, value) = traced(step, group, data)
    record, draw = traced(functools.partial(_record, collect), group, value)
    num_chains = len(chain.count)
    whole = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((num_chains, *x.shape[1:]), x.dtype), draw
    )
    return Model(step, record, draw), whole


def empty_block(draw: Draw, max_bytes: int) -> Callable[[], Draw]:
    """Makes blocks of as many draws as fit, `[K, C, ...]`: K follows from sizes alone.

    To be compiled, so that all leaves are made by one program.
    """
    size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(draw))
    num_rows = min(_MAX_ROWS, max(1, max_bytes // max(size, 1)))

    def block() -> Draw:
        return jax.tree.map(lambda x: jnp.zeros((num_rows, *x.shape), x.dtype), draw)

    return block


def _unwatched(model: Model, data: PyTree, old: _Carry) -> _Carry:
    chain, value = model.step(old.chain, data)
    return _Carry(chain, value, old.finite & jnp.isfinite(value))


def _watched(model: Model, data: PyTree, old: _Carry) -> _Carry:
    """An update that a chain does not make if it would leave the finite numbers.

    A potential that is not finite fails a chain that moves by it; a transformation
    that skips such an update, `optax.apply_if_finite`, keeps its chain going.
    """
    new, value = model.step(old.chain, data)
    before, after = jax.tree.leaves(old.chain.params), jax.tree.leaves(new.params)
    moved = ~functools.reduce(jnp.logical_and, map(_equal, before, after))
    bad = [~_all_finite(leaf) for leaf in after] + [~jnp.isfinite(value) & moved]
    failing = functools.reduce(jnp.logical_or, bad) & (old.chain.failure.step < 0)
    # What a hyperparameter did shows in all leaves: name it, and not the first of them.
    causes = [*_bad_hyperparameters(new.state, value.shape), *bad]
    place = jnp.argmax(jnp.stack(causes), axis=0).astype(jnp.int32)
    # As `Failure` counts them: leaves, the potential, hyperparameters.
    leaf = (place - len(HYPERPARAMETERS)) % len(causes)
    failure = pick(failing, Failure(old.chain.count, leaf), old.chain.failure)
    alive = failure.step < 0
    chain = pick(alive, new, old.chain)._replace(failure=failure)
    return _Carry(chain, pick(alive, value, old.value), old.finite)


def _bad_hyperparameters(state: PyTree, shape: tuple) -> list[jax.Array]:
    """Which of `HYPERPARAMETERS` were negative or NaN, each `[C]`."""
    no = jnp.zeros(shape, bool)
    return [
        functools.reduce(
            jnp.logical_or,
            [jnp.isnan(getattr(trace, field)) for trace in traces(state)],
            no,
        )
        for field in HYPERPARAMETERS
    ]


def _record(collect: Callable, chain: Chain, value: jax.Array) -> Draw:
    unknown = jnp.full(chain.count.shape, jnp.nan, jnp.float32)
    weights = [trace.weight for trace in traces(chain.state)] or [unknown]
    alive = chain.failure.step < 0
    return Draw(
        jax.vmap(_checked(collect))(chain.position),
        jnp.where(alive, value, jnp.nan),
        jnp.where(alive[:, None], jnp.stack(weights, axis=1), 0.0),
        chain.count,
    )


def _checked(collect: Callable) -> Callable:
    def checked(params: PyTree) -> PyTree:
        kept = collect(params)
        if not jax.tree.leaves(kept):
            raise TypeError(
                f"collect returned {shown(kept)}, without an array: expected what is "
                f"to be kept of a position. Is a return missing?"
            )
        for leaf in jax.tree.leaves(kept):
            if not is_numeric(leaf):
                raise TypeError(
                    f"collect returned a {type(leaf).__name__}: expected arrays or "
                    f"numbers, in any tree."
                )
        return kept

    return checked


def _equal(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.all(a == b, axis=tuple(range(1, a.ndim)))


def _all_finite(tree: PyTree) -> jax.Array:
    """Whether all numbers of a chain are finite, `[C]`, for leaves `[C, ...]`."""
    flags = [
        jnp.all(jnp.isfinite(x), axis=tuple(range(1, x.ndim)))
        for x in jax.tree.leaves(tree)
    ]
    return functools.reduce(jnp.logical_and, flags)
