"""What the demo samples: a small Flax network on the digits, and a landscape."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sgld_jax.potentials.potential import (
    Potential,
    from_log_density,
    minibatch_potential,
)
from sgld_jax.potentials.priors import gaussian_prior

PyTree = Any

NUM_TRAIN = 300  # few, so that there is something to be uncertain about
NUM_KNOWN = 8  # classes 0 to 7; the other two are never seen in training
HIDDEN = 50
SWARM_VARIANCE = 0.03


class Digits(NamedTuple):
    """Inputs `[n, 64]` in [−.3, .7] and labels `[n]`.

    Attributes:
      train: inputs and labels of `NUM_TRAIN` images.
      images: inputs of the test images, then of those of classes never seen.
      test_labels: of the first of `images`.
      unseen_labels: of the rest.
    """

    train: tuple[jax.Array, jax.Array]
    images: jax.Array
    test_labels: np.ndarray
    unseen_labels: np.ndarray


class Model(NamedTuple):
    """A network as functions of its parameters, and its posterior."""

    init: Callable[[jax.Array], PyTree]
    logits: Callable[[PyTree, jax.Array], jax.Array]
    log_prior: Callable[[PyTree], jax.Array]
    log_likelihood: Callable[[PyTree, PyTree], jax.Array]
    potential: Callable[[PyTree, PyTree], jax.Array]


def load(seed: int) -> Digits:
    """The digits, split at random into training, test, and classes never seen."""
    from sklearn.datasets import load_digits

    inputs, labels = (np.asarray(x) for x in load_digits(return_X_y=True))
    inputs = jnp.asarray(inputs / 16 - 0.3, jnp.float32)
    known = np.flatnonzero(labels < NUM_KNOWN)
    known = np.random.default_rng(seed).permutation(known)
    train, test = known[:NUM_TRAIN], known[NUM_TRAIN:]
    unseen = np.flatnonzero(labels >= NUM_KNOWN)
    return Digits(
        (inputs[train], jnp.asarray(labels[train])),
        inputs[np.concatenate([test, unseen])],
        labels[test],
        labels[unseen],
    )


def mlp(prior_scale: float) -> Model:
    """A Flax NNX network 64-50-8, split into its structure and its parameters.

    Priors are N(0, S²/fan_in) for weights and N(0, 1) for biases.
    """
    from flax import nnx

    class MLP(nnx.Module):
        def __init__(self, key: jax.Array):
            rngs = nnx.Rngs(key)
            self.hidden = nnx.Linear(64, HIDDEN, rngs=rngs)
            self.out = nnx.Linear(HIDDEN, NUM_KNOWN, rngs=rngs)

        def __call__(self, x: jax.Array) -> jax.Array:
            return self.out(nnx.relu(self.hidden(x)))

    structure, shapes = nnx.split(nnx.eval_shape(lambda: MLP(jax.random.key(0))))

    def logits(params, inputs):
        return nnx.merge(structure, params)(inputs)

    def log_likelihood(params, batch):
        inputs, labels = batch
        log_p = jax.nn.log_softmax(logits(params, inputs))
        return jnp.take_along_axis(log_p, labels[:, None], axis=-1)[:, 0]

    def sd(leaf):
        return prior_scale / leaf.shape[0] ** 0.5 if leaf.ndim == 2 else 1.0

    log_prior = gaussian_prior(jax.tree.map(sd, shapes))
    return Model(
        jax.jit(lambda key: nnx.state(MLP(key))),  # else vmap compiles each op
        logits,
        log_prior,
        log_likelihood,
        minibatch_potential(log_prior, log_likelihood, NUM_TRAIN),
    )


def landscape() -> tuple[np.ndarray, Potential]:
    """Centres `[25, 2]` of equal Gaussians, on a square grid, and their potential."""
    side = 2 * np.arange(-2, 3, dtype=np.float32)
    centres = np.stack(np.meshgrid(side, side), axis=-1).reshape(25, 2)

    def log_density(x):
        squares = jnp.sum((x - centres) ** 2, axis=-1)
        return jax.nn.logsumexp(-squares / (2 * SWARM_VARIANCE))

    return centres, from_log_density(log_density)
