"""A Bayesian network for numbers: means, intervals, densities."""

from typing import Any, Self

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils.validation import validate_data

from sgld_jax.analysis.regression import (
    predictive_interval,
    predictive_log_density,
    variance_split,
)
from sgld_jax.potentials.networks import Network
from sgld_jax.potentials.tabular import tabular_regression
from sgld_jax.sklearn.estimator import BayesianMLP

_LEAST = 0.01  # of the spread of y: the floor of σ
_FEW_ROWS = 1_000  # below which two layers do about as well as four, or better


class BayesianMLPRegressor(RegressorMixin, BayesianMLP):
    """Regression by a Bayesian network, with noise that depends on the input.

    Mean and standard deviation are outputs of a network with tanh, whose prior scales
    and input relevance are learned (`tabular_regression`). Several chains start from
    several optima (`early_stopped`), with a metric and a step of their own (`warm_up`);
    a prediction is the mixture of all their draws.

    Args:
      hidden_layer_sizes: widths; "auto" for two of 32 up to 999 rows, four beyond.
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
      draws_: parameters at every draw, a tree of arrays `[C, S, ...]`.
      report_: what the warm-up found, and what is doubtful, in words.
      widths_: of the hidden layers.
      n_features_in_: columns of X.

    Example:
      >>> import numpy as np
      >>> from sgld_jax.sklearn import BayesianMLPRegressor
      >>> x = np.linspace(-2, 2, 60)[:, None]
      >>> y = np.sin(2 * x[:, 0]) + 0.1 * np.random.default_rng(0).normal(size=60)
      >>> model = BayesianMLPRegressor((16, 16), random_state=0).fit(x, y)
      >>> mean, sd = model.predict([[0.0], [9.0]], return_std=True)
      >>> bool(sd[1] > 3 * sd[0])                      # far from all data
      True
      >>> low, high = model.predict_interval([[0.0]], coverage=0.9)
    """

    _learned = (*BayesianMLP._learned, "y_mean_", "y_scale_", "floor_")

    def _auto(self, num_rows: int) -> tuple[int, ...]:
        return (32,) * (2 if num_rows < _FEW_ROWS else 4)

    def _network(self, num_data: int) -> Network:
        sizes = self.n_features_in_, self.widths_.tolist()
        return tabular_regression(*sizes, num_data=num_data, floor=self.floor_)

    def fit(self, X: Any, y: Any) -> Self:
        """Draws from the posterior.

        Args:
          X: `[N, D]`.
          y: `[N]`.

        Returns:
          The estimator itself.

        Raises:
          TypeError, ValueError: for data or settings out of range.
        """
        self._check_settings()
        X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True)
        self.y_mean_, spread = float(y.mean()), float(y.std())
        self.y_scale_ = spread if spread > 0 else 1.0
        target = (y - self.y_mean_) / self.y_scale_
        self.floor_ = _rounding(target)
        return self._fit(X, target.astype(np.float32))

    def _mixture(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Mean and σ of every draw, each `[C, S, n]`, in the units of y."""
        outputs = self._outputs(X).astype(np.float64)
        mean = self.y_mean_ + self.y_scale_ * outputs[..., 0]
        return mean, self.y_scale_ * np.exp(outputs[..., 1])

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """The mean of the prediction, and its standard deviation.

        Args:
          X: `[n, D]`.
          return_std: whether to return both.

        Returns:
          `[n]`, or two such arrays. The standard deviation has both parts in it, noise
          and what is not known of the network.
        """
        split = variance_split(*self._mixture(X))
        return (split.mean, np.sqrt(split.total)) if return_std else split.mean

    def predict_interval(
        self, X: Any, coverage: float = 0.9
    ) -> tuple[np.ndarray, np.ndarray]:
        """Where y lies with a probability, as often below as above.

        Args:
          X: `[n, D]`.
          coverage: between 0 and 1.

        Returns:
          `(low, high)`, each `[n]`.

        Raises:
          ValueError: for another coverage.
        """
        return predictive_interval(*self._mixture(X), coverage)

    def log_prob(self, X: Any, y: Any) -> np.ndarray:
        """Log density of the prediction at y, `[n]`, in the units of y.

        Args:
          X: `[n, D]`.
          y: `[n]`.
        """
        return predictive_log_density(*self._mixture(X), np.asarray(y, np.float64))


def _rounding(y: np.ndarray) -> float:
    """The least σ that is believed: that of rounding to the gaps between values.

    Where targets are whole numbers a density could grow without bound on them.
    """
    gaps = np.diff(np.unique(y))
    return max(_LEAST, float(np.median(gaps)) / np.sqrt(12)) if len(gaps) else _LEAST
