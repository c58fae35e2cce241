"""Images of digits, clothes and letters, and what a prediction of them is worth."""

import functools
import gzip
import os
import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import sgld_jax
from benchmarks.image_methods import Fit

VALIDATION = slice(50_000, 52_000)  # of the training images, for choices
HELD_OUT = slice(52_000, 60_000)  # the test of Fashion-MNIST, whose own is not at hand
AT_ONCE = 500  # images of a prediction


class Images(NamedTuple):
    """Images `[n, 28, 28, 1]` in 0 to 1, and labels where there are any.

    Attributes:
      train: what methods learn from.
      validation: what choices are made on.
      test: what scores are of.
      turned: the first half of the test images, by 30 degrees, with noise.
      others: images of something else, by name.
    """

    train: tuple[jax.Array, jax.Array]
    validation: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]
    turned: np.ndarray
    others: dict[str, np.ndarray]


def load(data: str, num_train: int, num_test: int, num_others: int) -> Images:
    """From the folder that `SGLD_JAX_DATA` names.

    Args:
      data: "mnist" or "fashion".
      num_train: the first of the training images, up to 50,000.
      num_test: of the test images, at most.
      num_others: of each other set, at most.
    """
    x, y = _images(f"{data}-train"), _labels(f"{data}-train")
    if data == "mnist":
        test = _images("mnist-t10k"), _labels("mnist-t10k")
        other = {"Fashion": _images("fashion-t10k")}
    else:
        test = x[HELD_OUT], y[HELD_OUT]
        other = {"MNIST": _images("mnist-t10k")}
    letters = np.load(_folder() / "notmnist_a.npz")["x"][..., None] / 255
    other["notMNIST"] = letters.astype(np.float32)
    test = test[0][:num_test], test[1][:num_test]
    return Images(
        (jnp.asarray(x[:num_train]), jnp.asarray(y[:num_train])),
        (x[VALIDATION], y[VALIDATION]),
        test,
        turned(test[0][: len(test[0]) // 2]),
        {name: images[:num_others] for name, images in other.items()},
    )


def turned(images: np.ndarray) -> np.ndarray:
    """Images by 30 degrees, with noise of standard deviation .2."""
    from scipy import ndimage

    moved = ndimage.rotate(images, 30, axes=(2, 1), reshape=False, order=1)
    noise = 0.2 * np.random.default_rng(0).normal(size=moved.shape)
    return np.float32(np.clip(moved + noise, 0, 1))


def _folder() -> pathlib.Path:
    if "SGLD_JAX_DATA" not in os.environ:
        raise SystemExit("Set SGLD_JAX_DATA to the folder of the data sets.")
    return pathlib.Path(os.environ["SGLD_JAX_DATA"]) / "images"


def _read(name: str, header: int) -> np.ndarray:
    with gzip.open(_folder() / f"{name}.gz") as file:
        return np.frombuffer(file.read(), np.uint8, offset=header)


def _images(name: str) -> np.ndarray:
    x = _read(f"{name}-images-idx3-ubyte", 16).reshape(-1, 28, 28, 1)
    return (x / 255).astype(np.float32)


def _labels(name: str) -> np.ndarray:
    return _read(f"{name}-labels-idx1-ubyte", 8).astype(int)


# --- scores --------------------------------------------------------------------------


def probabilities(fit: Fit, x: np.ndarray) -> np.ndarray:
    """Averaged over all draws, `[n, 10]`."""
    reduce = sgld_jax.predictive_probs
    said = sgld_jax.predict(fit.apply, fit.params, x, batch_size=AT_ONCE, reduce=reduce)
    return np.asarray(said, np.float64)


def scores(fit: Fit, images: Images) -> dict:
    """On test images; on the same, turned and noisy; beside other images."""
    predict = functools.partial(probabilities, fit)
    x, labels = images.test
    probs = predict(x)
    known = _entropy(probs)
    found = {
        "accuracy": float(np.mean(probs.argmax(1) == labels)),
        "NLL": sgld_jax.nll(probs, labels),
        "Brier": sgld_jax.brier(probs, labels),
        "ECE": sgld_jax.expected_calibration_error(probs, labels),
        "error at 95 %": sgld_jax.error_at_coverage(probs, labels, 0.95),
        "NLL, turned": sgld_jax.nll(predict(images.turned), labels[: len(labels) // 2]),
    }
    for name, other in images.others.items():
        found[f"AUROC, {name}"] = sgld_jax.auroc(known, _entropy(predict(other)))
    return found


def _entropy(probs: np.ndarray) -> np.ndarray:
    return -np.sum(probs * np.log(np.maximum(probs, 1e-30)), 1)
