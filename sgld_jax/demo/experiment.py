"""The demo's experiment: nets by Adam, chains of SGLD, and what they predict."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from sgld_jax.analysis.diagnostics import ess, rhat
from sgld_jax.analysis.predictive import entropy_split, predictive_probs
from sgld_jax.demo.model import NUM_TRAIN, Digits, Model, landscape, load, mlp
from sgld_jax.engine.chain import stacked, start
from sgld_jax.engine.sample import sample
from sgld_jax.engine.samples import Samples
from sgld_jax.kernels.sgld import sgld
from sgld_jax.keys import as_key
from sgld_jax.potentials.batches import with_replacement

PyTree = Any

BATCH_SIZE = 64
LEARNING_RATE = 3e-3  # of Adam, decayed to 0 by a cosine
STEP_SIZE = 1e-3  # of SGLD
NUM_WATCHED = 100  # test images whose predictions R-hat watches
SWARM_SIZE, SWARM_STEP = 500, 0.003


class Settings(NamedTuple):
    """How long to run. `warm` divides `budget`: Adam's nets are looked at there."""

    seed: int = 0
    prior_scale: float = 2.0
    num_chains: int = 16
    warm: int = 1000
    burn_in: int = 2000
    num_samples: int = 50
    thinning: int = 100
    swarm_updates: int = 2000

    @property
    def budget(self) -> int:
        """Updates of every net, by Adam alone or by Adam and then SGLD."""
        return self.warm + self.burn_in + self.num_samples * self.thinning


QUICK = Settings(
    num_chains=8, warm=200, burn_in=200, num_samples=10, thinning=40, swarm_updates=200
)


class Prediction(NamedTuple):
    """What a method says of the n `images`.

    Attributes:
      logits: `[C, S, n, K]`.
      probs: `[n, K]`, averaged over nets.
      split: total, aleatoric and epistemic entropy, each `[n]`.
    """

    logits: np.ndarray
    probs: np.ndarray
    split: tuple[np.ndarray, ...]

    @property
    def entropy(self) -> np.ndarray:
        """Of the averaged prediction: the score of what is out of distribution."""
        return self.split[0]


class Swarm(NamedTuple):
    """Positions `[F, P, 2]` of particles after `counts` `[F]` updates."""

    positions: np.ndarray
    counts: np.ndarray
    centres: np.ndarray
    energy: Callable[..., jax.Array]


class Results(NamedTuple):
    """What there is to report.

    Attributes:
      predictions: by the name of the method.
      training: the run of Adam.
      samples: the chains, those that went non-finite included.
      rhats: R-hat of the watched predictions, and of the potential.
      draws_worth: effective number of draws, of the watched predictions.
      warmth: rms of parameters over their prior sd: near 1 at T = 1 where data say
        little, and T of the noise it was really given shows here first.
      noise_ratio: minibatch over injected noise: mean over parameters, and maximum.
    """

    settings: Settings
    digits: Digits
    predictions: dict[str, Prediction]
    training: Samples
    samples: Samples
    rhats: dict[str, np.ndarray]
    draws_worth: np.ndarray
    warmth: float
    noise_ratio: tuple[float, float]
    swarm: Swarm


def run(settings: Settings, say: Callable[[str], None]) -> Results:
    """Trains, samples and measures; `say` is told what happens next.

    Raises:
      FloatingPointError: if no chain stayed finite.
      KeyboardInterrupt: if stopped before there is something to report.
    """
    digits = load(settings.seed)
    model = mlp(settings.prior_scale)
    keys = jax.random.split(as_key(settings.seed), 3)
    nets = settings.num_chains

    say(f"Adam: {nets} nets from {nets} starts, {settings.budget:,} updates of each")
    training = train(keys[0], model, digits, settings)
    say(f"SGLD: {nets} chains from these nets as they were after {settings.warm:,}")
    samples = draw(keys[1], model, digits, training, settings)
    say(f"Swarm: {SWARM_SIZE} chains over 25 Gaussians")
    swarm = run_swarm(keys[2], settings.swarm_updates)

    healthy = samples.healthy()
    if healthy.num_chains == 0:
        raise FloatingPointError(str(samples.report))
    watched = {
        "predictions": _of_true_class(healthy.params["logits"], digits),
        "potential": healthy.params["potential"],
    }
    one_net = jax.tree.map(lambda x: x[0], healthy.final.params)
    return Results(
        settings,
        digits,
        predict(model, digits, training, healthy),
        training,
        samples,
        rhat(watched),
        ess(watched["predictions"]),
        float(np.sqrt(healthy.params["warmth"].mean())),
        noise_ratio(model, one_net, digits.train),
        swarm,
    )


def train(key: jax.Array, model: Model, digits: Digits, settings: Settings) -> Samples:
    """Nets by Adam; its "draws" are their parameters after every `warm` updates.

    The engine runs any optax transformation: this is `draw` with another one.
    """
    schedule = optax.cosine_decay_schedule(LEARNING_RATE, settings.budget)
    training = sample(
        key,
        optax.adam(schedule),
        model.potential,
        model.init,
        num_samples=settings.budget // settings.warm,
        thinning=settings.warm,
        num_chains=settings.num_chains,
        data=digits.train,
        batches=with_replacement(BATCH_SIZE),
        progress=True,
    )
    if training.interrupted:
        raise KeyboardInterrupt
    return training


def draw(
    key: jax.Array, model: Model, digits: Digits, training: Samples, settings: Settings
) -> Samples:
    """Chains of SGLD. Functions of the parameters are kept, not the parameters."""
    num_params = sum(x[0, 0].size for x in jax.tree.leaves(training.params))

    def collect(params):
        return {
            "logits": model.logits(params, digits.images),
            "potential": model.potential(params, digits.train),
            "warmth": -2 * model.log_prior(params) / num_params,
        }

    samples = sample(
        key,
        sgld(STEP_SIZE),
        model.potential,
        stacked(jax.tree.map(lambda x: x[:, 0], training.params)),
        num_samples=settings.num_samples,
        burn_in=settings.burn_in,
        thinning=settings.thinning,
        num_chains=settings.num_chains,
        data=digits.train,
        batches=with_replacement(BATCH_SIZE),
        collect=collect,
        progress=True,
    )
    if samples.interrupted and samples.num_samples < 4:  # too few for R-hat
        raise KeyboardInterrupt
    return samples


def predict(
    model: Model, digits: Digits, training: Samples, samples: Samples
) -> dict[str, Prediction]:
    """MAP is the net of the ensemble with the lowest potential on all training data."""
    nets = training.final.params

    @jax.jit
    @jax.vmap
    def evaluate(params):
        return model.potential(params, digits.train), model.logits(
            params, digits.images
        )

    potentials, logits = (np.asarray(x) for x in evaluate(nets))
    logits = logits[:, None]  # one draw of each
    best = int(np.argmin(potentials))
    by_method = {
        "MAP": logits[best : best + 1],
        "ensemble": logits,
        "SGLD": samples.params["logits"],
    }
    return {name: _prediction(x) for name, x in by_method.items()}


def _prediction(logits: np.ndarray) -> Prediction:
    split = tuple(np.asarray(part) for part in entropy_split(logits))
    return Prediction(logits, np.asarray(predictive_probs(logits)), split)


def noise_ratio(model: Model, params: PyTree, data: PyTree) -> tuple[float, float]:
    """εV/(2T), mean and maximum over parameters: about so much too wide is the law.

    V is the variance of the minibatch gradient, N²/n times that of one row's.
    """

    def of_row(params, row):
        return model.log_likelihood(params, jax.tree.map(lambda x: x[None], row))[0]

    gradients = jax.jit(jax.vmap(jax.grad(of_row), (None, 0)))(params, data)
    gradients = [np.asarray(g) for g in jax.tree.leaves(gradients)]
    variances = [g.var(axis=0).ravel() for g in gradients]
    ratio = STEP_SIZE / 2 * NUM_TRAIN**2 / BATCH_SIZE * np.concatenate(variances)
    return float(ratio.mean()), float(ratio.max())


def run_swarm(key: jax.Array, num_updates: int) -> Swarm:
    """Particles from a uniform start over 25 Gaussians of equal weight."""
    centres, energy = landscape()

    def init(key):
        return jax.random.uniform(key, (2,), minval=-6.0, maxval=6.0)

    sampler = sgld(SWARM_STEP)
    first = start(key, sampler, init, num_chains=SWARM_SIZE).params
    samples = sample(
        key, sampler, energy, init, num_samples=num_updates, num_chains=SWARM_SIZE
    )
    if samples.interrupted:
        raise KeyboardInterrupt
    path = np.concatenate([np.asarray(first)[:, None], samples.params], axis=1)
    # Most of the motion is at the start: every update there, ever fewer later.
    later = np.geomspace(25, samples.num_samples, 30).round().astype(int)
    counts = np.unique(np.concatenate([np.arange(25), later]))
    return Swarm(path[:, counts].swapaxes(0, 1), counts, centres, energy)


def _of_true_class(logits: np.ndarray, digits: Digits) -> np.ndarray:
    """Probability of the true class of the first test images, `[C, S, NUM_WATCHED]`."""
    labels = digits.test_labels[:NUM_WATCHED]
    logits = logits[:, :, : len(labels)]
    odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return odds[:, :, np.arange(len(labels)), labels] / odds.sum(axis=-1)
