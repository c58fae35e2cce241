"""The state of a kernel: what all kernels keep, and how an update ends.

Kernels are written for one chain. What makes them right under `jax.vmap`, where every
chain needs a key and a count of its own, is here and in `noise.py`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from sgld_jax.keys import copy_per_chain, init_key
from sgld_jax.leaves import instances, where, widest_dtype

PyTree = Any

# What a schedule can spoil and a resumed run can change: fields of `Trace`, in words.
HYPERPARAMETERS = {
    "step_size": "the step size",
    "temperature": "the temperature",
    "friction": "the friction",
}


class Trace(NamedTuple):
    """What the last update used. Every kernel's state ends in one.

    Weights of draws and reports come from it, and need not know the kernel.

    Attributes:
      step_size: ε, float32 `[]`.
      temperature: T, float32 `[]`.
      weight: importance of the position just reached in averages over draws,
        float32 `[]`, not normalised; ε for kernels whose step may decay
        (Welling and Teh 2011, section 4.2).
      friction: α, float32 `[]`; 1 for kernels without a velocity.
      clipped: share of moves that a kernel has cut short in about the last thousand
        updates, float32 `[]`; 0 for kernels that cut none.
      acceptance: share of proposals that were accepted in about the last thousand
        updates, float32 `[]`; 1 for kernels that reject none.
    """

    step_size: jax.Array
    temperature: jax.Array
    weight: jax.Array
    friction: jax.Array
    clipped: jax.Array
    acceptance: jax.Array

    @classmethod
    def of(
        cls,
        step_size: Any = 0.0,
        temperature: Any = 0.0,
        weight: Any = 0.0,
        friction: Any = 1.0,
        clipped: Any = 0.0,
        acceptance: Any = 1.0,
    ) -> "Trace":
        """A trace of float32 scalars, so that the state never changes its dtypes."""
        values = step_size, temperature, weight, friction, clipped, acceptance
        return cls(*(jnp.asarray(x, jnp.float32) for x in values))


class Position(NamedTuple):
    """Where a chain is, for kernels whose parameters are but a proposal.

    A kernel with a `Position` in its state needs the potential of all data: no
    minibatch says whether to accept. What runs chains finds it by its type, and records
    it in place of the parameters.

    Attributes:
      params: θ, leaves `[...]`.
      potential: U(θ), `[]`; ∞ before the first update.
      gradient: ∇U(θ), leaves `[...]`.
      acceptance: with what probability the last proposal was accepted, float32 `[]`.
    """

    params: PyTree
    potential: jax.Array
    gradient: PyTree
    acceptance: jax.Array

    @classmethod
    def before_any(cls, params: PyTree) -> "Position":
        """The position of a chain that starts at `params`; copies, to be donated."""
        copies = jax.tree.map(lambda x: jnp.array(x, copy=True), params)
        dtype = widest_dtype(copies)
        still = jax.tree.map(jnp.zeros_like, copies)
        return cls(copies, jnp.array(jnp.inf, dtype), still, jnp.zeros([], jnp.float32))

    def moved(
        self, accepted: jax.Array, there: "Position", chance: jax.Array
    ) -> "Position":
        """`there` if that was accepted, which had this chance, each `[]`."""
        value = jnp.asarray(there.potential, self.potential.dtype)
        chosen = where(accepted, there._replace(potential=value), self)
        return chosen._replace(acceptance=chance.astype(jnp.float32))


def positions(state: PyTree) -> list[Position]:
    """The positions in a state, found by their type: one, or none."""
    return instances(state, Position)


def traces(state: PyTree) -> list[Trace]:
    """The traces of all kernels in a state, found by their type."""
    return instances(state, Trace)


_RECENT = 1000  # updates


def recent_mean(before: jax.Array, now: jax.Array, seen: jax.Array) -> jax.Array:
    """The mean of about the last thousand values, `[]`.

    Args:
      before: the mean so far.
      now: the value of this update.
      seen: how many values there are with it; up to 1 forgets what was before.
    """
    memory = jnp.clip(seen, 1, _RECENT).astype(jnp.float32)
    return before + (now - before) / memory


def first_state(
    kind: Any, kernel: str, key: Any, params: PyTree, **memory: PyTree
) -> Any:
    """The state of a kernel before its first update.

    Args:
      kind: the NamedTuple of the state: count, rng_key, the memory, trace.
      kernel: its name, which goes into the key: no other kernel has its stream.
      key: what the kernel was given: a seed, a key, or None.
      params: where the chain starts.
      **memory: what this kernel keeps beside; built from `params`.

    Returns:
      A `kind`. Under a `vmap` of `params` every chain has a key of its own.
    """
    rng_key = init_key(key, kernel, params)
    fresh = {"count": jnp.zeros([], jnp.int32), "trace": Trace.of(), **memory}
    return kind(rng_key=rng_key, **copy_per_chain(fresh, params))


def next_state(
    state: Any,
    grads: PyTree,
    *,
    step_size: Any,
    temperature: Any,
    friction: Any = 1.0,
    clipped: Any = 0.0,
    weight: Any = None,
    acceptance: Any = 1.0,
    **memory: PyTree,
) -> Any:
    """The state after an update that saw `grads`: one count more, a new trace.

    Args:
      state: before the update.
      grads: what the update was given.
      step_size: ε of this update.
      temperature: T of this update.
      friction: α of this update.
      clipped: see `Trace`.
      weight: see `Trace`; ε if None.
      acceptance: see `Trace`.
      **memory: what else of the state has changed.
    """
    weight = step_size if weight is None else weight
    used = Trace.of(step_size, temperature, weight, friction, clipped, acceptance)
    trace = copy_per_chain(used, grads)
    count = optax.safe_increment(state.count)  # count
    return state._replace(count=count, trace=trace, **memory)
