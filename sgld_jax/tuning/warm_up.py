"""From a potential and a guess to a sampler, starting points and a plan."""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from sgld_jax.arguments import check_count, check_takes
from sgld_jax.engine.chain import Stacked, stacked
from sgld_jax.kernels.baoa import baoa
from sgld_jax.kernels.mala import mala
from sgld_jax.kernels.sghmc import sghmc
from sgld_jax.kernels.sgld import sgld
from sgld_jax.keys import as_key, chain_keys
from sgld_jax.potentials.batches import Batches, check_batches, full_batch
from sgld_jax.potentials.potential import Potential, check_is_potential, check_num_data
from sgld_jax.preconditioners import dense
from sgld_jax.tuning.adaptation import Adapted, adapt, short_steps_between
from sgld_jax.tuning.descent import Places, descend
from sgld_jax.tuning.landscape import Landscape, landscape, steepest
from sgld_jax.tuning.many import warm_up_many
from sgld_jax.tuning.pilot import LONG, memory, pilot_run
from sgld_jax.tuning.step_size import auto_step_size
from sgld_jax.tuning.warm_up_report import (
    LARGEST_THINNING,
    WarmUp,
    WarmUpReport,
    doubts,
)

PyTree = Any

_RANGE = 2.0  # of starting points about init, in every coordinate
_WIDE = 1.5  # spread of the starting points of the run, in that of the draws
_BURN_IN = 100, 2_000
_FRICTION = 0.5  # of baoa
_OF_ALL_DATA = "mala", "baoa"
_LARGEST = 400  # coordinates


def warm_up(
    key: Any,
    potential: Potential,
    init: Callable[[jax.Array], PyTree] | Stacked,
    *,
    num_chains: int,
    kernel: str = "auto",
    data: PyTree = None,
    batches: Batches = full_batch(),
    metric: str = "auto",
    tolerance: float = 0.05,
    updates: int = 3_000,
) -> WarmUp:
    """Finds what `sample` needs: a sampler with its step and metric, starts, a plan.

    From points about init every chain descends, and runs `mala` while the covariance of
    all chains becomes the metric and the step the one that accepts .57. A pilot run
    then says how long a start is remembered. All but the pilot takes gradients of all
    data, some thousand for each chain.

    Beyond 400 coordinates, as in networks, chains descend by Adam and run `baoa`, each
    with a diagonal metric of its own, from the squares of its gradients, and a step of
    its own, from the energy error of an update. Minibatches warm no coordinate by more
    than the tolerance; directions in which gradients of many coordinates agree they may
    warm by more. Chains stay about the optimum they came to: compare what they predict,
    not their weights, and start as many as you can. Coordinates should be of about one
    size, as in `hierarchical`.

    Args:
      key: a seed or key.
      potential: `(params, batch) -> scalar`; `batch` is all of data.
      init: `key -> params`. Chains start within 2 of it in every coordinate, with a
        diagonal metric at it; then also `stacked(params)`, optima found before.
      num_chains: C, at least 8, of which the posterior's covariance is taken; 64 do.
        With a diagonal metric at least 2.
      kernel: "auto", which is "mala", and "sghmc" for minibatches, and "baoa" with a
        diagonal metric. Or "baoa", which needs fewer gradients than `mala` where U
        curves much alike everywhere, as the report says, and is not exact; or "sgld".
      data: arrays `[N, ...]`, or None.
      batches: which rows an update of the run sees.
      metric: "dense", a covariance; "diagonal", one for each chain; or "auto", which is
        "dense" for up to 400 coordinates.
      tolerance: of minibatches, the bias of a standard deviation that they may have;
        see `auto_step_size`.
      updates: in which a diagonal metric is found.

    Returns:
      A `WarmUp`; its report says what is doubtful.

    Raises:
      TypeError, ValueError: for arguments out of range; if U is finite at no starting
        point; for a covariance that 32 bits cannot hold, with what to type.

    Example:
      >>> import jax.numpy as jnp, sgld_jax
      >>> precision = jnp.array([[1.0, 0.99], [0.99, 1.0]])  # a narrow ridge
      >>> potential = sgld_jax.from_log_density(lambda x: -0.5 * x @ precision @ x)
      >>> fit = sgld_jax.warm_up(0, potential, lambda key: jnp.zeros(2), num_chains=64)
      >>> samples = sgld_jax.sample(
      ...     1, fit.sampler, potential, fit.init, num_chains=64, num_samples=500,
      ...     burn_in=fit.burn_in, thinning=fit.thinning)
      >>> bool(jnp.all(sgld_jax.rhat(samples) < 1.01))
      True
    """
    _check(potential, init, num_chains, kernel, data, batches, metric, updates)
    began, given = time.perf_counter(), {"data": data, "batches": batches}
    keys = jax.random.split(as_key(key), 3)
    init_key, away_key = jax.random.split(keys[0])
    starts, land = _starts(potential, init, init_key, num_chains)
    if metric == "diagonal" or (metric == "auto" and land.dim > _LARGEST):
        _check_diagonal(kernel)
        at = starts, isinstance(init, Stacked), keys[1]
        return warm_up_many(land, *at, data, batches, tolerance, updates)
    _check_dense(land, init, num_chains, kernel, batches)
    away = jax.random.uniform(away_key, starts.shape, starts.dtype, -_RANGE, _RANGE)
    starts = starts + away
    places = descend(land, starts, data)
    adapted = adapt(land, places, keys[1], data)
    curves = steepest(land, adapted.metric, adapted.draws, data)
    if kernel == "auto":
        kernel = "mala" if batches.batch_size is None else "sghmc"
    if kernel in _OF_ALL_DATA:
        sampler, step_size, bias = _of_all_data(kernel, adapted, curves)
    else:
        middle = jnp.asarray(adapted.draws.mean(0), jnp.result_type(float))
        at = potential, land.unravel(middle), adapted.metric
        chosen = {**given, "tolerance": tolerance}
        sampler, step_size, bias = _of_batches(kernel, *at, chosen)
    wide = _wide_starts(land, adapted, places, data)
    pilot = pilot_run(keys[2], sampler, potential, wide, given, adapted.metric)
    gradients = places.gradients + adapted.gradients + pilot.num_samples
    gradients += 2 * land.dim * len(curves) // num_chains
    lasting = memory(pilot, adapted.metric)
    thinning = int(np.clip(np.ceil(lasting), 1, LARGEST_THINNING))
    burn_in = int(np.clip(np.ceil(LONG * lasting), *_BURN_IN))
    uneven = float(np.quantile(curves, 0.95) / np.quantile(curves, 0.5))
    report = WarmUpReport(
        kernel,
        gradients,
        time.perf_counter() - began,
        places.converged,
        places.masses,
        adapted.acceptance,
        uneven,
        lasting,
        (),
    )
    report = report._replace(warnings=doubts(report, pilot, places, adapted))
    plan = burn_in, thinning, step_size, adapted.metric, bias
    return WarmUp(sampler, wide, *plan, report)


def _starts(
    potential: Potential, init: Callable | Stacked, key: jax.Array, num_chains: int
) -> tuple[jax.Array, Landscape]:
    """Where init puts the chains, `[C, d]`, and the landscape they are in."""
    if isinstance(init, Stacked):
        params = init.params
    else:
        params = jax.vmap(init)(chain_keys(key, num_chains))
    land = landscape(potential, jax.tree.map(lambda x: x[0], params))
    return jax.vmap(lambda p: ravel_pytree(p)[0])(params), land


def _of_all_data(
    kernel: str, adapted: Adapted, curves: np.ndarray
) -> tuple[Any, float, float]:
    """The kernel with its step and metric; the step; its bias on Gaussians."""
    metric = dense(adapted.metric)
    if kernel == "mala":
        step_size = adapted.step_size
        schedule = short_steps_between(step_size)
        return mala(schedule, preconditioner=metric), step_size, 0.0
    # A time step of h² = 1/λ, a quarter of what is stable, for nearly all of the draws.
    step_size = (1 - _FRICTION / 2) / float(np.quantile(curves, 0.95))
    return baoa(step_size, _FRICTION, preconditioner=metric), step_size, 0.0


def _of_batches(
    kernel: str, potential: Potential, params: PyTree, metric: np.ndarray, given: dict
) -> tuple[Any, float, float]:
    """Likewise, by the law of the kernel with the noise of its batches."""
    G = dense(metric)
    found = auto_step_size(potential, params, kernel=kernel, preconditioner=G, **given)
    if kernel == "sgld":
        sampler = sgld(found.step_size, preconditioner=G)
    else:
        sampler = sghmc(found.step_size, found.friction, preconditioner=G)
    return sampler, found.step_size, found.predicted_bias


def _wide_starts(
    land: Landscape, adapted: Adapted, places: Places, data: PyTree
) -> Stacked:
    """Where chains are, 1.5 times as far from the middle of their optimum."""
    x, optimum = adapted.x, places.optimum
    middle = np.stack([x[optimum == k].mean(0) for k in optimum])
    wide = middle + _WIDE * (x - middle)
    dtype = jnp.result_type(float)
    value = jax.jit(jax.vmap(land.value, (0, None)))
    high = np.asarray(value(jnp.asarray(x, dtype), data)).max() + 3 * land.dim
    fine = np.asarray(value(jnp.asarray(wide, dtype), data)) < high
    chosen = jnp.asarray(np.where(fine[:, None], wide, x), dtype)
    return stacked(jax.vmap(land.unravel)(chosen))


def _check(
    potential: Any,
    init: Any,
    num_chains: Any,
    kernel: Any,
    data: Any,
    batches: Any,
    metric: Any,
    updates: Any,
) -> None:
    check_is_potential(
        potential,
        "warm_up compares values of U: give one without, such as its mean over keys.",
    )
    check_batches(batches, data)
    check_num_data(potential, data)
    check_count("num_chains", num_chains, 2)
    check_count("updates", updates, 1)
    if not isinstance(init, Stacked):
        if not callable(init):
            raise TypeError(
                f"init is a {type(init).__name__}: expected a function key -> params, "
                f"or sgld_jax.stacked(params)."
            )
        check_takes(init, "key", "init")
    elif any(np.shape(x)[:1] != (num_chains,) for x in jax.tree.leaves(init.params)):
        raise ValueError(f"stacked(params): expected num_chains={num_chains} of each.")
    for name, value, known in (
        ("kernel", kernel, ("auto", *_OF_ALL_DATA, "sghmc", "sgld")),
        ("metric", metric, ("auto", "dense", "diagonal")),
    ):
        if value not in known:
            raise ValueError(f"{name}={value!r}: expected one of {', '.join(known)}.")
    if kernel == "mala" and batches.batch_size is not None:
        raise ValueError(
            f'kernel="mala" is for gradients of all data, and batches is {batches}: '
            f'take "auto", or leave batches out.'
        )


def _check_dense(
    land: Landscape, init: Any, num_chains: int, kernel: str, batches: Batches
) -> None:
    if land.dim > _LARGEST:
        raise ValueError(
            f'{land.dim} coordinates: metric="dense" is for up to {_LARGEST}. Take '
            f'"diagonal".'
        )
    if isinstance(init, Stacked):
        raise TypeError(
            "With a dense metric warm_up finds the starting points: expected init, "
            "key -> params."
        )
    check_count("num_chains", num_chains, 8)
    if kernel == "baoa" and batches.batch_size is not None:
        raise ValueError(
            'kernel="baoa" with a dense metric is for gradients of all data: take '
            '"auto", or leave batches out.'
        )


def _check_diagonal(kernel: str) -> None:
    if kernel not in ("auto", "baoa"):
        raise ValueError(
            f'kernel="{kernel}": with a diagonal metric, or beyond {_LARGEST} '
            f'coordinates, expected "auto" or "baoa".'
        )
