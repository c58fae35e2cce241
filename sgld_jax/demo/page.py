"""The demo's report.md: what `report` says, with the pictures and how it was made."""

from pathlib import Path

from sgld_jax.demo import scoring, tables
from sgld_jax.demo.digits import NUM_KNOWN, NUM_TRAIN, Digits
from sgld_jax.demo.experiment import Results, Settings
from sgld_jax.demo.guesses import NUM_VALIDATION
from sgld_jax.demo.methods import STEP_SIZE
from sgld_jax.demo.networks import HIDDEN
from sgld_jax.demo.pictures import CAVEAT
from sgld_jax.demo.report import versions
from sgld_jax.demo.swarm import SWARM_SIZE


def write_report(
    results: Results,
    gains: tables.Gains,
    facts: list[str],
    folder: Path,
    command: str,
    seconds: float,
) -> None:
    """Writes report.md, of what `summary` returned; its pictures lie beside it."""
    _, verdict, timid, priors, gap, *rest = facts
    scores = tables.markdown(scoring.table(results), gains)
    bullet, chains = "\n- ", results.settings.num_chains
    text = f"""# What {chains} Langevin chains of a Flax network know

Made by `{command}` in {seconds:.0f} s.

![Curves through twenty points with a gap](gap.png)

{gap}

## One training label in five is wrong

{_data(results.digits)}

{scores}

{verdict} {timid}

![Training digits whose label is wrong](wrong_labels.png)

![What a wrong guess of the prior costs](prior.png)

{priors}

![The most and the least certain images](images.png)

![Alarms on known and on unseen digits](ood.png)

![Reliability diagram](reliability.png)

## How it was made

{_method(results.settings)}

- {bullet.join(rest)}

{_CLAIMS}

## The swarm

![{SWARM_SIZE} particles over 25 Gaussians](swarm.gif)

![Where they end, and how many in each mode](swarm.png)

{CAVEAT}

## Versions

{versions().replace(chr(10), "<br>")}
"""
    (folder / "report.md").write_text(text, encoding="utf-8")


def _data(digits: Digits) -> str:
    return (
        f"{NUM_TRAIN} of scikit-learn's 8 × 8 digits of 0 to 7 to learn from, one "
        f"label in five replaced by another; {digits.num_test:,} to test on, their "
        f"labels as noisy; and {digits.num_unseen} eights and nines that no net has "
        f"seen."
    )


def _method(settings: Settings) -> str:
    burn_in, draws, thinning = settings.lengths
    return (
        f"A Flax NNX network 64-{HIDDEN}-{NUM_KNOWN} with ReLU; prior N(0, S²/fan_in) "
        f"for weights, N(0, 1) for biases. SGLD samples the S of each layer with the "
        f"weights, log S ~ N(log 2, 1), with step {STEP_SIZE:g} at T = 1 from Flax's "
        f"own starts: {burn_in:,} updates dropped, then {draws} draws {thinning} "
        f"updates apart from each chain. `ensemble` has the S that was best on "
        f"{NUM_VALIDATION} of the training images, held back while it was chosen; "
        f"`ensemble, learned prior` is of the model that SGLD samples, and its modes "
        f"believe every label. `seen through` is the share of wrongly labelled "
        f"training digits whose true class has the highest probability. Score of what "
        f"is out of distribution: predictive entropy. ECE: 15 bins of equal mass. Seed "
        f"{settings.seed}. `draws.npz` holds the logits of every draw, `[C, S, n, K]`: "
        f"of the test images, the unseen ones, the training images."
    )


_CLAIMS = """## What is claimed, and what is not

- **Claimed**: the tables, for this split and seed. R-hat says how far the chains agree
  with each other on predictions. It cannot say that they agree with the posterior; for
  that the library's tests hold the sampler to exact laws.
- **Claimed**: that one run of SGLD needs no guess of the prior's scale, and that the
  same nets by Adam do.
- **Not claimed**: that an ensemble with a well chosen prior is worse. At the best scale
  of the picture its nets are as good as the chains; look at other seeds.
- **Not claimed**: that weights mix. Hidden units can be permuted, and each chain stays
  with its own order; only functions of the weights are compared.
- **Not claimed**: that "aleatoric" is a property of the images. It is what each draw
  leaves open, wrong labels included."""
