"""Networks for tables: the prior's scales and the relevance of inputs are learned, too.

    h₀ = e^{a/2} x                          a ~ N(0, I), the relevance of each input
    hₗ = tanh(sₗ wₗ hₗ₋₁/√fan_in + bₗ)       wₗ, bₗ ~ N(0, I)
    f  = c s w h/√fan_in + b                 for each output a scale s, and a factor c
    s  = 3 e^{τη},  η ~ N(0, 1)              for each layer and each output

All that is sampled is N(0, 1) a priori, so that coordinates are of one size, and no
width follows another (the non-centred form, see `hierarchical`). In a regression
τ = 1/4, and the outputs are a mean and g, σ = √(floor² + exp(2g − 3)), with c = 0.1
for g: noise varies little with x, and is some .2 of the spread of y. With classes
τ = 1: how sure a network may be is learned.

R. M. Neal, Bayesian Learning for Neural Networks, 1996, on scales and relevance.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from sgld_jax.arguments import check_count
from sgld_jax.potentials import likelihoods
from sgld_jax.potentials.networks import Network
from sgld_jax.potentials.potential import minibatch_potential
from sgld_jax.potentials.priors import gaussian_prior

PyTree = Any

_SCALE = 3.0  # of a layer
_OF_NUMBERS, _OF_CLASSES = 0.25, 1.0  # τ, the spread of the logarithm of that scale
_OF_NOISE = 0.1  # the factor of an output that is a log σ
_LOG_NOISE = -1.5  # its centre


def tabular_regression(
    num_inputs: int, hidden: Sequence[int], num_data: int, floor: float = 0.0
) -> Network:
    """Means and standard deviations of a target, for standardised inputs and targets.

    Args:
      num_inputs: columns of the table.
      hidden: widths of the hidden layers.
      num_data: N.
      floor: the least σ, such as the rounding of the target.

    Returns:
      A `Network` whose data are `(x [n, D], y [n])`, and whose `apply(params, x)` is
      `[n, 2]`, means and log σ.

    Raises:
      TypeError, ValueError: for sizes that are not whole numbers above 0.

    Example:
      >>> import jax, jax.numpy as jnp, sgld_jax
      >>> network = sgld_jax.tabular_regression(3, (16, 16), num_data=100)
      >>> params = network.init(jax.random.key(0))
      >>> network.apply(params, jnp.ones((5, 3))).shape
      (5, 2)
    """

    def outputs(params: PyTree, x: jax.Array) -> jax.Array:
        f = _forward(params, x, jnp.array([1.0, _OF_NOISE]), _OF_NUMBERS)
        log_sd = f[..., 1] + _LOG_NOISE
        if floor:
            log_sd = 0.5 * jnp.logaddexp(2 * math.log(floor), 2 * log_sd)
        return jnp.stack([f[..., 0], log_sd], -1)

    def log_likelihood(params: PyTree, batch: PyTree) -> jax.Array:
        x, y = batch
        return likelihoods.heteroscedastic_normal(outputs(params, x), y)

    sizes = num_inputs, *hidden, 2
    return _network(sizes, outputs, log_likelihood, num_data)


def tabular_classification(
    num_inputs: int, hidden: Sequence[int], num_classes: int, num_data: int
) -> Network:
    """Logits of classes, for standardised inputs.

    Args:
      num_inputs: columns of the table.
      hidden: widths of the hidden layers.
      num_classes: K.
      num_data: N.

    Returns:
      A `Network` whose data are `(x [n, D], labels [n])`, from 0, and whose
      `apply(params, x)` is `[n, K]`.

    Raises:
      TypeError, ValueError: for sizes that are not whole numbers above 0.

    Example:
      >>> import jax, jax.numpy as jnp, sgld_jax
      >>> network = sgld_jax.tabular_classification(3, (16,), 4, num_data=100)
      >>> params = network.init(jax.random.key(0))
      >>> network.apply(params, jnp.ones((5, 3))).shape
      (5, 4)
    """

    def outputs(params: PyTree, x: jax.Array) -> jax.Array:
        return _forward(params, x, jnp.ones(num_classes), _OF_CLASSES)

    def log_likelihood(params: PyTree, batch: PyTree) -> jax.Array:
        x, labels = batch
        return likelihoods.categorical(outputs(params, x), labels)

    sizes = num_inputs, *hidden, num_classes
    return _network(sizes, outputs, log_likelihood, num_data)


def _forward(
    params: PyTree, x: jax.Array, factors: jax.Array, spread: float
) -> jax.Array:
    """f, `[n, K]`. Columns are rows inside, since CPUs are faster so."""
    h = jnp.exp(params["relevance"] / 2)[:, None] * x.T
    *hidden, last = params["layers"]
    for layer in hidden:
        h = jnp.tanh(_scale(layer, spread) * (layer["w"] @ h) + layer["b"][:, None])
    scales = factors * _scale(last, spread)
    return (scales[:, None] * (last["w"] @ h) + last["b"][:, None]).T


def _scale(layer: PyTree, spread: float) -> jax.Array:
    fan_in = layer["w"].shape[1]
    return _SCALE / math.sqrt(fan_in) * jnp.exp(spread * layer["log_scale"])


def _network(
    sizes: tuple[int, ...], outputs: Any, log_likelihood: Any, num_data: int
) -> Network:
    for size in sizes:
        check_count("a layer's width", size, 1)
    check_count("num_data", num_data, 1)

    def init(key: jax.Array) -> PyTree:
        keys = jax.random.split(key, len(sizes) - 1)
        layers = []
        for i, key in enumerate(keys):
            fan_in, width = sizes[i : i + 2]
            is_last = i == len(keys) - 1
            layers += [
                {
                    "w": jax.random.normal(key, (width, fan_in)) / _SCALE,
                    "b": jnp.zeros(width),
                    "log_scale": jnp.zeros(width if is_last else ()),
                }
            ]
        return {"layers": layers, "relevance": jnp.zeros(sizes[0])}

    log_prior = gaussian_prior(1.0)
    potential = minibatch_potential(log_prior, log_likelihood, num_data)
    return Network(potential, init, outputs, log_likelihood, log_prior, num_data)
