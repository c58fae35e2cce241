"""What both estimators share: checks, fitting, saving, outputs at every draw."""

import json
import pathlib
from typing import Any, ClassVar, Self

import jax
import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from sgld_jax import archive
from sgld_jax.analysis.predict import predict
from sgld_jax.arguments import check_count
from sgld_jax.engine.sample import sample
from sgld_jax.potentials.batches import Batches, full_batch, shuffled
from sgld_jax.potentials.networks import Network
from sgld_jax.tuning.early_stopping import early_stopped
from sgld_jax.tuning.warm_up import warm_up

PyTree = Any

_ALL_ROWS = 4_096  # up to which an update sees all of them
_BATCH = 1_024
_TOLERANCE = 0.05  # of the width of a posterior, of what batches add to it
_AT_ONCE = 256  # rows of a prediction


class BayesianMLP(BaseEstimator):
    """A network of which many draws are kept. Its subclasses say what it predicts."""

    # Arrays that `fit` leaves behind, beside the draws.
    _learned: ClassVar[tuple[str, ...]] = (
        "n_features_in_",
        "x_mean_",
        "x_scale_",
        "widths_",
    )
    n_features_in_: int

    def __init__(
        self,
        hidden_layer_sizes: Any = "auto",
        *,
        num_chains: int = 8,
        num_samples: int = 100,
        start_updates: int = 4_000,
        adapt_updates: int = 3_000,
        batch_size: Any = "auto",
        random_state: Any = None,
        verbose: bool = False,
    ):
        self.hidden_layer_sizes = hidden_layer_sizes
        self.num_chains = num_chains
        self.num_samples = num_samples
        self.start_updates = start_updates
        self.adapt_updates = adapt_updates
        self.batch_size = batch_size
        self.random_state = random_state
        self.verbose = verbose

    def _auto(self, num_rows: int) -> tuple[int, ...]:
        """Widths for so many rows, if nothing is said."""
        raise NotImplementedError

    def _network(self, num_data: int) -> Network:
        raise NotImplementedError

    def _check_settings(self) -> None:
        for name in ("num_chains", "num_samples", "start_updates", "adapt_updates"):
            check_count(name, getattr(self, name), 2 if name == "num_chains" else 1)
        for size in self._widths(2):
            check_count("hidden_layer_sizes", size, 1)
        if self.batch_size not in ("auto", None):
            check_count("batch_size", self.batch_size, 1)

    def _widths(self, num_rows: int) -> tuple[Any, ...]:
        sizes: Any = self.hidden_layer_sizes
        if isinstance(sizes, str) and sizes == "auto":
            return self._auto(num_rows)
        return tuple(sizes) if np.ndim(sizes) else (sizes,)

    def _standardised(self, X: np.ndarray) -> np.ndarray:
        return ((X - self.x_mean_) / self.x_scale_).astype(np.float32)

    def _fit(self, X: np.ndarray, y: np.ndarray) -> Self:
        """Draws from the posterior, for X `[N, D]` and targets y `[N]` as modelled."""
        if len(X) < 2:
            raise ValueError(
                f"Found array with {len(X)} sample(s): expected at least 2 rows, since "
                f"one is held out while a chain learns."
            )
        self.x_mean_ = X.mean(0)
        scale = X.std(0)
        self.x_scale_ = np.where(scale > 0, scale, 1.0)
        self.widths_ = np.array(self._widths(len(X)))
        data = self._standardised(X), y
        network, batches = self._network(len(X)), self._batches(len(X))
        draw = check_random_state(self.random_state).randint
        seeds = [int(x) for x in draw(0, 2**31, 3)]
        given = {"num_chains": self.num_chains, "data": data}
        size = min(128, len(X))
        starts = early_stopped(
            seeds[0],
            network,
            data,
            num_chains=self.num_chains,
            updates=self.start_updates,
            batch_size=size,
        )
        given["batches"] = batches
        fit = warm_up(
            seeds[1],
            network.potential,
            starts,
            metric="diagonal",
            tolerance=_TOLERANCE,
            updates=self.adapt_updates,
            **given,
        )
        if self.verbose:
            print(fit.report)
        samples = sample(
            seeds[2],
            fit.sampler,
            network.potential,
            fit.init,
            num_samples=self.num_samples,
            burn_in=fit.burn_in,
            thinning=fit.thinning,
            progress=bool(self.verbose),
            **given,
        ).healthy()
        if samples.num_chains == 0:
            raise FloatingPointError(
                "No chain stayed finite: look for outliers of many standard deviations "
                "in X or y, and transform them."
            )
        self.draws_ = jax.tree.map(np.asarray, samples.params)
        self.report_ = str(fit.report)
        return self

    def _batches(self, num_rows: int) -> Batches:
        size = self.batch_size
        if size == "auto":
            size = _BATCH if num_rows > _ALL_ROWS else None
        return full_batch() if size is None or size >= num_rows else shuffled(size)

    def _outputs(self, X: Any) -> np.ndarray:
        """What the network says at every draw, `[C, S, n, K]`."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float64)
        # Filled up, so that a row's prediction does not depend on how many there are.
        inputs = np.zeros((-(-len(X) // _AT_ONCE) * _AT_ONCE, X.shape[1]), np.float32)
        inputs[: len(X)] = self._standardised(X)
        apply = self._network(1).apply
        outputs = predict(apply, self.draws_, inputs, batch_size=_AT_ONCE)
        return np.asarray(outputs)[:, :, : len(X)]

    def save(self, folder: Any) -> None:
        """Writes the fitted estimator into a new folder, without pickle.

        Args:
          folder: a path where nothing is yet.

        Raises:
          NotFittedError: before `fit`.
          TypeError: for labels that JSON cannot hold.
          FileExistsError: if there is something already.
        """
        check_is_fitted(self)
        learned = {name: np.asarray(getattr(self, name)) for name in self._learned}
        named = {
            name: x.tolist() for name, x in learned.items() if x.dtype.kind in "UO"
        }
        arrays = {name: x for name, x in learned.items() if name not in named}
        leaves = jax.tree.leaves(self.draws_)
        arrays |= {f"draws.{i}": x for i, x in enumerate(leaves)}
        settings = self.get_params()
        if not isinstance(self.hidden_layer_sizes, str):
            settings["hidden_layer_sizes"] = self.widths_.tolist()
        if not isinstance(settings["random_state"], (int, type(None))):
            settings["random_state"] = None  # a generator, that has been used
        facts = {"kind": type(self).__name__, "settings": settings, "named": named}
        archive.write(folder, arrays, json.loads(json.dumps(facts, default=int)))

    @classmethod
    def load(cls, folder: Any) -> Self:
        """The estimator that `save` wrote.

        Args:
          folder: where it is.

        Raises:
          FileNotFoundError, ValueError: for what is no such folder, or is damaged.
        """
        arrays, facts = archive.read(folder)
        if facts.get("kind") != cls.__name__:
            raise ValueError(
                f"{pathlib.Path(folder)} holds {facts.get('kind')!r}: expected a "
                f"{cls.__name__}."
            )
        settings = facts["settings"]
        if not isinstance(settings["hidden_layer_sizes"], str):
            settings["hidden_layer_sizes"] = tuple(settings["hidden_layer_sizes"])
        model = cls(**settings)
        named = {name: np.array(x) for name, x in facts["named"].items()}
        for name in cls._learned:
            value = (arrays | named)[name]
            setattr(model, name, value if value.ndim else value.item())
        structure = jax.tree.structure(model._network(1).init(jax.random.key(0)))
        leaves = [arrays[f"draws.{i}"] for i in range(structure.num_leaves)]
        model.draws_ = jax.tree.unflatten(structure, leaves)
        return model
