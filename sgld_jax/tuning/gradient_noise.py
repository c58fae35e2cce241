"""The noise of minibatch gradients, from the gradients of single rows."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sgld_jax.potentials.batches import Batches
from sgld_jax.potentials.data import num_rows
from sgld_jax.tuning.gaussian_laws import Noise
from sgld_jax.tuning.landscape import Landscape

PyTree = Any

_ROWS = 4_096  # of the data, whose gradients are taken


def noise_along(
    axes: np.ndarray,
    land: Landscape,
    x: jax.Array,
    data: PyTree,
    batches: Batches,
    key: jax.Array,
) -> Noise:
    """The noise of a batch's gradient along `axes`, from those of single rows."""
    dim, n = land.dim, batches.batch_size
    if n is None:
        return Noise(np.zeros((dim, dim)), 1)
    N = num_rows(data)
    rows = np.arange(N)
    if N > _ROWS:
        rows = np.asarray(jax.random.choice(key, N, (_ROWS,), replace=False))
    slope = jax.grad(land.value)

    def of_row(i: jax.Array, data: PyTree) -> jax.Array:
        return slope(x, jax.tree.map(lambda a: a[i][None], data))

    def of_some(rows: jax.Array, data: PyTree) -> jax.Array:
        return jax.lax.map(lambda i: of_row(i, data), rows, batch_size=256)

    data = jax.tree.map(jnp.asarray, data)
    grads = np.asarray(jax.jit(of_some)(jnp.asarray(rows), data), np.float64)
    few = jax.tree.map(lambda a: a[rows[:n]], data)
    _check_is_mean(np.asarray(slope(x, few), np.float64), grads[:n].mean(0))
    away = (grads - grads.mean(0)) @ axes
    one = away.T @ away / (len(away) - 1)
    if batches.kind == 1:  # with replacement
        return Noise(one * (N - 1) / N / n, 1)
    return Noise(one * (1 - n / N) / n, -(-N // n))


def _check_is_mean(whole: np.ndarray, mean: np.ndarray) -> None:
    if not np.allclose(whole, mean, rtol=1e-2, atol=1e-3 * np.abs(mean).max()):
        raise ValueError(
            "The gradient of a batch is not the mean of those of its rows, each scaled "
            "to all data: expected log_prior + (N/n) Σ log_likelihood, as "
            "minibatch_potential(log_prior, log_likelihood, num_data) makes it."
        )
