# python -m benchmarks frontier
"""What more work, and other depths, would give the estimator: on splits for choices.

No figure of other tables is of these splits: 1, 2 and 3 of airfoil, and others of
small sets. On airfoil the defaults are four layers of 32, elsewhere two.
"""

import json
import pathlib
import sys
from typing import Any

import numpy as np

from benchmarks import restart, small, tabular

SETTINGS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "start 8,000": {"start_updates": 8_000},
    "400 draws": {"num_samples": 400},
    "start 8,000, 400 draws": {"start_updates": 8_000, "num_samples": 400},
    "the same, 16 chains": {
        "start_updates": 8_000,
        "num_samples": 400,
        "num_chains": 16,
    },
    "four layers of 32": {"hidden_layer_sizes": (32, 32, 32, 32)},
    "two layers of 32": {"hidden_layer_sizes": (32, 32)},
    "one layer of 32": {"hidden_layer_sizes": (32,)},
}
DEPTHS = ("four layers of 32", "two layers of 32", "one layer of 32")
SPLITS = {
    "airfoil": (1, 2, 3),
    "friedman1": (101, 102, 103),
    "diabetes": (101, 102, 103),
    "yacht": (101, 102, 103),
    "boston": (101, 102, 103),
}


def settings_of(data: str) -> tuple[str, ...]:
    """What is tried: everything on airfoil, whose defaults have four layers."""
    if data != "airfoil":
        return DEPTHS
    return tuple(name for name in SETTINGS if name != "four layers of 32")


def load(data: str, split: int) -> list[np.ndarray]:
    """X and y for training, and for the test; y of airfoil is standardised."""
    from sklearn.model_selection import train_test_split

    if data == "airfoil":
        return list(tabular.airfoil(split))
    if data in small.REGRESSION:
        X, y = small.load(data)
    else:
        parts = tabular.uci(data, 0)
        X, y = np.concatenate(parts[::2]), np.concatenate(parts[1::2])
    X, X_test, y, y_test = train_test_split(X, y, test_size=0.2, random_state=split)
    return [X, y, X_test, y_test]


def row(data: str, split: int, setting: str) -> dict:
    """One fit, in this process."""
    return tabular.fitted(split, *load(data, split), **SETTINGS[setting])


def rows(kept: pathlib.Path) -> list[dict]:
    """A row for each set, split and setting, kept one by one."""
    print("some 40 minutes on two cores", flush=True)
    todo = [
        {"data": data, "split": split, "setting": setting}
        for data, splits in SPLITS.items()
        for split in splits
        for setting in settings_of(data)
    ]
    return restart.rows(
        kept, todo, lambda **facts: restart.apart("frontier", *facts.values())
    )


if __name__ == "__main__":
    print(json.dumps(row(sys.argv[1], int(sys.argv[2]), sys.argv[3])))
