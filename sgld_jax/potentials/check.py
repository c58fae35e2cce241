"""Is it a potential? What a minute with one position and the data can tell."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sgld_jax.leaves import paths
from sgld_jax.potentials.data import num_rows
from sgld_jax.potentials.potential import Potential, check_is_potential, check_num_data

PyTree = Any

_BATCHES = 7  # of an epoch; a number that few N are multiples of
_TOLERANCE = 1e-4  # of sums in float32


def check_potential(potential: Potential, params: PyTree, data: PyTree = None) -> float:
    """Raises unless a potential is one, at a position, on the data.

    It must be a finite scalar with a finite gradient; the same when it is called
    again; and over an epoch of batches the estimates Ũ must average to U, each batch
    weighted by its rows. A sum over the batch that does not count N/n times fails.

    It cannot see what only you know: that a mean loss needs T = 1/N, or that σ² is
    missing from a squared error.

    Args:
      potential: `(params, batch) -> scalar`.
      params: one position, such as `init(jax.random.key(0))`.
      data: arrays `[N, ...]`, or None.

    Returns:
      U at the position, on all data.

    Raises:
      TypeError, ValueError: saying what is wrong, and what to do.

    Example:
      >>> import jax.numpy as jnp, sgld_jax
      >>> x = jnp.arange(10.0)
      >>> right = lambda mean, batch: 10 / len(batch) * jnp.sum((batch - mean) ** 2)
      >>> sgld_jax.check_potential(right, jnp.zeros(()), x)
      285.0
      >>> lost = lambda mean, batch: jnp.sum((batch - mean) ** 2)
      >>> sgld_jax.check_potential(lost, jnp.zeros(()), x)  # doctest: +ELLIPSIS
      Traceback (most recent call last):
        ...
      ValueError: Over an epoch of batches the potential averages to 34, and is 285 ...
    """
    check_is_potential(
        potential,
        "Check it with a key held: lambda params, batch: potential(params, batch, "
        "key=jax.random.key(0)).",
    )
    check_num_data(potential, data)
    value = _value(potential, params, data)
    again = _value(potential, params, data)
    if value != again:
        raise ValueError(
            f"The potential was {value:.6g}, and {again:.6g} when it was called once "
            f"more: it draws random numbers, or changes something. Dropout and "
            f"BatchNorm are no likelihoods."
        )
    _check_gradient(potential, params, data)
    if data is not None:
        _check_epoch(potential, params, data, value)
    return value


def _value(potential: Potential, params: PyTree, batch: PyTree) -> float:
    value: Any = potential(params, batch)
    if jnp.shape(value) != () or not jnp.issubdtype(
        jnp.result_type(value), jnp.floating
    ):
        raise ValueError(
            f"The potential is {jnp.result_type(value)}{list(jnp.shape(value))}: "
            f"expected a real scalar, the negative log density."
        )
    if not np.isfinite(value):
        raise ValueError(
            f"The potential is {value} at this position: expected a finite number. "
            f"Usual causes: log(0), 0/0, NaN in the data, a position outside."
        )
    return float(value)


def _check_gradient(potential: Potential, params: PyTree, data: PyTree) -> None:
    gradient = jax.grad(potential)(params, data)
    bad = [path for path, g in paths(gradient).items() if not np.isfinite(g).all()]
    if bad:
        raise ValueError(
            f"The gradient of the potential is not finite at {', '.join(bad)}, though "
            f"the potential is. Usual causes: a norm or a root at 0, jnp.where around "
            f"what is not finite."
        )


def _check_epoch(
    potential: Potential, params: PyTree, data: PyTree, value: float
) -> None:
    num_data = num_rows(data)
    parts = np.array_split(np.arange(num_data), min(_BATCHES, num_data))

    def estimate(rows: np.ndarray) -> float:
        return _value(potential, params, jax.tree.map(lambda x: x[rows], data))

    estimates = [estimate(rows) for rows in parts]
    weights = np.array([len(rows) for rows in parts]) / num_data
    average = float(weights @ np.array(estimates))
    size = abs(value) + float(weights @ np.abs(estimates))
    if abs(average - value) > _TOLERANCE * size:
        raise ValueError(
            f"Over an epoch of batches the potential averages to {average:.3g}, and is "
            f"{value:.3g} on all data at once: batches of n rows must count N/n times. "
            f"See minibatch_potential."
        )
