"""The plan of a run: which updates come before which draw, and where it stands."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from sgld_jax.arguments import check_count, check_takes, shown

_AT_ONCE = 2**16  # counts that `keep` is asked about
_IN_VAIN = 2**24  # updates of which none is kept, after which nobody waits longer


class Plan(NamedTuple):
    """Draw k comes after `burn_in + (k + 1) * thinning` updates, k < `num_samples`.

    Attributes:
      num_samples: S.
      burn_in: updates before the first draw's own.
      thinning: updates per draw.
      kept: with `keep`, the updates that count, from 1, ascending, `[S * thinning]` or
        more: draw k comes after number `(k + 1) * thinning` of them.
    """

    num_samples: int
    burn_in: int
    thinning: int
    kept: np.ndarray | None = None

    @classmethod
    def of(
        cls,
        num_samples: Any,
        burn_in: Any,
        thinning: Any,
        keep: Callable | None,
        made: int = 0,
        resumed: bool = False,
    ) -> "Plan":
        """The plan of a run whose chains have `made` updates behind them.

        Raises:
          TypeError, ValueError: for numbers out of range, and a `keep` that keeps
            nothing or returns no truth values.
        """
        check_count("num_samples", num_samples, 1)
        check_count("thinning", thinning, 1)
        check_count("burn_in", burn_in, 1 - thinning if resumed else 0)
        plan = cls(int(num_samples), int(burn_in), int(thinning))
        if keep is None:
            return plan
        check_takes(keep, "count", "keep")
        # Below 0: so many kept updates of the first draw have been made already.
        begun, first = max(-plan.burn_in, 0), max(plan.burn_in, 0)
        wanted = plan.num_samples * plan.thinning - begun
        kept = _kept(keep, made, first, wanted)
        before = np.zeros(begun, np.int64)
        return plan._replace(burn_in=first, kept=np.concatenate([before, kept]))

    def after(self, draws: Any) -> Any:
        """Updates after which so many draws are made, for counts of at least 1."""
        if self.kept is None:
            return self.burn_in + draws * self.thinning
        return self.kept[draws * self.thinning - 1]

    @property
    def total(self) -> int:
        """Updates of the whole run."""
        return int(self.after(self.num_samples))

    def _counted(self, done: int) -> int:
        """How many of `done` updates count for a draw."""
        if self.kept is None:
            return max(done - self.burn_in, 0)
        return int(np.searchsorted(self.kept, done, side="right"))

    def drawn(self, done: int) -> int:
        """Draws that `done` updates have made."""
        return self._counted(done) // self.thinning  # draws made

    def draws(self, steps: "Steps") -> slice:
        """Which draws the updates of a chunk make."""
        first = self.drawn(steps.begin)
        return slice(first, first + steps.num_draws)

    def next_chunk(self, done: int, budget: int, num_rows: int) -> "Steps":
        """After `done` updates, at most `budget` more that stop `num_rows` times."""
        first = self.drawn(done) + 1  # next draw
        last = min(first + num_rows - 1, self.num_samples)  # as many as there are rows
        end = int(min(done + budget, self.after(last)))
        draws = self.after(np.arange(first, max(self.drawn(end), first - 1) + 1))
        stops = draws if end in draws[-1:] else np.append(draws, end)
        updates = np.zeros(num_rows, np.int32)
        updates[: len(stops)] = np.diff(stops, prepend=done)  # updates before a stop
        return Steps(updates, len(stops), len(draws), done, end)

    def how_to_go_on(self, done: int, why: str) -> str:
        """A sentence for whoever was stopped after `done` updates."""
        drawn = self.drawn(done)
        # Below 0 in the middle of a draw: so many of its updates have been made.
        burn_in = drawn * self.thinning - self._counted(done)
        burn_in += max(self.burn_in - done, 0)
        return (
            f"{why} after {done} updates with {drawn} of {self.num_samples} draws. Go "
            f"on with sgld_jax.resume(samples.final, ..., burn_in={burn_in}, "
            f"num_samples={self.num_samples - drawn}, thinning={self.thinning}"
            f"{', keep=...' * (self.kept is not None)})."
        )


class Steps(NamedTuple):
    """The updates of one chunk.

    Attributes:
      updates: how many come before each stop, int32 `[K]`.
      num_stops: how many entries of `updates` are meant.
      num_draws: how many of the stops are draws: all, or all but the last.
      begin: updates of the run before this chunk.
      end: and after it.
    """

    updates: np.ndarray
    num_stops: int
    num_draws: int
    begin: int
    end: int


def _kept(keep: Callable, made: int, first: int, wanted: int) -> np.ndarray:
    """The updates of a run, from 1, that `keep` accepts: the first so many.

    Args:
      keep: of the count with which an update is made, which starts at 0.
      made: updates before this run.
      first: updates of this run that are burn-in.
      wanted: how many to find.
    """
    found, missing, last = [], wanted, first
    at = first
    while missing > 0:
        counts = made + np.arange(at, at + _AT_ONCE)
        try:
            said = np.asarray(keep(counts.astype(np.int32)))
        except ValueError as error:  # of `and`, `or`, `if` and `not`
            raise TypeError(
                "keep(count) cannot be called with an array of counts: expected "
                "operations on each, such as (count > 99) & (count % 10 == 0)."
            ) from error
        if said.shape != counts.shape or said.dtype != bool:
            raise TypeError(
                f"keep(count) returned {shown(said)} of {said.dtype} for counts of "
                f"shape {counts.shape}: expected a truth value for each, such as "
                f"count % 100 >= 50."
            )
        some = np.flatnonzero(said)[:missing] + at + 1
        found.append(some)
        missing -= len(some)
        at += _AT_ONCE
        last = int(some[-1]) if len(some) else last
        if missing and at - last > _IN_VAIN:
            raise ValueError(
                f"keep(count) accepts {wanted - missing} updates up to number "
                f"{made + at:,}: expected {wanted}, draws times thinning."
            )
    return np.concatenate([np.zeros(0, np.int64), *found])
