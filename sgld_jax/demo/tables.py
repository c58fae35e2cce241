"""The demo's table, for a terminal and for the report."""

import numpy as np

HIGHER_IS_BETTER = ("accuracy", "OOD AUROC", "steps/s")

Rows = dict[str, dict[str, float]]


def markdown(rows: Rows) -> str:
    """A Markdown table with a row for each method; arrows say which way is better."""
    names = list(next(iter(rows.values())))
    heads = [f"{k} {'↑' if k in HIGHER_IS_BETTER else '↓'}" for k in names]
    lines = [["", *heads], ["---", *["---:"] * len(names)]]
    lines += [[k, *map(_cell, row.values())] for k, row in rows.items()]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def plain(rows: Rows) -> str:
    """The same in columns."""
    names = list(next(iter(rows.values())))
    lines = ["".join([f"{'':9}", *(f"{name:>15}" for name in names)])]
    for method, row in rows.items():
        cells = (f"{_cell(x):>15}" for x in row.values())
        lines.append("".join([f"{method:9}", *cells]))
    return "\n".join(lines)


def _cell(x: float) -> str:
    if np.isnan(x):
        return "–"
    return f"{x:,.0f}" if x >= 10 else f"{x:.4f}"
