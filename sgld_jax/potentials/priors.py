"""Priors: log p(θ) of a tree of parameters, up to a constant."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sgld_jax.leaves import check_positive, matched, wide_dtype

PyTree = Any


@dataclasses.dataclass(frozen=True, eq=False)
class _Gaussian:
    scale: PyTree

    def __call__(self, params: PyTree) -> jax.Array:
        return _log_normal(params, matched(self.scale, params, "gaussian_prior(scale)"))


def gaussian_prior(scale: PyTree) -> Callable[[PyTree], jax.Array]:
    """The log density of independent N(0, scale²) priors, up to a constant.

    `optax.add_decayed_weights(1 / scale**2)` before a sampler is the same prior in
    a loop whose loss has none.

    Args:
      scale: standard deviation of the prior, one number or a tree like the
        parameters. For a network see `fan_in_prior`.

    Raises:
      ValueError: if a scale is not finite and above 0.

    Example:
      >>> import jax.numpy as jnp, sgld_jax
      >>> log_prior = sgld_jax.gaussian_prior(2.0)
      >>> float(log_prior({"w": jnp.array([2.0, 4.0])}))
      -2.5
    """
    check_positive(scale, "gaussian_prior(scale)")
    return _Gaussian(scale)


@dataclasses.dataclass(frozen=True, eq=False)
class _LogGamma:
    shape: PyTree
    rate: PyTree

    def __call__(self, params: PyTree) -> jax.Array:
        shape, rate = (
            matched(x, params, "log_gamma_prior(shape, rate)")
            for x in (self.shape, self.rate)
        )
        each = jax.tree.map(
            lambda phi, a, b: jnp.sum(a * phi - b * jnp.exp(phi)), params, shape, rate
        )
        return sum(jax.tree.leaves(each), jnp.zeros([]))


def log_gamma_prior(shape: PyTree, rate: PyTree = 1.0) -> Callable[[PyTree], jax.Array]:
    """The log density of φ = log θ with θ ~ Gamma(shape, rate), up to a constant.

    It is aφ − b eᵠ, with the Jacobian: for `sgrld`, and for any other kernel. The
    softmax of such φ with one rate is Dirichlet(shape).

    Args:
      shape: a > 0, one number or a tree like the parameters.
      rate: b > 0, likewise.

    Raises:
      ValueError: for numbers that are not finite and above 0.

    Example:
      >>> import jax.numpy as jnp, sgld_jax
      >>> log_prior = sgld_jax.log_gamma_prior(2.0)
      >>> float(log_prior(jnp.zeros(3)))
      -3.0
    """
    check_positive(shape, "log_gamma_prior(shape)")
    check_positive(rate, "log_gamma_prior(rate)")
    return _LogGamma(shape, rate)


@dataclasses.dataclass(frozen=True)
class _FanIn:
    scale: float
    bias_scale: float

    def __call__(self, params: PyTree) -> jax.Array:
        def sd(path: tuple, leaf: jax.Array) -> float:
            fan_in = fan_in_of(path, np.shape(leaf))
            return self.scale / math.sqrt(fan_in) if fan_in else self.bias_scale

        tree_map = jax.tree_util.tree_map_with_path
        from_center = tree_map(lambda path, x: x - center_of(path), params)
        return _log_normal(from_center, tree_map(sd, params))


def fan_in_prior(
    scale: float, bias_scale: float = 1.0
) -> Callable[[PyTree], jax.Array]:
    """The prior of a Flax network: N(0, scale²/fan_in) for weights.

    A sum over fan_in inputs of unit size then has the standard deviation `scale`, in
    narrow layers and in wide ones. Biases are N(0, bias_scale²), the scales of
    normalisation layers N(1, bias_scale²), embeddings N(0, scale²).

    Names and shapes say which is which, as Flax has them: `bias`, `scale`, `embedding`,
    and kernels whose last axis is the output; where attention makes queries, keys and
    values of several heads, the two last ones are. Arrays without a name that have one
    axis are biases.

    Args:
      scale: of what a layer puts out; 1 to 3 is usual. `hierarchical` learns it.
      bias_scale: standard deviation of biases.

    Raises:
      TypeError, ValueError: unless both are finite numbers above 0.

    Example:
      >>> import jax.numpy as jnp, sgld_jax
      >>> log_prior = sgld_jax.fan_in_prior(2.0)
      >>> float(log_prior({"kernel": jnp.ones((4, 3)), "bias": jnp.ones(3)}))
      -7.5

    Source: R. M. Neal, Bayesian Learning for Neural Networks, 1996, section 2.1.
    """
    check_positive(scale, "fan_in_prior(scale)")
    check_positive(bias_scale, "fan_in_prior(bias_scale)")
    return _FanIn(float(scale), float(bias_scale))


def fan_in_of(path: tuple, shape: tuple[int, ...]) -> int:
    """How many inputs an output is summed over; 0 for biases and their like."""
    names = names_of(path)
    if not shape or names[-1:] in (["bias"], ["scale"]):
        return 0
    if names[-1:] == ["embedding"]:
        return 1
    if len(shape) == 3 and set(names) & {"query", "key", "value"}:
        return shape[0]  # kernels [input, head, output]
    return math.prod(shape[:-1]) if len(shape) > 1 else 0


def names_of(path: tuple) -> list[str]:
    """The keys of a path as text, without the `.value` of NNX's Variables."""
    names = [str(getattr(p, "key", getattr(p, "name", p))) for p in path]
    return names[:-1] if names[-1:] == ["value"] else names


def center_of(path: tuple) -> float:
    """Where the prior of a leaf is centred: at 1 for what multiplies, else at 0."""
    return 1.0 if names_of(path)[-1:] == ["scale"] else 0.0


def _log_normal(params: PyTree, scale: PyTree) -> jax.Array:
    values = (jnp.asarray(x) for x in jax.tree.leaves(params))
    leaves = list(zip(values, jax.tree.leaves(scale)))
    dtypes = [wide_dtype(x) for x, _ in leaves]
    widest = jnp.float64 if jnp.float64 in dtypes else jnp.float32
    squares = (
        jnp.sum((x.astype(d) / jnp.asarray(s, d)) ** 2).astype(widest)
        for (x, s), d in zip(leaves, dtypes)
    )
    return -0.5 * sum(squares, jnp.zeros([], widest))
