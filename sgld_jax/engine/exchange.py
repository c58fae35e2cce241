"""Replica exchange: chains that reach other modes by way of hot ones."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sgld_jax.arguments import check_count, declares_key
from sgld_jax.engine.chain import Chain, Stacked, start
from sgld_jax.engine.checks import check_not_traced, check_room
from sgld_jax.engine.ladder import Ladder, energies_of
from sgld_jax.engine.plan import Plan
from sgld_jax.engine.sample import run_chain
from sgld_jax.engine.samples import Samples
from sgld_jax.engine.stopping import Stopping
from sgld_jax.keys import is_key
from sgld_jax.potentials.batches import Batches, full_batch
from sgld_jax.potentials.data import num_rows
from sgld_jax.potentials.potential import Potential, check_is_potential, without_jit
from sgld_jax.states import positions

PyTree = Any


class Exchange(NamedTuple):
    """What `replica_exchange` returns, for L ladders of K temperatures.

    Attributes:
      cold: the draws at the lowest temperature, `[L, S, ...]`.
      samples: all draws, `[LK, S, ...]`; chain lK + k is at temperature k.
      acceptance: how often neighbours swapped, `[K − 1]`, burn-in included.
      round_trips: of all positions of a ladder, from the lowest temperature to the
        highest and back, `[L]`.
    """

    cold: Samples
    samples: Samples
    acceptance: np.ndarray
    round_trips: np.ndarray


def replica_exchange(
    key: Any,
    make_sampler: Callable[[Any, Any], optax.GradientTransformation],
    potential: Potential,
    init: Callable[[jax.Array], PyTree] | Stacked,
    *,
    temperatures: Sequence[float],
    step_sizes: Sequence[float],
    swap_every: int,
    num_samples: int,
    num_ladders: int = 1,
    energy_variance: float = 0.0,
    data: PyTree = None,
    batches: Batches = full_batch(),
    burn_in: int = 0,
    thinning: int = 1,
    collect: Callable[[PyTree], PyTree] | None = None,
    progress: bool = False,
) -> Exchange:
    """Chains that reach other modes by way of hot ones (Deng et al. 2020).

    A ladder has a chain at each temperature. Hot ones cross from mode to mode, and swap
    positions with their neighbours, by turns with the one above and the one below.

    Args:
      key: a seed or key.
      make_sampler: `(step_size, temperature) -> sampler`, such as `sgld_jax.sgld`; both
        are traced numbers. No `mala`, and no `sgnht`.
      potential: as `sample`; not a random one.
      init: `key -> params`, called once per chain, or `stacked(params)`, `[LK, ...]`.
      temperatures: K, ascending, from that which is asked for, 1 as a rule. Swaps are
        frequent where neighbours' energies overlap: look at `acceptance`.
      step_sizes: ε of each.
      swap_every: updates between two attempts.
      num_samples: S, draws of each chain.
      num_ladders: L.
      energy_variance: σ², of the potential of a batch, in units of U²; 0 with all data.
        Without it noise swaps too often, and cold chains are too hot.
      data: as `sample`.
      batches: as `sample`; each attempt takes a batch more.
      burn_in: as `sample`.
      thinning: as `sample`.
      collect: as `sample`.
      progress: as `sample`.

    Returns:
      `Exchange`. Runs that were stopped keep their draws; they cannot be resumed.

    Raises:
      TypeError, ValueError: for arguments out of range, and for samplers and potentials
        that cannot be swapped.

    Example:
      >>> import jax, sgld_jax
      >>> two_modes = sgld_jax.from_log_density(lambda x: -12 * (x**2 - 1) ** 2)
      >>> ladder = sgld_jax.replica_exchange(
      ...     0, sgld_jax.sgld, two_modes, jax.random.normal,
      ...     temperatures=[1.0, 3.0, 10.0], step_sizes=[1e-3, 1e-3, 2e-3],
      ...     swap_every=20, num_samples=200, num_ladders=8, thinning=50)
      >>> ladder.cold.params.shape, ladder.acceptance.shape
      ((8, 200), (2,))
      >>> bool(ladder.round_trips.min() > 0)
      True
    """
    ladder = Ladder.of(temperatures, step_sizes, swap_every, energy_variance)
    check_is_potential(potential)
    check_count("num_ladders", num_ladders, 1)
    sampler = ladder.sampler(make_sampler)
    plan = Plan.of(num_samples, burn_in, thinning, None)
    check_room(None, plan.total)
    K = len(ladder.temperatures)
    given = {"num_chains": num_ladders * K, "data": data, "batches": batches}
    chain = start(key, sampler, init, **given)
    check_not_traced(chain)
    _check_can_swap(chain, potential, batches)
    rungs = jnp.tile(jnp.arange(K, dtype=jnp.int32), num_ladders)
    # A ladder's chains are updated together, and so all are.
    group = chain.group + num_ladders * K
    chain = chain._replace(state=chain.state._replace(rung=rungs), group=group)
    plain, num_data = without_jit(potential), 0 if data is None else num_rows(data)

    def after(chain: Chain, data: PyTree) -> Chain:
        def swapped(chain: Chain) -> Chain:
            energies, chain = energies_of(chain, plain, data, batches, num_data)
            return ladder.swapped(chain, energies)

        due = jnp.max(chain.count) % ladder.swap_every == 0  # due
        return jax.lax.cond(due, swapped, lambda chain: chain, chain)

    rest = None, collect, plan, progress, Stopping(None), after
    samples = run_chain(chain, sampler, potential, data, batches, *rest)
    state: Any = samples.final.state
    tried, made, trips = (
        np.asarray(x, np.float64).reshape(num_ladders, K)
        for x in (state.tried, state.swapped, state.trips)
    )
    acceptance = made.sum(0)[:-1] / np.maximum(tried.sum(0)[:-1], 1)
    return Exchange(samples[::K], samples, acceptance, trips.sum(1).astype(int))


def _check_can_swap(chain: Chain, potential: Any, batches: Batches) -> None:
    if positions(chain.state):
        raise ValueError(
            "mala keeps a proposal that was made at one temperature: take a kernel "
            "without, such as sgld or baoa."
        )
    flat, _ = jax.tree_util.tree_flatten_with_path(chain.state)
    if any(
        getattr(part, "name", "") == "thermostat" for path, _ in flat for part in path
    ):
        raise ValueError(
            "sgnht keeps a thermostat that has come to one temperature: take sghmc or "
            "baoa."
        )
    if not any(is_key(x) for _, x in flat):
        raise ValueError("The sampler has no key: expected one with noise, as sgld.")
    if declares_key(potential):
        raise ValueError(
            "The potential declares key=, and swaps are decided by U itself: expected "
            "one that is a function of parameters and batch."
        )
    if batches.shared_by > 1:
        raise ValueError("shared_by: each chain of a ladder needs batches of its own.")
