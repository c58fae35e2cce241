"""The demo's experiment: nets by Adam, chains of SGLD, and what they predict."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from sgld_jax.analysis.diagnostics import ess, rhat
from sgld_jax.analysis.predictive import entropy_split, predictive_probs
from sgld_jax.demo import curve, guesses, methods, swarm
from sgld_jax.demo.digits import NUM_TRAIN, Digits, load
from sgld_jax.demo.methods import BATCH_SIZE, STEP_SIZE, Lengths, Task
from sgld_jax.demo.networks import digit_network
from sgld_jax.engine.samples import Samples
from sgld_jax.keys import as_key
from sgld_jax.potentials.networks import Network

PyTree = Any

NUM_WATCHED = 100  # test images whose predictions R-hat watches


class Settings(NamedTuple):
    """How long to run. `prior_scale` is None where the chains learn it."""

    seed: int = 0
    prior_scale: float | None = None
    num_chains: int = 16
    lengths: Lengths = Lengths(burn_in=2000, num_samples=50, thinning=80)
    guesses: Lengths = Lengths(burn_in=1000, num_samples=50, thinning=40)
    curve: Lengths = Lengths(burn_in=10_000, num_samples=100, thinning=200)
    swarm_updates: int = 2000


QUICK = Settings(
    num_chains=8,
    lengths=Lengths(burn_in=400, num_samples=10, thinning=40),
    guesses=Lengths(burn_in=200, num_samples=10, thinning=20),
    curve=Lengths(burn_in=500, num_samples=20, thinning=25),
    swarm_updates=200,
)


class Prediction(NamedTuple):
    """What a method says of all n images.

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


class Results(NamedTuple):
    """What there is to report.

    Attributes:
      predictions: by the name of the method.
      guesses: what other scales of the prior do.
      training: the run of Adam at this scale.
      samples: the chains, those that went non-finite included.
      rhats: R-hat of the watched predictions, of the potential and of the scales.
      draws_worth: effective number of draws, of the watched predictions.
      warmth: rms of z over its prior sd: near 1 at T = 1 where data say little, and T
        of the noise it was really given shows here first.
      noise_ratio: minibatch over injected noise: mean over parameters, and maximum.
    """

    settings: Settings
    digits: Digits
    predictions: dict[str, Prediction]
    guesses: guesses.Guesses
    training: Samples
    samples: Samples
    rhats: dict[str, np.ndarray]
    draws_worth: np.ndarray
    warmth: float
    noise_ratio: tuple[float, float]
    curve: curve.Curve
    swarm: swarm.Swarm


def run(settings: Settings, say: Callable[[str], None]) -> Results:
    """Trains, samples and measures; `say` is told what happens next.

    Raises:
      FloatingPointError: if no chain stayed finite.
      KeyboardInterrupt: if stopped before there is something to report.
    """
    digits = load(settings.seed)
    keys = jax.random.split(as_key(settings.seed), 6)
    nets, lengths = settings.num_chains, settings.lengths
    updates = f"{lengths.budget:,} updates of each"

    say(f"A curve with a gap: {curve.NUM_CHAINS} nets by Adam, as many chains of SGLD")
    gap = curve.run(keys[0], settings.curve)
    say(f"Prior scales {guesses.SCALES}: {guesses.EACH} nets and chains at each")
    judged = guesses.judge(keys[1], digits, settings.guesses)
    task = Task(digit_network(NUM_TRAIN), digits.training_data, digits.inputs)
    scale = judged.chosen
    say(f"Adam: {nets} nets at the best of them, {scale:g}, {updates}")
    training = methods.nets_by_adam(keys[2], task, lengths, nets, scale)
    say(f"Adam: {nets} nets that learn their prior's scale, {updates}")
    learning = methods.nets_by_adam(keys[3], task, lengths, nets)
    say(f"SGLD: {nets} chains, {updates}")
    samples = methods.chains_by_sgld(keys[4], task, lengths, nets, settings.prior_scale)
    say(f"Swarm: {swarm.SWARM_SIZE} chains over 25 Gaussians")
    particles = swarm.run(keys[5], settings.swarm_updates)

    healthy = samples.healthy()
    if healthy.num_chains == 0:
        raise FloatingPointError(str(samples.report))
    watched = {
        "predictions": _of_true_class(healthy.params["logits"], digits),
        "potential": healthy.params["potential"],
        "scales": np.stack(list(healthy.params["log_scale"].values()), axis=-1),
    }
    one_net = jax.tree.map(lambda x: x[0], healthy.final.params)
    return Results(
        settings,
        digits,
        predict(training, learning, healthy),
        judged,
        training,
        samples,
        {name: rhat(values) for name, values in watched.items()},
        ess(watched["predictions"]),
        float(np.sqrt(healthy.params["warmth"].mean())),
        noise_ratio(task.network, one_net, digits.training_data),
        gap,
        particles,
    )


def predict(
    training: Samples, learning: Samples, samples: Samples
) -> dict[str, Prediction]:
    """MAP is the net of the ensemble with the lowest potential on all training data."""
    best = int(np.argmin(training.params["potential"][:, 0]))
    by_method = {
        "MAP": training.params["logits"][best : best + 1],
        "ensemble": training.params["logits"],
        "ensemble, learned prior": learning.params["logits"],
        "SGLD": samples.params["logits"],
    }
    return {name: _prediction(x) for name, x in by_method.items()}


def _prediction(logits: np.ndarray) -> Prediction:
    split = tuple(np.asarray(part) for part in entropy_split(logits))
    return Prediction(logits, np.asarray(predictive_probs(logits)), split)


def noise_ratio(network: Network, params: PyTree, data: PyTree) -> tuple[float, float]:
    """εV/(2T), mean and maximum over parameters: about so much too wide is the law.

    V is the variance of the minibatch gradient, N²/n times that of one row's.
    """

    def of_row(params, row):
        return network.log_likelihood(params, jax.tree.map(lambda x: x[None], row))[0]

    gradients = jax.jit(jax.vmap(jax.grad(of_row), (None, 0)))(params, data)
    gradients = [np.asarray(g) for g in jax.tree.leaves(gradients)]
    variances = [g.var(axis=0).ravel() for g in gradients]
    ratio = STEP_SIZE / 2 * network.num_data**2 / BATCH_SIZE * np.concatenate(variances)
    return float(ratio.mean()), float(ratio.max())


def _of_true_class(logits: np.ndarray, digits: Digits) -> np.ndarray:
    """Probability of the true class of the first test images, `[C, S, NUM_WATCHED]`."""
    truth = digits.truth[:NUM_WATCHED]
    logits = logits[:, :, :NUM_WATCHED]
    odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return odds[:, :, np.arange(NUM_WATCHED), truth] / odds.sum(axis=-1)
