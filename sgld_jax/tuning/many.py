"""The warm-up where coordinates are too many for a matrix: that of networks."""

import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sgld_jax.engine.chain import stacked
from sgld_jax.kernels.baoa import baoa
from sgld_jax.potentials.batches import Batches
from sgld_jax.preconditioners import own_diagonal
from sgld_jax.tuning.landscape import Landscape
from sgld_jax.tuning.own_metric import BLOCK, Run, adapt_own
from sgld_jax.tuning.warm_up_report import WarmUp

PyTree = Any

_DESCENT, _RATE = 1_000, 1e-2  # updates of Adam, and its learning rate at the start
_HOT = 0.7  # mean exp(−|ΔH|) of a chain that has come where its step is too large
_SETTLED = 4.5  # standard errors


class ManyReport(NamedTuple):
    """What a warm-up of many coordinates found; printed as text.

    Attributes:
      kernel: its name.
      gradients: what was spent, for each chain.
      seconds: wall time, with compilation.
      kept: mean exp(−|ΔH|) of an update, of every chain `[C]`; 1 is a step without
        error.
      potential: mean U of every chain, `[n, C]`, of 50 updates each.
      drift: by how much U rose from the third quarter to the last, in standard errors
        over chains.
      warnings: what makes the results doubtful.
    """

    kernel: str
    gradients: int
    seconds: float
    kept: np.ndarray
    potential: np.ndarray
    drift: float
    warnings: tuple[str, ...]

    def __str__(self) -> str:
        U = self.potential.mean(1)
        lines = [
            f"{self.kernel}, warmed up with {self.gradients} gradients a chain in "
            f"{self.seconds:.1f} s; a metric and a step for every chain",
            f"U began at {U[0]:.4g} and is {U[-1]:.4g}; exp(-|error of the energy|) of "
            f"an update is {self.kept.mean():.2f}, {self.kept.min():.2f} in the worst "
            f"chain",
        ]
        return "\n".join([*lines, *self.warnings])


def warm_up_many(
    land: Landscape,
    starts: jax.Array,
    is_optimum: bool,
    key: jax.Array,
    data: PyTree,
    batches: Batches,
    tolerance: float,
    updates: int,
) -> WarmUp:
    """Adam to an optimum, then `baoa` while a metric and a step adapt.

    Args:
      land: U of all data.
      starts: `[C, d]`.
      is_optimum: whether there is nothing to descend.
      key: of noise and batches.
      data: of the potential.
      batches: which rows an update sees.
      tolerance: of the standard deviation, of what batches may add to it.
      updates: in which metric and step adapt; a third as many are the burn-in.
    """
    began, keys = time.perf_counter(), jax.random.split(key)
    run = Run.of(land, batches, tolerance)
    x = starts if is_optimum else _descended(run, starts, keys[1], data)
    own = adapt_own(run, x, keys[0], data, updates)
    step_size = float(np.exp(np.log(own.step_size).mean()))
    # A step of a chain's own is a factor of its metric.
    scale = own.scale * (own.step_size / step_size)[:, None]
    sampler = baoa(step_size, run.friction, preconditioner=own_diagonal())
    dtype = jnp.result_type(float)
    trees = (jax.vmap(land.unravel)(jnp.asarray(a, dtype)) for a in (own.x, scale))
    report = ManyReport(
        "baoa",
        _DESCENT * (not is_optimum) + own.gradients,
        time.perf_counter() - began,
        own.kept,
        own.potential,
        _drift(own.potential),
        (),
    )
    report = report._replace(warnings=_doubts(report))
    bias = 0.0 if batches.batch_size is None else tolerance
    plan = -(-updates // 3), BLOCK, step_size, scale, bias
    return WarmUp(sampler, stacked(*trees), *plan, report)


def _descended(run: Run, x: jax.Array, key: jax.Array, data: PyTree) -> jax.Array:
    """Where Adam comes to from every start, `[C, d]`."""
    optimizer = optax.adam(optax.cosine_decay_schedule(_RATE, _DESCENT))

    def way(x: jax.Array, key: jax.Array, data: PyTree) -> tuple:
        def step(carry: tuple, _: Any) -> Any:
            x, state, stream = carry
            rows, stream = run.next_rows(stream, data)
            value, grads = run.value_and_slope(x, rows, data)
            moves, state = optimizer.update(grads, state, x)
            return (optax.apply_updates(x, moves), state, stream), value

        first = x, optimizer.init(x), run.batches.init(key)
        (x, _, _), values = jax.lax.scan(step, first, length=_DESCENT)
        return x, values[0]

    keys = jax.random.split(key, len(x))
    x, value = jax.jit(jax.vmap(way, (0, 0, None)))(x, keys, data)
    lost = ~np.isfinite(value) | ~np.isfinite(x).all(1)
    if lost.any():
        raise ValueError(
            f"The potential is not finite where {int(lost.sum())} of {len(x)} chains "
            f"start, or come to: look at init, and at the potential there."
        )
    return x


def _drift(potential: np.ndarray) -> float:
    """The rise of U `[n, C]` from the third quarter to the last, in standard errors."""
    quarter = len(potential) // 4
    if quarter < 2 or potential.shape[1] < 2:
        return 0.0
    rise = potential[-quarter:].mean(0) - potential[-2 * quarter : -quarter].mean(0)
    return float(rise.mean() / (rise.std(ddof=1) / np.sqrt(len(rise))))


def _doubts(report: ManyReport) -> tuple[str, ...]:
    """What makes the results doubtful, in words."""
    found = []
    if abs(report.drift) > _SETTLED:
        rises = "rises" if report.drift > 0 else "falls"
        found += [
            f"U still {rises}, by {abs(report.drift):.1f} standard errors between the "
            f"last quarters: chains have not settled. Give more burn_in."
        ]
    if report.kept.min() < _HOT:
        found += [
            "A chain has come to where its step is too large, and is too hot: halve "
            "the step size and compare."
        ]
    return tuple(found)
