"""Predictions of many networks: their average, and its uncertainty.

    p̄(y|x) = 1/(CS) Σ p(y|x, θ_cs)       the prediction: probabilities are averaged,
                                          neither logits nor weights
    H[p̄]  =  E H[p]  +  E KL(p ‖ p̄)       total = aleatoric + epistemic, in nats
    Var y  =  E σ²    +  Var m             the same of a regression, in squared units

Shapes: C chains, S draws, n examples, K classes. Draws of weights w_cs are averaged by
them. Scores of the average are in `scores.py`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sgld_jax.analysis.draws import healthy_array, is_samples
from sgld_jax.leaves import is_numeric


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


def predictive_probs(logits: Any, *, weighted: bool = False) -> jax.Array:
    """The predictive distribution: probabilities averaged over chains and draws.

    Args:
      logits: `[C, S, n, K]`, or `Samples` of them, whose failed chains are left out
        with a warning. `logits[None, None]` for one network, `logits[:, None]` for an
        ensemble.
      weighted: whether to weight the draws by `Samples.weights`; a warning says where
        they matter.

    Returns:
      Probabilities `[n, K]`, averaged in log space, so that no logit overflows.

    Raises:
      ValueError: if `logits` has not four axes, or one of them is empty, and for
        `weighted` draws of unknown weights.

    Example:
      >>> import jax.numpy as jnp
      >>> from sgld_jax.analysis.predictive import predictive_probs
      >>> two_draws = jnp.log(jnp.array([[0.9, 0.1], [0.5, 0.5]]))
      >>> round(float(predictive_probs(two_draws[None, :, None, :])[0, 0]), 4)
      0.7
    """
    return _average(*_checked_logits(logits, weighted))


def entropy_split(logits: Any, *, weighted: bool = False) -> EntropySplit:
    """Splits the predictive entropy into aleatoric and epistemic parts.

    Args:
      logits: as `predictive_probs`.
      weighted: as `predictive_probs`.

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
    aleatoric, epistemic = _split(*_checked_logits(logits, weighted))
    return EntropySplit(aleatoric + epistemic, aleatoric, epistemic)


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


def variance_split(
    mean: Any, scale: Any, *, weights: np.ndarray | None = None
) -> VarianceSplit:
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
    mean, scale = np.asarray(mean, np.float64), np.asarray(scale, np.float64)
    fits = scale.ndim <= mean.ndim and all(
        a in (1, b) for a, b in zip(scale.shape[::-1], mean.shape[::-1])
    )
    if mean.ndim < 3 or 0 in mean.shape or not fits:
        raise ValueError(
            f"mean has shape {mean.shape} and scale {scale.shape}: expected "
            f"[C, S, n, ...], and a scale that broadcasts to it."
        )
    if (scale < 0).any():
        raise ValueError(
            f"scale holds {scale.min():.3g}: expected standard deviations, at least 0. "
            f"Of their logarithms take np.exp."
        )
    w = np.ones(mean.shape[:2]) if weights is None else np.asarray(weights, np.float64)
    if w.shape != mean.shape[:2]:
        raise ValueError(
            f"weights have shape {w.shape}: expected {mean.shape[:2]}, one for each "
            f"draw."
        )
    w = (w / w.sum()).reshape(*w.shape, *[1] * (mean.ndim - 2))

    def average(x: np.ndarray) -> np.ndarray:
        return (w * x).sum(axis=(0, 1))

    center = average(mean)
    aleatoric = average(np.broadcast_to(scale**2, mean.shape))
    epistemic = average((mean - center) ** 2)
    return VarianceSplit(center, aleatoric + epistemic, aleatoric, epistemic)


def as_probs(given: Any) -> Any:
    """The prediction `[n, K]` of `Samples` of logits; anything else as it is."""
    return predictive_probs(given) if is_samples(given) else given


def as_entropies(given: Any) -> Any:
    """The entropy `[n]` of the prediction of `Samples` of logits; else as it is."""
    return entropy_split(given).total if is_samples(given) else given


@jax.jit
def _average(logits: jax.Array, log_w: jax.Array) -> jax.Array:
    return jnp.exp(_log_mean(jax.nn.log_softmax(logits, axis=-1), log_w))


@jax.jit
def _split(logits: jax.Array, log_w: jax.Array) -> tuple[jax.Array, jax.Array]:
    log_p = jax.nn.log_softmax(logits, axis=-1)
    log_mean = _log_mean(log_p, log_w)
    p, mean, w = jnp.exp(log_p), jnp.exp(log_mean), jnp.exp(log_w)
    entropies = -jnp.sum(p * jnp.where(p > 0, log_p, 0.0), axis=-1)
    aleatoric = jnp.sum(w[..., None] * entropies, axis=(0, 1))
    # KL(p ‖ p̄) = Σ p̄ (r log r − r + 1) for r = p/p̄. No term is negative, so where
    # draws nearly agree no digits cancel, as in a difference of entropies.
    log_r = jnp.where(p > 0, log_p - log_mean, 0.0)
    terms = jnp.where(p > 0, jnp.exp(log_r) * log_r - jnp.expm1(log_r), 1.0)
    of_draws = jnp.sum(w[..., None, None] * terms, axis=(0, 1))
    divergence = jnp.sum(mean * of_draws, axis=-1)
    # The sum is left to the caller: a compiler would fuse it, and round it once.
    return aleatoric, jnp.maximum(divergence, 0.0)


def _log_mean(log_p: jax.Array, log_w: jax.Array) -> jax.Array:
    return jax.nn.logsumexp(log_p + log_w[..., None, None], axis=(0, 1))


def _checked_logits(given: Any, weighted: bool) -> tuple[jax.Array, jax.Array]:
    """Logits `[C, S, n, K]`, and the logarithm of weights `[C, S]` that sum to 1."""
    array, weights = healthy_array(given, "logits [C, S, n, K]", weighted)
    dtype = jnp.result_type(array) if is_numeric(array) else None
    if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
        given = type(array).__name__ if dtype is None else f"of dtype {dtype}"
        raise TypeError(
            f"logits are {given}: expected an array of real floating numbers, "
            f"[C, S, n, K], or Samples."
        )
    logits = jnp.asarray(array)
    if logits.ndim != 4 or 0 in logits.shape:
        raise ValueError(
            f"logits has shape {logits.shape}: expected [C, S, n, K]. Use "
            f"logits[None, None] for one network, logits[:, None] for an ensemble."
        )
    w = np.ones(logits.shape[:2]) if weights is None else weights
    return logits, jnp.asarray(np.log(w / w.sum()), logits.dtype)
