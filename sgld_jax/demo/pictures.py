"""The demo's pictures: seven stills and a GIF."""

from pathlib import Path

import numpy as np

from sgld_jax.analysis import plots
from sgld_jax.analysis.images import draw_image
from sgld_jax.analysis.style import BLUE, EPISTEMIC, GREY, INK, PALE, line_style, styled
from sgld_jax.demo.curve import GAP, Curve
from sgld_jax.demo.experiment import Results
from sgld_jax.demo.guesses import EACH, SCALES, Guesses
from sgld_jax.demo.swarm import SWARM_SIZE, SWARM_STEP, Swarm, nearest

NUM_SHOWN = 8  # wrong labels
CAVEAT = (
    "Within a mode the swarm is right; between modes it copies its start: hardly a "
    "particle ever crosses, so the weights it gives to modes are the areas of the "
    "basins it started in."
)


def draw_pictures(results: Results, folder: Path, note: str) -> None:
    """Writes seven PNG files and swarm.gif; each function here makes one."""
    _gap(results.curve, folder / "gap.png")
    _wrong_labels(results, folder / "wrong_labels.png", note)
    _prior(results.guesses, folder / "prior.png")
    _images(results, folder / "images.png", note)
    _ood(results, folder / "ood.png", note)
    _reliability(results, folder / "reliability.png", note)
    _swarm(results.swarm, folder / "swarm.png")
    _animation(results.swarm, folder / "swarm.gif")


def _figure(width: float, height: float):
    from matplotlib.figure import Figure  # without pyplot: no windows, nothing to close

    return Figure((width, height), dpi=110, layout="constrained")


def _gap(curve: Curve, path: Path) -> None:
    """Curves through twenty points: those of Adam's nets, and those of the chains."""
    figure = _figure(9.6, 3.9)
    left, right = figure.subplots(1, 2, sharey=True)
    nets, draws = len(curve.adam), curve.draws.shape[:2]
    styled(left, f"{nets} nets by Adam", "each from a start of its own")
    left.plot(curve.at, curve.adam.T, color=EPISTEMIC, linewidth=0.9, alpha=0.7)
    styled(
        right,
        f"{draws[0]} chains of SGLD",
        f"T = 1, learned prior scales; {draws[0]} × {draws[1]} draws, R-hat of f at "
        f"most {curve.rhat.max():.3f}",
    )
    mean, sd = curve.draws.mean((0, 1)), curve.draws.std((0, 1))
    for k, name in ((2, "± 1 and 2 sd of f"), (1, None)):
        band = mean - k * sd, mean + k * sd
        right.fill_between(
            curve.at, *band, color=BLUE, alpha=0.18, linewidth=0, label=name
        )
    right.plot(curve.at, mean, color=BLUE, linewidth=2, label="mean of f")
    for ax in (left, right):
        ax.axvspan(*GAP, color=GREY, alpha=0.1, linewidth=0)
        ax.text(np.mean(GAP), -2.3, "no data", color=GREY, ha="center", style="italic")
        ax.plot(curve.at, curve.truth, color=INK, lw=1, ls=(0, (4, 3)), label="truth")
        ax.plot(curve.x, curve.y, "o", color=INK, markersize=4, label="data")
        ax.set(ylim=(-2.6, 2.6), xlim=(curve.at[0], curve.at[-1]), xlabel="x")
    right.legend(loc="upper left", ncol=2, frameon=False, fontsize=8)
    figure.savefig(path)


def _wrong_labels(results: Results, path: Path, note: str) -> None:
    """The first training images with a wrong label, and what is believed of them."""
    digits = results.digits
    shown = digits.mislabelled[:NUM_SHOWN]
    methods = [name for name in results.predictions if name != "MAP"]
    figure = _figure(10.5, 3.4)
    figure.suptitle(
        "Training digits whose label is wrong: what is believed of them?",
        color=INK,
        x=0.01,
        ha="left",
        fontsize=12,
    )
    grid = figure.subplots(2, NUM_SHOWN, height_ratios=(1.5, 1), sharex="row")
    for i, (image, bars) in zip(shown, grid.T):
        written, truth = digits.labels[i], digits.truth[i]
        pixels = digits.inputs[i].reshape(8, 8)
        draw_image(image, pixels, (0, 1, 0, 1), (pixels.min(), pixels.max()))
        image.set_title(f"labelled {written}\nis a {truth}", fontsize=9, color=INK)
        image.set_axis_off()
        for y, name in enumerate(reversed(methods)):
            p = results.predictions[name].probs[i]
            bars.barh(y, 1, color=PALE, height=0.7)
            bars.barh(y, p[truth], color=BLUE, height=0.7)
            bars.barh(y, p[written], left=p[truth], color=EPISTEMIC, height=0.7)
        bars.set(xlim=(0, 1), xticks=[0, 1], yticks=[])
        bars.tick_params(labelsize=7, colors=GREY, length=0)
        bars.spines[:].set_visible(False)
    first = grid[1, 0]
    first.set_yticks(range(len(methods)), list(reversed(methods)), fontsize=8)
    handles = [grid[1, 0].containers[k] for k in (1, 2, 0)]
    names = ("probability of what it is", "of its label", "of the rest")
    figure.legend(
        handles,
        names,
        loc="upper right",
        ncol=3,
        frameon=False,
        fontsize=8,
    )
    figure.supxlabel(f"SGLD: {note}", fontsize=7.5, color=GREY, x=0.01, ha="left")
    figure.savefig(path)


def _prior(guesses: Guesses, path: Path) -> None:
    """What a wrong guess of the prior's scale costs."""
    figure = _figure(6.4, 3.9)
    ax = styled(
        figure.add_subplot(),
        "What does a wrong guess of the prior cost?",
        f"{EACH} nets and {EACH} chains at each scale, as many updates; test labels, "
        f"mistakes included. Validation chose {guesses.chosen:g}",
    )
    lines = ("nets by Adam", guesses.adam, 1), ("chains of SGLD", guesses.sgld, 3)
    for name, scores, i in lines:
        ax.plot(SCALES, scores, **line_style(i), marker="o", markersize=5, label=name)
    ax.set(xscale="log", xlabel="S, of the prior N(0, S²/fan_in)", ylabel="NLL")
    ax.set_xticks(SCALES, [f"{s:g}" for s in SCALES])
    ax.minorticks_off()
    ax.legend(frameon=False, fontsize=9)
    figure.savefig(path)


def _images(results: Results, path: Path, note: str) -> None:
    digits, prediction = results.digits, results.predictions["SGLD"]
    images = digits.inputs.reshape(-1, 8, 8)
    said = prediction.probs.argmax(axis=-1)
    captions = [
        f"a {label}" if label == guess else f"a {label}, says {guess}"
        for label, guess in zip(digits.truth, said)
    ]
    figure = _figure(10, 9.6)
    parts = {
        "Test images: what is it sure of, and what not?": digits.test,
        "Eights and nines, which it has never seen": digits.unseen,
    }
    panels = figure.subplots(2, 1)
    for ax, (title, part) in zip(panels, parts.items()):
        plots.uncertain_images(
            images[part],
            [x[part] for x in prediction.split],
            captions[part],
            title=title,
            note=f"SGLD: {note}",
            ax=ax,
        )
    panels[0].get_legend().remove()  # one is enough
    figure.savefig(path)


def _ood(results: Results, path: Path, note: str) -> None:
    digits = results.digits
    figure = _figure(6.6, 5.4)
    plots.ood_curves(
        {
            name: (p.entropy[digits.test], p.entropy[digits.unseen])
            for name, p in results.predictions.items()
        },
        names=("digits 0 to 7", "eights and nines"),
        title="Does it know that it has never seen an 8 or a 9?",
        note=f"alarm: high predictive entropy\nSGLD: {note}",
        ax=figure.add_subplot(),
    )
    figure.savefig(path)


def _reliability(results: Results, path: Path, note: str) -> None:
    test = results.digits.test
    figure = _figure(6.8, 4.6)
    plots.reliability(
        {name: p.probs[test] for name, p in results.predictions.items()},
        results.digits.labels[test],
        note=f"labels as noisy as those learned from\nSGLD: {note}",
        ax=figure.add_subplot(),
    )
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


def _colours(swarm: Swarm) -> np.ndarray:
    """Four colours for 25 basins, none shared by neighbours."""
    row, column = np.divmod(nearest(swarm.positions[0], swarm.centres), 5)
    return (column + 2 * row) % 4
