# python -m benchmarks uci [SET ...] | airfoil
"""Tables that others published, by the scikit-learn estimator with its defaults.

No number is chosen per data set. Each split is fitted in a process of its own, with
compilation in its time; those that have been kept are not run again.
"""

import json
import os
import pathlib
import sys
import time
from typing import Any

import numpy as np

from benchmarks import restart

SETS = {
    "boston": "bostonHousing",
    "energy": "energy",
    "kin8nm": "kin8nm",
    "protein": "protein-tertiary-structure",
    "wine": "wine-quality-red",
    "yacht": "yacht",
}
SEEDS = 5  # of airfoil, whose split is fixed
COVERAGE = 0.9
MINUTES = {  # of a fit, on one core
    "airfoil": 2.0,
    "boston": 0.5,
    "energy": 0.6,
    "kin8nm": 0.9,
    "protein": 1.3,
    "wine": 0.9,
    "yacht": 0.4,
}


def folder() -> pathlib.Path:
    """Where the data are: `SGLD_JAX_DATA`."""
    if "SGLD_JAX_DATA" not in os.environ:
        raise SystemExit("Set SGLD_JAX_DATA to the folder of the data sets.")
    return pathlib.Path(os.environ["SGLD_JAX_DATA"]) / "uci_regression"


def splits(name: str) -> int:
    """How many standard splits a set has."""
    return 5 if name == "protein" else 20


def uci(name: str, split: int) -> tuple[np.ndarray, ...]:
    """X and y of one of the standard splits: for training, and for the test."""
    with np.load(folder() / f"{SETS[name]}.npz") as file:
        X, y, masks, n = (file[key] for key in ("X", "y", "test_mask", "n"))
    test = np.unpackbits(masks, axis=1)[split, : int(n)].astype(bool)
    return X[~test], y[~test], X[test], y[test]


def airfoil(split: int = 0) -> tuple[np.ndarray, ...]:
    """X and standardised y of the split that bde uses; choices are made on others."""
    from sklearn.model_selection import train_test_split

    table = np.loadtxt(folder() / "airfoil.csv", delimiter=",", skiprows=1)
    parts = train_test_split(
        table[:, :-1], table[:, -1], test_size=0.2, random_state=split
    )
    X, X_test, y, y_test = parts
    mean, sd = y.mean(), y.std()
    return X, (y - mean) / sd, X_test, (y_test - mean) / sd


def row(name: str, number: int) -> dict:
    """A split of a UCI set, or a seed of airfoil."""
    return fitted(number, *(airfoil() if name == "airfoil" else uci(name, number)))


def fitted(
    seed: int,
    X: np.ndarray,
    y: np.ndarray,
    X_test: np.ndarray,
    y_test: np.ndarray,
    **settings: Any,
) -> dict:
    """The estimator with its defaults, but for `settings`, and what it predicts."""
    from sgld_jax import predictive_log_density
    from sgld_jax.sklearn import BayesianMLPRegressor

    began = time.perf_counter()
    model = BayesianMLPRegressor(random_state=seed, **settings).fit(X, y)
    mean, sd = model.predict(X_test, return_std=True)
    seconds = time.perf_counter() - began
    low, high = model.predict_interval(X_test, COVERAGE)
    middle, _ = model.predict_interval(X_test, 1e-6)
    return {
        "RMSE": float(np.sqrt(np.mean((y_test - mean) ** 2))),
        "RMSE of medians": float(np.sqrt(np.mean((y_test - middle) ** 2))),
        "log likelihood": float(model.log_prob(X_test, y_test).mean()),
        "of the Gaussian": float(
            predictive_log_density(mean[None, None], sd, y_test).mean()
        ),
        "coverage": float(np.mean((low <= y_test) & (y_test <= high))),
        "seconds": seconds,
        "chains": len(model.draws_["relevance"]),
    }


def rows(kept: pathlib.Path, names: list[str], most: int = 20) -> list[dict]:
    """A row for each set and split, kept one by one in a file of JSON.

    Args:
      kept: the file.
      names: sets; "airfoil" has a row for each seed.
      most: splits of each set.
    """
    todo = [
        {"data": name, "split": split}
        for split in range(most)
        for name in names
        if split < (SEEDS if name == "airfoil" else splits(name))
    ]
    minutes = sum(MINUTES[one["data"]] for one in todo)
    print(f"at most {minutes:.0f} minutes on one core", flush=True)
    found = restart.rows(
        kept, todo, lambda data, split: restart.apart("tabular", data, split)
    )
    return sorted(found, key=lambda one: (one["data"], one["split"]))


if __name__ == "__main__":
    print(json.dumps(row(sys.argv[1], int(sys.argv[2]))))
