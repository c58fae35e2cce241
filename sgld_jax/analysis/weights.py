"""How much each draw counts in an average."""

from typing import Any

import numpy as np

from sgld_jax.warn import warn


def usable_weights(draws: Any, weighted: bool | None, kept: Any) -> np.ndarray | None:
    """The weights of the chains `kept`, float64 `[C', S]`, or None if all count alike.

    Warns where draws of different or unknown weights are to be counted alike.

    Raises:
      ValueError: for `weighted` draws that have no weights, or unknown ones.
    """
    if weighted is None:
        return None
    given = getattr(draws, "weights", None)
    if given is None and not weighted:  # arrays
        return None
    weights = np.asarray(np.nan if given is None else np.asarray(given)[kept])
    unknown = np.isnan(weights).any()
    if weighted and unknown:
        raise ValueError(
            "weighted=True, but the weights of these draws are unknown: expected "
            "Samples of one kernel. Average with weights of your own, or leave out "
            "weighted, which is right where the steps were constant."
        )
    if weighted:
        return weights.astype(np.float64)
    if unknown:
        warn(
            "The weights of these draws are unknown, since not one kernel made them; "
            "all count alike, which is right where the steps were constant."
        )
    elif (weights != weights[:, :1]).any():
        warn(
            f"The weights change over the draws, from {weights.min():.3g} to "
            f"{weights.max():.3g}, as under a schedule of steps; here all draws count "
            f"alike. weighted=True counts them by their weights."
        )
    return None


def shares(weights: Any, axes: tuple[int, ...]) -> np.ndarray:
    """Weights of draws that sum to 1, float64 `[C, S]`; None counts all alike.

    Raises:
      ValueError: for other axes, and for weights that are negative, NaN or all 0.
    """
    if weights is None:
        return np.full(axes, 1 / np.prod(axes))
    w = np.asarray(weights, np.float64)
    if w.shape != axes:
        raise ValueError(
            f"weights have shape {w.shape}: expected {axes}, one for each draw."
        )
    if not ((w >= 0).all() and 0 < w.sum() < np.inf):
        raise ValueError(
            "weights are negative, not finite, or all 0: expected numbers of at least "
            "0, such as Samples.weights."
        )
    return w / w.sum()
