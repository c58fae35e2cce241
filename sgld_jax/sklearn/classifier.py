"""A Bayesian network for classes: probabilities that are averaged over draws."""

from typing import Any, Self

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from sgld_jax.analysis.predictive import predictive_probs
from sgld_jax.potentials.networks import Network
from sgld_jax.potentials.tabular import tabular_classification
from sgld_jax.sklearn.estimator import BayesianMLP


class BayesianMLPClassifier(ClassifierMixin, BayesianMLP):
    """Classification by a Bayesian network, whose probabilities say what is not known.

    As `BayesianMLPRegressor`, with class probabilities in place of mean and noise
    (`tabular_classification`).

    Args:
      hidden_layer_sizes: widths; "auto" for one of 32.
      num_chains: chains, at least 2, each from an optimum of its own.
      num_samples: draws of each chain, 50 updates apart.
      start_updates: of Adam, before a chain starts.
      adapt_updates: in which metric and step are found. A third as many follow, and are
        dropped as well.
      batch_size: rows of an update; None for all; "auto" for all of up to 4,096, and
        else 1,024.
      random_state: a seed, a NumPy generator, or None.
      verbose: whether to print what the warm-up found, and how far the run is.

    Attributes:
      classes_: labels, sorted, `[K]`.
      draws_: parameters at every draw, a tree of arrays `[C, S, ...]`.
      report_: what the warm-up found, and what is doubtful, in words.
      widths_: of the hidden layers.
      n_features_in_: columns of X.

    Example:
      >>> import numpy as np
      >>> from sgld_jax.sklearn import BayesianMLPClassifier
      >>> x = np.random.default_rng(0).normal(size=(80, 2))
      >>> label = np.where(x[:, 0] * x[:, 1] > 0, "same", "other")
      >>> model = BayesianMLPClassifier((16,), random_state=0).fit(x, label)
      >>> model.predict([[2.0, 2.0], [2.0, -2.0]]).tolist()
      ['same', 'other']
      >>> model.predict_proba([[0.0, 0.0]]).shape
      (1, 2)
    """

    _learned = (*BayesianMLP._learned, "classes_")

    def _auto(self, num_rows: int) -> tuple[int, ...]:
        return (32,)

    def _network(self, num_data: int) -> Network:
        sizes = self.n_features_in_, self.widths_.tolist(), max(2, len(self.classes_))
        return tabular_classification(*sizes, num_data=num_data)

    def fit(self, X: Any, y: Any) -> Self:
        """Draws from the posterior.

        Args:
          X: `[N, D]`.
          y: labels, `[N]`, of any kind.

        Returns:
          The estimator itself.

        Raises:
          TypeError, ValueError: for data or settings out of range.
        """
        self._check_settings()
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"y has one class, {self.classes_[0]!r}: expected at least two classes."
            )
        return self._fit(X, labels.astype(np.int32))

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of all classes, averaged over draws, `[n, K]`.

        Args:
          X: `[n, D]`.
        """
        probs = np.asarray(predictive_probs(self._outputs(X)), np.float64)
        return probs / probs.sum(1, keepdims=True)  # to 64 bits, as scores expect

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each row, `[n]`.

        Args:
          X: `[n, D]`.
        """
        best = self.predict_proba(X).argmax(1)
        return self.classes_[best]

    def log_prob(self, X: Any, y: Any) -> np.ndarray:
        """Log probability of the labels, `[n]`.

        Args:
          X: `[n, D]`.
          y: labels, `[n]`.

        Raises:
          ValueError: for labels that `fit` has not seen.
        """
        place = np.searchsorted(self.classes_, y)
        known = self.classes_[np.minimum(place, len(self.classes_) - 1)] == y
        if not np.all(known):
            raise ValueError(
                f"y holds {set(np.asarray(y)[~known].tolist())}: expected labels among "
                f"{self.classes_.tolist()}."
            )
        return np.log(self.predict_proba(X)[np.arange(len(place)), place])
