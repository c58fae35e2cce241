"""How good predictions are: proper scores, calibration, and what they leave out.

Predictions are probabilities `[n, K]`, as `predictive_probs` averages them, or the
`Samples` of logits `[C, S, n, K]` that it takes. n examples, K classes; computed on the
host, in float64.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from sgld_jax.analysis.predictive import as_entropies, as_probs


class Calibration(NamedTuple):
    """Of `calibration_bins`: by bin `[B]`, 0 where empty; `index` by example `[n]`."""

    count: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    index: np.ndarray


def nll(probs: Any, labels: ArrayLike) -> float:
    """Mean negative log predictive probability of the labels, in nats.

    Args:
      probs: `[n, K]`, or `Samples` of logits, whose prediction is meant.
      labels: integers `[n]`, from 0 to K − 1.

    Returns:
      A number; infinity if a label was given probability 0.

    Raises:
      ValueError, TypeError: for shapes or labels that do not fit.

    Example:
      >>> from sgld_jax.analysis.scores import nll
      >>> round(nll([[0.5, 0.5], [0.9, 0.1]], [0, 1]), 4)
      1.4979
    """
    probs, labels = _checked(probs, labels)
    with np.errstate(divide="ignore"):
        return -float(np.log(probs[np.arange(len(labels)), labels]).mean())


def brier(probs: Any, labels: ArrayLike) -> float:
    """Mean squared distance of the prediction from the one-hot label, from 0 to 2.

    Args:
      probs: `[n, K]`.
      labels: integers `[n]`.

    Returns:
      A number: the sum over classes, as Brier has it; some halve it.

    Raises:
      ValueError, TypeError: as `nll`.

    Example:
      >>> from sgld_jax.analysis.scores import brier
      >>> round(brier([[0.7, 0.3]], [0]), 4)
      0.18

    Source: Brier 1950, *Verification of forecasts expressed in terms of
    probability*.
    """
    probs, labels = _checked(probs, labels)
    target = np.eye(probs.shape[1])[labels]
    return float(((probs - target) ** 2).sum(axis=-1).mean())


def calibration_bins(probs: Any, labels: ArrayLike, num_bins: int = 15) -> Calibration:
    """Mean top probability and accuracy, in bins `[B]` of equal mass of the former.

    Equal confidences share a bin, so the order of the examples does not matter and
    examples at exactly 1 are counted; bins are then of unequal mass, or empty.
    """
    probs, labels = _checked(probs, labels)
    if num_bins < 1:
        raise ValueError(f"num_bins={num_bins}: expected at least 1.")
    confidence, correct = probs.max(axis=-1), _correct(probs, labels)
    # Only the inner edges: what lies on or beyond the outer ones cannot be dropped.
    starts = np.arange(1, num_bins) * len(labels) // num_bins
    edges = np.sort(confidence)[starts]
    bins = np.searchsorted(edges, confidence, side="right")
    count, confident, right = (
        np.bincount(bins, weights, minlength=num_bins)
        for weights in (None, confidence, correct)
    )
    some = np.maximum(count, 1)
    return Calibration(count, confident / some, right / some, bins)


def expected_calibration_error(
    probs: Any, labels: ArrayLike, num_bins: int = 15
) -> float:
    """Mean distance of confidence from accuracy, over bins of equal mass.

    Noisy and biased upwards on a thousand examples: look at `nll` and `brier` too.

    Args:
      probs: `[n, K]`.
      labels: integers `[n]`.
      num_bins: B, at least 1.

    Returns:
      A number from 0 to 1.

    Raises:
      ValueError, TypeError: as `nll`; ValueError for fewer than 1 bin.

    Example:
      >>> from sgld_jax.analysis.scores import expected_calibration_error
      >>> expected_calibration_error([[1.0, 0.0], [1.0, 0.0]], [0, 1])  # half right
      0.5

    Source: Guo et al. 2017, *On calibration of modern neural networks*, with the
    equal-mass bins of Nixon et al. 2019, *Measuring calibration in deep learning*.
    """
    bins = calibration_bins(probs, labels, num_bins)
    gaps = np.abs(bins.confidence - bins.accuracy)
    return float(np.average(gaps, weights=bins.count))


def error_at_coverage(probs: Any, labels: ArrayLike, coverage: float = 0.8) -> float:
    """Error rate on the most confident share of the examples, the rest abstained from.

    Args:
      probs: `[n, K]`; confidence is the top probability.
      labels: integers `[n]`.
      coverage: the share kept, above 0 and at most 1.

    Raises:
      ValueError: for another coverage, and as `nll`.

    Example:
      >>> from sgld_jax.analysis.scores import error_at_coverage
      >>> error_at_coverage([[0.9, 0.1], [0.45, 0.55]], [0, 0], coverage=0.5)
      0.0
    """
    probs, labels = _checked(probs, labels)
    if not 0 < coverage <= 1:
        raise ValueError(f"coverage={coverage}: expected a share above 0, at most 1.")
    kept = max(1, round(coverage * len(labels)))
    order = np.argsort(-probs.max(axis=-1), stable=True)
    return float(1 - _correct(probs, labels)[order[:kept]].mean())


def auroc(inside: Any, outside: Any) -> float:
    """Chance that a score from outside exceeds one from inside; ties count half.

    The area under the ROC curve of a detector.

    Args:
      inside: scores of known things `[n]`, such as predictive entropies; `Samples` of
        logits stand for theirs.
      outside: scores of unknown things `[m]`, higher if the detector works.

    Example:
      >>> from sgld_jax.analysis.scores import auroc
      >>> auroc([0.1, 0.2], [0.2, 0.9])
      0.875
    """
    inside = np.sort(np.asarray(as_entropies(inside)))
    outside = np.asarray(as_entropies(outside))
    below = np.searchsorted(inside, outside, side="left")
    at_or_below = np.searchsorted(inside, outside, side="right")
    return float((below + at_or_below).mean() / (2 * len(inside)))


def _correct(probs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return probs.argmax(axis=-1) == labels


def _checked(probs: Any, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    probs, labels = np.asarray(as_probs(probs), np.float64), np.asarray(labels)
    if probs.ndim != 2 or probs.shape[0] == 0 or labels.shape != probs.shape[:1]:
        raise ValueError(
            f"probs has shape {probs.shape} and labels {labels.shape}: expected [n, K] "
            f"and [n]. predictive_probs(logits) gives [n, K] for logits [C, S, n, K]."
        )
    # A softmax in half precision misses 1 by less than this; logits miss it by more.
    if not (probs >= 0).all() or np.abs(probs.sum(axis=1) - 1).max() > 0.02:
        raise ValueError(
            "probs has rows that are not all at least 0 and of sum 1: expected "
            "probabilities. Logits [C, S, n, K] become probabilities by "
            "predictive_probs(logits)."
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(
            f"labels have dtype {labels.dtype}: expected integers, one class per "
            f"example; for one-hot rows pass labels.argmax(-1)."
        )
    if labels.min() < 0 or labels.max() >= probs.shape[1]:
        raise ValueError(
            f"labels run from {labels.min()} to {labels.max()}: expected classes from "
            f"0 to {probs.shape[1] - 1}, one column of probs each."
        )
    return probs, labels
