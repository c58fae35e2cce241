"""What people would take in place of a sampler for LeNet-5, and our samplers.

Each method is called with the data, a seed, the number that is tuned, and an `Effort`
that is the same for all: as many gradients of batches of the same size.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import sgld_jax
from benchmarks.lenet import SHAPES, apply, features, init, log_likelihood

DRAWS = 10  # of each chain; as many times the members of what has no chains
SCALE = 4.0  # of the prior N(0, S²/fan_in) where it is not what is tuned
PyTree = Any


class Effort(NamedTuple):
    """Gradients: `updates` of each of the members, of `batch` images."""

    members: int
    updates: int
    batch: int

    def alone(self) -> "Effort":
        """One network, with the gradients of all."""
        return Effort(1, self.members * self.updates, self.batch)


class Fit(NamedTuple):
    """Parameters `[C, S, ...]`, and logits of one of them."""

    params: PyTree
    apply: Callable = apply


def posterior(data: tuple, scale: float) -> Callable:
    """U, with a prior of this scale."""
    prior = sgld_jax.fan_in_prior(scale)
    return sgld_jax.minibatch_potential(prior, log_likelihood, len(data[0]))


def optima(data: tuple, seed: int, scale: float, effort: Effort) -> PyTree:
    """Networks by Adam, `[C, 1, ...]`."""
    return _run(data, seed, _adam(effort), posterior(data, scale), init, effort, 1)


def ensemble(data: tuple, seed: int, scale: float, effort: Effort) -> Fit:
    """As many networks as other methods have members."""
    return Fit(optima(data, seed, scale, effort))


def one_network(data: tuple, seed: int, scale: float, effort: Effort) -> Fit:
    """The optimum (MAP), with the gradients of all members."""
    return Fit(optima(data, seed, scale, effort.alone()))


def dropout(data: tuple, seed: int, rate: float, effort: Effort) -> Fit:
    """A network with dropout in its dense layers, in training and in prediction."""

    def dropping(key: jax.Array) -> Callable:
        def keep(h: jax.Array) -> jax.Array:
            layer = jax.random.fold_in(key, h.shape[-1])
            mask = jax.random.bernoulli(layer, 1 - rate, h.shape)
            return jnp.where(mask, h / (1 - rate), 0)

        return keep

    def random(params: PyTree, batch: tuple, *, key: jax.Array) -> jax.Array:
        x, labels = batch
        logits = apply(params, x, dropping(key))
        return sgld_jax.likelihoods.categorical(logits, labels)

    prior = sgld_jax.fan_in_prior(SCALE)
    potential = sgld_jax.minibatch_potential(prior, random, len(data[0]))
    alone, said = effort.alone(), effort.members * DRAWS
    params = _run(data, seed, _adam(alone), potential, init, alone, 1)
    many = jax.tree.map(lambda p: jnp.repeat(p, said, 1), params)

    def masked(one: tuple, x: jax.Array) -> jax.Array:
        params, mask = one
        key = jax.random.fold_in(jax.random.key(seed), mask)
        return apply(params, x, dropping(key))

    return Fit((many, jnp.arange(said)[None]), masked)


def mean_field(data: tuple, seed: int, scale: float, effort: Effort) -> Fit:
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
        log_sd = jax.tree.map(lambda x: jnp.full_like(x, -5.0), mean)
        return {"mean": mean, "log_sd": log_sd}

    def prior(q: PyTree) -> jax.Array:
        return minus_divergence(q, scale)

    potential = sgld_jax.minibatch_potential(prior, random, len(data[0]))
    alone = effort.alone()
    q = _run(data, seed, _adam(alone), potential, start, alone, 1)
    q = jax.tree.map(lambda x: x[0, 0], q)
    keys = jax.random.split(jax.random.key(seed), effort.members * DRAWS)
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


def last_layer(data: tuple, seed: int, scale: float, effort: Effort) -> Fit:
    """Laplace's Gaussian for the last layer of the optimum, by its whole Hessian."""
    params = jax.tree.map(lambda x: x[0, 0], optima(data, seed, SCALE, effort.alone()))
    blocks, x = np.diag(np.r_[np.full(840, 84 / scale**2), np.ones(10)]), data[0]
    for i in range(0, len(x), 1_000):  # as `fan_in_prior`, and what images add to it
        part = x[i : i + 1_000]
        blocks += last_hessian(features(params, part), apply(params, part))
    root, said = np.linalg.cholesky(blocks), effort.members * DRAWS
    z = np.random.default_rng(seed).normal(size=(850, said))
    moves = np.linalg.solve(root.T, z).T.reshape(1, -1, 85, 10).astype(np.float32)
    many = jax.tree.map(lambda x: jnp.repeat(x[None, None], said, 1), params)
    many["dense3"]["kernel"] += moves[:, :, :84]
    many["dense3"]["bias"] += moves[:, :, 84]
    return Fit(many)


def last_hessian(h: jax.Array, logits: jax.Array) -> np.ndarray:
    """Of −log p(labels) in weights and biases of the last layer, `[(d + 1)K]²`."""
    h = jnp.concatenate([h, jnp.ones((len(h), 1))], 1)
    p = jax.nn.softmax(logits)
    own = jnp.einsum("nk,kl->nkl", p, jnp.eye(p.shape[1]))
    curvature = own - p[:, :, None] * p[:, None]
    size = h.shape[1] * p.shape[1]
    blocks = jnp.einsum("nkl,ni,nj->ikjl", curvature, h, h)
    return np.asarray(blocks, np.float64).reshape(size, size)


def _chains(make: Callable, **given: Callable) -> Callable:
    """A sampler whose options `given` are functions of N and of its updates."""

    def fit(data: tuple, seed: int, step: float, effort: Effort) -> Fit:
        N, half = len(data[0]), effort._replace(updates=effort.updates // 2)
        starts = optima(data, seed, SCALE, half)
        begin = sgld_jax.stacked(jax.tree.map(lambda x: x[:, 0], starts))
        options = {name: of(N, half.updates) for name, of in given.items()}
        sampler = make(step / N, **options)
        run = posterior(data, SCALE), begin, half, DRAWS
        return Fit(_run(data, seed + 1, sampler, *run))

    fit.__doc__ = (
        f"`{make.__name__}`, from networks by Adam with half of the gradients."
    )
    return fit


def _adam(effort: Effort) -> optax.GradientTransformation:
    """Adam, with a key for potentials that want one: `sgld` at T = 0 passes −∇U on."""
    adam = optax.adam(optax.cosine_decay_schedule(2e-3, effort.updates))
    return optax.chain(sgld_jax.sgld(1.0, 0.0), optax.scale(-1.0), adam)


def _run(
    data: tuple,
    seed: int,
    transformation: Any,
    potential: Callable,
    start: Any,
    effort: Effort,
    draws: int,
) -> PyTree:
    """Draws over the second half, or the last position."""
    thinning = 1 if draws == 1 else effort.updates // 2 // draws
    return (
        sgld_jax.sample(
            seed,
            transformation,
            potential,
            start,
            num_chains=effort.members,
            num_samples=draws,
            burn_in=effort.updates - draws * thinning,
            thinning=thinning,
            data=data,
            batches=sgld_jax.shuffled(effort.batch),
        )
        .healthy()
        .params
    )


_SCALES = (1.0, 2.0, 4.0, 8.0, 16.0)
_WIDE = (4.0, 8.0, 16.0, 32.0, 64.0)
_STEPS = (0.0015, 0.005, 0.015, 0.05, 0.15)
# A method, what is tuned of it, and with which values.
METHODS: dict[str, tuple[Callable, str, tuple[float, ...]]] = {
    "MAP": (one_network, "prior scale", _SCALES),
    "deep ensemble": (ensemble, "prior scale", _SCALES),
    "MC dropout": (dropout, "rate", (0.03, 0.1, 0.2, 0.35, 0.5)),
    "mean-field VI": (mean_field, "prior scale", _WIDE),
    "last-layer Laplace": (last_layer, "prior scale", _SCALES),
    "sgld": (_chains(sgld_jax.sgld), "εN", _STEPS),
    "psgld": (
        _chains(
            sgld_jax.psgld,
            num_data=lambda N, updates: N,
            freeze_after=lambda N, updates: updates // 4,
        ),
        "εN",
        (3e-5, 1e-4, 3e-4, 1e-3, 3e-3),
    ),
    "sghmc": (_chains(sgld_jax.sghmc), "εN", _STEPS),
}
