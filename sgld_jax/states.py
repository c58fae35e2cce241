"""The state of a kernel: what all kernels keep, and how an update ends.

Kernels are written for one chain. What makes them right under `jax.vmap`, where every
chain needs a key and a count of its own, is here and in `noise.py`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from sgld_jax.keys import copy_per_chain, init_key
from sgld_jax.leaves import instances

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
    """

    step_size: jax.Array
    temperature: jax.Array
    weight: jax.Array
    friction: jax.Array
    clipped: jax.Array

    @classmethod
    def of(
        cls,
        step_size: Any = 0.0,
        temperature: Any = 0.0,
        weight: Any = 0.0,
        friction: Any = 1.0,
        clipped: Any = 0.0,
    ) -> "Trace":
        """A trace of float32 scalars, so that the state never changes its dtypes."""
        values = step_size, temperature, weight, friction, clipped
        return cls(*(jnp.asarray(x, jnp.float32) for x in values))


def traces(state: PyTree) -> list[Trace]:
    """The traces of all kernels in a state, found by their type."""
    return instances(state, Trace)


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
      **memory: what else of the state has changed.
    """
    used = Trace.of(step_size, temperature, step_size, friction, clipped)
    trace = copy_per_chain(used, grads)
    count = optax.safe_increment(state.count)  # count
    return state._replace(count=count, trace=trace, **memory)
