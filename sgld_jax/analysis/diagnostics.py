"""R-hat, effective sample size and Monte Carlo error, all computed by ArviZ.

What these can and cannot see: they compare chains with each other and with
themselves, never with the target. Chains that agree on a wrong law pass.

A. Vehtari, A. Gelman, D. Simpson, B. Carpenter and P.-C. Bürkner, Rank-normalization,
folding, and localization: an improved R-hat for assessing convergence of MCMC,
Bayesian Analysis 16(2), 2021.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from sgld_jax.analysis.arviz import import_arviz
from sgld_jax.analysis.draws import Usable, is_samples, labels, tree_of, usable
from sgld_jax.analysis.statistics import Statistic, alike
from sgld_jax.analysis.statistics import weighted as weighted_by
from sgld_jax.warn import warn

PyTree = Any

MAX_R_HAT = 1.01  # Vehtari et al., section 4
MIN_ESS = 400  # the same


def summary(
    draws: Any, names: Sequence[str] | None = None, *, weighted: bool = False
) -> Any:
    """A table of what was drawn and how far to trust it, one row per scalar.

    Columns: `mean` and `sd` over all draws; `mcse_mean` and `mcse_sd`, the Monte Carlo
    standard errors of those two; `ess_bulk` and `ess_tail`, effective numbers of
    draws for the middle and for the 5 and 95 % quantiles; `r_hat`, rank-normalised
    and split, which should be below 1.01. The same numbers on ArviZ 0.23 and 1.x.

    Every draw counts alike, and a warning says so where `Samples.weights` change over
    the draws, as they do where steps shrink. With `weighted=True` the columns describe
    the mean and sd weighted by them, and quantiles too; only `r_hat` counts all alike.

    It warns of R-hat above 1.01, and of ESS below 400, with what to do. A scalar takes
    some 30 ms for 64 chains of 500 draws, in proportion to the draws.

    Chains that shared their batches (`shared_by=`) are correlated: there errors and ESS
    come from the means over the chains of a stream, and a warning says that `r_hat`,
    which compares chains, is too good.

    A scalar that moves in no chain has NaN errors and ESS, and an R-hat of NaN, or of
    infinity where chains rest at different values. One chain has no R-hat.

    Args:
      draws: `Samples`, or a tree of real arrays `[C, S, ...]`. Chains that went
        non-finite are left out, with a warning.
      names: leaves to keep in the table, such as `["bias", "layer.kernel"]`; all if
        None. A bare array is called "x".
      weighted: whether to weight the draws by `Samples.weights`.

    Returns:
      A `pandas.DataFrame` with rows named like `layer.kernel[0, 1]`.

    Raises:
      ImportError: without ArviZ.
      TypeError: for leaves that are not arrays of real numbers.
      ValueError: for leaves that are not `[C, S, ...]` with the same C and S, fewer
        than 4 draws, no finite chain, unknown names or weights, or more than 2,000
        scalars.

    Example:
      >>> import jax, jax.numpy as jnp, sgld_jax
      >>> potential = sgld_jax.from_log_density(lambda x: -0.5 * jnp.sum(x**2))
      >>> samples = sgld_jax.sample(
      ...     0, sgld_jax.sgld(0.1), potential, lambda key: jnp.zeros(2),
      ...     num_samples=500, num_chains=4, thinning=20)
      >>> table = sgld_jax.summary(samples)
      >>> list(table.index)
      ['x[0]', 'x[1]']
      >>> bool((table["r_hat"] < 1.01).all())
      True
    """
    import_arviz()  # before any work
    found = usable(draws, names, weighted)
    arrays, statistics = found.arrays, _statistics(found)
    _warn_chains(found)
    import pandas

    columns = {
        column: np.concatenate([_each(x, f).ravel() for x in arrays.values()])
        for column, f in statistics.items()
    }
    rows = [label for name, x in arrays.items() for label in labels(name, x.shape[2:])]
    table = pandas.DataFrame(columns, index=pandas.Index(rows))
    _warn_not_converged(table)
    if is_samples(draws):
        _warn_still_falling(np.asarray(draws.potential)[~np.asarray(draws.failed)])
    return table


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
    return _tree_of_each(draws, "r_hat", weighted=None)


def ess(draws: Any, *, weighted: bool = False) -> PyTree:
    """Bulk effective sample size of every scalar: independent draws worth as much.

    Means need some 400. For quantiles read the column `ess_tail` of `summary`.

    Args:
      draws: `Samples`, or a tree of arrays `[C, S, ...]`, as in `summary`.
      weighted: whether to weight the draws by `Samples.weights`.

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
    return _tree_of_each(draws, "ess_bulk", weighted)


def mcse(draws: Any, *, weighted: bool = False) -> PyTree:
    """Monte Carlo standard error of the mean over all draws, of every scalar.

    Args:
      draws: `Samples`, or a tree of arrays `[C, S, ...]`, as in `summary`.
      weighted: whether to weight the draws by `Samples.weights`.

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
    return _tree_of_each(draws, "mcse_mean", weighted)


def _statistics(found: Usable) -> dict[str, Statistic]:
    if found.weights is None and found.streams is None:
        return alike()
    shape = next(iter(found.arrays.values())).shape[:2]
    weights = np.ones(shape) if found.weights is None else found.weights
    return weighted_by(weights, found.streams)


def _each(x: np.ndarray, statistic: Statistic) -> np.ndarray:
    """A statistic `[C, S] -> []` of every scalar of `x` `[C, S, ...]`."""
    scalars = np.moveaxis(x.reshape(*x.shape[:2], -1), -1, 0)
    values = [float(statistic(np.ascontiguousarray(s))) for s in scalars]
    return np.array(values, float).reshape(x.shape[2:])


def _tree_of_each(draws: Any, column: str, weighted: bool | None) -> PyTree:
    """One column of `summary` in the tree of the draws, and its warnings."""
    import_arviz()  # before any work
    found = usable(draws, weighted=weighted)
    if column == "r_hat":
        _warn_chains(found)
    statistic = _statistics(found)[column]
    results = [_each(x, statistic) for x in found.arrays.values()]
    return jax.tree.unflatten(jax.tree.structure(tree_of(draws)), results)


def _warn_chains(found: Usable) -> None:
    """Warns where chains cannot say, or say too little, by not differing."""
    if any(len(x) == 1 for x in found.arrays.values()):
        warn("One chain: r_hat is NaN, since it compares chains. Run num_chains=4.")
    if found.streams is not None:
        warn(
            f"{len(found.streams)} chains saw {found.streams.max() + 1} streams of "
            f"batches, so those of a stream are correlated: r_hat is too good. Errors "
            f"and ESS are from the means over a stream's chains."
        )


def _warn_not_converged(table: Any) -> None:
    """Two warnings, so that each can be silenced by its beginning."""
    apart = table["r_hat"][table["r_hat"] > MAX_R_HAT]
    if len(apart):
        warn(
            f"R-hat is above {MAX_R_HAT} for {len(apart)} of {len(table)} scalars, up "
            f"to {apart.max():.4g} for {apart.idxmax()}: the chains do not agree yet, "
            f"and ESS and errors are too good. Raise burn_in and thinning, start the "
            f"chains closer to the target, or collect= predictions, which mix sooner "
            f"than weights."
        )
    ess = table[["ess_bulk", "ess_tail"]].min(axis=1)
    few = ess[ess < MIN_ESS]
    if len(few):
        warn(
            f"ESS is below {MIN_ESS} for {len(few)} of {len(table)} scalars, down to "
            f"{few.min():.3g} for {few.idxmin()}: errors and R-hat are themselves "
            f"uncertain. Raise num_samples or num_chains, or thinning, which keeps "
            f"draws that are further apart."
        )


def _warn_still_falling(potential: np.ndarray) -> None:
    """Warns where U `[C, S]` still falls: a chain has not arrived, or never can.

    In equilibrium the means of three thirds of a chain come in any of six orders. Many
    more chains than a sixth with the falling one, by four standard deviations, are not
    there yet: four chains of four, nine of sixteen.
    """
    thirds = np.array_split(potential, 3, axis=1)
    first, second, third = (x.mean(axis=1, dtype=np.float64) for x in thirds)
    falling = (first > second) & (second > third)
    num, chains = falling.sum(), len(falling)
    if num - chains / 6 > 4 * np.sqrt(chains * 5 / 36):
        warn(
            f"The potential was still falling in {num} of {chains} chains, from "
            f"{first[falling].mean():.4g} to {third[falling].mean():.4g} on average. "
            f"Either burn_in is too short, or the chains walk away without end: a "
            f"density must fall off in every direction, so what has to stay above 0 is "
            f"sampled as its logarithm."
        )
