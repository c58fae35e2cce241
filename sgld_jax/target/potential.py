"""Potentials: what is sampled, as a pure function `(params, batch) -> scalar`.

    U(θ) = −log p(θ) − Σᵢ log p(xᵢ|θ)                    the sum over all N data
    Ũ(θ) = −log p(θ) − (N/n) Σ_{i in batch} log p(xᵢ|θ)   its unbiased estimate

A potential has no key and no mutable state. Dropout and batch normalisation are
not likelihoods: use GroupNorm, LayerNorm or filter response normalisation.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from sgld_jax.leaves import paths

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
        log_prior = _scalar(self.log_prior(params), "log_prior(params)")
        each = jnp.asarray(self.log_likelihood(params, batch))
        n = _rows(batch)
        if each.shape != (n,):
            raise ValueError(
                f"log_likelihood returned shape {each.shape} for a batch of {n}: expected "
                f"({n},), one value per example. A mean or sum over the batch would lose "
                f"the factor N/n; drop the reduction."
            )
        return -log_prior - (self.num_data / n) * jnp.sum(each)


def minibatch_potential(
    log_prior: Callable[[PyTree], jax.Array],
    log_likelihood: Callable[[PyTree, PyTree], jax.Array],
    num_data: int,
) -> Potential:
    """The potential of a posterior, estimated on a batch.

    Args:
      log_prior: `params -> log p(θ)`, a scalar, up to a constant.
      log_likelihood: `(params, batch) -> [n]`, one log p(xᵢ|θ) per example of the
        batch; parts of a batch have a leading axis n.
      num_data: N, the number of examples in the whole data set, not in a batch.

    Returns:
      `(params, batch) -> −log p(θ) − (N/n) Σ log p(xᵢ|θ)`, a scalar.

    Raises:
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
    if isinstance(num_data, bool) or not isinstance(num_data, (int, np.integer)):
        raise TypeError(f"num_data={num_data!r}: expected the number of examples, N.")
    if num_data < 1:
        raise ValueError(f"num_data={num_data}: expected at least 1 example.")
    return _Minibatch(log_prior, log_likelihood, int(num_data))


@dataclasses.dataclass(frozen=True)
class _Density:
    log_density: Callable[[PyTree], jax.Array]

    def __call__(self, params: PyTree, batch: PyTree = None) -> jax.Array:
        del batch
        return -_scalar(self.log_density(params), "log_density(params)")


def from_log_density(log_density: Callable[[PyTree], jax.Array]) -> Potential:
    """The potential −log p of an unnormalised log density.

    Args:
      log_density: `params -> log p(θ)`, a scalar, up to a constant.

    Raises:
      ValueError: while tracing, if the log density is not a scalar.

    Example:
      >>> import jax.numpy as jnp, sgld_jax
      >>> potential = sgld_jax.from_log_density(lambda x: -0.5 * jnp.sum(x**2))
      >>> float(potential(jnp.array([3.0, 4.0])))
      12.5
    """
    return _Density(log_density)


@dataclasses.dataclass(frozen=True, eq=False)
class _Gaussian:
    scale: PyTree

    def __call__(self, params: PyTree) -> jax.Array:
        scale = self.scale
        if jax.tree.structure(scale) == jax.tree.structure(0):
            scale = jax.tree.map(lambda _: self.scale, params)
        squares = jax.tree.map(
            lambda x, s: jnp.sum((x / jnp.asarray(s, x.dtype)) ** 2), params, scale
        )
        leaves = jax.tree.leaves(squares)
        widest = jnp.result_type(jnp.float32, *(x.dtype for x in leaves))
        return -0.5 * sum((x.astype(widest) for x in leaves), jnp.zeros([], widest))


def gaussian_prior(scale: PyTree) -> Callable[[PyTree], jax.Array]:
    """The log density of independent N(0, scale²) priors, up to a constant.

    `optax.add_decayed_weights(1 / scale**2)` before a sampler is the same prior in
    a loop whose loss has none.

    Args:
      scale: standard deviation of the prior, one number or a tree like the
        parameters. For a network, 2/√fan_in for weights and 1 for biases is a
        usual start.

    Raises:
      ValueError: if a scale is not finite and above 0.

    Example:
      >>> import jax.numpy as jnp, sgld_jax
      >>> log_prior = sgld_jax.gaussian_prior(2.0)
      >>> float(log_prior({"w": jnp.array([2.0, 4.0])}))
      -2.5
    """
    for path, s in paths(scale).items():
        if not isinstance(s, jax.core.Tracer) and not np.all(
            (np.asarray(s, float) > 0) & np.isfinite(np.asarray(s, float))
        ):
            raise ValueError(
                f"gaussian_prior(scale): {path} is {s}; expected standard deviations, "
                f"finite and above 0."
            )
    return _Gaussian(scale)


def _scalar(value: Any, what: str) -> jax.Array:
    value = jnp.asarray(value)
    if value.shape != ():
        raise ValueError(
            f"{what} has shape {value.shape}: expected a scalar. Sum it over coordinates; "
            f"several chains are handled by jax.vmap, one parameter tree at a time."
        )
    return value


def _rows(batch: PyTree) -> int:
    lengths = {
        np.shape(leaf)[0] if np.ndim(leaf) else None for leaf in jax.tree.leaves(batch)
    }
    if len(lengths) != 1 or None in lengths:
        raise ValueError(
            f"The parts of the batch have leading lengths {sorted(lengths, key=str)}: expected "
            f"one length n, the number of examples. Pass data=... to sample."
        )
    (n,) = lengths
    return n
