"""The demo's pictures: four stills and a GIF."""

from pathlib import Path

import numpy as np

from sgld_jax.analysis import plots
from sgld_jax.analysis.style import GREY, INK
from sgld_jax.demo.experiment import SWARM_SIZE, SWARM_STEP, Results, Swarm

CAVEAT = (
    "Within a mode the swarm is right; between modes it copies its start: hardly a "
    "particle ever crosses, so the weights it gives to modes are the areas of the "
    "basins it started in."
)


def draw_pictures(results: Results, folder: Path, note: str) -> None:
    """Writes images.png, ood.png, reliability.png, swarm.png and swarm.gif."""
    _images(results, folder / "images.png", note)
    _ood(results, folder / "ood.png", note)
    _reliability(results, folder / "reliability.png", note)
    _swarm(results.swarm, folder / "swarm.png")
    _animation(results.swarm, folder / "swarm.gif")


def _figure(width: float, height: float):
    from matplotlib.figure import Figure  # without pyplot: no windows, nothing to close

    return Figure((width, height), dpi=110, layout="constrained")


def _images(results: Results, path: Path, note: str) -> None:
    digits, prediction = results.digits, results.predictions["SGLD"]
    n = len(digits.test_labels)
    images = np.asarray(digits.images).reshape(-1, 8, 8)
    labels = np.concatenate([digits.test_labels, digits.unseen_labels])
    said = prediction.probs.argmax(axis=-1)
    captions = [
        f"a {label}" if label == guess else f"a {label}, says {guess}"
        for label, guess in zip(labels, said)
    ]
    figure = _figure(10, 9)
    parts = {
        "Test images: what is it sure of, and what not?": slice(0, n),
        "Eights and nines, which it has never seen": slice(n, None),
    }
    for ax, (title, part) in zip(figure.subplots(2, 1), parts.items()):
        plots.uncertain_images(
            images[part],
            [x[part] for x in prediction.split],
            captions[part],
            title=title,
            note=f"SGLD: {note}",
            ax=ax,
        )
    figure.savefig(path)


def _ood(results: Results, path: Path, note: str) -> None:
    n = len(results.digits.test_labels)
    figure = _figure(10.5, 3.8)
    title = "Does it know that it has never seen an 8 or a 9?"
    figure.suptitle(title, color=INK, x=0.02, ha="left")
    panels = figure.subplots(1, len(results.predictions), sharex=True, sharey=True)
    for ax, (name, prediction) in zip(panels, results.predictions.items()):
        chains, draws = prediction.logits.shape[:2]
        nets = f"{chains} nets by Adam" if draws == 1 else f"{chains} × {draws} draws"
        plots.ood_histogram(
            prediction.entropy[:n],
            prediction.entropy[n:],
            names=("0 to 7", "8 and 9"),
            title=name,
            note="the best of the ensemble" if chains == 1 else nets,
            ax=ax,
        )
    figure.supxlabel(f"SGLD: {note}", fontsize=7.5, color=GREY, x=0.02, ha="left")
    figure.savefig(path)


def _reliability(results: Results, path: Path, note: str) -> None:
    labels = results.digits.test_labels
    figure = _figure(6.8, 4.6)
    probs = {name: p.probs[: len(labels)] for name, p in results.predictions.items()}
    plots.reliability(probs, labels, note=f"SGLD: {note}", ax=figure.add_subplot())
    figure.savefig(path)


def _swarm(swarm: Swarm, path: Path) -> None:
    first, last = swarm.positions[0], swarm.positions[-1]
    widths = np.array([3, 2, 2, 2, 3])  # of basins, cut off by the start's square
    areas = np.outer(widths, widths).ravel() / 144
    counts = np.bincount(nearest(last, swarm.centres), minlength=25)
    order = np.argsort(-areas, stable=True)
    crossed = (nearest(first, swarm.centres) != nearest(last, swarm.centres)).mean()
    figure = _figure(10, 4.9)
    left, right = figure.subplots(1, 2)
    plots.swarm(
        last,
        swarm.energy,
        groups=_colours(swarm),
        note=f"{SWARM_SIZE} chains of sgld({SWARM_STEP}), T = 1, after "
        f"{swarm.counts[-1]:,} updates; colour: where they began",
        ax=left,
    )
    plots.mode_shares(
        counts[order],
        {"truth": np.full(25, 1 / 25), "area of the starting basin": areas[order]},
        note=f"{100 * crossed:.1f} % of the particles ended in another basin than at "
        f"the start",
        ax=right,
    )
    figure.savefig(path)


def _animation(swarm: Swarm, path: Path) -> None:
    plots.swarm_animation(
        path,
        swarm.positions,
        swarm.energy,
        counts=swarm.counts,
        groups=_colours(swarm),
        note=f"{SWARM_SIZE} chains of sgld({SWARM_STEP}), T = 1; colour: where they "
        f"began",
    )


def nearest(positions: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """The index of the nearest centre, `[P]`."""
    squares = ((positions[:, None] - centres) ** 2).sum(axis=-1)
    return squares.argmin(axis=-1)


def _colours(swarm: Swarm) -> np.ndarray:
    """Four colours for 25 basins, none shared by neighbours."""
    row, column = np.divmod(nearest(swarm.positions[0], swarm.centres), 5)
    return (column + 2 * row) % 4
