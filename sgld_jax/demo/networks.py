"""What the demo samples: two small Flax networks, and a landscape of 25 Gaussians."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sgld_jax.demo.digits import NUM_KNOWN
from sgld_jax.potentials import likelihoods
from sgld_jax.potentials.hierarchical import hierarchical
from sgld_jax.potentials.networks import Network, from_nnx
from sgld_jax.potentials.potential import Potential, from_log_density
from sgld_jax.potentials.priors import fan_in_prior

PyTree = Any

HIDDEN = 50  # of the network on digits
CURVE_HIDDEN = 32  # of the network on the line
CURVE_NOISE = 0.2  # standard deviation of y
SWARM_VARIANCE = 0.03


def digit_network(num_data: int) -> Network:
    """64-50-8 with ReLU and class probabilities; the prior's scales are sampled too."""
    from flax import nnx

    class Classifier(nnx.Module):
        def __init__(self, rngs: nnx.Rngs):
            self.hidden = nnx.Linear(64, HIDDEN, rngs=rngs)
            self.out = nnx.Linear(HIDDEN, NUM_KNOWN, rngs=rngs)

        def __call__(self, x: jax.Array) -> jax.Array:
            return self.out(nnx.relu(self.hidden(x)))

    def log_likelihood(model: Any, batch: PyTree) -> jax.Array:
        inputs, labels = batch
        return likelihoods.categorical(model(inputs), labels)

    prior = fan_in_prior(2.0)
    return hierarchical(from_nnx(Classifier, log_likelihood, prior, num_data))


def curve_network(num_data: int) -> Network:
    """1-32-1 with tanh, for a curve with Gaussian noise; the same kind of prior."""
    from flax import nnx

    class Curve(nnx.Module):
        def __init__(self, rngs: nnx.Rngs):
            self.hidden = nnx.Linear(1, CURVE_HIDDEN, rngs=rngs)
            self.out = nnx.Linear(CURVE_HIDDEN, 1, rngs=rngs)

        def __call__(self, x: jax.Array) -> jax.Array:
            return self.out(jnp.tanh(self.hidden(x)))[..., 0]

    def log_likelihood(model: Any, batch: PyTree) -> jax.Array:
        x, y = batch
        return likelihoods.normal(model(x), CURVE_NOISE, y)

    prior = fan_in_prior(2.0)
    return hierarchical(from_nnx(Curve, log_likelihood, prior, num_data))


def starts_at(network: Network, key: jax.Array, scales: np.ndarray) -> PyTree:
    """Flax's own starting weights, where all layers have these prior scales.

    Args:
      network: one of the above.
      key: of the weights.
      scales: `[C]`, one for each chain.

    Returns:
      Parameters with a leading axis of chains.
    """

    @jax.jit
    @jax.vmap
    def starts(key, scale):
        params = network.init(key)
        (now, *_) = params["log_scale"].values()  # the same for all layers
        # Biases start at 0, so that they may be multiplied too.
        z = jax.tree.map(lambda z: z * jnp.exp(now) / scale, params["z"])
        log_scale = jax.tree.map(lambda _: jnp.log(scale), params["log_scale"])
        return {"z": z, "log_scale": log_scale}

    return starts(jax.random.split(key, len(scales)), jnp.float32(scales))


def held(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """The optimizer for z alone: the scales stay where they are."""
    return optax.partition(
        {"z": optimizer, "log_scale": optax.set_to_zero()},
        {"z": "z", "log_scale": "log_scale"},
    )


def landscape() -> tuple[np.ndarray, Potential]:
    """Centres `[25, 2]` of equal Gaussians, on a square grid, and their potential."""
    side = 2 * np.arange(-2, 3, dtype=np.float32)
    centres = np.stack(np.meshgrid(side, side), axis=-1).reshape(25, 2)

    def log_density(x):
        squares = jnp.sum((x - centres) ** 2, axis=-1)
        return jax.nn.logsumexp(-squares / (2 * SWARM_VARIANCE))

    return centres, from_log_density(log_density)
