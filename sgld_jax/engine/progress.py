"""A progress bar that costs nothing on the device: it moves between chunks."""

import sys
import time
from typing import Any


class Progress:
    """Counts updates of a run; tqdm where installed, else a line on stderr."""

    def __init__(self, total: int, enabled: bool):
        self._total, self._done, self._began = total, 0, time.perf_counter()
        self._bar: Any = None
        self._enabled = enabled
        if enabled:
            try:
                from tqdm.auto import tqdm
            except ImportError:
                return
            self._bar = tqdm(total=total, unit="update")

    def advance(self, done: int, potential: float, num_failed: int) -> None:
        """Moves the bar to `done` updates; shows the mean potential, failed chains."""
        updates, self._done = done - self._done, done
        note = f"U={potential:.4g}" + (
            f", {num_failed} non-finite" if num_failed else ""
        )
        if self._bar is not None:
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(updates)
            return
        rate = self._done / (time.perf_counter() - self._began)
        line = f"\r{self._done}/{self._total} updates, {rate:.0f}/s, {note}"
        print(line, end="", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Ends the line."""
        if self._bar is not None:
            self._bar.close()
        elif self._enabled:
            print(file=sys.stderr)
