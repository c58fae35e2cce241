"""The picture of what a network is sure of, and of what not."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from sgld_jax.analysis.draws import is_samples
from sgld_jax.analysis.predictive import entropy_split
from sgld_jax.analysis.style import ALEATORIC, EPISTEMIC, INK, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes


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

    Under each image a bar: aleatoric, then epistemic entropy, in nats; as wide as its
    image is that of the least certain one. Small images are drawn smooth.

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
            draw_image(ax, images[i], (x, x + 0.86, y, y + 0.86), value_range)
            parts = (aleatoric[i], epistemic[i])
            _split_bar(ax, x, y - 0.1, parts, unit)
            if captions is not None:
                ax.text(x, y + 0.9, captions[int(i)], fontsize=8, color=INK)
    names = ("aleatoric: each draw leaves it open", "epistemic: draws disagree")
    ax.legend(
        ax.containers[:2],
        names,
        title="entropy in nats",
        loc="upper right",
        bbox_to_anchor=(1, 0.02),
        ncol=2,
        frameon=False,
    )
    ax.set(xlim=(-0.25, columns), ylim=(-2.0, 1.1), aspect="equal")
    ax.set_axis_off()
    return ax


def draw_image(ax: Any, image: np.ndarray, extent: tuple, value_range: tuple) -> None:
    """An image in the rectangle (left, right, bottom, top), dark on light."""
    low, high = value_range
    smooth = "bicubic" if max(image.shape[:2]) < 64 else "antialiased"
    ax.imshow(
        image,
        cmap="gray_r",
        extent=extent,
        vmin=low,
        vmax=high,
        interpolation=smooth,
        zorder=2,
    )


def _split_bar(ax: Any, x: float, y: float, parts: tuple, unit: float) -> None:
    left = x
    for part, color in zip(parts, (ALEATORIC, EPISTEMIC)):
        ax.barh(y, part * unit, 0.1, left=left, color=color)
        left += part * unit
    numbers = " + ".join(f"{part:.2f}" for part in parts)
    ax.text(x, y - 0.09, numbers, fontsize=7.5, color=INK, va="top")
