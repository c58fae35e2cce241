"""Sampling: from a potential to draws, and on from where a run stopped."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax

from sgld_jax.arguments import check_count, check_takes
from sgld_jax.engine.chain import Chain, Stacked, start
from sgld_jax.engine.checks import (
    changed_hyperparameters,
    check_belongs,
    check_chain,
    check_distinct_keys,
    check_not_traced,
    check_room,
    check_sampler,
)
from sgld_jax.engine.devices import layout_of
from sgld_jax.engine.drive import drive
from sgld_jax.engine.feed import Fixed, Loaded, loaded
from sgld_jax.engine.files import with_state_of
from sgld_jax.engine.groups import chosen_size, group_size
from sgld_jax.engine.memory import with_memory
from sgld_jax.engine.plan import Plan
from sgld_jax.engine.samples import Samples
from sgld_jax.engine.stopping import Stopping
from sgld_jax.engine.update import advance
from sgld_jax.potentials.batches import Batches, check_batches, full_batch
from sgld_jax.potentials.data import num_rows
from sgld_jax.potentials.estimators import estimated
from sgld_jax.potentials.potential import (
    Potential,
    check_is_potential,
    check_num_data,
    without_jit,
)
from sgld_jax.warn import warn

PyTree = Any


def sample(
    key: Any,
    sampler: optax.GradientTransformation,
    potential: Potential,
    init: Callable[[jax.Array], PyTree] | Stacked,
    *,
    num_samples: int,
    num_chains: int = 1,
    data: PyTree = None,
    batches: Batches = full_batch(),
    loader: Any = None,
    num_data: int | None = None,
    burn_in: int = 0,
    thinning: int = 1,
    collect: Callable[[PyTree], PyTree] | None = None,
    keep: Callable[[Any], Any] | None = None,
    groups: int | None = None,
    progress: bool = False,
    until: Callable[[Samples], Any] | None = None,
) -> Samples:
    """Draws from many chains at once.

    Draw k of a chain is its position after `burn_in + (k + 1) * thinning` updates.
    A chain that goes non-finite stays where it was last finite, is named in the
    report, and touches no other chain. Ctrl-C, or an exception out of a callback, ends
    the run with the draws made so far; the report says how to go on.

    Args:
      key: a seed or key; starting points, noise and batches branch from it.
      sampler: a kernel, or any optax transformation around one. Its key slots are
        filled anew, so it needs no key of its own.
      potential: `(params, batch) -> scalar`, the negative log density; or an unbiased
        estimate of it, `(params, batch, *, key) -> scalar`, which gets another key in
        every update of every chain; or an `Estimator`, such as `svrg(potential, 100)`.
      init: `key -> params`, called once per chain, or `stacked(params)`.
      num_samples: S, draws to keep of each chain.
      num_chains: C. Chain i draws the same noise whatever the number.
      data: arrays `[N, ...]`, or None; an argument of the compiled program.
      batches: which rows an update sees.
      loader: in place of data and batches, what brings batches of arrays `[n, ...]`: a
        torch `DataLoader`, any iterable that can be begun again, or a function that
        makes one. It is one stream for all chains, which are correlated by it: errors
        are taken from their mean. Lists become tuples.
      num_data: N, with a loader.
      burn_in: updates before the first draw's own.
      thinning: updates per draw.
      collect: what to keep of a position, `params -> tree`; everything if None.
      keep: which updates count, `count -> bool`, such as `cyclical(...).keep`: then
        draws are thinned from those alone. Of counts `[n]`, from 0, on the host.
      groups: in how many groups of equal size the chains are updated, one group after
        the other. None chooses so that the batches of a group fit the caches of a CPU;
        on other devices it is one. Paths agree to rounding whatever the groups.
      progress: whether to show a bar.
      until: `samples -> bool` of the draws so far, such as `stop_when(ess=1_000)`: a
        run that has enough ends there, and its report says how to go on. It is asked
        after every chunk of about half a second, from the first draw on; how many draws
        there are then is a matter of the machine.

    Returns:
      `Samples` with leaves `[C, S, ...]`.

    Raises:
      TypeError, ValueError: before any work, for arguments out of range or that do
        not fit together.

    Example:
      >>> import jax, jax.numpy as jnp, sgld_jax
      >>> potential = sgld_jax.from_log_density(lambda x: -0.5 * jnp.sum(x**2))
      >>> samples = sgld_jax.sample(
      ...     0, sgld_jax.sgld(0.1), potential,
      ...     lambda key: jax.random.normal(key, (3,)),
      ...     num_samples=100, num_chains=8, burn_in=50, thinning=5)
      >>> samples.params.shape
      (8, 100, 3)
    """
    check_is_potential(estimated(potential))
    stopping = Stopping(until)
    plan = Plan.of(num_samples, burn_in, thinning, keep)
    check_room(None, plan.total)
    feed = None
    if loader is not None:
        check_count("num_chains", num_chains, 1)
        feed, batches = loaded(loader, num_data, potential, data, batches, num_chains)
    chain = start(key, sampler, init, num_chains=num_chains, data=data, batches=batches)
    check_not_traced(chain)
    chain = _grouped(chain, groups)
    given = data, batches, feed, collect, plan, progress, stopping
    return run_chain(chain, sampler, potential, *given)


def resume(
    chain: Chain,
    sampler: optax.GradientTransformation,
    potential: Potential,
    *,
    num_samples: int,
    data: PyTree = None,
    batches: Batches = full_batch(),
    loader: Any = None,
    num_data: int | None = None,
    burn_in: int = 0,
    thinning: int = 1,
    collect: Callable[[PyTree], PyTree] | None = None,
    keep: Callable[[Any], Any] | None = None,
    groups: int | None = None,
    progress: bool = False,
    until: Callable[[Samples], Any] | None = None,
) -> Samples:
    """Runs chains on, as if they had never stopped.

    m draws and then k draws of `samples.final` equal one run of m + k draws, bit for
    bit, on the same machine and JAX version, for chains that stay finite.

    Args:
      chain: from `start`, or the `final` of a run.
      sampler: as in the run before. Another step size or temperature goes on with a
        warning that names it; another metric is refused.
      potential: as in the run before, which cannot be checked.
      num_samples: draws to make now.
      data: as in the run before.
      batches: as in the run before.
      loader: as in the run before; as many batches as have been seen are passed over.
      num_data: as in the run before.
      burn_in: updates before the first draw's own, if some are still to do. Below 0,
        above -thinning: so many updates of the first draw have been made already.
      thinning: updates per draw.
      collect: what to keep of a position; everything if None.
      keep: as `sample`; of the counts of the chains, which go on.
      groups: as `sample`; None goes on as the run before.
      progress: whether to show a bar.
      until: as `sample`; of the draws that are made now.

    Raises:
      ValueError: if two chains share a key, if sampler, metric, batch scheme or data
        are not those of the chain, and as `sample` does.

    Example:
      >>> import jax, jax.numpy as jnp, sgld_jax
      >>> sampler = sgld_jax.sgld(0.1)
      >>> potential = sgld_jax.from_log_density(lambda x: -0.5 * jnp.sum(x**2))
      >>> first = sgld_jax.sample(
      ...     0, sampler, potential, jax.random.normal, num_samples=10, num_chains=4)
      >>> more = sgld_jax.resume(first.final, sampler, potential, num_samples=10)
      >>> first.concatenate(more).params.shape
      (4, 20)
    """
    check_chain(chain)
    check_not_traced(chain)
    check_sampler(sampler)
    check_is_potential(estimated(potential))
    stopping = Stopping(until)
    feed = None
    if loader is not None:
        seen, num_chains = int(np.asarray(chain.batches.count).max()), len(chain.count)
        feed, batches = loaded(
            loader, num_data, potential, data, batches, num_chains, seen
        )
    check_batches(batches, data)
    chain = with_state_of(sampler, chain)
    made = int(np.asarray(chain.count).max())
    plan = Plan.of(num_samples, burn_in, thinning, keep, made, resumed=True)
    check_room(chain, plan.total)
    check_belongs(chain, sampler, batches, data)
    check_distinct_keys(chain)
    changed = changed_hyperparameters(chain, sampler)
    if changed:
        warn(
            f"From here on the chains run with other settings: {', '.join(changed)}. "
            f"Draws from before and after have different laws.",
        )
    chain = _grouped(chain, groups)
    given = data, batches, feed, collect, plan, progress, stopping
    return run_chain(chain, sampler, potential, *given)


def _grouped(chain: Chain, groups: int | None) -> Chain:
    """The chain with its user's choice of groups, if there is a new one."""
    size = chosen_size(groups, len(chain.count))
    return chain._replace(group=chain.group * 0 + size) if size else chain


def run_chain(
    chain: Chain,
    sampler: Any,
    potential: Any,
    data: PyTree,
    batches: Batches,
    feed: Loaded | None,
    collect: Any,
    plan: Plan,
    progress: bool,
    until: Stopping,
    after: Callable[[Chain, PyTree], Chain] | None = None,
) -> Samples:
    """`sample` for arguments that have been checked, from chains on.

    `after(chain, data)` changes all chains after each update, for `replica_exchange`;
    then rows of the data stay where they are.
    """
    if feed is None:
        check_num_data(estimated(potential), data)
    chain = with_memory(chain, potential, data)
    collect = _everything if collect is None else collect
    check_takes(collect, "params", "collect")
    potential, collect = without_jit(potential), without_jit(collect)

    size = group_size(chain, data, batches)
    num_data = 0 if data is None else num_rows(data)
    layout = layout_of(chain.params, data)
    is_plain = after is None and estimated(potential) is potential
    if layout.mesh is None and is_plain:
        batches, data = batches.laid_out(data)

    def one_update(chain: Chain, data: PyTree) -> tuple[Chain, jax.Array]:
        chain, value = advance(chain, sampler, potential, data, batches, num_data)
        return chain if after is None else after(chain, data), value

    source = Fixed(data) if feed is None else feed
    samples = drive(
        one_update, collect, chain, source, plan, size, layout, progress, until
    )
    failures = samples.report.failures
    if failures:
        warn(
            f"{len(failures)} of {samples.num_chains} chains have failed and are left "
            f"out of summaries and predictions; the first: {failures[0]}. See "
            f"samples.report; samples.healthy() has the others.",
        )
    return samples


def _everything(params: PyTree) -> PyTree:
    return params
