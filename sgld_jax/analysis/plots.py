"""Pictures of what was sampled. Each function takes `ax=` and returns its axes.

Nothing is shown or saved, except by `swarm_animation`. Matplotlib is imported when
a picture is drawn. `Samples` of logits stand for their predictions, and failed chains
are left out. `note=` is printed under the title: say there the temperature, the prior,
chains × draws, and the R-hat of the functions that are shown.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from sgld_jax.analysis.draws import is_samples
from sgld_jax.analysis.predictive import as_entropies, as_probs, entropy_split
from sgld_jax.analysis.scores import (
    auroc,
    brier,
    calibration_bins,
    expected_calibration_error,
    nll,
)
from sgld_jax.analysis.style import ALEATORIC, CYCLE, EPISTEMIC, GREY, INK, styled
from sgld_jax.analysis.swarm import mode_shares, swarm, swarm_animation

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "mode_shares",
    "ood_histogram",
    "reliability",
    "swarm",
    "swarm_animation",
    "uncertain_images",
]

_REPLICATES = 500  # of the bootstrap: its 5 and 95 % points to 1 % of the band


def reliability(
    methods: Mapping[str, Any],
    labels: ArrayLike,
    *,
    num_bins: int = 10,
    note: str = "",
    ax: "Axes | None" = None,
) -> "Axes":
    """Reliability diagram: how often the prediction is right, against its confidence.

    One line per method through bins of equal mass, with a 90 % bootstrap band over
    the examples. Above the diagonal a method is too timid, below it too sure.

    Args:
      methods: name -> predictive probabilities `[n, K]`, or `Samples` of logits.
      labels: integers `[n]`.
      num_bins: bins of each line; a band needs some 50 examples in each.
      note: what was sampled, and how.
      ax: where to draw; a new figure if None.

    Example:
      >>> import numpy as np
      >>> from matplotlib.figure import Figure
      >>> from sgld_jax.analysis import plots
      >>> probs = np.random.default_rng(0).dirichlet([1, 1, 1], 200)
      >>> ax = plots.reliability(
      ...     {"guess": probs}, probs.argmax(1), ax=Figure().add_subplot())
    """
    if not isinstance(methods, Mapping):
        raise TypeError(
            f"methods is a {type(methods).__name__}: expected a dict of predictions, "
            f"such as {{'SGLD': probs}}."
        )
    ax = styled(ax, "When it says 80 %, is it right 80 % of the time?", note)
    ax.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (4, 3)))
    ax.text(0.03, 0.95, "too timid", color=GREY, fontsize=9, style="italic")
    ax.text(0.97, 0.42, "too sure", color=GREY, fontsize=9, style="italic", ha="right")
    for (name, given), color in zip(methods.items(), itertools.cycle(CYCLE)):
        probs = as_probs(given)
        bins = calibration_bins(probs, labels, num_bins)
        some = bins.count > 0
        x = bins.confidence[some]
        low, high = _bootstrap_band(probs, labels, bins.index, num_bins)[:, some]
        ax.fill_between(x, low, high, color=color, alpha=0.18, linewidth=0)
        scores = (
            f"{name}: ECE {expected_calibration_error(probs, labels):.3f}, "
            f"NLL {nll(probs, labels):.3f}, Brier {brier(probs, labels):.3f}"
        )
        ax.plot(
            x, bins.accuracy[some], color=color, marker="o", markersize=4, label=scores
        )
    ax.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02))
    ax.legend(loc="lower right", frameon=False, fontsize=8)
    return ax


def _bootstrap_band(
    probs: ArrayLike, labels: ArrayLike, index: np.ndarray, num_bins: int
) -> np.ndarray:
    """The 5 and 95 % points of each bin's accuracy, `[2, B]`; the bins are kept."""
    n = len(index)
    drawn = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), _REPLICATES)
    member = np.eye(num_bins)[index]
    correct = np.asarray(probs).argmax(axis=-1) == np.asarray(labels)
    count = np.maximum(drawn @ member, 1)
    return np.quantile((drawn * correct) @ member / count, [0.05, 0.95], axis=0)


def ood_histogram(
    inside: Any,
    outside: Any,
    *,
    names: tuple[str, str] = ("known", "never seen"),
    title: str = "Does it know what it does not know?",
    note: str = "",
    ax: "Axes | None" = None,
) -> "Axes":
    """Histogram of predictive entropy, on known and on unknown examples.

    Bars are shares of their own group. The legend gives the area under the ROC curve
    of entropy as a detector: the chance that an unknown example has the higher one.

    Args:
      inside: entropies `[n]` in nats, such as `entropy_split(logits).total`, or
        `Samples` of logits.
      outside: entropies `[m]`, or `Samples` of logits.
      names: of the two groups.
      title: of the picture.
      note: what was sampled, and how.
      ax: where to draw; a new figure if None.

    Example:
      >>> import numpy as np
      >>> from matplotlib.figure import Figure
      >>> from sgld_jax.analysis import plots
      >>> ax = plots.ood_histogram([0.1, 0.2], [0.5, 1.5], ax=Figure().add_subplot())
    """
    ax = styled(ax, title, note)
    groups = [np.asarray(as_entropies(x)) for x in (inside, outside)]
    edges = np.linspace(0, max(1e-9, *(group.max() for group in groups)), 31)
    for group, name, color in zip(groups, names, (CYCLE[2], EPISTEMIC)):
        ax.hist(
            group,
            edges.tolist(),
            weights=np.full(len(group), 1 / len(group)),
            color=color,
            alpha=0.55,
            label=f"{name} (n = {len(group):,})",
        )
    ax.set(xlabel="predictive entropy, nats", ylabel="share of the group")
    detector = f"AUROC {auroc(*groups):.3f}"
    ax.legend(title=detector, frameon=False, fontsize=8, title_fontsize=9)
    return ax


def uncertain_images(
    images: ArrayLike,
    split: Any,
    captions: Sequence[str] | None = None,
    *,
    per_row: int = 8,
    title: str = "What is it sure of, and why not?",
    note: str = "",
    ax: "Axes | None" = None,
) -> "Axes":
    """The most and the least certain images, with their uncertainty split in two.

    Under each image a bar: aleatoric, then epistemic entropy, in nats. The longest
    bar is as wide as its image.

    Args:
      images: `[n, height, width]`, dark on light after inversion of the values.
      split: `entropy_split(logits)` of them: total, aleatoric, epistemic, each `[n]`,
        or `Samples` of logits.
      captions: `[n]` short texts, such as "5, says 3".
      per_row: images in each of the two rows, at most n.
      title: of the picture.
      note: what was sampled, and how.
      ax: where to draw; a new figure if None.

    Example:
      >>> import numpy as np
      >>> from matplotlib.figure import Figure
      >>> from sgld_jax.analysis import plots
      >>> split = [0.3, 0.9], [0.2, 0.6], [0.1, 0.3]
      >>> ax = plots.uncertain_images(
      ...     np.zeros((2, 8, 8)), split, per_row=1, ax=Figure().add_subplot())
    """
    ax = styled(ax, title, note)
    images = np.asarray(images)
    parts = entropy_split(split) if is_samples(split) else split
    total, aleatoric, epistemic = (np.asarray(x) for x in parts)
    order = np.argsort(total, stable=True)
    columns = min(per_row, len(order))
    rows = {"most certain": order[:columns], "least certain": order[::-1][:columns]}
    shown = np.concatenate(list(rows.values()))
    unit = 0.86 / max(total[shown].max(), 1e-12)
    value_range = (images[shown].min(), images[shown].max())
    for r, (name, members) in enumerate(rows.items()):
        y = -1.6 * r
        ax.text(-0.12, y + 0.43, name, rotation=90, ha="center", va="center", color=INK)
        for x, i in enumerate(members):
            _image(ax, images[i], (x, x + 0.86, y, y + 0.86), value_range)
            parts = (aleatoric[i], epistemic[i])
            _split_bar(ax, x, y - 0.1, parts, unit)
            if captions is not None:
                ax.text(x, y + 0.9, captions[int(i)], fontsize=8, color=INK)
    handles = ax.containers[:2]
    names = ("aleatoric: each draw leaves it open", "epistemic: draws disagree")
    ax.legend(
        handles, names, loc="upper right", bbox_to_anchor=(1, 0), ncol=2, frameon=False
    )
    ax.set(xlim=(-0.25, columns), ylim=(-2.0, 1.1), aspect="equal")
    ax.set_axis_off()
    return ax


def _image(ax: Any, image: np.ndarray, extent: tuple, value_range: tuple) -> None:
    low, high = value_range
    ax.imshow(image, cmap="gray_r", extent=extent, vmin=low, vmax=high, zorder=2)


def _split_bar(ax: Any, x: float, y: float, parts: tuple, unit: float) -> None:
    left = x
    for part, color in zip(parts, (ALEATORIC, EPISTEMIC)):
        ax.barh(y, part * unit, 0.1, left=left, color=color)
        left += part * unit
    numbers = " + ".join(f"{part:.2f}" for part in parts)
    ax.text(x, y - 0.09, numbers, fontsize=7, color=GREY, va="top")
