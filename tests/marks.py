"""Which cases run by default, and which are left to the slow run."""

import pytest


def briefly(cases, *chosen):
    """Parameters for pytest: those chosen by default, the others in the slow run."""
    slow = [pytest.mark.slow]
    return [pytest.param(x, marks=[] if x in chosen else slow) for x in cases]
