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

from sgld_jax.arguments import check_takes, shown
from sgld_jax.leaves import is_numeric

# A schedule that ends at zero misses it by rounding: by less than this part of its
# first value or, where only the present value is known, by less than this.
_ROUNDING = 1e-5
_TINY = 1e-6


def at(value: optax.ScalarOrSchedule, count: jax.Array, name: str) -> Any:
    """The value of a number or schedule at an update count, at least 0.

    A negative number of rounding size, as `optax.linear_schedule(1e-2, 0.0, n)` ends
    with, is zero. One that is truly negative becomes NaN, which fails the chain in this
    very update, and the trace in its state tells why.

    Args:
      value: what the kernel was given.
      count: the update count, int32 `[]`.
      name: of the hyperparameter, for errors.

    Returns:
      A Python number as it was, so that it fits leaves of any dtype exactly; arrays,
      also integer ones, as floats of JAX's default width.

    Raises:
      ValueError, TypeError: while tracing, for a schedule that returns an array with
        axes, a Python number below 0, or no real number.
    """
    now = value(count) if callable(value) else value
    if np.ndim(now) != 0:
        raise ValueError(
            f"The schedule of {name} returned shape {np.shape(now)}: expected one "
            f"number for each update count."
        )
    if not is_numeric(now) or jnp.iscomplexobj(now):
        raise TypeError(
            f"The schedule of {name} returned {shown(now)}: expected one real number "
            f"for each update count."
        )
    if isinstance(now, (int, float)):
        if now < 0:
            raise ValueError(
                f"The schedule of {name} returned {now}: expected at least 0."
            )
        return now
    now = jnp.asarray(now, float)
    first = value(jnp.zeros_like(count)) if callable(value) else None
    tolerance = (
        _TINY if first is None else _ROUNDING * jnp.abs(jnp.asarray(first, float))
    )
    return jnp.where(now >= 0, now, jnp.where(now >= -tolerance, 0.0, jnp.nan))


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


def check_friction(value: optax.ScalarOrSchedule, name: str = "friction") -> None:
    """Raises unless `value` is a schedule, a traced scalar, or a number in (0, 1]."""
    number = _known_number(value, name)
    if number is not None and not 0 < number <= 1:
        raise ValueError(
            f"{name}={value}: expected a number above 0 and at most 1, the part of its "
            f"velocity that a chain loses in an update. optax.sgd(momentum=0.9) has "
            f"friction=0.1."
        )


def _known_number(value: Any, name: str) -> float | None:
    """The number behind `value`, or None where only a run can tell."""
    if callable(value):
        check_takes(value, "count", name)
        return None
    if isinstance(value, (bool, np.bool_, str, bytes)) or value is None:
        raise TypeError(
            f"{name}={shown(value)}: expected a number or a function of the update "
            f"count."
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
            f"{name}={shown(value)}: expected a number or a function of the update "
            f"count."
        ) from None
