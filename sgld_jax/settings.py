"""What every kernel checks when it is built."""

from typing import Any

import optax

from sgld_jax.keys import check_key
from sgld_jax.preconditioners import check_preconditioner
from sgld_jax.schedules import check_friction, check_step_size, check_temperature


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
