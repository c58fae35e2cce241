"""What a run is given, checked before any work: each error says what to type."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer

from sgld_jax.arguments import shown
from sgld_jax.engine.devices import Layout, layout_of
from sgld_jax.keys import is_key
from sgld_jax.leaves import instances, paths
from sgld_jax.noise import MAX_COUNT
from sgld_jax.potentials.batches import Batches, describe
from sgld_jax.preconditioners import FixedMetric
from sgld_jax.program import Program
from sgld_jax.seeding import slot_structure
from sgld_jax.states import HYPERPARAMETERS, Trace, positions, traces

PyTree = Any


def check_sampler(sampler: Any) -> None:
    """Raises `TypeError` for what is not a gradient transformation."""
    if not isinstance(sampler, optax.GradientTransformation):
        raise TypeError(
            f"sampler={shown(sampler)}: expected an optax.GradientTransformation, such "
            f"as sgld_jax.sgld(1e-3)."
        )


def check_chain(chain: Any) -> None:
    """Raises `TypeError` for what is not a `Chain` that can be run here."""
    if hasattr(chain, "final"):
        raise TypeError("Expected a Chain, and was given Samples: pass samples.final.")
    if not (hasattr(chain, "params") and hasattr(chain, "failure")):
        raise TypeError(
            f"chain is a {type(chain).__name__}: expected what sgld_jax.start "
            f"returned, or the final of a run."
        )
    for path, leaf in paths(chain.params).items():
        wide = getattr(leaf, "dtype", None) == np.float64
        if wide and not jax.config.jax_enable_x64:  # pyright: ignore
            raise TypeError(
                f"params{path} is float64, and 64 bits are off, so the chain would go "
                f"on as another one: jax.config.update('jax_enable_x64', True)."
            )


def check_not_traced(chain: Any) -> None:
    """Raises `TypeError` inside `jit`, `vmap` and `grad`, where no driver can run."""
    if any(isinstance(x, Tracer) for x in jax.tree.leaves(chain)):
        raise TypeError(
            "sample and resume run compiled chunks from the host, and so cannot be "
            "inside jax.jit, vmap, grad or scan. There, use sgld_jax.start and "
            "sgld_jax.step; many chains are num_chains=..."
        )


def check_exact(params: PyTree, state: PyTree, batches: Batches) -> None:
    """Raises `ValueError` where a kernel that accepts or rejects could not be right.

    It must see the potential of all data, and move all parameters at once.
    """
    if not positions(state):
        return
    if batches.batch_size is not None:
        raise ValueError(
            f"This kernel accepts or rejects by the potential of all data, and batches "
            f"is {batches}: leave batches out, or take sghmc or sgld for minibatches."
        )
    whole = jax.tree.map(np.shape, params)
    if [jax.tree.map(np.shape, x.params) for x in positions(state)] != [whole]:
        raise ValueError(
            "A kernel that accepts or rejects must move all parameters at once, not "
            "some of them, as under optax.masked or optax.partition: what else moves "
            "changes the potential that it judges by."
        )


def check_belongs(chain: Any, sampler: Any, batches: Batches, data: PyTree) -> None:
    """Raises `ValueError` for a chain of another sampler, batch scheme or data."""
    expected = jax.eval_shape(jax.vmap(sampler.init), chain.params)
    have, want = slot_structure(chain.state), slot_structure(expected)
    if have != want:
        raise ValueError(
            f"The state of these chains is not one of this sampler: it is "
            f"{shown(have)}, expected {shown(want)}. Pass the sampler they were "
            f"started with."
        )
    _check_source(np.asarray(chain.batches.source)[0], batches.source(data))
    check_streams(np.asarray(chain.batches.stream), batches)
    _check_metrics(chain, sampler)


def _check_metrics(chain: Any, sampler: Any) -> None:
    have = [_code(metric) for metric in instances(chain.state, FixedMetric)]
    if not any(have):  # the identity, or numbers that nobody knows
        return
    layout = layout_of(chain.params)
    with layout.inside():
        fresh = sampler.init(_first(layout, chain.params))
    for code, metric in zip(have, instances(fresh, FixedMetric)):
        if code and _code(metric) not in (0, code):
            raise ValueError(
                "The preconditioner has other numbers than the one these chains were "
                "started with. Pass that one; or start anew from these positions: "
                "sgld_jax.start(key, sampler, sgld_jax.stacked(chain.position), ...)."
            )


def _code(metric: FixedMetric) -> int:
    return int(np.ravel(metric.fingerprint)[0])


def _check_source(have: np.ndarray, want: np.ndarray) -> None:
    if describe(have) != describe(want):
        raise ValueError(
            f"These chains were started with {describe(have)}, but batches is "
            f"{describe(want)}: pass the scheme they were started with."
        )
    if have[2] != want[2]:
        raise ValueError(
            f"These chains were started with data of {have[2]} rows, but data has "
            f"{want[2]}. {_ANEW}"
        )
    if have[3] and want[3] and have[3] != want[3]:
        raise ValueError(
            f"The data are not those that these chains were started with: as many rows "
            f"({have[2]}), other numbers or types. {_ANEW}"
        )


def check_streams(stream: np.ndarray, batches: Batches) -> None:
    """Raises `ValueError` unless all chains `[C]` of each stream are there, in order.

    Args:
      stream: the number of each chain's stream.
      batches: how many chains a stream has.
    """
    if len(stream) % batches.shared_by:
        parts, whole = [], False
    else:
        parts = stream.reshape(-1, batches.shared_by)
        whole = (parts == parts[:, :1]).all() and len(np.unique(parts)) == len(parts)
    if not whole:
        raise ValueError(
            f"{batches} is for chains in groups of {batches.shared_by}, and the "
            f"{len(stream)} chains are not whole groups: use a number of chains that "
            f"is a multiple of {batches.shared_by}, and keep all chains of a group."
        )


_ANEW = (
    "Go on with the data of the start; or start anew from these positions: "
    "sgld_jax.start(key, sampler, sgld_jax.stacked(chain.position), data=data, ...)."
)


def check_room(chain: Any, updates: int) -> None:
    """Raises `ValueError` where counts of updates would not fit int32."""
    made = 0 if chain is None else int(np.asarray(chain.count).max())
    if made + updates >= MAX_COUNT:
        raise ValueError(
            f"{updates:,} updates after {made:,}: a chain makes fewer than 2**31, "
            f"since its noise would repeat. Start anew with another key from where it "
            f"is: sgld_jax.start(key, sampler, sgld_jax.stacked(chain.position), ...)."
        )


def changed_hyperparameters(chain: Any, sampler: Any) -> list[str]:
    """What of `HYPERPARAMETERS` the sampler has other than the chain, in words.

    The last update is made once more, by this sampler, with no gradient: its trace says
    what it used, the state of the chain what was used then.
    """

    def last_update(params: PyTree, state: PyTree) -> list[Trace]:
        grads = jax.tree.map(jnp.zeros_like, params)
        update = optax.with_extra_args_support(sampler).update
        _, after = update(grads, _before(state), params, value=jnp.zeros([]))
        return traces(after)

    if int(np.ravel(chain.count)[0]) == 0 or not traces(chain.state):
        return []
    layout = layout_of(chain.params)
    with layout.inside():
        params, state = _first(layout, (chain.params, chain.state))
        now = Program(last_update, params, state)(params, state)
    was, new = jax.tree.map(float, (traces(state), now))
    return [
        f"{name} was {before:.6g} and is {after:.6g}"
        for old, trace in zip(was, new)
        for field, name in HYPERPARAMETERS.items()
        if (before := getattr(old, field)) != (after := getattr(trace, field))
    ]


def _first(layout: Layout, tree: PyTree) -> PyTree:
    """The first chain's part of `tree`, to be used inside the layout."""
    return jax.tree.map(lambda x: x[0], layout.enter_chains(tree))


def _before(state: PyTree) -> PyTree:
    """A state as it was an update ago, as far as schedules look at it."""

    def earlier(path: tuple, leaf: Any) -> Any:
        is_count = getattr(path[-1], "name", "") == "count" if path else False
        return leaf - 1 if is_count else leaf

    return jax.tree_util.tree_map_with_path(earlier, state)


def check_distinct_keys(chain: Any) -> None:
    """Raises `ValueError` if two chains share a key, and so draw the same noise."""
    for path, leaf in paths(chain.state).items():
        if is_key(leaf):
            data = np.asarray(jax.random.key_data(leaf))
            different = len(np.unique(data.reshape(len(data), -1), axis=0))
            if different < len(data):
                raise ValueError(
                    f"The {len(data)} chains hold only {different} different keys in "
                    f"state{path}: some would draw the same noise. Start them with "
                    f"sgld_jax.start, or use jax.vmap(sgld_jax.seed)(state, keys)."
                )
