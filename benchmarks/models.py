"""What is sampled: models with data drawn from a seed, nothing to download."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import sgld_jax

PyTree = Any


class Model(NamedTuple):
    """A posterior and the batches it is sampled with.

    Attributes:
      name: in tables.
      data: arrays `[N, ...]`.
      log_likelihood: `(params, batch) -> [n]`.
      init: `key -> params`.
      batch_size: n.
    """

    name: str
    data: PyTree
    log_likelihood: Callable
    init: Callable
    batch_size: int

    @property
    def num_data(self) -> int:
        """N."""
        return len(self.data[0])

    def potential(self) -> Callable:
        """U, a new object at every call, as when a cell of a notebook is run again."""
        prior = sgld_jax.gaussian_prior(1.0)
        return sgld_jax.minibatch_potential(prior, self.log_likelihood, self.num_data)


def logistic(dim: int, num_data: int, batch_size: int) -> Model:
    """Bayesian logistic regression with `dim` features."""
    kx, ky = jax.random.split(jax.random.key(0))
    x = jax.random.normal(kx, (num_data, dim))
    y = jax.random.bernoulli(ky, 0.5, (num_data,)).astype(jnp.float32)

    def log_likelihood(theta, batch):
        x, y = batch
        return y * (x @ theta) - jax.nn.softplus(x @ theta)

    def init(key):
        return 0.1 * jax.random.normal(key, (dim,))

    return Model(f"logistic, d = {dim}", (x, y), log_likelihood, init, batch_size)


def network(sizes: tuple[int, ...] = (64, 128, 128, 10), num_data: int = 10_000):
    """A network of 26,122 parameters, dense layers with ReLU."""
    kx, ky = jax.random.split(jax.random.key(0))
    x = jax.random.normal(kx, (num_data, sizes[0]))
    y = jax.random.randint(ky, (num_data,), 0, sizes[-1])

    def log_likelihood(params, batch):
        x, y = batch
        for w, b in params[:-1]:
            x = jax.nn.relu(x @ w + b)
        w, b = params[-1]
        return _of_labels(x @ w + b, y)

    def init(key):
        return _dense(key, sizes)

    return Model("network, 26k", (x, y), log_likelihood, init, 32)


def lenet(num_data: int = 2_000) -> Model:
    """LeNet-5's shape on images of 28 × 28: two convolutions, three dense layers."""
    kx, ky = jax.random.split(jax.random.key(0))
    x = jax.random.normal(kx, (num_data, 28, 28, 1))
    y = jax.random.randint(ky, (num_data,), 0, 10)

    def log_likelihood(params, batch):
        x, y = batch
        for kernel in params["conv"]:
            x = jax.lax.conv_general_dilated(
                x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            x = jax.nn.relu(x).reshape(
                len(x), x.shape[1] // 2, 2, x.shape[2] // 2, 2, -1
            )
            x = x.mean(axis=(2, 4))
        x = x.reshape(len(x), -1)
        for w, b in params["dense"][:-1]:
            x = jax.nn.relu(x @ w + b)
        w, b = params["dense"][-1]
        return _of_labels(x @ w + b, y)

    def init(key):
        k1, k2, k3 = jax.random.split(key, 3)
        kernels = [
            jax.random.normal(k1, (5, 5, 1, 6)) / 5,
            jax.random.normal(k2, (5, 5, 6, 16)) / 12,
        ]
        return {"conv": kernels, "dense": _dense(k3, (784, 120, 84, 10))}

    return Model("LeNet, 107k", (x, y), log_likelihood, init, 32)


def _dense(key: jax.Array, sizes: tuple[int, ...]) -> list:
    keys = jax.random.split(key, len(sizes) - 1)
    return [
        (jax.random.normal(k, (m, n)) / m**0.5, jnp.zeros(n))
        for k, m, n in zip(keys, sizes, sizes[1:])
    ]


def _of_labels(logits: jax.Array, labels: jax.Array) -> jax.Array:
    log_probs = jax.nn.log_softmax(logits)
    return jnp.take_along_axis(log_probs, labels[:, None], axis=1)[:, 0]
