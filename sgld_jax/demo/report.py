"""What the demo says: sentences that follow from the results, and a file of draws."""

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np

from sgld_jax.demo import scoring, tables
from sgld_jax.demo.curve import Curve
from sgld_jax.demo.digits import NUM_TRAIN
from sgld_jax.demo.experiment import Results
from sgld_jax.demo.guesses import EACH, SCALES
from sgld_jax.demo.methods import BATCH_SIZE

RHAT_LIMIT = 1.01


def versions() -> str:
    """The versions of what was run, and on what, in one line each."""
    import sgld_jax

    packages = ("jax", "optax", "flax", "numpy")
    named = [f"{name} {metadata.version(name)}" for name in packages]
    device = jax.devices()[0]
    return (
        f"sgld_jax {sgld_jax.__version__}, {', '.join(named)}, "
        f"Python {platform.python_version()}\n"
        f"device: {jax.device_count()} × {device.device_kind} ({device.platform}), "
        f"{os.cpu_count()} CPU cores"
    )


def verdict(gains: dict[str, tuple[float, float]]) -> str:
    """In which scores SGLD beats the ensemble, in which it does not."""
    better = [k for k, (gain, error) in gains.items() if gain > 2 * error]
    worse = [k for k, (gain, error) in gains.items() if gain < -2 * error]
    open_ = [k for k in gains if k not in better + worse]
    return (
        f"Against the ensemble whose prior validation chose, by more than two standard "
        f"errors, SGLD is better in {_listed(better)} and worse in {_listed(worse)}; "
        f"{_listed(open_)} cannot be told apart."
    )


def timid(clean: dict[str, float]) -> str:
    """How sure the methods are of what the images show."""
    ours, theirs = clean["SGLD"], clean["ensemble"]
    return (
        f"Asked for the digit instead of the label, ECE is {ours:.3f} for SGLD and "
        f"{theirs:.3f} for the ensemble: the model has no word for a wrong label, so "
        f"that wrong labels make it doubt the digits."
    )


def priors(results: Results) -> str:
    """The scales of the prior: of the ensemble, and of the chains."""
    g = results.guesses
    by_scale = ", ".join(
        f"{s:g}: {a:.2f} and {b:.2f}" for s, a, b in zip(SCALES, g.adam, g.sgld)
    )
    learned = results.samples.healthy().params["log_scale"]
    drawn = ", ".join(
        f"{np.exp(np.median(x)):.2g} ({name})" for name, x in learned.items()
    )
    return (
        f"Prior scales: NLL of test labels at scale S, of {EACH} nets by Adam and "
        f"{EACH} chains: {by_scale}. Validation chose {g.chosen:g} for the ensemble. "
        f"Median of the chains: {drawn}."
    )


def budgets(results: Results) -> str:
    """What each method was given."""
    s, searched = results.settings, len(SCALES) * EACH
    nets, updates = s.num_chains, s.lengths.budget
    return (
        f"Gradients, each on {BATCH_SIZE} of {NUM_TRAIN} images: an ensemble {nets} "
        f"nets × {updates:,} = {nets * updates:,}, and for the choice of its prior "
        f"{searched} nets × {s.guesses.budget:,} more; MAP is the net of these {nets} "
        f"with the lowest potential; SGLD {nets} chains × {updates:,} = "
        f"{nets * updates:,}. A prediction costs 1, {nets} and {_num_draws(results)} "
        f"nets."
    )


def diagnostics(results: Results) -> list[str]:
    """What is known of the chains, one fact a line."""
    rhats = results.rhats["predictions"]
    mean, most = results.noise_ratio
    lines = [
        f"R-hat of function values (rank-normalised, split): probability of the true "
        f"class of {len(rhats)} test images: median {np.median(rhats):.3f}, max "
        f"{rhats.max():.3f}, {(rhats > RHAT_LIMIT).sum()} above {RHAT_LIMIT}; "
        f"potential: {float(results.rhats['potential']):.3f}; log scales of the prior: "
        f"{results.rhats['scales'].max():.3f}.",
        f"{_num_draws(results)} draws, worth {np.median(results.draws_worth):.0f} "
        f"independent ones for the median prediction. Weights are not expected to mix, "
        f"and are not looked at.",
        f"Parameters have {results.warmth:.2f} times their prior scale: about 1 at "
        f"T = 1, far less had the noise been too small. The minibatch adds "
        f"r = εV/(2T) = {mean:.4f} of the injected variance on average, {most:.2f} at "
        f"most.",
    ]
    if results.samples.interrupted:
        lines.append("Interrupted: fewer draws than asked for.")
    return lines + failures(results)


def failures(results: Results) -> list[str]:
    """The chains that went non-finite, a sentence each."""
    return [
        f"{name} {f.chain} went non-finite in update {f.step}, at {f.leaf}."
        for name, run in {"Net": results.training, "Chain": results.samples}.items()
        for f in run.report.failures
    ]


def speed(results: Results) -> str:
    """Updates of all chains per second, by SGLD and by Adam."""
    sgld, adam = (
        run.report.updates / run.report.seconds
        for run in (results.samples, results.training)
    )
    chains = results.settings.num_chains
    return (
        f"Steps per second, all {chains} chains at once, compilation left out: SGLD "
        f"{sgld:,.0f}, Adam {adam:,.0f}; that is {chains * sgld:,.0f} updates of a "
        f"chain."
    )


def gap(curve: Curve) -> str:
    """What the curve with a gap shows, in numbers."""
    adam_off, adam_sd = curve.off(curve.adam)
    off, sd = curve.off(curve.draws)
    return (
        f"In the gap the nets by Adam are off by {adam_off:.2f} (rms) and differ by "
        f"{adam_sd:.2f} (sd); the mean of SGLD is off by {off:.2f}, with a standard "
        f"deviation of {sd:.2f}."
    )


def note(results: Results) -> str:
    """The line under each picture's title."""
    rhats, failed = results.rhats["predictions"], int(results.samples.failed.sum())
    chains, draws = results.predictions["SGLD"].logits.shape[:2]
    scale = results.settings.prior_scale
    prior = "learned prior scales" if scale is None else f"prior sd {scale:g}/√fan_in"
    text = (
        f"T = 1, {prior}, {chains} chains × {draws} draws, R-hat of predictions: "
        f"median {np.median(rhats):.3f}, max {rhats.max():.3f}"
    )
    text += " (not converged)" if np.median(rhats) > RHAT_LIMIT else ""
    return text + (f", {failed} chains non-finite, left out" if failed else "")


def summary(results: Results, gains: tables.Gains) -> list[str]:
    """What is printed: the tables, and a sentence for each thing to know."""
    return [
        tables.plain(scoring.table(results), gains),
        verdict(gains["ensemble"]),
        timid(scoring.clean_calibration(results)),
        priors(results),
        gap(results.curve),
        budgets(results),
        *diagnostics(results),
        speed(results),
    ]


def write_draws(results: Results, folder: Path) -> None:
    """Writes draws.npz: logits of all methods, truth, labels, and the potential."""
    by_method: dict[str, Any] = {
        "logits_" + name.replace(", ", "_").replace(" ", "_").lower(): p.logits
        for name, p in results.predictions.items()
    }
    digits = results.digits
    np.savez(
        folder / "draws.npz",
        **by_method,
        potential=results.samples.healthy().params["potential"],
        truth=digits.truth,
        labels=digits.labels,
        num_test=digits.num_test,
        num_unseen=digits.num_unseen,
    )


def _listed(names: list[str]) -> str:
    return ", ".join(names) if names else "nothing"


def _num_draws(results: Results) -> int:
    return int(np.prod(results.predictions["SGLD"].logits.shape[:2]))
