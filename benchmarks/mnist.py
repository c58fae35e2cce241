# python -m benchmarks mnist
"""LeNet-5 on a part of MNIST: what each method knows, and knows not to know.

All methods know the same network, and make as many gradients of batches. Each is tuned
by the same rule: of three settings, with a quarter of the gradients each, the one is
taken that makes validation images most likely.
"""

import gzip
import os
import pathlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import sgld_jax
from benchmarks import restart

N, VALIDATION, TEST, OTHERS = 5_000, 2_000, 4_000, 1_000
BATCH, MEMBERS, UPDATES = 50, 8, 1_500  # of each member
DRAWS = 10  # of each chain; as many times MEMBERS of what has no chains
SCALE = 4.0  # of the prior N(0, S²/fan_in) where it is not what is tuned
SEEDS = 1
PyTree = Any


class Images(NamedTuple):
    """Images `[n, 28, 28, 1]` in 0 to 1, and labels where there are any."""

    train: tuple[jax.Array, jax.Array]
    validation: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]
    turned: np.ndarray  # the first half of the test images, by 30 degrees, with noise
    fashion: np.ndarray
    letters: np.ndarray


def load() -> Images:
    """From the folder that `SGLD_JAX_DATA` names."""
    from scipy import ndimage

    folder = pathlib.Path(os.environ["SGLD_JAX_DATA"]) / "images"

    def read(name: str, offset: int) -> np.ndarray:
        with gzip.open(folder / f"{name}.gz") as file:
            return np.frombuffer(file.read(), np.uint8, offset=offset)

    def images(name: str) -> np.ndarray:
        x = read(f"{name}-images-idx3-ubyte", 16).reshape(-1, 28, 28, 1)
        return (x / 255).astype(np.float32)

    x, y = images("mnist-train"), read("mnist-train-labels-idx1-ubyte", 8).astype(int)
    test = images("mnist-t10k")[:TEST]
    labels = read("mnist-t10k-labels-idx1-ubyte", 8).astype(int)[:TEST]
    turned = ndimage.rotate(test[: TEST // 2], 30, axes=(2, 1), reshape=False, order=1)
    noise = 0.2 * np.random.default_rng(0).normal(size=turned.shape)
    letters = np.load(folder / "notmnist_a.npz")["x"][:OTHERS, :, :, None] / 255
    return Images(
        (jnp.asarray(x[:N]), jnp.asarray(y[:N])),
        (x[50_000 : 50_000 + VALIDATION], y[50_000 : 50_000 + VALIDATION]),
        (test, labels),
        np.float32(np.clip(turned + noise, 0, 1)),
        images("fashion-t10k")[:OTHERS],
        np.float32(letters),
    )


# --- the network ---------------------------------------------------------------------

SHAPES = {
    "conv1": (5, 5, 1, 6),
    "conv2": (5, 5, 6, 16),
    "dense1": (400, 120),
    "dense2": (120, 84),
    "dense3": (84, 10),
}


def init(key: jax.Array) -> PyTree:
    """61,706 parameters, as He has them."""
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
    return (
        features(params, x, keep) @ params["dense3"]["kernel"]
        + params["dense3"]["bias"]
    )


def log_likelihood(params: PyTree, batch: tuple) -> jax.Array:
    """One number for each image."""
    x, labels = batch
    return sgld_jax.likelihoods.categorical(apply(params, x), labels)


def posterior(scale: float) -> Callable:
    """U, with a prior of this scale."""
    prior = sgld_jax.fan_in_prior(scale)
    return sgld_jax.minibatch_potential(prior, log_likelihood, N)


# --- the methods: what each says of images `x`, probabilities `[n, 10]` -----------


class Fit(NamedTuple):
    """Parameters `[C, S, ...]`, and logits of one of them."""

    params: PyTree
    apply: Callable = apply


def optima(data: Any, seed: int, scale: float, members: int, updates: int) -> PyTree:
    """Networks by Adam, `[C, 1, ...]`."""
    return _run(data, seed, _adam(updates), posterior(scale), init, members, updates, 1)


def ensemble(data: Any, seed: int, scale: float, members: int, updates: int) -> Fit:
    """As many networks as other methods have members."""
    return Fit(optima(data, seed, scale, members, updates))


def one_network(data: Any, seed: int, scale: float, members: int, updates: int) -> Fit:
    """The optimum (MAP), with the gradients of all members."""
    return Fit(optima(data, seed, scale, 1, members * updates))


def dropout(data: Any, seed: int, rate: float, members: int, updates: int) -> Fit:
    """A network with dropout in its dense layers, in training and in prediction."""

    def dropping(key: jax.Array) -> Callable:
        def keep(h: jax.Array) -> jax.Array:
            mask = jax.random.bernoulli(
                jax.random.fold_in(key, h.shape[-1]), 1 - rate, h.shape
            )
            return jnp.where(mask, h / (1 - rate), 0)

        return keep

    def random(params: PyTree, batch: tuple, *, key: jax.Array) -> jax.Array:
        x, labels = batch
        logits = apply(params, x, dropping(key))
        return sgld_jax.likelihoods.categorical(logits, labels)

    prior = sgld_jax.fan_in_prior(SCALE)
    potential = sgld_jax.minibatch_potential(prior, random, N)
    total = members * updates
    params = _run(data, seed, _adam(total), potential, init, 1, total, 1)
    masks = jnp.arange(MEMBERS * DRAWS)[None]
    many = jax.tree.map(lambda p: jnp.repeat(p, MEMBERS * DRAWS, 1), params)

    def masked(one: tuple, x: jax.Array) -> jax.Array:
        params, mask = one
        key = jax.random.fold_in(jax.random.key(seed), mask)
        return apply(params, x, dropping(key))

    return Fit((many, masks), masked)


def mean_field(data: Any, seed: int, scale: float, members: int, updates: int) -> Fit:
    """A Gaussian for each parameter, by the gradient of the evidence's lower bound."""

    def weights(q: PyTree, key: jax.Array) -> PyTree:
        leaves, structure = jax.tree.flatten(q["mean"])
        keys = jax.random.split(key, len(leaves))
        noise = [jax.random.normal(k, x.shape) for k, x in zip(keys, leaves)]
        noise = jax.tree.unflatten(structure, noise)
        return jax.tree.map(
            lambda m, s, e: m + jnp.exp(s) * e, q["mean"], q["log_sd"], noise
        )

    def random(q: PyTree, batch: tuple, *, key: jax.Array) -> jax.Array:
        return log_likelihood(weights(q, key), batch)

    def start(key: jax.Array) -> PyTree:
        mean = init(key)
        return {
            "mean": mean,
            "log_sd": jax.tree.map(lambda x: jnp.full_like(x, -5.0), mean),
        }

    potential = sgld_jax.minibatch_potential(
        lambda q: minus_divergence(q, scale), random, N
    )
    total = members * updates
    q = _run(data, seed, _adam(total), potential, start, 1, total, 1)
    q = jax.tree.map(lambda x: x[0, 0], q)
    keys = jax.random.split(jax.random.key(seed), MEMBERS * DRAWS)
    draws = jax.vmap(lambda key: weights(q, key))(keys)
    return Fit(jax.tree.map(lambda x: x[None], draws))


def minus_divergence(q: PyTree, scale: float) -> jax.Array:
    """−KL(q‖prior), up to a constant, for independent Gaussians."""

    def of(name: str, kind: str) -> jax.Array:
        fan_in = np.prod(SHAPES[name][:-1])
        precision = fan_in / scale**2 if kind == "kernel" else 1.0  # as `fan_in_prior`
        mean, log_sd = q["mean"][name][kind], q["log_sd"][name][kind]
        return jnp.sum(log_sd - 0.5 * precision * (jnp.exp(2 * log_sd) + mean**2))

    return sum(of(name, kind) for name in SHAPES for kind in ("kernel", "bias"))


def last_hessian(h: jax.Array, logits: jax.Array) -> np.ndarray:
    """Of −log p(labels) in weights and biases of the last layer, `[(d + 1)K]²`."""
    h = jnp.concatenate([h, jnp.ones((len(h), 1))], 1)
    p = jax.nn.softmax(logits)
    curvature = (
        jnp.einsum("nk,kl->nkl", p, jnp.eye(p.shape[1])) - p[:, :, None] * p[:, None]
    )
    size = h.shape[1] * p.shape[1]
    return np.asarray(jnp.einsum("nkl,ni,nj->ikjl", curvature, h, h)).reshape(
        size, size
    )


def last_layer(data: Any, seed: int, scale: float, members: int, updates: int) -> Fit:
    """Laplace's Gaussian for the last layer of the optimum, by its whole Hessian."""
    params = jax.tree.map(
        lambda x: x[0, 0], optima(data, seed, SCALE, 1, members * updates)
    )
    blocks = last_hessian(features(params, data[0]), apply(params, data[0]))
    precision = np.r_[np.full(840, 84 / scale**2), np.ones(10)]  # as `fan_in_prior`
    root = np.linalg.cholesky(np.asarray(blocks, np.float64) + np.diag(precision))
    z = np.random.default_rng(seed).normal(size=(850, MEMBERS * DRAWS))
    moves = np.linalg.solve(root.T, z).T.reshape(1, -1, 85, 10).astype(np.float32)
    many = jax.tree.map(lambda x: jnp.repeat(x[None, None], MEMBERS * DRAWS, 1), params)
    many["dense3"]["kernel"] += moves[:, :, :84]
    many["dense3"]["bias"] += moves[:, :, 84]
    return Fit(many)


def _chains(make: Callable) -> Callable:
    def fit(data: Any, seed: int, step: float, members: int, updates: int) -> Fit:
        half = updates // 2
        starts = jax.tree.map(
            lambda x: x[:, 0], optima(data, seed, SCALE, members, half)
        )
        begin = sgld_jax.stacked(starts)
        run = posterior(SCALE), begin, members, half, DRAWS
        return Fit(_run(data, seed + 1, make(step), *run))

    fit.__doc__ = (
        f"`{make.__name__}`, from networks by Adam with half of the gradients."
    )
    return fit


def _adam(updates: int) -> optax.GradientTransformation:
    """Adam, with a key for potentials that want one: `sgld` at T = 0 passes −∇U on."""
    adam = optax.adam(optax.cosine_decay_schedule(2e-3, updates))
    return optax.chain(sgld_jax.sgld(1.0, 0.0), optax.scale(-1.0), adam)


def _run(
    data: Any,
    seed: int,
    transformation: Any,
    potential: Callable,
    start: Any,
    members: int,
    updates: int,
    draws: int,
) -> PyTree:
    """Draws over the second half, or the last position."""
    thinning = 1 if draws == 1 else updates // 2 // draws
    return (
        sgld_jax.sample(
            seed,
            transformation,
            potential,
            start,
            num_chains=members,
            num_samples=draws,
            burn_in=updates - draws * thinning,
            thinning=thinning,
            data=data,
            batches=sgld_jax.shuffled(BATCH),
        )
        .healthy()
        .params
    )


METHODS: dict[str, tuple[Callable, str, tuple[float, ...]]] = {
    "MAP": (one_network, "prior scale", (2.0, 4.0, 8.0)),
    "deep ensemble": (ensemble, "prior scale", (2.0, 4.0, 8.0)),
    "MC dropout": (dropout, "rate", (0.1, 0.25, 0.5)),
    "mean-field VI": (mean_field, "prior scale", (2.0, 4.0, 8.0)),
    "last-layer Laplace": (last_layer, "prior scale", (2.0, 4.0, 8.0)),
    "sgld": (_chains(sgld_jax.sgld), "step size", (1e-5, 3e-5, 1e-4)),
    "sghmc": (_chains(sgld_jax.sghmc), "step size", (3e-6, 1e-5, 3e-5)),
}


# --- the table ---------------------------------------------------------------------


def row(method: str, seed: int) -> dict:
    """One method: tuned, fitted, and scored."""
    images, (fit, name, settings) = load(), METHODS[method]
    began = time.perf_counter()
    tried = {}
    for setting in settings:
        found = fit(images.train, 100 + seed, setting, 2, UPDATES)
        x, labels = images.validation
        tried[setting] = sgld_jax.nll(probabilities(found, x), labels)
    best = min(tried, key=tried.get)
    tuned = time.perf_counter()
    found = fit(images.train, seed, best, MEMBERS, UPDATES)
    fitted = time.perf_counter()
    return {
        "tuned": f"{name} {best:g}",
        "validation NLL": [float(x) for x in tried.values()],
        **scores(found, images),
        "minutes of tuning": (tuned - began) / 60,
        "minutes": (fitted - tuned) / 60,
    }


def probabilities(fit: Fit, x: np.ndarray) -> np.ndarray:
    """Averaged over all draws, `[n, 10]`."""
    reduce = sgld_jax.predictive_probs
    said = sgld_jax.predict(fit.apply, fit.params, x, batch_size=500, reduce=reduce)
    return np.asarray(said, np.float64)


def scores(fit: Fit, images: Images) -> dict:
    """On test images; on the same, turned and noisy; beside clothes and letters."""
    x, labels = images.test
    probs = probabilities(fit, x)
    turned = probabilities(fit, images.turned)
    others = {"Fashion": images.fashion, "notMNIST": images.letters}
    known = _entropy(probs)
    return {
        "accuracy": float(np.mean(probs.argmax(1) == labels)),
        "NLL": sgld_jax.nll(probs, labels),
        "Brier": sgld_jax.brier(probs, labels),
        "ECE": sgld_jax.expected_calibration_error(probs, labels),
        "error at 95 %": sgld_jax.error_at_coverage(probs, labels, 0.95),
        "NLL, turned": sgld_jax.nll(turned, labels[: len(turned)]),
        **{
            f"AUROC, {name}": sgld_jax.auroc(known, _entropy(probabilities(fit, x)))
            for name, x in others.items()
        },
    }


def _entropy(probs: np.ndarray) -> np.ndarray:
    return -np.sum(probs * np.log(np.maximum(probs, 1e-30)), 1)


def rows(kept: pathlib.Path) -> list[dict]:
    """A row for each method and seed, kept one by one."""
    print("some 30 minutes on one core", flush=True)
    todo = [{"method": m, "seed": seed} for seed in range(SEEDS) for m in METHODS]
    return restart.rows(kept, todo, row)
