"""The demo's tables, for a terminal and for the report."""

import numpy as np

from sgld_jax.demo.scoring import HIGHER_IS_BETTER, Rows

Gains = dict[str, dict[str, tuple[float, float]]]


def markdown(rows: Rows, gains: Gains) -> str:
    """Two tables: scores of each method, and by how much SGLD is better than each."""
    names = list(next(iter(rows.values())))
    heads = [f"{k} {'↑' if k in HIGHER_IS_BETTER else '↓'}" for k in names]
    below = [["better than", *names], ["---", *["---:"] * len(names)]]
    below += [[k, *map(_gain, row.values())] for k, row in gains.items()]
    above = [["", *heads], ["---", *["---:"] * len(names)]]
    above += [[k, *map(_cell, row.values())] for k, row in rows.items()]
    return f"{_lines(above)}\n\n{CAPTION}\n\n{_lines(below)}"


CAPTION = (
    "SGLD is better than these, by so much (below 0: worse), ± the standard error of a "
    "paired bootstrap over images:"
)


def plain(rows: Rows, gains: Gains) -> str:
    """The same in columns."""
    names = list(next(iter(rows.values())))
    lines = ["".join([f"{'':24}", *(f"{name:>16}" for name in names)])]
    for method, row in rows.items():
        cells = (f"{_cell(x):>16}" for x in row.values())
        lines.append("".join([f"{method:24}", *cells]))
    lines += ["", "SGLD is better, ± the standard error, than"]
    for method, row in gains.items():
        cells = (f"{_gain(x):>16}" for x in row.values())
        lines.append("".join([f"{method:24}", *cells]))
    return "\n".join(lines)


def _lines(table: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in table)


def _cell(x: float) -> str:
    return "–" if np.isnan(x) else f"{x:.4f}"


def _gain(gain: tuple[float, float]) -> str:
    return f"{gain[0]:+.3f} ± {gain[1]:.3f}"
