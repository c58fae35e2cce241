"""What is said of one scalar: functions of its draws `[C, S]`, all built on ArviZ.

Draws that count alike are ArviZ's matter. Under a schedule of steps they do not: draw
x_cs has a weight w_cs, scaled so that the mean of w is 1. Then

    m = mean(w x)                      the weighted mean
    e = w (x − m)                      what a draw adds to the error of m
    mcse = mcse of mean(e)             by ArviZ, so that e's correlation in time counts
    ess = mean(w (x − m)²) / mcse²     independent draws of the target worth as much

since m is a quotient of two means, whose error to first order is the mean of e. With
equal weights these are ArviZ's own numbers.

Chains that saw the same batches are not independent, but streams of batches are: there
e is averaged over the chains of a stream before its error is taken.

A. B. Owen, Monte Carlo theory, methods and examples, 2013, section 9.2 (the error of a
self-normalised estimate). A. Vehtari et al., Rank-normalization, folding, and
localization, Bayesian Analysis 16(2), 2021 (ranks and tails).
"""

from collections.abc import Callable

import numpy as np

from sgld_jax.analysis.arviz import import_arviz

Statistic = Callable[[np.ndarray], float | np.floating]

_TAILS = (0.05, 0.95)  # ArviZ 1.x would follow its rcParams


def alike() -> dict[str, Statistic]:
    """The columns of `summary` for draws that count alike."""
    az = import_arviz()

    def sd(x):
        return np.std(x, ddof=1)

    return {
        "mean": np.mean,
        "sd": sd,
        "mcse_mean": _moving(lambda x: sd(x) * az.mcse(_unit(x), method="mean")),
        "mcse_sd": _moving(lambda x: sd(x) * az.mcse(_unit(x), method="sd")),
        "ess_bulk": _moving(lambda x: az.ess(x, method="bulk")),
        "ess_tail": _moving(lambda x: az.ess(x, method="tail", prob=_TAILS)),
        "r_hat": _r_hat(az),
    }


def weighted(
    weights: np.ndarray, streams: np.ndarray | None = None
) -> dict[str, Statistic]:
    """The same columns for draws of weights `[C, S]`; `r_hat` counts all alike.

    Args:
      weights: 1 for draws that count alike.
      streams: which chains saw the same batches, numbers 0, 1, … `[C]`; None if each
        had its own.
    """
    az = import_arviz()
    w = weights / weights.mean()
    kish = w.size / np.mean(w**2)  # so many draws, were they independent and alike

    def mean(x):
        return np.mean(w * x)

    def variance(x):
        return np.mean(w * (x - mean(x)) ** 2) * kish / (kish - 1)

    def mcse_mean(x):
        error = _of_streams(w * (x - mean(x)), streams)
        size = np.std(error)
        return size * az.mcse(error / size, method="mean") if size else 0.0

    def mcse_sd(x):
        unit = _unit(x)  # squares neither overflow nor vanish
        square = (unit - mean(unit)) ** 2
        return np.std(x, ddof=1) * mcse_mean(square) / (2 * np.sqrt(mean(square)))

    def ess(x):
        return variance(x) / mcse_mean(x) ** 2 if np.ptp(x) else np.nan

    def ess_tail(x):
        quantiles = np.quantile(x, _TAILS, weights=w, method="inverted_cdf")
        return min(ess((x <= q).astype(float)) for q in quantiles)

    return {
        "mean": mean,
        "sd": lambda x: np.sqrt(variance(x)),
        "mcse_mean": _moving(mcse_mean),
        "mcse_sd": _moving(mcse_sd),
        "ess_bulk": _moving(lambda x: ess(_normal_scores(x))),
        "ess_tail": _moving(ess_tail),
        "r_hat": _r_hat(az),
    }


def _of_streams(error: np.ndarray, streams: np.ndarray | None) -> np.ndarray:
    """The means of `[C, S]` over the chains of each stream.

    Their mean is that of all chains: a stream counts by the chains that it has.
    """
    if streams is None:
        return error
    sums = np.zeros((streams.max() + 1, error.shape[1]))
    np.add.at(sums, streams, error)
    return sums * len(sums) / len(error)


def _unit(x: np.ndarray) -> np.ndarray:
    # ArviZ takes a range below 1e-15 for a constant, here and in the squares.
    return (x - np.mean(x)) / np.std(x, ddof=1)


def _normal_scores(x: np.ndarray) -> np.ndarray:
    """Normal quantiles of the ranks, which are heavy in no tail (Vehtari et al.)."""
    from scipy import special, stats

    ranks = stats.rankdata(x, method="average").reshape(x.shape)
    return special.ndtri((ranks - 0.375) / (x.size + 0.25))


def _r_hat(az) -> Statistic:
    def r_hat(x):
        if _is_still(x):
            return np.nan if np.ptp(x) == 0 else np.inf
        return az.rhat(x)  # NaN for one chain

    return r_hat


def _moving(statistic: Statistic) -> Statistic:
    """NaN for a scalar at rest, where ArviZ would count every draw as independent."""
    return lambda x: np.nan if _is_still(x) else statistic(x)


def _is_still(x: np.ndarray) -> bool:
    return not np.ptp(x, axis=1).any()
