"""Predictions of many networks: their average, and its uncertainty.

    p̄(y|x) = 1/(CS) Σ p(y|x, θ_cs)       the prediction: probabilities are averaged,
                                          neither logits nor weights
    H[p̄]  =  E H[p]  +  E KL(p ‖ p̄)       total = aleatoric + epistemic, in nats

Shapes: C chains, S draws, n examples, K classes. Draws of weights w_cs are averaged by
them. Scores of the average are in `scores.py`; predictions of numbers in
`regression.py`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sgld_jax.analysis.draws import healthy_array, is_samples
from sgld_jax.analysis.weights import shares
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


def predictive_probs(
    logits: Any, *, weighted: bool = False, weights: Any = None
) -> jax.Array:
    """The predictive distribution: probabilities averaged over chains and draws.

    Args:
      logits: `[C, S, n, K]`, or `Samples` of them, whose failed chains are left out
        with a warning. `logits[None, None]` for one network, `logits[:, None]` for an
        ensemble.
      weighted: whether to weight the draws by `Samples.weights`; a warning says where
        they matter.
      weights: of the draws, `[C, S]`, where `logits` is an array.

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
    return _average(*_checked_logits(logits, weighted, weights))


def entropy_split(
    logits: Any, *, weighted: bool = False, weights: Any = None
) -> EntropySplit:
    """Splits the predictive entropy into aleatoric and epistemic parts.

    Args:
      logits: as `predictive_probs`.
      weighted: as `predictive_probs`.
      weights: as `predictive_probs`.

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
    aleatoric, epistemic = _split(*_checked_logits(logits, weighted, weights))
    return EntropySplit(aleatoric + epistemic, aleatoric, epistemic)


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


def _checked_logits(
    given: Any, weighted: bool, weights: Any
) -> tuple[jax.Array, jax.Array]:
    """Logits `[C, S, n, K]`, and the logarithm of weights `[C, S]` that sum to 1."""
    if weights is not None and (weighted or is_samples(given)):
        raise ValueError(
            "weights are of arrays: expected weighted=True for those of Samples."
        )
    array, own = healthy_array(given, "logits [C, S, n, K]", weighted)
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
    w = shares(own if weights is None else weights, logits.shape[:2])
    with np.errstate(divide="ignore"):
        return logits, jnp.asarray(np.log(w), logits.dtype)
