"""Predictions of many networks: their average, its scores, and its uncertainty.

    p̄(y|x) = 1/(CS) Σ p(y|x, θ_cs)       the prediction: probabilities are averaged,
                                          neither logits nor weights
    H[p̄]  =  E H[p]  +  E KL(p ‖ p̄)       total = aleatoric + epistemic, in nats

Shapes: C chains, S draws, n examples, K classes. The first two lines are computed in
JAX and may be jitted; scores against labels on the host, in float64.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from sgld_jax.analysis.draws import healthy_array


class EntropySplit(NamedTuple):
    """Uncertainty of a prediction and its two parts, each `[n]`, in nats.

    Attributes:
      total: H[p̄], the entropy of the averaged prediction.
      aleatoric: E H[p]: what a draw, taken as the truth, would leave to chance.
      epistemic: E KL(p ‖ p̄), the mutual information of label and parameters: how
        much the draws disagree. At least 0.
    """

    total: jax.Array
    aleatoric: jax.Array
    epistemic: jax.Array


class Calibration(NamedTuple):
    """Of `calibration_bins`: by bin `[B]`, 0 where empty; `index` by example `[n]`."""

    count: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    index: np.ndarray


def predictive_probs(logits: Any) -> jax.Array:
    """The predictive distribution: probabilities averaged over chains and draws.

    Args:
      logits: `[C, S, n, K]`, or `Samples` of them, whose failed chains are left out
        with a warning. `logits[None, None]` for one network, `logits[:, None]` for an
        ensemble.

    Returns:
      Probabilities `[n, K]`, averaged in log space, so that no logit overflows.

    Raises:
      ValueError: if `logits` has not four axes, or one of them is empty.

    Example:
      >>> import jax.numpy as jnp
      >>> from sgld_jax.analysis.predictive import predictive_probs
      >>> two_draws = jnp.log(jnp.array([[0.9, 0.1], [0.5, 0.5]]))
      >>> round(float(predictive_probs(two_draws[None, :, None, :])[0, 0]), 4)
      0.7
    """
    return _average(_checked_logits(logits))


def entropy_split(logits: Any) -> EntropySplit:
    """Splits the predictive entropy into aleatoric and epistemic parts.

    Args:
      logits: as `predictive_probs`.

    Returns:
      `EntropySplit`: total = aleatoric + epistemic, and epistemic ≥ 0, exactly.

    Raises:
      ValueError: as `predictive_probs`.

    Example:
      >>> import jax.numpy as jnp
      >>> from sgld_jax.analysis.predictive import entropy_split
      >>> sure_but_divided = jnp.array([[50.0, 0.0], [0.0, 50.0]])[None, :, None, :]
      >>> split = entropy_split(sure_but_divided)
      >>> [round(float(x[0]), 3) for x in split]
      [0.693, 0.0, 0.693]

    Source: Depeweg et al. 2018, *Decomposition of uncertainty in Bayesian deep
    learning*, equation 3.
    """
    aleatoric, epistemic = _split(_checked_logits(logits))
    return EntropySplit(aleatoric + epistemic, aleatoric, epistemic)


def nll(probs: ArrayLike, labels: ArrayLike) -> float:
    """Mean negative log predictive probability of the labels, in nats.

    Args:
      probs: `[n, K]`.
      labels: integers `[n]`, from 0 to K − 1.

    Returns:
      A number; infinity if a label was given probability 0.

    Raises:
      ValueError, TypeError: for shapes or labels that do not fit.

    Example:
      >>> from sgld_jax.analysis.predictive import nll
      >>> round(nll([[0.5, 0.5], [0.9, 0.1]], [0, 1]), 4)
      1.4979
    """
    probs, labels = _checked(probs, labels)
    with np.errstate(divide="ignore"):
        return -float(np.log(probs[np.arange(len(labels)), labels]).mean())


def brier(probs: ArrayLike, labels: ArrayLike) -> float:
    """Mean squared distance of the prediction from the one-hot label, from 0 to 2.

    Args:
      probs: `[n, K]`.
      labels: integers `[n]`.

    Returns:
      A number: the sum over classes, as Brier has it; some halve it.

    Raises:
      ValueError, TypeError: as `nll`.

    Example:
      >>> from sgld_jax.analysis.predictive import brier
      >>> round(brier([[0.7, 0.3]], [0]), 4)
      0.18

    Source: Brier 1950, *Verification of forecasts expressed in terms of
    probability*.
    """
    probs, labels = _checked(probs, labels)
    target = np.eye(probs.shape[1])[labels]
    return float(((probs - target) ** 2).sum(axis=-1).mean())


def calibration_bins(
    probs: ArrayLike, labels: ArrayLike, num_bins: int = 15
) -> Calibration:
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
    probs: ArrayLike, labels: ArrayLike, num_bins: int = 15
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
      >>> from sgld_jax.analysis.predictive import expected_calibration_error
      >>> expected_calibration_error([[1.0, 0.0], [1.0, 0.0]], [0, 1])  # half right
      0.5

    Source: Guo et al. 2017, *On calibration of modern neural networks*, with the
    equal-mass bins of Nixon et al. 2019, *Measuring calibration in deep learning*.
    """
    bins = calibration_bins(probs, labels, num_bins)
    gaps = np.abs(bins.confidence - bins.accuracy)
    return float(np.average(gaps, weights=bins.count))


def error_at_coverage(
    probs: ArrayLike, labels: ArrayLike, coverage: float = 0.8
) -> float:
    """Error rate on the most confident share of the examples, the rest abstained from.

    Args:
      probs: `[n, K]`; confidence is the top probability.
      labels: integers `[n]`.
      coverage: the share kept, above 0 and at most 1.

    Example:
      >>> from sgld_jax.analysis.predictive import error_at_coverage
      >>> error_at_coverage([[0.9, 0.1], [0.45, 0.55]], [0, 0], coverage=0.5)
      0.0
    """
    probs, labels = _checked(probs, labels)
    if not 0 < coverage <= 1:
        raise ValueError(f"coverage={coverage}: expected a share above 0, at most 1.")
    kept = max(1, round(coverage * len(labels)))
    order = np.argsort(-probs.max(axis=-1), stable=True)
    return float(1 - _correct(probs, labels)[order[:kept]].mean())


def auroc(inside: ArrayLike, outside: ArrayLike) -> float:
    """Chance that a score from outside exceeds one from inside; ties count half.

    The area under the ROC curve of a detector.

    Args:
      inside: scores of known things `[n]`, such as predictive entropies.
      outside: scores of unknown things `[m]`, higher if the detector works.

    Example:
      >>> from sgld_jax.analysis.predictive import auroc
      >>> auroc([0.1, 0.2], [0.2, 0.9])
      0.875
    """
    inside, outside = np.sort(np.asarray(inside)), np.asarray(outside)
    below = np.searchsorted(inside, outside, side="left")
    at_or_below = np.searchsorted(inside, outside, side="right")
    return float((below + at_or_below).mean() / (2 * len(inside)))


@jax.jit
def _average(logits: jax.Array) -> jax.Array:
    return jnp.exp(_log_mean(jax.nn.log_softmax(logits, axis=-1)))


@jax.jit
def _split(logits: jax.Array) -> tuple[jax.Array, jax.Array]:
    log_p = jax.nn.log_softmax(logits, axis=-1)
    log_mean = _log_mean(log_p)
    p, mean = jnp.exp(log_p), jnp.exp(log_mean)
    entropies = -jnp.sum(p * jnp.where(p > 0, log_p, 0.0), axis=-1)
    aleatoric = jnp.mean(entropies, axis=(0, 1))
    # KL(p ‖ p̄) = Σ p̄ (r log r − r + 1) for r = p/p̄. No term is negative, so where
    # draws nearly agree no digits cancel, as in a difference of entropies.
    log_r = jnp.where(p > 0, log_p - log_mean, 0.0)
    terms = jnp.where(p > 0, jnp.exp(log_r) * log_r - jnp.expm1(log_r), 1.0)
    divergence = jnp.sum(mean * jnp.mean(terms, axis=(0, 1)), axis=-1)
    # The sum is left to the caller: a compiler would fuse it, and round it once.
    return aleatoric, jnp.maximum(divergence, 0.0)


def _log_mean(log_p: jax.Array) -> jax.Array:
    draws = log_p.shape[0] * log_p.shape[1]
    return jax.nn.logsumexp(log_p, axis=(0, 1)) - jnp.log(draws)


def _checked_logits(given: Any) -> jax.Array:
    logits = jnp.asarray(healthy_array(given, "logits [C, S, n, K]", stacklevel=4))
    if logits.ndim != 4 or 0 in logits.shape:
        raise ValueError(
            f"logits has shape {logits.shape}: expected [C, S, n, K]. Use "
            f"logits[None, None] for one network, logits[:, None] for an ensemble."
        )
    return logits


def _correct(probs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return probs.argmax(axis=-1) == labels


def _checked(probs: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    probs, labels = np.asarray(probs, np.float64), np.asarray(labels)
    if probs.ndim != 2 or probs.shape[0] == 0 or labels.shape != probs.shape[:1]:
        raise ValueError(
            f"probs has shape {probs.shape} and labels {labels.shape}: expected [n, K] "
            f"and [n]. predictive_probs(logits) gives [n, K] for logits [C, S, n, K]."
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
