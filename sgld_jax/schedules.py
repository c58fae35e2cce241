"""Step sizes and temperatures: numbers, or functions of the update count.

Every kernel checks its hyperparameters when it is built, and reads them through
`at` in each update.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer


def at(value: optax.ScalarOrSchedule, count: jax.Array) -> Any:
    """The value of a number or schedule at an update count.

    Arrays, also integer ones, come back as floats of JAX's default width; Python
    numbers stay as they are, and so fit leaves of any dtype exactly.
    """
    now = value(count) if callable(value) else value
    return now if isinstance(now, (int, float)) else jnp.asarray(now, float)


def is_zero(value: optax.ScalarOrSchedule) -> bool:
    """Whether a hyperparameter is the literal 0, known before tracing."""
    return isinstance(value, (int, float)) and value == 0


def check_step_size(value: optax.ScalarOrSchedule, name: str = "step_size") -> None:
    """Raises unless `value` is a schedule, a traced scalar, or a number > 0."""
    number = _known_number(value, name)
    if number is not None and not (number > 0 and np.isfinite(number)):
        raise ValueError(
            f"{name}={value}: expected a finite number above 0, or a function of the "
            f"update count that returns one, such as optax.constant_schedule(1e-3)."
        )


def check_temperature(value: optax.ScalarOrSchedule, name: str = "temperature") -> None:
    """Raises unless `value` is a schedule, a traced scalar, or a number >= 0."""
    number = _known_number(value, name)
    if number is not None and not (number >= 0 and np.isfinite(number)):
        raise ValueError(
            f"{name}={value}: expected a finite number of at least 0. 1 samples the "
            f"posterior, 1 / num_data goes with a mean loss, 0 is gradient descent."
        )


def _known_number(value: Any, name: str) -> float | None:
    """The number behind `value`, or None where only a run can tell."""
    if callable(value):
        return None
    if isinstance(value, (bool, np.bool_, str, bytes)) or value is None:
        raise TypeError(
            f"{name}={value!r}: expected a number or a function of the update count."
        )
    if np.ndim(value) != 0:
        raise ValueError(
            f"{name} has shape {np.shape(value)}: expected one number. For a step "
            f"per coordinate, pass preconditioner=sgld_jax.diagonal(...); for one per "
            f"chain, build the sampler inside jax.vmap."
        )
    if isinstance(value, Tracer):
        return None
    try:
        return float(value)
    except TypeError:
        raise TypeError(
            f"{name}={value!r}: expected a number or a function of the update count."
        ) from None
