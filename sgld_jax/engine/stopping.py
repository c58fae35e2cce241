"""When a run may end before its last draw."""

from collections.abc import Callable
from typing import Any

from sgld_jax.arguments import check_takes
from sgld_jax.engine.plan import Plan


class Stopping:
    """Asks a user's function after every chunk whether the draws so far are enough.

    From the first draw on; a rule about what a run costs, whose attribute `in_burn_in`
    is true, before there is one, too.

    Args:
      until: `samples -> bool`, or None for never.
    """

    def __init__(self, until: Callable[[Any], Any] | None):
        if until is not None:
            check_takes(until, "samples", "until")
        self._until, self._early = until, getattr(until, "in_burn_in", False)

    def __call__(self, run: Any, plan: Plan) -> bool:
        """Whether to end, where a run stands now."""
        done = run.settled.done
        if self._until is None or done == plan.total:
            return False
        if not plan.drawn(done) and not self._early:
            return False
        return bool(self._until(run.samples("")))
