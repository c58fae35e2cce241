"""Two runs with different steps: what the step does to means, and means without it."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from sgld_jax.analysis.diagnostics import mcse
from sgld_jax.analysis.draws import labels, named_arrays
from sgld_jax.arguments import check_count, check_takes
from sgld_jax.engine.samples import Samples
from sgld_jax.keys import is_key
from sgld_jax.states import traces
from sgld_jax.tuning.bias import check_constant_step

PyTree = Any

_SHOWN = 12  # scalars, in a printed report


class StepComparison(NamedTuple):
    """What two steps say. Trees of NumPy arrays `[...]`, of every scalar.

    Attributes:
      coarse: mean with the larger step.
      fine: mean with the smaller one.
      extrapolated: mean for a step of 0.
      error: its standard error.
      bias: of the fine run, fine less extrapolated.
      z: fine less coarse, in standard errors: beyond 4.5 the step is seen to matter.
    """

    coarse: PyTree
    fine: PyTree
    extrapolated: PyTree
    error: PyTree
    bias: PyTree
    z: PyTree

    def __str__(self) -> str:
        columns = [
            np.concatenate([np.ravel(x) for x in jax.tree.leaves(c)]) for c in self
        ]
        found, z = named_arrays(self.fine, "x"), columns[5]
        names = [label for name, x in found.items() for label in labels(name, x.shape)]
        head = f"{'coarse':>11}{'fine':>11}{'no step':>11}{'error':>10}{'z':>8}"
        lines = [f"{'':16}{head}"]
        worst = np.argsort(-np.abs(np.nan_to_num(z)))[:_SHOWN]
        for i in worst:
            coarse, fine, none, error = (column[i] for column in columns[:4])
            means = f"{coarse:11.4g}{fine:11.4g}{none:11.4g}"
            lines += [f"{names[i]:16}{means}{error:10.2g}{z[i]:8.1f}"]
        more = len(names) - len(worst)
        return "\n".join(lines + [f"and {more} more"] * (more > 0))


def compare_steps(
    coarse: Samples,
    fine: Samples,
    *,
    of: Callable[[PyTree], PyTree] | None = None,
    order: int = 1,
) -> StepComparison:
    """Richardson's extrapolation: means of two runs, and where they lead at no step.

    A mean with step ε is that of the target plus b εᵖ, to leading order, with p = 1 for
    `sgld` and `sghmc` (and for any noise of minibatches) and p = 2 for `baoa` and
    `leimkuhler_matthews` with full gradients. Two steps tell b.

    Args:
      coarse: a run with a larger step.
      fine: an independent run, of another key, with a smaller one, such as half of it.
      of: `params -> tree`, what of a draw to take the mean of; the draws themselves if
        None. Widths are means of squares.
      order: p.

    Returns:
      A `StepComparison`; print it.

    Raises:
      TypeError, ValueError: for what are not two runs; for runs that share keys; for
        steps that are unknown, that change, or of which the first is not the larger.

    Example:
      >>> import jax, sgld_jax
      >>> potential = sgld_jax.from_log_density(lambda x: -0.5 * x**2)
      >>> runs = [
      ...     sgld_jax.sample(key, sgld_jax.sgld(step), potential, jax.random.normal,
      ...         num_chains=256, num_samples=200, burn_in=50, thinning=4)
      ...     for key, step in enumerate((0.4, 0.2))]
      >>> found = sgld_jax.compare_steps(*runs, of=lambda x: x**2)
      >>> round(float(found.coarse), 1), round(float(found.extrapolated), 1)  # 1/(1-.2)
      (1.2, 1.0)
    """
    check_count("order", order, 1)
    for name, samples in (("coarse", coarse), ("fine", fine)):
        if not isinstance(samples, Samples):
            raise TypeError(
                f"{name} is a {type(samples).__name__}: expected the Samples of a run."
            )
    coarse, fine = coarse.healthy(), fine.healthy()
    ratio = _ratio(coarse, fine) ** order
    _check_independent(coarse, fine)
    (mc, ec), (mf, ef) = (_mean(samples, of) for samples in (coarse, fine))

    def each(function: Callable) -> PyTree:
        return jax.tree.map(function, mc, ec, mf, ef)

    return StepComparison(
        coarse=mc,
        fine=mf,
        extrapolated=each(lambda c, ec, f, ef: (ratio * f - c) / (ratio - 1)),
        error=each(lambda c, ec, f, ef: np.hypot(ratio * ef, ec) / (ratio - 1)),
        bias=each(lambda c, ec, f, ef: (c - f) / (ratio - 1)),
        z=each(lambda c, ec, f, ef: (f - c) / np.hypot(ec, ef)),
    )


def _mean(samples: Samples, of: Callable | None) -> tuple[PyTree, PyTree]:
    """Means of all draws and their standard errors, trees of float64."""
    draws = samples.params
    if of is not None:
        check_takes(of, "params", "of")
        draws = jax.jit(jax.vmap(jax.vmap(of)))(draws)
    draws = jax.tree.map(lambda x: np.asarray(x, np.float64), draws)
    means = jax.tree.map(lambda x: x.mean((0, 1)), draws)
    return means, mcse(dataclasses.replace(samples, params=draws))


def _ratio(coarse: Samples, fine: Samples) -> float:
    steps = [_step_of(samples) for samples in (coarse, fine)]
    if not steps[0] > steps[1] > 0:
        raise ValueError(
            f"The steps are {steps[0]:.4g} and {steps[1]:.4g}: expected the larger one "
            f"first, such as twice the other."
        )
    return steps[0] / steps[1]


def _step_of(samples: Samples) -> float:
    found = [np.asarray(trace.step_size) for trace in traces(samples.final.state)]
    if len(found) != 1:
        raise ValueError(
            f"A run has {len(found)} kernels of ours: expected one, with a known step."
        )
    check_constant_step(samples)
    return float(found[0][0])


def _check_independent(coarse: Samples, fine: Samples) -> None:
    def keys(samples: Samples) -> np.ndarray:
        leaves = filter(is_key, jax.tree.leaves(samples.final.state))
        data = [np.asarray(jax.random.key_data(x)) for x in leaves]
        return np.concatenate([x.reshape(len(x), -1) for x in data])

    both = np.concatenate([keys(coarse), keys(fine)])
    if len(np.unique(both, axis=0)) < len(both):
        raise ValueError(
            "The runs share keys, and so noise: their errors would not be independent. "
            "Give each run a key of its own."
        )
