"""The plan of a run: which updates come before which draw, and where it stands."""

from typing import NamedTuple

import numpy as np


class Plan(NamedTuple):
    """Draw k comes after `burn_in + (k + 1) * thinning` updates, k < `num_samples`."""

    num_samples: int
    burn_in: int
    thinning: int

    @property
    def total(self) -> int:
        """Updates of the whole run."""
        return self.burn_in + self.num_samples * self.thinning

    def drawn(self, done: int) -> int:
        """Draws that `done` updates have made."""
        return max(done - self.burn_in, 0) // self.thinning  # draws made

    def draws(self, steps: "Steps") -> slice:
        """Which draws the updates of a chunk make."""
        first = self.drawn(steps.begin)
        return slice(first, first + steps.num_draws)

    def next_chunk(self, done: int, budget: int, num_rows: int) -> "Steps":
        """After `done` updates, at most `budget` more that stop `num_rows` times."""
        first = self.burn_in + (self.drawn(done) + 1) * self.thinning  # next draw
        last = first + (num_rows - 1) * self.thinning  # as many as there are rows
        end = min(done + budget, self.total, last)
        draws = np.arange(first, end + 1, self.thinning)
        stops = draws if end in draws[-1:] else np.append(draws, end)
        updates = np.zeros(num_rows, np.int32)
        updates[: len(stops)] = np.diff(stops, prepend=done)  # updates before a stop
        return Steps(updates, len(stops), len(draws), done, end)

    def how_to_go_on(self, done: int, why: str) -> str:
        """A sentence for whoever was stopped after `done` updates."""
        drawn = self.drawn(done)
        # Below 0 in the middle of a draw: so many of its updates have been made.
        burn_in = self.burn_in + drawn * self.thinning - done
        return (
            f"{why} after {done} updates with {drawn} of {self.num_samples} draws. Go "
            f"on with sgld_jax.resume(samples.final, ..., burn_in={burn_in}, "
            f"num_samples={self.num_samples - drawn}, thinning={self.thinning})."
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
