"""Pictures of what was sampled. Each function takes `ax=` and returns its axes.

Nothing is shown or saved, except by `swarm_animation`. Matplotlib is imported when
a picture is drawn. `Samples` of logits stand for their predictions, and failed chains
are left out. `note=` is printed under the title: say there the temperature, the prior,
chains × draws, and the R-hat of the functions that are shown.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from sgld_jax.analysis.images import uncertain_images
from sgld_jax.analysis.predictive import as_entropies, as_probs
from sgld_jax.analysis.scores import (
    auroc,
    brier,
    calibration_bins,
    expected_calibration_error,
    nll,
)
from sgld_jax.analysis.style import BLUE, EPISTEMIC, GREY, line_style, styled
from sgld_jax.analysis.swarm import mode_shares, swarm, swarm_animation

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "mode_shares",
    "ood_curves",
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
    for i, (name, given) in enumerate(methods.items()):
        probs = as_probs(given)
        bins = calibration_bins(probs, labels, num_bins)
        some = bins.count > 0
        x = bins.confidence[some]
        low, high = _bootstrap_band(probs, labels, bins.index, num_bins)[:, some]
        ax.fill_between(
            x, low, high, color=line_style(i)["color"], alpha=0.15, linewidth=0
        )
        scores = (
            f"{name}: ECE {expected_calibration_error(probs, labels):.3f}, "
            f"NLL {nll(probs, labels):.3f}, Brier {brier(probs, labels):.3f}"
        )
        ax.plot(
            *(x, bins.accuracy[some]),
            **line_style(i),
            marker="o",
            markersize=4,
            label=scores,
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
    for group, name, color in zip(groups, names, (BLUE, EPISTEMIC)):
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


def ood_curves(
    methods: Mapping[str, tuple[Any, Any]],
    *,
    names: tuple[str, str] = ("known", "never seen"),
    title: str = "Does it know what it does not know?",
    note: str = "",
    ax: "Axes | None" = None,
) -> "Axes":
    """Receiver operating characteristic of predictive entropy, a line per method.

    Raise an alarm where the entropy is above a threshold: how many unknown examples
    are caught, against how many known ones raise it too, for all thresholds. The area
    under a line, in the legend, is the chance that an unknown example has the higher
    entropy of two.

    Args:
      methods: name -> entropies of known `[n]` and of unknown examples `[m]`, in nats,
        or `Samples` of logits.
      names: of the two groups.
      title: of the picture.
      note: what was sampled, and how.
      ax: where to draw; a new figure if None.

    Example:
      >>> from matplotlib.figure import Figure
      >>> from sgld_jax.analysis import plots
      >>> ax = plots.ood_curves(
      ...     {"SGLD": ([0.1, 0.2], [0.5, 1.5])}, ax=Figure().add_subplot())
    """
    ax = styled(ax, title, note)
    ax.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (4, 3)))
    for i, (name, groups) in enumerate(methods.items()):
        inside, outside = (np.asarray(as_entropies(x)) for x in groups)
        thresholds = np.sort(np.concatenate([inside, outside, [-np.inf, np.inf]]))
        alarms = [
            1 - np.searchsorted(np.sort(x), thresholds, side="right") / len(x)
            for x in (inside, outside)
        ]
        label = f"{name}: area {auroc(inside, outside):.3f}"
        ax.plot(*alarms, **line_style(i), label=label)
    known, unknown = names
    ax.set(xlabel=f"share of {known} that raise the alarm", xlim=(0, 1))
    ax.set(ylabel=f"share of {unknown} that are caught", ylim=(0, 1.01))
    ax.legend(loc="lower right", frameon=False, fontsize=8)
    return ax
