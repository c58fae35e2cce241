"""One update of all chains: gradient, sampler, new positions."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from sgld_jax.arguments import declares_key
from sgld_jax.engine.chain import Chain
from sgld_jax.engine.checks import (
    check_chain,
    check_exact,
    check_sampler,
)
from sgld_jax.engine.devices import on_auto_axes
from sgld_jax.engine.files import with_state_of
from sgld_jax.engine.memory import refreshed, with_memory
from sgld_jax.keys import is_key
from sgld_jax.potentials.batches import (
    Batches,
    BatchState,
    check_batches,
    full_batch,
)
from sgld_jax.potentials.data import num_rows
from sgld_jax.potentials.estimators import Estimator, estimated
from sgld_jax.potentials.potential import Potential, check_is_potential, check_num_data
from sgld_jax.states import positions

PyTree = Any

RANDOM = 0x8000_0014  # the stream of a potential, beside those of chain.py


def step(
    chain: Chain,
    sampler: optax.GradientTransformation,
    potential: Potential,
    *,
    data: PyTree = None,
    batches: Batches = full_batch(),
    batch: PyTree = None,
) -> tuple[Chain, jax.Array]:
    """One update of every chain, for loops of your own. Pure; jit it.

    Non-finite chains are not looked for: `sample` and `resume` do that.

    Args:
      chain: from `start`, an earlier `step`, or the `final` of a run.
      sampler: as given to `start`.
      potential: `(params, batch) -> scalar`, or `(params, batch, *, key) -> scalar`; or
        an `Estimator`, such as `svrg(potential, refresh_every)`.
      data: arrays `[N, ...]`, or None. Inside `jax.jit`, hand them in as an argument.
      batches: as given to `start`.
      batch: in place of data and batches, the rows of this update, arrays `[n, ...]`
        from any loader of your own. All chains see them, and are correlated by that.

    Returns:
      The chains after the update, and the (minibatch) potential `[C]` that it saw,
      at the positions before it; with `mala`, the potential at `chain.position`.

    Raises:
      ValueError: while tracing, if the potential is not a scalar.

    Example:
      >>> import jax, jax.numpy as jnp, sgld_jax
      >>> sampler = sgld_jax.sgld(0.1)
      >>> potential = sgld_jax.from_log_density(lambda x: -0.5 * jnp.sum(x**2))
      >>> one = jax.jit(lambda chain: sgld_jax.step(chain, sampler, potential))
      >>> chain = sgld_jax.start(0, sampler, jax.random.normal, num_chains=4)
      >>> for _ in range(3):
      ...     chain, value = one(chain)
      >>> chain.count
      Array([3, 3, 3, 3], dtype=int32)
    """
    check_chain(chain)
    check_sampler(sampler)
    chain = with_state_of(sampler, chain)
    plain = estimated(potential)
    check_is_potential(plain)
    check_batches(batches, data)
    if plain is not potential and batch is not None:
        raise ValueError(
            "An estimator looks at all data, and batch is a part of it: pass data and "
            "batches."
        )
    if batch is None:
        check_num_data(plain, data)
    elif data is not None:
        raise ValueError(
            "Both data and batch were given: pass data, all N rows, with batches; or "
            "batch alone, the rows of this update."
        )
    else:
        data, batches = batch, full_batch()  # of the rows that were given
    check_exact(chain.params, chain.state, batches)
    num_data = 0 if data is None else num_rows(data)
    chain = with_memory(chain, potential, data)
    return advance(chain, sampler, potential, data, batches, num_data)


def advance(
    chain: Chain,
    sampler: optax.GradientTransformation,
    potential: Potential,
    data: PyTree,
    batches: Batches,
    num_data: int,
) -> tuple[Chain, jax.Array]:
    """`step` for arguments that have been checked.

    Args:
      chain: leaves `[C, ...]`.
      sampler: as `step`.
      potential: as `step`.
      data: laid out for `batches`.
      batches: a scheme.
      num_data: N, the rows that are there, however they are laid out.
    """

    def move(chain: Chain, batch: PyTree, rows: Any) -> tuple[Chain, jax.Array]:
        value, grads, memory = _estimated(potential, chain, batch, rows)
        update = optax.with_extra_args_support(sampler).update
        updates, state = update(grads, chain.state, chain.params, value=value)
        params = optax.apply_updates(chain.params, updates)
        for position in positions(state):  # what is recorded, and not the proposal
            value = position.potential
        chain = chain._replace(params=params, state=state, memory=memory)
        return chain._replace(count=chain.count + 1), value

    def next_batch(stream: BatchState, data: PyTree) -> tuple[PyTree, Any, BatchState]:
        indices, stream = batches.next(stream, num_data)
        return batches.take(data, indices), indices, stream

    def one(chain: Chain, data: PyTree) -> tuple[Chain, jax.Array]:
        batch, rows, stream = next_batch(chain.batches, data)
        return move(chain._replace(batches=stream), batch, rows)

    def of_one_stream(chains: Chain, data: PyTree) -> tuple[Chain, jax.Array]:
        batch, rows, ahead = next_batch(_leading(chains), data)
        count, offset = (
            jnp.full(batches.shared_by, x) for x in (ahead.count, ahead.offset)
        )
        stream = chains.batches._replace(count=count, offset=offset)
        chains = chains._replace(batches=stream)
        return jax.vmap(move, (0, None, None))(chains, batch, rows)

    if batches.shared_by == 1:
        every = jax.vmap(one, (0, None))
    else:
        every = _in_streams(of_one_stream, batches.shared_by)

    def update(chain: Chain, data: PyTree) -> tuple[Chain, jax.Array]:
        return every(refreshed(chain, potential, data), data)

    return on_auto_axes(update, chain, data)


def _estimated(
    potential: Any, chain: Chain, batch: PyTree, rows: Any
) -> tuple[jax.Array, PyTree, PyTree]:
    """U and ∇U as rows `[n]` of the data estimate them, and what is remembered then."""
    if isinstance(potential, Estimator):
        estimate = potential.value_and_grad
        (value, grads), memory = estimate(chain.params, batch, rows, chain.memory)
        return value, grads, memory
    now = _checked(_with_key(potential, chain))
    value, grads = jax.value_and_grad(now)(chain.params, batch)
    return value, grads, chain.memory


def _with_key(potential: Callable, chain: Chain) -> Callable:
    """The potential of `(params, batch)`, with this update's key if it declares one.

    That branches off the key of the chain's sampler, by a tag that is no count.
    """
    if not declares_key(potential):
        return potential
    if positions(chain.state):
        raise ValueError(
            "The potential declares key=, and this kernel accepts or rejects by its "
            "value: it must be U itself. Take sghmc or sgld for one that is random."
        )
    keys = [x for x in jax.tree.leaves(chain.state) if is_key(x)]
    if not keys:
        raise ValueError(
            "The potential declares key=, and the sampler has no key for it to branch "
            "from: expected one with noise, such as sgld_jax.sgld(step_size)."
        )
    key = jax.random.fold_in(jax.random.fold_in(keys[0], RANDOM), chain.count)
    return functools.partial(potential, key=key)  # random


def _leading(chains: Chain) -> BatchState:
    """Where the stream of some chains stands: chains that failed have stayed behind."""
    first = jax.tree.map(_first, chains.batches)
    lead = jnp.argmax(chains.count)
    count, offset = chains.batches.count[lead], chains.batches.offset[lead]
    return first._replace(count=count, offset=offset)


def _first(x: jax.Array) -> jax.Array:
    """`x[0]`; to JAX's checker, slicing keys would be using them."""
    if not is_key(x):
        return x[0]
    data = jax.random.key_data(x)[0]
    return jax.random.wrap_key_data(data, impl=jax.random.key_impl(x))


def _in_streams(of_one_stream: Callable, size: int) -> Callable:
    """An update of chains that share batches, `size` neighbours in each stream."""

    def every(chain: Chain, data: PyTree) -> tuple[Chain, jax.Array]:
        if len(chain.count) == size:  # a batch for all, taken without a gather
            return of_one_stream(chain, data)
        parts = jax.tree.map(lambda x: x.reshape(-1, size, *x.shape[1:]), chain)
        moved = jax.vmap(of_one_stream, (0, None))(parts, data)
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), moved)

    return every


def _checked(potential: Potential) -> Potential:
    def checked(params: PyTree, batch: PyTree) -> jax.Array:
        value = potential(params, batch)
        if isinstance(value, (tuple, list)) or value is None:
            raise TypeError(
                f"The potential returned a {type(value).__name__}: expected a scalar, "
                f"the negative log density. What else you need goes into collect."
            )
        if jnp.shape(value) != ():
            raise ValueError(
                f"The potential has shape {jnp.shape(value)}: expected a scalar, the "
                f"negative log density of one chain. See minibatch_potential and "
                f"from_log_density."
            )
        if not jnp.issubdtype(jnp.result_type(value), jnp.floating):
            raise TypeError(
                f"The potential has dtype {jnp.result_type(value)}: expected a real "
                f"floating scalar, the negative log density."
            )
        return value

    return checked
