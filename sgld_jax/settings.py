"""What every kernel checks when it is built."""

from typing import Any

import numpy as np
import optax

from sgld_jax.arguments import check_count
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


def check_contour(
    edges: Any, zeta: Any, freeze_after: Any, shares: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Edges of bins of energy `[m + 1]` and the share of time in each `[m]`.

    Raises:
      TypeError, ValueError: for numbers out of range.
    """
    edges = np.asarray(edges, np.float32)
    if not (edges.ndim == 1 and len(edges) > 2 and (np.diff(edges) > 0).all()):
        raise ValueError(
            f"energy_edges has shape {edges.shape}: expected at least three numbers "
            f"that rise, such as np.linspace(0, 10, 51)."
        )
    if not (np.ndim(zeta) == 0 and np.isfinite(zeta) and zeta >= 0):
        raise ValueError(f"zeta={zeta}: expected a finite number of at least 0.")
    if freeze_after is not None:
        check_count("freeze_after", freeze_after, 0)
    m = len(edges) - 1
    w = np.full(m, 1 / m) if shares is None else np.asarray(shares, np.float64)
    if w.shape != (m,) or not ((w > 0) & np.isfinite(w)).all():
        raise ValueError(
            f"shares of shape {w.shape}: expected {m} numbers above 0, one a bin."
        )
    return edges, (w / w.sum()).astype(np.float32)


def check_given(params: Any, value: Any) -> None:
    """Raises `ValueError` where an update that decides was not given what it needs."""
    if params is None or value is None:
        raise ValueError(
            "This kernel needs parameters and potential: call update(grads, state, "
            "params, value=U), with both of the same params."
        )
