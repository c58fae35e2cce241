# python -m benchmarks mnist [full] [METHOD ...]
"""LeNet-5 on images: what each method knows, and knows not to know.

All methods know the same network, and make as many gradients of batches. Each is tuned
by the same rule: of five settings, with a quarter of the gradients each, the one is
taken that makes validation images most likely.
"""

import pathlib
import time
from typing import NamedTuple

import sgld_jax
from benchmarks import images, restart
from benchmarks.image_methods import METHODS, Effort

DATA = ("mnist", "fashion")
QUARTER = 2  # members of a fit for tuning, of 8


class Size(NamedTuple):
    """How much there is of everything."""

    train: int
    test: int
    others: int
    effort: Effort
    seeds: int
    minutes: int


SIZES = {
    "part": Size(5_000, 4_000, 1_000, Effort(8, 1_500, 50), 1, 60),
    "full": Size(50_000, 10_000, 5_000, Effort(8, 6_000, 100), 3, 30),
}


def row(data: str, size: str, method: str, seed: int) -> dict:
    """One method: tuned, fitted, and scored."""
    train, test, others, effort = SIZES[size][:4]
    known, (fit, name, settings) = (
        images.load(data, train, test, others),
        METHODS[method],
    )
    began = time.perf_counter()
    tried = {}
    for setting in settings:
        few = effort._replace(members=QUARTER)
        found = fit(known.train, 100 + seed, setting, few)
        x, labels = known.validation
        tried[setting] = sgld_jax.nll(images.probabilities(found, x), labels)
    best = min(tried, key=tried.get)
    tuned = time.perf_counter()
    found = fit(known.train, seed, best, effort)
    fitted = time.perf_counter()
    return {
        "tuned": f"{name} {best:g}",
        "validation NLL": list(tried.values()),
        **images.scores(found, known),
        "minutes of tuning": (tuned - began) / 60,
        "minutes": (fitted - tuned) / 60,
    }


def rows(kept: pathlib.Path, names: list[str]) -> list[dict]:
    """A row for each set, method and seed, kept one by one.

    Args:
      kept: the file.
      names: "full" for the full size, which wants a GPU; methods, all if there is none.
    """
    size = "full" if "full" in names else "part"
    methods = [name for name in METHODS if name in names] or list(METHODS)
    print(f"some {SIZES[size].minutes} minutes, on one core or a GPU", flush=True)
    todo = [
        {"data": data, "size": size, "method": method, "seed": seed}
        for seed in range(SIZES[size].seeds)
        for data in DATA
        for method in methods
    ]
    order = list(METHODS)
    return sorted(
        restart.rows(kept, todo, row),
        key=lambda one: (one["data"], order.index(one["method"]), one["seed"]),
    )
