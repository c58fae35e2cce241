# python examples/flax_loop.py
"""An ordinary Flax NNX training loop, and the same loop as a sampler.

A small network learns scikit-learn's digits from 1,000 images. Two lines of the loop
make it draw from the posterior instead of looking for an optimum:

    trains                       | samples
    -----------------------------|----------------------------------------------------
    tx = optax.adam(1e-3)        | tx = optax.chain(
                                 |     optax.add_decayed_weights(PRIOR_PRECISION / N),
                                 |     sgld_jax.sgld(STEP_SIZE, TEMPERATURE / N, key=1))
    kept = [epochs]              | kept = range(epochs // 2, epochs + 1, 5)

The second line keeps the predictions of many positions, where training keeps those
of the last. Their average is the posterior predictive. The loss is a mean over N
images, not a sum, and so prior and temperature are divided by N.
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

import sgld_jax

N = 1000  # training images; the other 797 are for testing
HIDDEN = 10  # units
BATCH = 125  # images per step
EPOCHS = 1000  # of either loop
PRIOR_PRECISION = 1.0  # every parameter is N(0, 1) before it has seen data
TEMPERATURE = 1.0  # 1 is the posterior
STEP_SIZE = 0.6  # for the mean loss; 0.6 / N for the sum over all data
PICTURE = pathlib.Path(__file__).parent / "pictures" / "flax_loop.png"


class Network(nnx.Module):
    """64 pixels, one hidden layer, 10 logits."""

    def __init__(self, rngs: nnx.Rngs):
        self.hidden = nnx.Linear(64, HIDDEN, rngs=rngs)
        self.logits = nnx.Linear(HIDDEN, 10, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:  # [n, 64] -> [n, 10]
        return self.logits(nnx.relu(self.hidden(images)))


def loss(model: Network, images: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean negative log-likelihood of a batch."""
    logits = model(images)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


@nnx.jit
def train_epoch(model, optimizer, images, labels):
    """One step for each batch: images `[batches, BATCH, 64]`."""

    @nnx.scan(in_axes=(nnx.Carry, 0, 0), out_axes=nnx.Carry)
    def step(carry, images, labels):
        model, optimizer = carry
        grads = nnx.grad(loss)(model, images, labels)
        optimizer.update(model, grads)
        return carry

    step((model, optimizer), images, labels)


@nnx.jit
def predict(model, images):
    return nnx.softmax(model(images))  # [n, 10]


def run(tx, kept, train, test_images) -> np.ndarray:
    """The loop. Returns predictions `[len(kept), n, 10]`, made after kept epochs."""
    images, labels = train
    model = Network(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    # Without the cache NNX walks through the model again in every call.
    one_epoch = nnx.cached_partial(train_epoch, model, optimizer)
    rng = np.random.default_rng(0)
    predictions = []
    for epoch in range(1, max(kept) + 1):
        rows = rng.permutation(N).reshape(-1, BATCH)
        one_epoch(images[rows], labels[rows])
        if epoch in kept:
            predictions.append(np.asarray(predict(model, test_images)))
    return np.stack(predictions)


def digits():
    """Images `[n, 64]` in 0 to 1 and labels: N to train on, and the rest."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    images, labels = images[order].astype(np.float32) / 16, labels[order]
    return (images[:N], labels[:N]), (jnp.asarray(images[N:]), labels[N:])


def score(name: str, probabilities: np.ndarray, labels: np.ndarray):
    """Prints and returns accuracy and mean negative log-likelihood on the test set."""
    accuracy = np.mean(probabilities.argmax(axis=-1) == labels)
    nll = -np.mean(np.log(probabilities[np.arange(len(labels)), labels]))
    print(f"{name:<22} accuracy {100 * accuracy:5.1f} %   NLL {nll:.3f}")
    return float(accuracy), float(nll)


def main(epochs: int = EPOCHS, picture=PICTURE) -> dict:
    train, (test_images, labels) = digits()

    tx = optax.adam(1e-3)
    kept = [epochs]
    trained = run(tx, kept, train, test_images)

    tx = optax.chain(
        optax.add_decayed_weights(PRIOR_PRECISION / N),
        sgld_jax.sgld(STEP_SIZE, TEMPERATURE / N, key=1),
    )
    kept = range(epochs // 2, epochs + 1, 5)
    draws = run(tx, kept, train, test_images)

    ax = Figure((6.4, 4.4), dpi=110, layout="constrained").add_subplot()
    means = {"Adam": trained[-1], f"SGLD, {len(draws)} draws": draws.mean(axis=0)}
    sgld_jax.plots.reliability(means, labels, ax=ax).figure.savefig(picture)
    return {
        "Adam": score("Adam", trained[-1], labels),
        "one draw": score("SGLD, one draw", draws[-1], labels),
        "average": score(f"SGLD, {len(draws)} draws", draws.mean(axis=0), labels),
    }


if __name__ == "__main__":
    main()

# What to expect, within 20 s on two CPU cores. Adam has begun to be too sure of itself,
# one draw is worse than its optimum, and what a posterior offers is the average:
#
# Adam                   accuracy  95.4 %   NLL 0.159
# SGLD, one draw         accuracy  94.4 %   NLL 0.182
# SGLD, 101 draws        accuracy  97.5 %   NLL 0.116
