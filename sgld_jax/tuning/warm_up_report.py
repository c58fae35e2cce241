"""What a warm-up says of itself, and what makes its results doubtful."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax

from sgld_jax.engine.chain import Stacked
from sgld_jax.engine.samples import Samples
from sgld_jax.tuning.adaptation import Adapted
from sgld_jax.tuning.descent import Places

LARGEST_THINNING = 64
_UNEVEN = 20.0  # the centred funnel has 2,800, no posterior that passes more than 7.1
_NOT_GAUSSIAN = 1.5  # the three logistic regressions have 1.1
_STUCK = 0.05  # of proposals accepted, in the worst chain; those that pass have .40
_LIKELY = 5.0  # nats below the best optimum, of one that has mass to speak of


class WarmUp(NamedTuple):
    """How to sample: the arguments of `sample`, and how they were found.

    Attributes:
      sampler: a kernel with its step and metric.
      init: starting points of all chains, spread wider than the posterior; with a
        diagonal metric where chains have come to.
      burn_in: updates in which that spread is forgotten; a third of those of the
        warm-up with a diagonal metric.
      thinning: updates from one draw to a next one that is nearly independent; 50 with
        a diagonal metric, half of what a velocity lasts.
      step_size: ε; of `mala`, of its whole steps.
      metric: G, `[d, d]`, over all coordinates in the order of `ravel_pytree`; or the
        diagonal of that of each chain, `[C, d]`.
      predicted_bias: of the standard deviation in the direction where it is largest,
        as a share: 0 for `mala`, and for `baoa` on Gaussians; for minibatches see
        `auto_step_size`. With a diagonal metric and minibatches: at most, of single
        coordinates; directions in which they agree may have more.
      report: what happened, in words and numbers; print it.
    """

    sampler: optax.GradientTransformationExtraArgs
    init: Stacked
    burn_in: int
    thinning: int
    step_size: float
    metric: np.ndarray
    predicted_bias: float
    report: Any


class WarmUpReport(NamedTuple):
    """What a warm-up found; printed as text.

    Attributes:
      kernel: its name.
      gradients: what was spent, for each chain; a Hessian counts as 2d.
      seconds: wall time, with compilation.
      converged: share of the starting points that led to an optimum.
      masses: log mass of each optimum by Laplace's approximation, the best one's 0.
      acceptance: of `mala`, while the step was found.
      unevenness: how much more U curves where it curves most (the 95 % quantile over
        draws) than in the middle of them.
      time: updates that are worth one independent draw, of the slowest coordinate.
      warnings: what makes the results doubtful.
    """

    kernel: str
    gradients: int
    seconds: float
    converged: float
    masses: np.ndarray
    acceptance: float
    unevenness: float
    time: float
    warnings: tuple[str, ...]

    def __str__(self) -> str:
        others = ", ".join(f"{x:.1f}" for x in self.masses[1:6])
        lines = [
            f"{self.kernel}, warmed up with {self.gradients} gradients a chain in "
            f"{self.seconds:.1f} s",
            f"{100 * self.converged:.0f} % of the starting points led to an optimum; "
            f"{len(self.masses)} found"
            + f", the others lower by {others} nats"
            * (len(self.masses) > 1),
            f"curvature {self.unevenness:.2g} times as large in places; "
            f"{self.time:.3g} updates are worth one independent draw",
        ]
        return "\n".join([*lines, *self.warnings])


def doubts(
    report: WarmUpReport, pilot: Samples, places: Places, adapted: Adapted
) -> tuple[str, ...]:
    """What makes the results doubtful, in words."""
    found = []
    if report.converged < 0.5:
        found += [
            f"Only {100 * report.converged:.0f} % of the starting points led to an "
            f"optimum: a funnel, or a direction in which U does not rise. Try another "
            f"parametrisation, such as a non-centred one."
        ]
    if report.unevenness > _UNEVEN:
        found += [
            f"U curves {report.unevenness:.3g} times more in some places than in "
            f"others: no step suits all. Try another parametrisation, or NUTS."
        ]
    if report.kernel in ("sghmc", "sgld") and report.unevenness > _NOT_GAUSSIAN:
        found += [
            f"The bias of {report.kernel} is predicted for a Gaussian, and curvature "
            f"differs by {report.unevenness:.2g} between draws: it may be several "
            f"times as large, towards too narrow: compare with a fifth of it."
        ]
    if pilot.report.lowest_acceptance < _STUCK:
        found += ["A chain hardly moved in the pilot run: results lean on where it is."]
    if report.time > LARGEST_THINNING:
        found += [
            f"{report.time:.3g} updates are worth one independent draw: draws are "
            f"correlated, and need be many."
        ]
    if pilot.failed.any():
        found += [f"{int(pilot.failed.sum())} chains of the pilot run failed."]
    likely = int((places.masses > -_LIKELY).sum())
    if likely > 1:
        found += [
            f"{likely} optima have mass to speak of: chains stay at theirs, R-hat will "
            f"say so, and their shares are those of the starting points."
        ]
    return (*found, *_precision(places, adapted))


def _precision(places: Places, adapted: Adapted) -> list[str]:
    """Whether 32 bits are enough."""
    if jnp.result_type(float) == np.float64:
        return []
    eps = float(np.finfo(np.float32).eps)
    unknown = eps * np.abs(places.value).max()
    narrow = np.sqrt(np.diag(np.linalg.inv(adapted.metric)))
    coarse = eps * np.max(np.abs(adapted.x).max(0) * narrow)
    if max(unknown, coarse) < 0.01:
        return []
    return [
        f"32 bits know U to ±{unknown:.2g}, and positions to {coarse:.2g} of their "
        f"width: jax.config.update('jax_enable_x64', True) before anything else."
    ]
