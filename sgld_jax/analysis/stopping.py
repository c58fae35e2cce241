"""Rules for `sample(until=)`: enough draws, or enough spent."""

import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from sgld_jax.analysis.arviz import import_arviz
from sgld_jax.analysis.diagnostics import ess as ess_of
from sgld_jax.analysis.diagnostics import mcse as mcse_of
from sgld_jax.leaves import check_positive

_FEWEST = 4  # draws of a chain, of which ArviZ can say anything
_GROWTH = 1.2  # of the draws, before their errors are looked at again


def stop_when(
    *,
    ess: float | None = None,
    mcse: float | None = None,
    seconds: float | None = None,
    gradients: float | None = None,
) -> Callable[[Any], bool]:
    """A rule for `sample(until=)`: stop when draws suffice, or a budget is used.

    With both `ess` and `mcse` both must be reached. Errors that are looked at again and
    again are somewhat too good at the moment they pass: ask for more than you need.
    `num_samples` is then the most that may be drawn.

    Args:
      ess: bulk effective sample size that every scalar has reached.
      mcse: standard error that the mean of every scalar has come below, in its units.
      seconds: wall time of the run, without compilation.
      gradients: of all chains together, burn-in too.

    Returns:
      `samples -> bool`.

    Raises:
      ValueError: for no rule at all, or numbers that are not above 0.
      ImportError: for `ess` or `mcse` without ArviZ.

    Example:
      >>> import jax, jax.numpy as jnp, sgld_jax
      >>> potential = sgld_jax.from_log_density(lambda x: -0.5 * jnp.sum(x**2))
      >>> samples = sgld_jax.sample(
      ...     0, sgld_jax.sgld(0.5), potential, jax.random.normal, num_chains=16,
      ...     num_samples=10_000_000, until=sgld_jax.stop_when(ess=2_000, seconds=60))
      >>> samples.interrupted, bool(sgld_jax.ess(samples).min() > 2_000)
      (True, True)
    """
    given = {"ess": ess, "mcse": mcse, "seconds": seconds, "gradients": gradients}
    given = {name: value for name, value in given.items() if value is not None}
    if not given:
        raise ValueError(
            "stop_when() would never stop: give ess=, mcse=, seconds= or gradients=."
        )
    for name, value in given.items():
        check_positive(value, name)
    if ess is not None or mcse is not None:
        import_arviz()  # here, and not when draws have been made

    return _Rule(ess, mcse, seconds, gradients)


class _Rule:
    """`samples -> bool`, see `stop_when`."""

    in_burn_in = True  # which counts in a budget

    def __init__(
        self,
        ess: float | None,
        mcse: float | None,
        seconds: float | None,
        gradients: float | None,
    ):
        self._ess, self._mcse = ess, mcse
        self._seconds, self._gradients = seconds, gradients
        self._next = _FEWEST

    def __call__(self, samples: Any) -> bool:
        spent = samples.report.updates * samples.num_chains
        late = self._seconds is not None and samples.report.seconds >= self._seconds
        if late or (self._gradients is not None and spent >= self._gradients):
            return True
        # To look at the draws may take as long as they did: not after every chunk.
        if samples.num_samples < self._next or self._ess is self._mcse is None:
            return False
        self._next = _GROWTH * samples.num_samples
        return self._good(samples)

    def _good(self, samples: Any) -> bool:
        with warnings.catch_warnings():  # what is wrong is said of the whole run
            warnings.simplefilter("ignore")
            few = self._ess is not None and _least(ess_of(samples)) < self._ess
            coarse = self._mcse is not None and _most(mcse_of(samples)) > self._mcse
        return not (few or coarse)


def _least(tree: Any) -> float:
    """Of all scalars that move; 0 where none does."""
    values = np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)])
    return float(np.nanmin(values)) if np.isfinite(values).any() else 0.0


def _most(tree: Any) -> float:
    values = np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)])
    return float(np.nanmax(values)) if np.isfinite(values).any() else np.inf
