"""When a run may end before its last draw."""

from collections.abc import Callable
from typing import Any

from sgld_jax.arguments import check_takes
from sgld_jax.engine.plan import Plan

_GROWTH = 1.2  # of the draws, before they are looked at again


class Stopping:
    """Asks a user's function whether the draws so far are enough.

    Not after every chunk: what it computes may take as long as the draws did.

    Args:
      until: `samples -> bool`, or None for never.
    """

    def __init__(self, until: Callable[[Any], Any] | None):
        if until is not None:
            check_takes(until, "samples", "until")
        self._until, self._seen = until, 0

    def __call__(self, run: Any, plan: Plan) -> bool:
        """Whether to end, where a run stands now."""
        done = run.settled.done
        drawn = plan.drawn(done)
        if self._until is None or done == plan.total or not drawn:
            return False
        if drawn < _GROWTH * self._seen:
            return False
        self._seen = drawn
        return bool(self._until(run.samples("")))
