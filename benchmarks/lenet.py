"""LeNet-5 of 61,706 parameters: ReLU, means in place of pooling's largest, no norms."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import sgld_jax

PyTree = Any

SHAPES = {
    "conv1": (5, 5, 1, 6),
    "conv2": (5, 5, 6, 16),
    "dense1": (400, 120),
    "dense2": (120, 84),
    "dense3": (84, 10),
}


def init(key: jax.Array) -> PyTree:
    """As He has it: weights N(0, 2/fan_in)."""
    keys = jax.random.split(key, len(SHAPES))
    return {
        name: {
            "kernel": jax.random.normal(k, shape) * np.sqrt(2 / np.prod(shape[:-1])),
            "bias": jnp.zeros(shape[-1]),
        }
        for k, (name, shape) in zip(keys, SHAPES.items())
    }


def convolved(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Images `[n, h, w, c]` by a kernel `[k, k, c, d]`, as a product of matrices.

    XLA's own convolution is several times slower on a CPU once it stands in a loop (JAX
    issue 12868), as it does in `sample`.
    """
    k = len(kernel)
    h, w = x.shape[1] - k + 1, x.shape[2] - k + 1
    shifted = [x[:, i : i + h, j : j + w] for i in range(k) for j in range(k)]
    return jnp.concatenate(shifted, -1) @ kernel.reshape(-1, kernel.shape[-1])


def features(params: PyTree, x: jax.Array, keep: Callable = lambda h: h) -> jax.Array:
    """What the last layer sees, `[n, 84]`; `keep` drops units of dense layers."""
    for name, margin in (("conv1", 2), ("conv2", 0)):
        layer = params[name]
        x = jnp.pad(x, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
        x = jax.nn.relu(convolved(x, layer["kernel"]) + layer["bias"])
        n, h, w, c = x.shape
        x = x.reshape(n, h // 2, 2, w // 2, 2, c).mean((2, 4))
    x = x.reshape(len(x), -1)
    for name in ("dense1", "dense2"):
        x = keep(jax.nn.relu(x @ params[name]["kernel"] + params[name]["bias"]))
    return x


def apply(params: PyTree, x: jax.Array, keep: Callable = lambda h: h) -> jax.Array:
    """Logits `[n, 10]`."""
    last = params["dense3"]
    return features(params, x, keep) @ last["kernel"] + last["bias"]


def log_likelihood(params: PyTree, batch: tuple) -> jax.Array:
    """One number for each image."""
    x, labels = batch
    return sgld_jax.likelihoods.categorical(apply(params, x), labels)
