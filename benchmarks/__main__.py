# python -m benchmarks [case ...] [--short]
"""Measures, keeps what was measured in `results/`, and writes it into `README.md`."""

import argparse
import json
import pathlib
from collections.abc import Callable

from benchmarks import (
    accuracy,
    accuracy_page,
    agreement,
    agreement_page,
    frontier,
    law_page,
    law_peers,
    laws,
    mnist,
    mnist_page,
    noise,
    posterior_page,
    posteriors,
    quality,
    sampling,
    small,
    tabular,
    tabular_page,
)
from benchmarks.timing import circumstances

HERE = pathlib.Path(__file__).parent
RESULTS = HERE / "results"
LAWS = HERE.parent / "docs" / "laws.md"
POSTERIORS = HERE.parent / "docs" / "posteriors.md"
TABULAR = HERE.parent / "docs" / "tabular.md"
ACCURACY = HERE.parent / "docs" / "accuracy.md"
MNIST = HERE.parent / "docs" / "mnist.md"
MNIST_FULL = "mnist-full", "gpu"
AGREEMENT = HERE.parent / "docs" / "agreement.md"


def _sampling(case: Callable, seconds: float = 2.0) -> Callable:
    def rows(short: bool) -> list[dict]:
        model, chains = case()
        effort = (1, 0.05) if short else (3, seconds)
        return sampling.rows(model, chains[:1] if short else chains, *effort)

    rows.__doc__ = case.__doc__
    return rows


def _noise(short: bool) -> list[dict]:
    """Ns a number inside a scan."""
    return noise.speeds(1, 0.05, (50, 26_122)) if short else noise.speeds(7, 1.0)


def _leaves(short: bool) -> list[dict]:
    """Seconds to compile a scanned update of many leaves of 540 numbers."""
    return noise.compile_times((1, 8) if short else noise.LEAVES)


def _kernels(short: bool) -> list[dict]:
    """What an update of each kernel costs beside one of `sgld`."""
    return sampling.kernels(1, 0.05, (1,)) if short else sampling.kernels(5, 2.0)


def _quality(short: bool) -> list[dict]:
    """Exact laws of 2³⁰ numbers of one key, with their p-values."""
    return [row._asdict() for row in quality.battery(21 if short else 30)]


def _laws(short: bool) -> list[dict]:
    """The law of every kernel, measured: `docs/laws.md`."""
    return laws.rows(1_000, (1.0,)) if short else laws.rows()


def _law_peers(short: bool) -> list[dict]:
    """Samplers of other libraries on the same Gaussians: `docs/laws.md`."""
    return law_peers.rows(1_000) if short else law_peers.rows()


CASES: dict[str, Callable[[bool], list[dict]]] = {
    "noise": _noise,
    "leaves": _leaves,
    "network": _sampling(sampling.network_26k),
    "logistic-50": _sampling(sampling.logistic_50),
    "logistic-500": _sampling(sampling.logistic_500, 4.0),
    "lenet": _sampling(sampling.lenet_images),
    "kernels": _kernels,
    "quality": _quality,
    "laws": _laws,
    "law-peers": _law_peers,
}
ON_A_PAGE = ("laws", "law-peers")  # of their own, and not in the README


def _posteriors(names: list[str], _: int) -> None:
    """Published posteriors, those that were named or all that are missing yet."""
    rows = posteriors.rows(_kept("posteriors"), names)
    result = _finish("posteriors", rows)
    POSTERIORS.write_text(posterior_page.page(result))


def _uci(names: list[str], splits: int) -> None:
    """Regression tables, those of the splits that are missing yet."""
    names = names or list(tabular.SETS)
    _finish("tabular", tabular.rows(_kept("tabular"), names, splits))
    TABULAR.write_text(_tabular_page())


def _airfoil(names: list[str], splits: int) -> None:
    _uci(["airfoil"], splits)


def _small(names: list[str], _: int) -> None:
    _finish("small", small.rows(_kept("small")))
    TABULAR.write_text(_tabular_page())


def _frontier(names: list[str], _: int) -> None:
    _finish("frontier", frontier.rows(_kept("frontier")))
    TABULAR.write_text(_tabular_page())


def _hmc(names: list[str], _: int) -> None:
    said = RESULTS / "hmc-probabilities.npz"
    result = _finish("hmc", agreement.rows(_kept("hmc"), said))
    AGREEMENT.write_text(agreement_page.page(result))


def _accuracy(names: list[str], _: int) -> None:
    result = _finish("accuracy", accuracy.rows(_kept("accuracy"), names))
    ACCURACY.write_text(accuracy_page.page(result))


def _mnist(names: list[str], _: int) -> None:
    name, kind = MNIST_FULL if "full" in names else ("mnist", "cpu")
    _finish(name, mnist.rows(_kept(name, kind), names), kind)
    MNIST.write_text(_mnist_page())


# Kept row by row, each on a page of its own; called with names and splits.
LONG: dict[str, Callable[[list[str], int], None]] = {
    "posteriors": _posteriors,
    "uci": _uci,
    "airfoil": _airfoil,
    "small": _small,
    "frontier": _frontier,
    "hmc": _hmc,
    "mnist": _mnist,
    "accuracy": _accuracy,
}


def main() -> None:
    """Runs the cases that were named, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    named = *posteriors.NAMES, *tabular.SETS, "full", *mnist.METHODS
    choices = [[], *CASES, *LONG, *named, *accuracy.METHODS, "NUTS"]
    parser.add_argument("cases", nargs="*", choices=choices, metavar="case")
    parser.add_argument("--short", action="store_true", help="seconds; keeps nothing")
    parser.add_argument("--splits", type=int, default=20, help="of uci, at most")
    chosen = parser.parse_args()
    first, *named = chosen.cases or [""]
    if first in LONG:
        LONG[first](named, chosen.splits)
        return
    for name in chosen.cases or CASES:
        rows = CASES[name](chosen.short)
        print(f"\n{name}: {CASES[name].__doc__}\n\n{_table(rows)}", flush=True)
        if not chosen.short:
            _keep(name, rows)
    if not chosen.short:
        (HERE / "README.md").write_text(_readme())
        if all(_kept(name).exists() for name in ON_A_PAGE):
            LAWS.write_text(_law_page())


def _tabular_page() -> str:
    kept = (_kept(name).read_text() for name in ("tabular", "small", "frontier"))
    return tabular_page.page(*map(json.loads, kept))


def _mnist_page() -> str:
    kept = [_kept("mnist"), _kept(*MNIST_FULL)]
    return mnist_page.page(*(json.loads(p.read_text()) for p in kept if p.exists()))


def _finish(name: str, rows: list[dict], kind: str = "cpu") -> dict:
    """The rows of a long table, kept with versions and machine."""
    result = circumstances() | {"case": name, "rows": rows}
    text = json.dumps(result, indent=1, ensure_ascii=False) + "\n"
    _kept(name, kind).write_text(text)
    return result


def _keep(name: str, rows: list[dict]) -> None:
    RESULTS.mkdir(exist_ok=True)
    facts = circumstances()
    kind = "gpu" if "NVIDIA" in facts["device"] else "cpu"
    result = {"case": name, **facts, "rows": rows}
    text = json.dumps(result, indent=1, ensure_ascii=False) + "\n"
    _kept(name, kind).write_text(text)


def _kept(name: str, kind: str = "cpu") -> pathlib.Path:
    return RESULTS / f"{name}-{kind}.json"


def _law_page() -> str:
    results = [json.loads(_kept(name).read_text()) for name in ON_A_PAGE]
    return law_page.page(*results)


def _readme() -> str:
    parts = [(HERE / "preface.md").read_text().rstrip()]
    names = [name for name in CASES if name not in ON_A_PAGE]
    order = {f"{name}-{kind}": 0 for name in names for kind in ("cpu", "gpu")}
    for stem in order:
        path = RESULTS / f"{stem}.json"
        if path.exists():
            parts.append(_section(json.loads(path.read_text())))
    return "\n\n".join(parts) + "\n"


def _section(result: dict) -> str:
    versions = ", ".join(
        f"{name} {result[name]}" for name in ("jax", "optax", "blackjax", "python")
    )
    machine = result["device"] if "NVIDIA" in result["device"] else result["processor"]
    return (
        f"## {result['case']}\n\n{CASES[result['case']].__doc__} `python -m benchmarks "
        f"{result['case']}`; {machine}; {versions}.\n\n{_table(result['rows'])}"
    )


def _table(rows: list[dict]) -> str:
    names = list(rows[0])
    numeric = [not isinstance(rows[0][name], str) for name in names]
    lines = [names, ["---:" if is_number else "---" for is_number in numeric]]
    lines += [[_cell(row[name]) for name in names] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1e4 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


if __name__ == "__main__":
    main()
