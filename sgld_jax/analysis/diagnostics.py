"""R-hat, effective sample size and Monte Carlo error, all computed by ArviZ.

What these can and cannot see: they compare chains with each other and with
themselves, never with the target. Chains that agree on a wrong law pass.

A. Vehtari, A. Gelman, D. Simpson, B. Carpenter and P.-C. Bürkner, Rank-normalization,
folding, and localization: an improved R-hat for assessing convergence of MCMC,
Bayesian Analysis 16(2), 2021.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from sgld_jax.analysis.arviz import import_arviz
from sgld_jax.analysis.draws import is_samples, labels, tree_of, usable_arrays

PyTree = Any

_TAILS = (0.05, 0.95)  # ArviZ 1.x would follow its rcParams


def summary(draws: Any, names: Sequence[str] | None = None) -> Any:
    """A table of what was drawn and how far to trust it, one row per scalar.

    Columns: `mean` and `sd` over all draws; `mcse_mean` and `mcse_sd`, the Monte Carlo
    standard errors of those two; `ess_bulk` and `ess_tail`, effective numbers of
    draws for the middle and for the 5 and 95 % quantiles; `r_hat`, rank-normalised
    and split, which should be below 1.01. The same numbers on ArviZ 0.23 and 1.x.

    Every draw counts alike. Where steps shrink over the draws, `Samples.weights` ask
    for a weighted mean, `np.average(x, axis=(0, 1), weights=samples.weights)`, which
    none of these columns describes: a warning says so.

    A scalar that moves in no chain has NaN errors and ESS, and an R-hat of NaN, or of
    infinity where chains rest at different values. One chain has no R-hat.

    Args:
      draws: `Samples`, or a tree of real arrays `[C, S, ...]`. Chains that went
        non-finite are left out, with a warning.
      names: leaves to keep in the table, such as `["bias", "layer.kernel"]`; all if
        None. A bare array is called "x".

    Returns:
      A `pandas.DataFrame` with rows named like `layer.kernel[0, 1]`.

    Raises:
      ImportError: without ArviZ.
      TypeError: for leaves that are not arrays of real numbers.
      ValueError: for leaves that are not `[C, S, ...]` with the same C and S, fewer
        than 4 draws, no finite chain, unknown names, or more than 2,000 scalars.

    Example:
      >>> import jax, jax.numpy as jnp, sgld_jax
      >>> potential = sgld_jax.from_log_density(lambda x: -0.5 * jnp.sum(x**2))
      >>> samples = sgld_jax.sample(
      ...     0, sgld_jax.sgld(0.1), potential, lambda key: jnp.zeros(2),
      ...     num_samples=100, num_chains=4, thinning=10)
      >>> table = sgld_jax.summary(samples)
      >>> list(table.index)
      ['x[0]', 'x[1]']
      >>> bool((table["r_hat"] < 1.1).all())
      True
    """
    statistics = _statistics()
    arrays = usable_arrays(draws, names)
    _warn_one_chain(arrays)
    _warn_weights(draws)
    import pandas

    columns = {
        column: np.concatenate([_each(x, f).ravel() for x in arrays.values()])
        for column, f in statistics.items()
    }
    rows = [label for name, x in arrays.items() for label in labels(name, x.shape[2:])]
    return pandas.DataFrame(columns, index=pandas.Index(rows))


def rhat(draws: Any) -> PyTree:
    """Rank-normalised split R-hat of every scalar; below 1.01 where chains agree.

    It sees chains that disagree, not chains that share a key or a wrong law. One
    chain stuck among 64 can pass: heed the warning.

    Args:
      draws: `Samples`, or a tree of arrays `[C, S, ...]`, as in `summary`.

    Returns:
      A tree of NumPy arrays `[...]`. NaN for a scalar that moves in no chain, infinity
      if chains rest at different values, NaN for a single chain.

    Raises:
      ImportError, TypeError, ValueError: as `summary`.

    Example:
      >>> import jax, sgld_jax
      >>> draws = {"a": jax.random.normal(jax.random.key(0), (4, 100, 3))}
      >>> sgld_jax.rhat(draws)["a"].shape
      (3,)
    """
    statistic = _statistics()["r_hat"]
    arrays = usable_arrays(draws)
    _warn_one_chain(arrays)
    return _tree_like(draws, arrays, statistic)


def ess(draws: Any) -> PyTree:
    """Bulk effective sample size of every scalar: independent draws worth as much.

    Means need some 400. For quantiles read the column `ess_tail` of `summary`.

    Args:
      draws: `Samples`, or a tree of arrays `[C, S, ...]`, as in `summary`.

    Returns:
      A tree of NumPy arrays `[...]`, in draws out of C·S; more where draws alternate.
      NaN for a scalar that moves in no chain.

    Raises:
      ImportError, TypeError, ValueError: as `summary`.

    Example:
      >>> import jax, sgld_jax
      >>> draws = {"a": jax.random.normal(jax.random.key(0), (4, 100, 3))}
      >>> sgld_jax.ess(draws)["a"].shape
      (3,)
    """
    statistic = _statistics()["ess_bulk"]
    return _tree_like(draws, usable_arrays(draws), statistic)


def mcse(draws: Any) -> PyTree:
    """Monte Carlo standard error of the mean over all draws, of every scalar.

    Args:
      draws: `Samples`, or a tree of arrays `[C, S, ...]`, as in `summary`.

    Returns:
      A tree of NumPy arrays `[...]`, in the units of the draws. NaN for a scalar that
      moves in no chain.

    Raises:
      ImportError, TypeError, ValueError: as `summary`.

    Example:
      >>> import jax, sgld_jax
      >>> draws = {"a": jax.random.normal(jax.random.key(0), (4, 100, 3))}
      >>> sgld_jax.mcse(draws)["a"].shape
      (3,)
    """
    statistic = _statistics()["mcse_mean"]
    return _tree_like(draws, usable_arrays(draws), statistic)


def _statistics() -> dict[str, Callable[[np.ndarray], Any]]:
    """Functions of the draws of one scalar, float64 `[C, S]`."""
    az = import_arviz()

    def sd(x):
        return np.std(x, ddof=1)

    def scaled(x):
        # ArviZ takes a range below 1e-15 for a constant, here and in the squares.
        return (x - np.mean(x)) / sd(x)

    def r_hat(x):
        if _is_still(x):
            return np.nan if np.ptp(x) == 0 else np.inf
        return az.rhat(x)  # NaN for one chain

    return {
        "mean": np.mean,
        "sd": sd,
        "mcse_mean": _moving(lambda x: sd(x) * az.mcse(scaled(x), method="mean")),
        "mcse_sd": _moving(lambda x: sd(x) * az.mcse(scaled(x), method="sd")),
        "ess_bulk": _moving(lambda x: az.ess(x, method="bulk")),
        "ess_tail": _moving(lambda x: az.ess(x, method="tail", prob=_TAILS)),
        "r_hat": r_hat,
    }


def _moving(statistic: Callable) -> Callable:
    """NaN for a scalar at rest, where ArviZ would count every draw as independent."""
    return lambda x: np.nan if _is_still(x) else statistic(x)


def _is_still(x: np.ndarray) -> bool:
    return not np.ptp(x, axis=1).any()


def _each(x: np.ndarray, statistic: Callable) -> np.ndarray:
    """A statistic `[C, S] -> []` of every scalar of `x` `[C, S, ...]`."""
    scalars = np.moveaxis(x.reshape(*x.shape[:2], -1), -1, 0)
    values = [float(statistic(np.ascontiguousarray(s))) for s in scalars]
    return np.array(values, float).reshape(x.shape[2:])


def _tree_like(draws: Any, arrays: dict[str, np.ndarray], statistic: Callable):
    results = [_each(x, statistic) for x in arrays.values()]
    return jax.tree.unflatten(jax.tree.structure(tree_of(draws)), results)


def _warn_one_chain(arrays: dict[str, np.ndarray]) -> None:
    if any(len(x) == 1 for x in arrays.values()):
        warnings.warn(
            "One chain: r_hat is NaN, since it compares chains. Run num_chains=4.",
            stacklevel=3,
        )


def _warn_weights(draws: Any) -> None:
    if not (is_samples(draws) and hasattr(draws, "weights")):
        return
    weights = np.asarray(draws.weights)[~np.asarray(draws.failed)]
    if (weights != weights[:, :1]).any():
        warnings.warn(
            f"The weights change over the draws, from {weights.min():.3g} to "
            f"{weights.max():.3g}, as under a schedule of steps; this table counts all "
            f"draws alike. A weighted mean is np.average(x, axis=(0, 1), "
            f"weights=samples.weights).",
            stacklevel=3,
        )
