"""Warnings that point at the line of the user, however deep they arise."""

import sys
import warnings


def warn(message: str) -> None:
    """A `UserWarning` at the innermost call from outside this package.

    Python shows a warning once for every line it points at. Pointed at a line in here,
    the second run of a session would warn of nothing.
    """
    frame, level = sys._getframe(1), 2
    while frame.f_back and _is_ours(frame.f_globals.get("__name__", "")):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, UserWarning, stacklevel=level)


def _is_ours(module: str) -> bool:
    return module.split(".")[0] == "sgld_jax"
