"""What every kernel checks when it is built."""

from typing import Any

import optax

from sgld_jax.keys import check_key
from sgld_jax.preconditioners import check_preconditioner
from sgld_jax.schedules import (
    check_friction,
    check_step_size,
    check_temperature,
    is_zero,
)


def check_settings(
    step_size: optax.ScalarOrSchedule,
    temperature: optax.ScalarOrSchedule,
    preconditioner: Any,
    key: Any,
    friction: optax.ScalarOrSchedule = 1.0,
    *,
    adds_divergence: bool = False,
) -> None:
    """Raises `ValueError` or `TypeError` for the first argument out of range.

    `adds_divergence` is for kernels that add the εTΓ of a G which is a function of θ.
    """
    check_step_size(step_size)
    check_friction(friction)
    check_temperature(temperature)
    check_preconditioner(preconditioner)
    check_key(key)
    if getattr(preconditioner, "divergence", None) is not None and not adds_divergence:
        raise ValueError(
            "This kernel has no place for the Γ of position_dependent(...), and would "
            "sample another law without it: use sgld, or "
            "freeze(position_dependent(...), after=...)."
        )


def check_exact_settings(
    temperature: optax.ScalarOrSchedule, preconditioner: Any
) -> None:
    """Raises `ValueError` where a kernel that accepts or rejects would not be exact."""
    if is_zero(temperature):
        raise ValueError(
            "temperature=0: this kernel would accept nothing but descent. For an "
            "optimizer take sgld(step_size, temperature=0.0), which is optax.sgd."
        )
    if not preconditioner.is_fixed:
        raise ValueError(
            "This kernel is exact for a preconditioner that never changes: "
            "diagonal(scale) or dense(matrix), with numbers from an earlier run."
        )


def check_given(params: Any, value: Any) -> None:
    """Raises `ValueError` where an update that decides was not given what it needs."""
    if params is None or value is None:
        raise ValueError(
            "This kernel needs parameters and potential: call update(grads, state, "
            "params, value=U), with both of the same params."
        )
