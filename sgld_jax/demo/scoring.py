"""The numbers of the demo: scores of each method, and how far to trust them."""

import math
from typing import NamedTuple

import numpy as np

from sgld_jax.analysis.scores import auroc, brier, expected_calibration_error, nll
from sgld_jax.demo.digits import NUM_KNOWN, WRONG, Digits
from sgld_jax.demo.experiment import Prediction, Results

Rows = dict[str, dict[str, float]]

HIGHER_IS_BETTER = ("accuracy", "OOD AUROC", "seen through")
_REPLICATES = 200  # of the bootstrap, for standard errors to 5 %


class Places(NamedTuple):
    """Which images the scores are taken of: test, unseen, and wrongly labelled ones."""

    test: np.ndarray
    unseen: np.ndarray
    mislabelled: np.ndarray

    @classmethod
    def all_of(cls, digits: Digits) -> "Places":
        """Every image of each kind, once."""
        n = np.arange(len(digits.truth))
        return cls(n[digits.test], n[digits.unseen], digits.mislabelled)

    def drawn(self, rng: np.random.Generator) -> "Places":
        """As many of each kind, drawn with replacement: a bootstrap replicate."""
        return Places(*(rng.choice(kind, len(kind)) for kind in self))


def scores(p: Prediction, digits: Digits, places: Places | None = None) -> dict:
    """The columns of the table.

    Accuracy is on what the images show. NLL, Brier and ECE are on labels as noisy as
    those that were learned from. "OOD AUROC" is of the entropy, between test images and
    eights and nines; "seen through", the share of wrongly labelled training images for
    which the true class has the highest probability.
    """
    at = places or Places.all_of(digits)
    probs, labels = p.probs[at.test], digits.labels[at.test]
    wrong = at.mislabelled
    return {
        "accuracy": float((probs.argmax(axis=-1) == digits.truth[at.test]).mean()),
        "NLL": nll(probs, labels),
        "Brier": brier(probs, labels),
        "ECE": expected_calibration_error(probs, labels),
        "OOD AUROC": auroc(p.entropy[at.test], p.entropy[at.unseen]),
        "seen through": float(
            (p.probs[wrong].argmax(axis=-1) == digits.truth[wrong]).mean()
        ),
    }


def table(results: Results) -> Rows:
    """Scores by method, and last what nobody can beat."""
    rows = {name: scores(p, results.digits) for name, p in results.predictions.items()}
    return rows | {"who knows each digit": best_possible()}


def best_possible() -> dict[str, float]:
    """Of who knows every digit, and that one label in five is another one."""
    right, other = 1 - 1 / WRONG, 1 / WRONG / (NUM_KNOWN - 1)
    p = np.array([right] + [other] * (NUM_KNOWN - 1))
    return {
        "accuracy": 1.0,
        "NLL": float(-(p * np.log(p)).sum()),
        "Brier": float(1 - (p**2).sum()),
        "ECE": 0.0,
        "OOD AUROC": math.nan,
        "seen through": 1.0,
    }


def gains(results: Results) -> dict[str, dict[str, tuple[float, float]]]:
    """By rival and score: by how much SGLD is better, and the standard error.

    The error is that of a paired bootstrap over images: of a new set of images, not
    of a new training set or seed.
    """
    digits, methods = results.digits, results.predictions
    rivals = [name for name in methods if name != "SGLD"]

    def gain(places: Places) -> np.ndarray:  # [rival, score]
        by_name = {k: scores(p, digits, places) for k, p in methods.items()}
        signs = [1 if k in HIGHER_IS_BETTER else -1 for k in by_name["SGLD"]]
        values = {k: np.array(list(row.values())) for k, row in by_name.items()}
        return np.array([signs * (values["SGLD"] - values[k]) for k in rivals])

    places, rng = Places.all_of(digits), np.random.default_rng(0)
    errors = np.std([gain(places.drawn(rng)) for _ in range(_REPLICATES)], axis=0)
    names = list(scores(methods["SGLD"], digits))
    return {
        rival: {k: (float(g), float(e)) for k, g, e in zip(names, row, row_errors)}
        for rival, row, row_errors in zip(rivals, gain(places), errors)
    }


def clean_calibration(results: Results) -> dict[str, float]:
    """By method: ECE on what the images show, where no label is wrong."""
    test, truth = results.digits.test, results.digits.truth
    return {
        name: expected_calibration_error(p.probs[test], truth[test])
        for name, p in results.predictions.items()
    }
