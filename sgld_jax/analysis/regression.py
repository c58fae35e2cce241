"""Predictions of numbers: every draw says N(m, σ²), and all of them a mixture.

    p(y)   = Σ w_cs N(y; m_cs, σ_cs²)       the predictive density, w summing to 1
    Var y  = E σ² + Var m                   total = aleatoric + epistemic
    CRPS   = E|Y − y| − ½ E|Y − Y′|         of Y, Y′ drawn from p; in the units of y

Shapes: C chains, S draws, n examples. Means are `[C, S, n]`; a scale is a number or
broadcasts to that. Draws count alike unless `weights` `[C, S]` are given.
"""

from typing import Any, NamedTuple

import numpy as np

from sgld_jax.analysis.weights import shares

_PAIRS = 2**22  # of draws and examples at once
_HALVINGS = 60  # of the interval that a quantile lies in


class VarianceSplit(NamedTuple):
    """A prediction of a number, and the parts of its variance, each `[n, ...]`.

    Attributes:
      mean: E m, the prediction.
      total: Var y.
      aleatoric: E σ²: what a draw, taken as the truth, would leave to chance.
      epistemic: Var m: how much the draws disagree.
    """

    mean: np.ndarray
    total: np.ndarray
    aleatoric: np.ndarray
    epistemic: np.ndarray


def variance_split(mean: Any, scale: Any, *, weights: Any = None) -> VarianceSplit:
    """Splits the variance of predicted numbers into aleatoric and epistemic parts.

    Args:
      mean: what each draw expects, `[C, S, n, ...]`.
      scale: standard deviation of y in each draw; a number, or of a shape that
        broadcasts to that of `mean`.
      weights: of the draws, `[C, S]`, such as `Samples.weights`; None to count all
        alike.

    Returns:
      `VarianceSplit` of float64 arrays, with total = aleatoric + epistemic.

    Raises:
      ValueError: for shapes that do not fit, and scales below 0.

    Example:
      >>> import numpy as np, sgld_jax
      >>> two_draws = np.array([[[1.0], [3.0]]])                # [C, S, n]
      >>> split = sgld_jax.variance_split(two_draws, 0.5)
      >>> [x.item() for x in split]
      [2.0, 1.25, 0.25, 1.0]

    Source: A. Kendall and Y. Gal, What uncertainties do we need in Bayesian deep
    learning for computer vision?, NeurIPS 2017, equation 9.
    """
    mean, scale, w = _mixture(mean, scale, weights)
    w = w.reshape(-1, *[1] * (mean.ndim - 1))
    center = (w * mean).sum(axis=0)
    aleatoric = (w * scale**2).sum(axis=0)
    epistemic = (w * (mean - center) ** 2).sum(axis=0)
    return VarianceSplit(center, aleatoric + epistemic, aleatoric, epistemic)


def predictive_log_density(
    mean: Any, scale: Any, y: Any, *, weights: Any = None
) -> np.ndarray:
    """Log p(y) of the mixture of all draws; its mean is the test log likelihood.

    Densities are averaged, and then the logarithm is taken. The average of the
    logarithms is lower, and is that of no prediction.

    Args:
      mean: `[C, S, n]`.
      scale: as `variance_split`, above 0.
      y: what was measured, `[n]`.
      weights: as `variance_split`.

    Returns:
      `[n]`, in nats.

    Raises:
      ValueError: for shapes that do not fit, and scales that are not above 0.

    Example:
      >>> import numpy as np, sgld_jax
      >>> log_p = sgld_jax.predictive_log_density(np.zeros((1, 2, 3)), 1.0, np.zeros(3))
      >>> log_p.round(4).tolist()
      [-0.9189, -0.9189, -0.9189]
    """
    mean, scale, w, y = _for(y, mean, scale, weights)
    z = (y - mean) / scale
    log_p = -0.5 * z**2 - np.log(scale) - 0.5 * np.log(2 * np.pi)
    with np.errstate(divide="ignore"):
        largest = log_p.max(axis=0)
        return largest + np.log(w @ np.exp(log_p - largest))


def predictive_interval(
    mean: Any, scale: Any, coverage: float = 0.9, *, weights: Any = None
) -> tuple[np.ndarray, np.ndarray]:
    """The central interval of the mixture: as much probability below as above it.

    Args:
      mean: `[C, S, n]`.
      scale: as `variance_split`, above 0.
      coverage: probability inside, between 0 and 1.
      weights: as `variance_split`.

    Returns:
      `(low, high)`, each `[n]`. `np.mean((low <= y) & (y <= high))` is how much of the
      data it holds.

    Raises:
      ValueError: as `predictive_log_density`, and for another coverage.

    Example:
      >>> import numpy as np, sgld_jax
      >>> low, high = sgld_jax.predictive_interval(np.zeros((1, 2, 1)), 1.0, 0.95)
      >>> round(low.item(), 3), round(high.item(), 3)
      (-1.96, 1.96)
    """
    if not 0 < coverage < 1:
        raise ValueError(f"coverage={coverage}: expected a number between 0 and 1.")
    mean, scale, w = _mixture(mean, scale, weights, flat=True)
    _check_positive(scale)
    tail = (1 - coverage) / 2
    ends = [_quantile(mean, scale, w, q) for q in (tail, 1 - tail)]
    return ends[0], ends[1]


def crps(mean: Any, scale: Any, y: Any, *, weights: Any = None) -> np.ndarray:
    """The continuous ranked probability score of the mixture: lower is better.

    For one draw without noise it is |y − m|. It is exact, and takes time in proportion
    to the square of C·S: some seconds for 800 draws and 1,000 examples.

    Args:
      mean: `[C, S, n]`.
      scale: as `variance_split`, above 0.
      y: what was measured, `[n]`.
      weights: as `variance_split`.

    Returns:
      `[n]`, in the units of y.

    Raises:
      ValueError: as `predictive_log_density`.

    Example:
      >>> import numpy as np, sgld_jax
      >>> sgld_jax.crps(np.zeros((1, 1, 1)), 1.0, np.zeros(1)).round(4).tolist()
      [0.2337]

    Source: E. P. Grimit, T. Gneiting, V. J. Berrocal and N. A. Johnson, The continuous
    ranked probability score for circular variables, QJRMS 132, 2006, equation 5.
    """
    mean, scale, w, y = _for(y, mean, scale, weights)
    step = max(1, _PAIRS // len(mean) ** 2)
    parts = [
        _crps(mean[:, i : i + step], scale[:, i : i + step], w, y[i : i + step])
        for i in range(0, len(y), step)
    ]
    return np.concatenate(parts)


def _crps(mean, scale, w, y) -> np.ndarray:
    def distance(m: np.ndarray, s: np.ndarray) -> np.ndarray:
        """E|X| of X ~ N(m, s²)."""
        z = m / s
        return m * (2 * _cdf(z) - 1) + 2 * s * np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)

    to_data = w @ distance(y - mean, scale)
    both = np.sqrt(scale[:, None] ** 2 + scale[None] ** 2)
    between = np.einsum("i,j,ijn->n", w, w, distance(mean[:, None] - mean[None], both))
    return to_data - 0.5 * between


def _quantile(mean, scale, w, q: float) -> np.ndarray:
    """Where the distribution function of the mixture is q, by halving."""
    low = (mean - 40 * scale).min(axis=0)
    high = (mean + 40 * scale).max(axis=0)
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        below = w @ _cdf((middle - mean) / scale) < q
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return 0.5 * (low + high)


def _cdf(z: np.ndarray) -> np.ndarray:
    from scipy import special

    return special.ndtr(z)


def _mixture(mean: Any, scale: Any, weights: Any, flat: bool = False) -> tuple:
    """Means and scales `[CS, n, ...]`, weights `[CS]` that sum to 1, all in float64."""
    mean, scale = np.asarray(mean, np.float64), np.asarray(scale, np.float64)
    fits = scale.ndim <= mean.ndim and all(
        a in (1, b) for a, b in zip(scale.shape[::-1], mean.shape[::-1])
    )
    if mean.ndim < 3 or (flat and mean.ndim > 3) or 0 in mean.shape or not fits:
        raise ValueError(
            f"mean has shape {mean.shape} and scale {scale.shape}: expected "
            f"[C, S, n{'' if flat else ', ...'}], and a scale that broadcasts to it."
        )
    if not (scale >= 0).all():
        raise ValueError(
            f"scale holds {scale.min():.3g}: expected standard deviations, at least 0. "
            f"Of their logarithms take np.exp."
        )
    w = shares(weights, mean.shape[:2])
    scale = np.broadcast_to(scale, mean.shape).reshape(-1, *mean.shape[2:])
    return mean.reshape(scale.shape), scale, w.ravel()


def _for(y: Any, mean: Any, scale: Any, weights: Any) -> tuple:
    """The mixture for each y `[n]`, whose densities must exist."""
    mean, scale, w = _mixture(mean, scale, weights, flat=True)
    _check_positive(scale)
    y = np.asarray(y, np.float64)
    if y.shape != mean.shape[1:]:
        raise ValueError(
            f"y has shape {y.shape}, and the means are of {mean.shape[1:]} examples: "
            f"expected one y for each."
        )
    return mean, scale, w, y


def _check_positive(scale: np.ndarray) -> None:
    if not (scale > 0).all():
        raise ValueError(
            "scale holds 0: there is no density; expected numbers above 0."
        )
