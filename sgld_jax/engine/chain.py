"""Chains: where they start, and one update of all of them."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sgld_jax.arguments import check_count, check_takes
from sgld_jax.engine.checks import check_exact, check_sampler, check_streams
from sgld_jax.engine.devices import layout_of
from sgld_jax.keys import (
    as_key,
    chain_keys,
    check_vmappable,
    is_key,
)
from sgld_jax.leaves import (
    check_positive,
    instances,
    is_numeric,
    matched,
    paths,
    spread,
)
from sgld_jax.parameters import check_sampled_kinds
from sgld_jax.potentials.batches import (
    Batches,
    BatchState,
    check_batches,
    full_batch,
)
from sgld_jax.preconditioners import OwnMetric
from sgld_jax.seeding import has_slot, seed
from sgld_jax.states import positions

PyTree = Any

_INIT, _NOISE, _BATCH = 0x8000_0011, 0x8000_0012, 0x8000_0013  # streams of one run


class Failure(NamedTuple):
    """Whether a chain went non-finite. Such a chain stays at its last finite position.

    Attributes:
      step: the update that failed, counted from 0; −1 for a healthy chain, int32 `[C]`.
      leaf: index of the first parameter leaf that went non-finite; the number n of
        leaves if only the potential did; n + 1, n + 2 and n + 3 if step size,
        temperature or friction were the cause; −1 for a healthy chain, int32 `[C]`.
    """

    step: jax.Array
    leaf: jax.Array


class Chain(NamedTuple):
    """All chains of a run at one moment: a plain pytree with a leading axis C.

    Attributes:
      params: what the next update moves, leaves `[C, ...]`; see `position`.
      state: optimizer states, keys included, leaves `[C, ...]`.
      batches: streams of batches, leaves `[C]`.
      count: updates made, int32 `[C]`.
      failure: which chains went non-finite, and where.
      group: how many chains `sample` was told to update at once, 0 to let it choose,
        int32 `[C]`.
      memory: of an `Estimator`, leaves `[C, ...]`; () without one.
    """

    params: PyTree
    state: PyTree
    batches: BatchState
    count: jax.Array
    failure: Failure
    group: jax.Array
    memory: PyTree = ()

    @property
    def position(self) -> PyTree:
        """Where the chains are, leaves `[C, ...]`, to start others from.

        That is `params`, but for kernels that propose and then judge, such as `mala`.

        Raises:
          ValueError: for loaded chains of such a kernel, which `resume` must see first.
        """
        if isinstance(self.state, StoredState):
            if any(".position.params" in name for name in self.state.names):
                raise ValueError(
                    "These chains were loaded, and their params are proposals: "
                    "resume(chain, sampler, ...) gives chains that have positions."
                )
            return self.params
        return next((x.params for x in positions(self.state)), self.params)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class StoredState:
    """The state of a sampler as named arrays, until `resume` or `step` has the sampler.

    Attributes:
      names: where each array belongs.
      arrays: leaves `[C, ...]`, keys among them.
    """

    names: tuple[str, ...] = dataclasses.field(metadata={"static": True})
    arrays: tuple[jax.Array, ...]


class Stacked(NamedTuple):
    """Starting points, one per chain; made by `stacked`.

    Attributes:
      params: leaves `[C, ...]`.
      scale: of `own_diagonal`, leaves `[C, ...]`; None for all other samplers.
    """

    params: PyTree
    scale: PyTree = None


def stacked(params: PyTree, scale: PyTree = None) -> Stacked:
    """Marks parameters that have a leading chain axis as starting points.

    Args:
      params: leaves `[C, ...]`, such as C optima found by an optimizer.
      scale: the metric of every chain, for samplers with `own_diagonal()`: above 0, a
        tree of the shapes of `params`.

    Raises:
      TypeError, ValueError: for scales that are not numbers above 0.

    Example:
      >>> import jax.numpy as jnp, sgld_jax
      >>> init = sgld_jax.stacked({"w": jnp.zeros((8, 3))})  # 8 chains
    """
    if scale is not None:
        check_positive(scale, "stacked(params, scale)")
        matched(scale, params, "stacked(params, scale)")
    return Stacked(params, scale)


def start(
    key: Any,
    sampler: optax.GradientTransformation,
    init: Callable[[jax.Array], PyTree] | Stacked,
    *,
    num_chains: int,
    data: PyTree = None,
    batches: Batches = full_batch(),
) -> Chain:
    """Chains before their first update.

    Args:
      key: a seed or key. Starting points, noise and batches of every chain branch
        from it; those of chain i do not depend on `num_chains`.
      sampler: any optax transformation. Its key slots are filled anew.
      init: `key -> params`, called once per chain, or `stacked(params)`.
      num_chains: C, at least 1.
      data: arrays `[N, ...]`, or None.
      batches: which rows an update sees.

    Returns:
      A `Chain` for `step` and `resume`.

    Raises:
      TypeError, ValueError: for arguments that do not fit together.

    Example:
      >>> import jax, jax.numpy as jnp, sgld_jax
      >>> sampler = sgld_jax.sgld(0.1)
      >>> potential = sgld_jax.from_log_density(lambda x: -0.5 * jnp.sum(x**2))
      >>> chain = sgld_jax.start(0, sampler, jax.random.normal, num_chains=4)
      >>> chain, value = sgld_jax.step(chain, sampler, potential)
      >>> value.shape
      (4,)
    """
    key = as_key(key)
    check_vmappable(jax.random.key_impl(key))
    check_sampler(sampler)
    check_count("num_chains", num_chains, 1)
    check_batches(batches, data)
    check_streams(np.arange(num_chains) // batches.shared_by, batches)
    init_keys, noise_keys, batch_keys = (
        chain_keys(jax.random.fold_in(key, tag), num_chains)
        for tag in (_INIT, _NOISE, _BATCH)
    )
    params = _starting_points(init, init_keys, num_chains)
    layout = layout_of(params)
    params, noise_keys = layout.enter_chains((params, noise_keys))
    with layout.inside():
        state = _with_scales(jax.vmap(sampler.init)(params), params, init)
        if has_slot(state):
            state = jax.vmap(seed)(state, noise_keys)
    check_exact(params, state, batches)
    # Two arrays, since one buffer in two places could not be donated.
    healthy = Failure(*(jnp.full([num_chains], -1, jnp.int32) for _ in range(2)))
    number = np.arange(num_chains) // batches.shared_by
    stream = jax.vmap(batches.init, (0, 0, None))(
        batch_keys[number], number, batches.source(data)
    )
    count, group = (jnp.zeros([num_chains], jnp.int32) for _ in range(2))
    chain = Chain(params, state, stream, count, healthy, group)
    return layout.leave(layout.enter_chains(chain))


def pick(chosen: jax.Array, new: PyTree, old: PyTree) -> PyTree:
    """Chains of `new` where `chosen` `[C]`, of `old` elsewhere; leaves `[C, ...]`."""

    def leaf(n: jax.Array, o: jax.Array) -> jax.Array:
        if is_key(n):  # selecting keys would count as using them
            data = leaf(jax.random.key_data(n), jax.random.key_data(o))
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(n))
        return jnp.where(chosen.reshape(chosen.shape + (1,) * (n.ndim - 1)), n, o)

    return jax.tree.map(leaf, new, old)


def _starting_points(init: Any, keys: jax.Array, num_chains: int) -> PyTree:
    if isinstance(init, Stacked):
        params = init.params
        _check_some(params, "stacked was given")
        for path, leaf in paths(params).items():
            if leaf is not None and np.shape(leaf)[:1] != (num_chains,):
                raise ValueError(
                    f"stacked(params): {path} has shape {np.shape(leaf)}; expected a "
                    f"leading axis of num_chains={num_chains}."
                )
    elif callable(init):
        check_takes(init, "key", "init")
        params = jax.vmap(_checked_init(init))(keys)
    else:
        raise TypeError(
            f"init is a {type(init).__name__}: expected a function key -> params, as "
            f"in lambda key: params, or sgld_jax.stacked(params) with a chain axis."
        )
    # A weakly typed start would change its type in the first update.
    return jax.tree.map(
        lambda x: jax.lax.convert_element_type(x, jnp.result_type(x)), params
    )


def _with_scales(state: PyTree, params: PyTree, init: Any) -> PyTree:
    """The state with the scales that came with the starting points, if it has any."""
    scale = init.scale if isinstance(init, Stacked) else None
    slots = instances(state, OwnMetric)
    if scale is None and not slots:
        return state
    if scale is None:
        raise ValueError(
            "The sampler has own_diagonal(), and no chain has a scale: expected "
            "init=sgld_jax.stacked(params, scale), leaves [C, ...], or another "
            "preconditioner, such as sgld_jax.diagonal(scale)."
        )
    if not slots:
        raise ValueError(
            "The starting points bring scales, and the sampler has no place for them: "
            "expected preconditioner=sgld_jax.own_diagonal()."
        )
    scale = spread(scale, params, "stacked(params, scale)")

    def is_slot(x: Any) -> bool:
        return isinstance(x, OwnMetric)

    def filled(x: Any) -> Any:  # under optax.masked a slot is for some of the leaves
        return OwnMetric(matched(scale, x.scale, "scale")) if is_slot(x) else x

    return jax.tree.map(filled, state, is_leaf=is_slot)


def _checked_init(init: Callable) -> Callable:
    def checked(key: jax.Array) -> PyTree:
        params = init(key)
        check_sampled_kinds(params)  # here, since `vmap` would untie tied weights
        _check_some(params, "init(key) returned")
        return params

    return checked


def _check_some(params: PyTree, what: str) -> None:
    leaves = jax.tree.leaves(params)
    if not leaves:
        raise TypeError(
            f"{what} {type(params).__name__} without an array: expected parameters, "
            f"such as lambda key: {{'w': jax.random.normal(key, (3,))}}."
        )
    for leaf in leaves:
        if not is_numeric(leaf):
            raise TypeError(
                f"{what} a {type(leaf).__name__} among the parameters: expected arrays."
            )
