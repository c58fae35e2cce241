"""Potentials: what is sampled, as a pure function `(params, batch) -> scalar`.

    U(θ) = −log p(θ) − Σᵢ log p(xᵢ|θ)                    the sum over all N data
    Ũ(θ) = −log p(θ) − (N/n) Σ_{i in batch} log p(xᵢ|θ)   its unbiased estimate

A potential has no mutable state. One that declares `key`, `(params, batch, *, key)`, is
an unbiased estimate of U by random numbers, and gets a key of its own in every update
of every chain. Dropout and batch normalisation are no such estimates, and no
likelihoods: use GroupNorm, LayerNorm or filter response normalisation.
"""

import dataclasses
import types
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from sgld_jax.arguments import check_count, check_takes, declares_key
from sgld_jax.potentials.data import num_rows

PyTree = Any


class Potential(Protocol):
    """`potential(params, batch) -> U`, a real scalar; `batch` is None without data."""

    def __call__(self, params: PyTree, batch: PyTree, /) -> jax.Array: ...


@dataclasses.dataclass(frozen=True)
class _Minibatch:
    log_prior: Callable[[PyTree], jax.Array]
    log_likelihood: Callable[[PyTree, PyTree], jax.Array]
    num_data: int

    def __call__(self, params: PyTree, batch: PyTree) -> jax.Array:
        return self._value(params, batch, self.log_likelihood(params, batch))

    def _value(self, params: PyTree, batch: PyTree, each: Any) -> jax.Array:
        log_prior = _scalar(self.log_prior(params), "log_prior(params)")
        each = jnp.asarray(each)
        n = num_rows(batch)
        if each.shape != (n,):
            raise ValueError(
                f"log_likelihood returned shape {each.shape} for a batch of {n}: "
                f"expected ({n},), one value per example. A mean or sum over the batch "
                f"would lose the factor N/n; drop the reduction."
            )
        return -log_prior - (self.num_data / n) * jnp.sum(each)  # the potential


class _RandomMinibatch(_Minibatch):
    def __call__(self, params: PyTree, batch: PyTree, *, key: jax.Array) -> jax.Array:
        each = self.log_likelihood(params, batch, key=key)  # pyright: ignore
        return self._value(params, batch, each)


def minibatch_potential(
    log_prior: Callable[[PyTree], jax.Array],
    log_likelihood: Callable[[PyTree, PyTree], jax.Array],
    num_data: int,
) -> Potential:
    """The potential of a posterior, estimated on a batch.

    Args:
      log_prior: `params -> log p(θ)`, a scalar, up to a constant.
      log_likelihood: `(params, batch) -> [n]`, one log p(xᵢ|θ) per example of the
        batch; parts of a batch have a leading axis n. Or `(params, batch, *, key)`, an
        unbiased estimate of them by random numbers; then the potential takes a key.
      num_data: N, the number of examples in the whole data set, not in a batch.

    Returns:
      `(params, batch) -> −log p(θ) − (N/n) Σ log p(xᵢ|θ)`, a scalar.

    Raises:
      TypeError: for what is not a function of these arguments.
      ValueError: for `num_data` below 1; while tracing, for a likelihood that is
        not one value per example.

    Example:
      >>> import jax, jax.numpy as jnp, sgld_jax
      >>> x = jnp.array([1.0, 2.0, 4.0])
      >>> potential = sgld_jax.minibatch_potential(
      ...     log_prior=sgld_jax.gaussian_prior(10.0),
      ...     log_likelihood=lambda mean, x: -0.5 * (x - mean) ** 2,
      ...     num_data=3,
      ... )
      >>> float(potential(jnp.array(0.0), x))
      10.5
    """
    check_takes(log_prior, "params", "log_prior")
    check_takes(log_likelihood, "params, batch", "log_likelihood", key=True)
    check_count("num_data", num_data, 1)
    kind = _RandomMinibatch if declares_key(log_likelihood) else _Minibatch
    return kind(without_jit(log_prior), without_jit(log_likelihood), int(num_data))


@dataclasses.dataclass(frozen=True)
class _Density:
    log_density: Callable[[PyTree], jax.Array]

    def __call__(self, params: PyTree, batch: PyTree = None) -> jax.Array:
        del batch
        return -_scalar(self.log_density(params), "log_density(params)")


def from_log_density(log_density: Callable[[PyTree], jax.Array]) -> Potential:
    """The potential −log p of an unnormalised log density.

    Samplers walk everywhere, and see no border: the density must be above 0 at all real
    numbers and fall off in every direction. What has to stay above 0, such as a scale
    σ, is sampled as s = log σ, with the density p(exp(s)) exp(s) of the change of
    variables, as in the second example.

    Args:
      log_density: `params -> log p(θ)`, a scalar, up to a constant.

    Raises:
      TypeError: if it is not a function of the parameters alone.
      ValueError: while tracing, if the log density is not a scalar.

    Example:
      >>> import jax.numpy as jnp, sgld_jax
      >>> potential = sgld_jax.from_log_density(lambda x: -0.5 * jnp.sum(x**2))
      >>> float(potential(jnp.array([3.0, 4.0])))
      12.5
      >>> exponential = lambda sigma: -sigma                   # for sigma above 0
      >>> of_log = sgld_jax.from_log_density(lambda s: exponential(jnp.exp(s)) + s)
    """
    check_takes(
        log_density,
        "params",
        "log_density",
        "With data: sgld_jax.minibatch_potential(log_prior, log_likelihood, num_data).",
    )
    return _Density(without_jit(log_density))


def check_is_potential(potential: Any, random: str = "") -> None:
    """Raises `TypeError` unless `potential` can be called with `(params, batch)`.

    Args:
      potential: what was given; it may declare `key` besides.
      random: a sentence for one that does, where that is refused.
    """
    check_takes(
        potential,
        "params, batch",
        "potential",
        "For a log density without data: sgld_jax.from_log_density(log_density); with "
        "data: sgld_jax.minibatch_potential(...).",
        key=True,
    )
    if random and declares_key(potential):
        raise ValueError(f"The potential declares key=, and is random. {random}")


def without_jit(function: Callable) -> Callable:
    """The function inside a `jax.jit`, else the function.

    JAX traces a jitted function once, and what it read then stays: a global that has
    changed since would not be seen. Inside a program a `jit` gains nothing anyway.
    """
    if isinstance(function, types.MethodType):
        inner = without_jit(function.__func__)
        return types.MethodType(inner, function.__self__)
    is_jitted = hasattr(function, "lower") and hasattr(function, "__wrapped__")
    return function.__wrapped__ if is_jitted else function


def check_num_data(potential: Any, data: PyTree) -> None:
    """Raises `ValueError` where the N of a potential is not that of the data."""
    num_data = getattr(potential, "num_data", None)
    if num_data is None:
        return
    if data is None:
        raise ValueError(
            f"The potential was built for num_data={num_data} examples, but there are "
            f"no data. Pass data=..., arrays with {num_data} rows."
        )
    if num_data != num_rows(data):
        raise ValueError(
            f"The potential was built with num_data={num_data}, but data has "
            f"{num_rows(data)} rows: N/n would be wrong. data must be all N rows; a "
            f"batch from a loader of your own goes into step(..., batch=batch)."
        )


def _scalar(value: Any, what: str) -> jax.Array:
    value = jnp.asarray(value)
    if value.shape != ():
        raise ValueError(
            f"{what} has shape {value.shape}: expected a scalar. Sum it over "
            f"coordinates; jax.vmap hands it one chain at a time."
        )
    return value
