# python -m benchmarks small
"""Five small sets of scikit-learn: our defaults beside those of other estimators.

A fifth is held out, five times; all see the same rows, and all but trees see them
standardised. Nothing is chosen per data set. The Gaussian process has a Matérn kernel
with a length for each input and noise, by marginal likelihood with two restarts.
"""

import pathlib
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import restart

SPLITS = 5
REGRESSION = ("diabetes", "friedman1")
CLASSIFICATION = ("breast_cancer", "wine", "digits")


def load(name: str) -> tuple[np.ndarray, np.ndarray]:
    """X and y."""
    from sklearn import datasets

    if name == "friedman1":
        return datasets.make_friedman1(400, noise=1.0, random_state=0)
    return getattr(datasets, f"load_{name}")(return_X_y=True)


def ours(is_regression: bool, split: int, num_inputs: int) -> Any:
    """With its defaults."""
    from sgld_jax.sklearn import BayesianMLPClassifier, BayesianMLPRegressor

    kind = BayesianMLPRegressor if is_regression else BayesianMLPClassifier
    return kind(random_state=split)


def mlp(is_regression: bool, split: int, num_inputs: int) -> Any:
    """With its defaults."""
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    return (MLPRegressor if is_regression else MLPClassifier)(random_state=split)


def boosting(is_regression: bool, split: int, num_inputs: int) -> Any:
    """With its defaults."""
    from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor

    kind = GradientBoostingRegressor if is_regression else GradientBoostingClassifier
    return kind(random_state=split)


def gaussian_process(is_regression: bool, split: int, num_inputs: int) -> Any:
    """For regression."""
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    wide = (1e-2, 1e4)
    kernel = ConstantKernel() * Matern(np.ones(num_inputs), wide) + WhiteKernel()
    return GaussianProcessRegressor(
        kernel, normalize_y=True, n_restarts_optimizer=2, random_state=split
    )


METHODS: dict[str, Callable] = {
    "ours": ours,
    "MLP": mlp,
    "gradient boosting": boosting,
    "Gaussian process": gaussian_process,
}


def row(data: str, split: int, method: str) -> dict:
    """One method on one split."""
    from sklearn.model_selection import train_test_split
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    X, y = load(data)
    is_regression = data in REGRESSION
    X, X_test, y, y_test = train_test_split(
        X, y, test_size=0.2, random_state=split, stratify=None if is_regression else y
    )
    model = METHODS[method](is_regression, split, X.shape[1])
    if method != "gradient boosting":
        model = make_pipeline(StandardScaler(), model)
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of theirs, about convergence
        model.fit(X, y)
    seconds = time.perf_counter() - began
    scores = _of_numbers if is_regression else _of_classes
    return scores(model, X_test, y_test) | {"seconds": seconds}


def _of_numbers(model: Any, X: np.ndarray, y: np.ndarray) -> dict:
    """RMSE, and the NLL of a Gaussian where there is a standard deviation."""
    try:
        mean, sd = model.predict(X, return_std=True)
    except TypeError:
        mean, sd = model.predict(X), None
    found = {"RMSE": float(np.sqrt(np.mean((y - mean) ** 2)))}
    if sd is not None:
        log_p = -0.5 * ((y - mean) / sd) ** 2 - np.log(sd) - 0.5 * np.log(2 * np.pi)
        found["NLL"] = float(-log_p.mean())
    return found


def _of_classes(model: Any, X: np.ndarray, y: np.ndarray) -> dict:
    from sklearn.metrics import log_loss

    probs = model.predict_proba(X)
    return {"log loss": float(log_loss(y, probs)), "accuracy": float(model.score(X, y))}


def rows(kept: pathlib.Path) -> list[dict]:
    """A row for each set, split and method, kept one by one."""
    print("some 15 minutes on one core", flush=True)
    todo = [
        {"data": name, "split": split, "method": method}
        for split in range(SPLITS)
        for name in (*REGRESSION, *CLASSIFICATION)
        for method in METHODS
        if name in REGRESSION or method != "Gaussian process"
    ]
    return sorted(restart.rows(kept, todo, row), key=_place)


def _place(one: dict) -> tuple[int, int, int]:
    data = (*REGRESSION, *CLASSIFICATION).index(one["data"])
    return one["split"], data, list(METHODS).index(one["method"])
