"""How the pictures look: few colours, no boxes, the facts under the title."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, GREY, PALE = "#22313f", "#5f6b76", "#e3e8ec"
ALEATORIC, EPISTEMIC = "#9db8c9", "#d1603d"
BLUE = "#1f6f8b"
CYCLE = ("#22313f", "#d9a441", "#7a4f9a", BLUE, "#4b8b3b")
DASHES = ((0, (1, 1.5)), "solid", (0, (5, 2)), "solid", (0, (5, 2, 1, 2)))


def line_style(i: int) -> dict[str, Any]:
    """Colour and dashes of line i, so that lines on each other are both seen."""
    i %= len(CYCLE)
    over = 3 if i == 0 else 2  # the dots of the first lie on the others
    return {"color": CYCLE[i], "linestyle": DASHES[i], "linewidth": 1.8, "zorder": over}


def styled(ax: "Axes | None", title: str, note: str) -> "Axes":
    """Axes without a box, with the title on the left and the note under it in grey."""
    if ax is None:
        from matplotlib import pyplot

        ax = pyplot.subplots(figsize=(6.4, 4.2), layout="constrained")[1]
    lines = note.count("\n") + 1 if note else 0
    ax.set_title(title, loc="left", fontsize=11, color=INK, pad=6 + 11 * lines)
    under = ax.annotate(
        note,
        (0, 1),
        (0, 4),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=7.5,
        color=GREY,
    )
    under.set_in_layout(False)  # the title has left it room; a long one is cut off
    ax.spines[:].set_visible(False)
    ax.tick_params(colors=GREY, length=0, labelsize=8)
    ax.grid(color=PALE, linewidth=0.8)
    ax.set_axisbelow(True)
    ax.xaxis.label.set(color=INK, fontsize=9)
    ax.yaxis.label.set(color=INK, fontsize=9)
    return ax
