"""What the demo says: a table, sentences that follow from it, and a folder."""

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np

from sgld_jax.analysis.scores import (
    auroc,
    brier,
    error_at_coverage,
    expected_calibration_error,
    nll,
)
from sgld_jax.demo import tables
from sgld_jax.demo.experiment import (
    BATCH_SIZE,
    STEP_SIZE,
    SWARM_SIZE,
    Prediction,
    Results,
)
from sgld_jax.demo.model import HIDDEN, NUM_KNOWN, NUM_TRAIN
from sgld_jax.demo.pictures import CAVEAT

RHAT_LIMIT = 1.01
_REPLICATES = 200  # of the bootstrap, for standard errors to 5 %


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


def scores(
    probs: np.ndarray, labels: np.ndarray, inside: np.ndarray, outside: np.ndarray
) -> dict[str, float]:
    """The columns of the table, from probabilities and entropies."""
    return {
        "accuracy": float((probs.argmax(axis=-1) == labels).mean()),
        "NLL": nll(probs, labels),
        "Brier": brier(probs, labels),
        "ECE": expected_calibration_error(probs, labels),
        "OOD AUROC": auroc(inside, outside),
        "error at 80 %": error_at_coverage(probs, labels, 0.8),
    }


def table(results: Results) -> dict[str, dict[str, float]]:
    """Scores by method, on the test images, and for AUROC on the unseen ones too.

    Then the median R-hat of predictions, NaN without chains, and the updates of all
    nets or chains in a second, compilation left out.
    """
    labels = results.digits.test_labels
    n = len(labels)
    rows = {}
    for name, p in results.predictions.items():
        run = results.samples if name == "SGLD" else results.training
        rhats = results.rhats["predictions"] if name == "SGLD" else np.nan
        rows[name] = scores(p.probs[:n], labels, p.entropy[:n], p.entropy[n:]) | {
            "R-hat of f": float(np.median(rhats)),
            "steps/s": run.report.updates / run.report.seconds,
        }
    return rows


def against_ensemble(results: Results) -> dict[str, tuple[float, float]]:
    """By score: by how much SGLD is better, and its standard error.

    The error is that of a paired bootstrap over images: of a new set of images, not
    of a new training set or seed.
    """
    labels = results.digits.test_labels
    n, m = len(labels), len(results.digits.unseen_labels)
    rng = np.random.default_rng(0)

    def gains(inside: np.ndarray, outside: np.ndarray) -> np.ndarray:
        def of(p: Prediction) -> dict[str, float]:
            entropies = p.entropy[inside], p.entropy[outside]
            return scores(p.probs[inside], labels[inside], *entropies)

        ours = of(results.predictions["SGLD"])
        theirs = of(results.predictions["ensemble"])
        signs = {key: 1 if key in tables.HIGHER_IS_BETTER else -1 for key in ours}
        return np.array([signs[key] * (ours[key] - theirs[key]) for key in ours])

    gain = gains(np.arange(n), n + np.arange(m))
    drawn = [
        gains(rng.integers(0, n, n), rng.integers(n, n + m, m))
        for _ in range(_REPLICATES)
    ]
    names = table(results)["SGLD"]
    return {k: (float(g), float(e)) for k, g, e in zip(names, gain, np.std(drawn, 0))}


def verdict(gains: dict[str, tuple[float, float]]) -> str:
    """In which scores SGLD beats the ensemble, in which it does not."""
    better = [k for k, (gain, error) in gains.items() if gain > 2 * error]
    worse = [k for k, (gain, error) in gains.items() if gain < -2 * error]
    open_ = [k for k in gains if k not in better + worse]
    return (
        f"Against the ensemble, by more than two standard errors of a paired bootstrap "
        f"over images, SGLD is better in {_listed(better)} and worse in "
        f"{_listed(worse)}; {_listed(open_)} cannot be told apart."
    )


def prior_caveat(results: Results) -> str:
    """Why not to read too much into the scores."""
    other = 6 if results.settings.prior_scale < 4 else 2
    return (
        f"NLL, Brier and ECE depend more on the prior than on the method: compare "
        f"--prior-scale {other}."
    )


def budgets(results: Results) -> str:
    """What each method was given."""
    s = results.settings
    total = s.num_chains * s.budget
    return (
        f"Gradients, each on {BATCH_SIZE} of {NUM_TRAIN} images: ensemble "
        f"{s.num_chains} nets × {s.budget:,} = {total:,}; MAP is the net of these with "
        f"the lowest potential, so it had as many; SGLD {s.num_chains} chains × "
        f"({s.warm:,} of Adam + {s.budget - s.warm:,}) = {total:,}. A prediction costs "
        f"1, {s.num_chains} and {_num_draws(results)} nets."
    )


def diagnostics(results: Results) -> list[str]:
    """What is known of the chains, one fact a line."""
    rhats = results.rhats["predictions"]
    mean, most = results.noise_ratio
    lines = [
        f"R-hat of function values (rank-normalised, split): probability of the true "
        f"class of {len(rhats)} test images: median {np.median(rhats):.3f}, max "
        f"{rhats.max():.3f}, {(rhats > RHAT_LIMIT).sum()} above {RHAT_LIMIT}; "
        f"potential: {float(results.rhats['potential']):.3f}.",
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
    """Updates of all chains per second."""
    report, chains = results.samples.report, results.settings.num_chains
    alone = report.updates / report.seconds
    together = report.updates / (report.seconds + report.compile_seconds)
    return (
        f"Steps per second, all {chains} chains at once: {alone:,.0f}, with "
        f"compilation {together:,.0f}; that is {chains * alone:,.0f} and "
        f"{chains * together:,.0f} updates of a chain."
    )


def note(results: Results) -> str:
    """The line under each picture's title."""
    rhats, failed = results.rhats["predictions"], int(results.samples.failed.sum())
    chains, draws = results.predictions["SGLD"].logits.shape[:2]
    text = (
        f"T = 1, prior sd {results.settings.prior_scale:g}/√fan_in, {chains} chains × "
        f"{draws} draws, R-hat of predictions: median {np.median(rhats):.3f}, max "
        f"{rhats.max():.3f}"
    )
    text += " (not converged)" if np.median(rhats) > RHAT_LIMIT else ""
    return text + (f", {failed} chains non-finite, left out" if failed else "")


def summary(results: Results) -> list[str]:
    """What is printed: the table, and a sentence for each thing to know."""
    return [
        tables.plain(table(results)),
        verdict(against_ensemble(results)),
        prior_caveat(results),
        budgets(results),
        *diagnostics(results),
        speed(results),
    ]


def write_draws(results: Results, folder: Path) -> None:
    """Writes draws.npz: logits of all methods, labels, and the potential."""
    by_method: dict[str, Any] = {
        f"logits_{k.lower()}": p.logits for k, p in results.predictions.items()
    }
    np.savez(
        folder / "draws.npz",
        **by_method,
        potential=results.samples.healthy().params["potential"],
        test_labels=results.digits.test_labels,
        unseen_labels=results.digits.unseen_labels,
    )


def write_report(
    results: Results, facts: list[str], folder: Path, command: str, seconds: float
) -> None:
    """Writes report.md, from what `summary` returned; its pictures lie beside it."""
    _, verdict_, _, *rest = facts
    s, bullet = results.settings, "\n- "
    text = f"""# What {s.num_chains} Langevin chains of a Flax network know

Made by `{command}` in {seconds:.0f} s.

{tables.markdown(table(results))}

{verdict_}

![The most and the least certain images](images.png)

![Entropy on known and on unseen digits](ood.png)

![Reliability diagram](reliability.png)

## How it was made

Scikit-learn's 8 × 8 digits: {NUM_TRAIN} images of 0 to 7 to learn from,
{len(results.digits.test_labels):,} to test on, and
{len(results.digits.unseen_labels)} eights and nines that no net has seen. A Flax NNX
network 64-{HIDDEN}-{NUM_KNOWN} with ReLU; prior N(0, S²/fan_in) for weights with
S = {s.prior_scale:g}, N(0, 1) for biases. SGLD with step {STEP_SIZE:g} at T = 1, from
Adam's nets after {s.warm:,} updates; {s.burn_in:,} updates dropped, then
{s.num_samples} draws {s.thinning} updates apart from each chain. Score of what is out
of distribution: predictive entropy. ECE: 15 bins of equal mass. Seed {s.seed}.
`draws.npz` holds the logits of every draw, `[C, S, n, K]`, the test images first.

- {bullet.join(rest)}

## What is claimed, and what is not

- **Claimed**: the table, for this split, seed and prior. R-hat says how far the chains
  agree with each other on predictions. It cannot say that they agree with the
  posterior; for that the library's tests hold the sampler to exact laws.
- **Not claimed**: that SGLD is better calibrated. {prior_caveat(results)}
- **Not claimed**: that weights mix. Hidden units can be permuted, and each chain stays
  with its own order; only functions of the weights are compared.
- **Not claimed**: that "aleatoric" is a property of the images. It is what each draw
  leaves open, and a tight prior makes every draw timid.

## The swarm

![{SWARM_SIZE} particles over 25 Gaussians](swarm.gif)

![Where they end, and how many in each mode](swarm.png)

{CAVEAT}

## Versions

{versions().replace(chr(10), "<br>")}
"""
    (folder / "report.md").write_text(text, encoding="utf-8")


def _listed(names: list[str]) -> str:
    return ", ".join(names) if names else "nothing"


def _num_draws(results: Results) -> int:
    return int(np.prod(results.predictions["SGLD"].logits.shape[:2]))
