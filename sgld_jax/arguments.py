"""What a function was given: how errors show it, and the checks that many share."""

import inspect
import reprlib
from typing import Any

import numpy as np

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 200


def shown(value: Any) -> str:
    """`repr(value)` in an error, short and on one line whatever it is."""
    return " ".join(_SHORT.repr(value).split())


def check_count(name: str, value: Any, least: int) -> None:
    """Raises unless `value` is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name}={shown(value)}: expected a whole number.")
    if value < least:
        raise ValueError(f"{name}={value}: expected at least {least}.")


def declares_key(function: Any) -> bool:
    """Whether a function has an argument `key` to be given by name."""
    try:
        found = inspect.signature(function).parameters.get("key")
    except (TypeError, ValueError):
        return False
    return found is not None and found.kind in (
        inspect.Parameter.KEYWORD_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
    )


def check_takes(
    function: Any, arguments: str, name: str, remedy: str = "", key: bool = False
) -> None:
    """Raises `TypeError` unless `function` can be called as `function(arguments)`.

    Args:
      function: what was given.
      arguments: their names, such as "params, batch".
      name: what the function is called where it was given.
      remedy: a sentence for functions of other arguments.
      key: whether it may want `key=` besides.
    """
    if not callable(function):
        raise TypeError(
            f"{name}={shown(function)}: expected a function of ({arguments})."
        )
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # built in: its call will tell
        return
    try:
        named = {"key": None} if key and declares_key(function) else {}
        signature.bind(*arguments.split(", "), **named)
    except TypeError:
        raise TypeError(
            f"{name}{signature} cannot be called with ({arguments}). {remedy}".strip()
        ) from None
