"""Draws as ArviZ containers: `InferenceData` on ArviZ 0.23, `DataTree` on 1.x."""

import contextlib
import importlib
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sgld_jax.analysis.draws import named_arrays
from sgld_jax.analysis.weights import usable_weights
from sgld_jax.arguments import declares_key
from sgld_jax.warn import warn

PyTree = Any

_AT_ONCE = 64  # draws whose likelihoods are taken together


def to_arviz(
    samples: Any,
    *,
    log_likelihood: Any = None,
    data: PyTree = None,
    observed_data: PyTree = None,
    posterior_predictive: PyTree = None,
    weighted: bool = False,
    dims: Mapping[str, list[str]] | None = None,
    coords: Mapping[str, Any] | None = None,
) -> Any:
    """The draws of a run as an ArviZ container, for its tables, plots, LOO and files.

    Variables are named by their path in the tree, joined with ".", as in
    `layer.kernel`. A single array is called "x" among the parameters and "y" among
    the data. float16 and bfloat16 become float32. The groups are

    * `posterior`: `samples.params`.
    * `sample_stats`: `lp` = −U, the log density up to a constant as the update
      before the draw saw it: on its minibatch, at the position *before* it, and
      not divided by T; `weight` and `count` of the draw; `diverging`, true for the
      draws that a chain has repeated since it went non-finite.
    * those given here.

    Chains that went non-finite are kept, with a warning: ArviZ does not look at
    `diverging` in its statistics. `to_arviz(samples.healthy())` leaves them out.

    ArviZ has no weights, and counts all draws alike; a warning says where that is
    wrong. With `weighted=True` each chain is resampled, in its order and to its length,
    so that draw s stands S·w_s/Σw times, rounded up or down. Repeats follow each other,
    so ArviZ's effective sample sizes see them.

    Chains that shared their batches are correlated, which ArviZ cannot know: its errors
    are then too small, and a warning says so. Those of `summary` are right.

    Args:
      samples: from `sample` or `resume`.
      log_likelihood: log p(xᵢ|θ) of every observation at every draw, which `arviz.loo`
        needs: `[C, S, N]`, or a tree of such; a function `params -> [N]` of one draw;
        or a potential of `minibatch_potential`, with its `data`.
      data: arrays `[N, ...]`, for the likelihoods of a potential.
      observed_data: the observations `[N, ...]`, or a tree of such.
      posterior_predictive: data drawn at every draw, `[C, S, N, ...]`, or a tree.
      weighted: whether to resample by `Samples.weights`.
      dims: names of the axes of a variable beyond chain and draw.
      coords: labels along these axes, by their names.

    Returns:
      `arviz.InferenceData` on ArviZ 0.23, `xarray.DataTree` on 1.x.

    Raises:
      ImportError: without ArviZ.
      TypeError: if `samples` is not a `Samples`.
      ValueError: for arrays that do not begin with the axes `[C, S]` of the draws, for
        two leaves that would have one name, and for `weighted` draws that have failed
        or whose weights are unknown.

    Example:
      >>> import jax, jax.numpy as jnp, sgld_jax
      >>> potential = sgld_jax.from_log_density(
      ...     lambda p: -0.5 * jnp.sum(p["a"] ** 2) - 0.5 * p["b"] ** 2)
      >>> samples = sgld_jax.sample(
      ...     0, sgld_jax.sgld(0.1), potential,
      ...     lambda key: {"a": jax.random.normal(key, (3,)), "b": jnp.zeros(())},
      ...     num_samples=20, num_chains=4)
      >>> data = sgld_jax.to_arviz(
      ...     samples, dims={"a": ["city"]}, coords={"city": ["Oslo", "Rome", "Lima"]})
      >>> data.posterior["a"].dims
      ('chain', 'draw', 'city')

    Source: the InferenceData schema, https://python.arviz.org.
    """
    az = import_arviz()
    if not (hasattr(samples, "params") and hasattr(samples, "weights")):
        raise TypeError(
            f"to_arviz takes what sample returned, not a {type(samples).__name__}. For "
            f"arrays of your own use arviz.from_dict."
        )
    groups = {
        "posterior": _arrays(samples.params, "x"),
        "sample_stats": _sample_stats(samples),
        "log_likelihood": _arrays(_pointwise(log_likelihood, samples, data), "y"),
        "posterior_predictive": _arrays(posterior_predictive, "y"),
    }
    _check_axes(groups, samples.potential.shape)
    kept = slice(None) if weighted else ~np.asarray(samples.failed)
    weights = usable_weights(samples, weighted, kept)
    if weights is not None:
        groups = _resampled(groups, weights)
    groups["observed_data"] = _arrays(observed_data, "y")
    if samples.failed.any():
        chains = np.flatnonzero(samples.failed).tolist()
        warn(
            f"{len(chains)} of {samples.num_chains} chains went non-finite: {chains}. "
            f"They are kept and flagged in sample_stats.diverging, but ArviZ's own "
            f"statistics count them. to_arviz(samples.healthy()) leaves them out."
        )
    if samples.report.shared_by > 1:
        warn(
            "Chains of a stream of batches are correlated, and ArviZ takes chains for "
            "independent: its errors and R-hat are too good. sgld_jax.summary(samples) "
            "has the right errors."
        )
    groups = {name: group for name, group in groups.items() if group}
    return _container(az, groups, {"dims": dims, "coords": coords})


def import_arviz() -> Any:
    """The module `arviz`, imported when needed: it takes seconds.

    Raises:
      ImportError: with what to install, if there is no ArviZ.
    """
    with warnings.catch_warnings():
        # ArviZ 0.23 announces 1.0, once a day. Both are provided for here.
        warnings.filterwarnings("ignore", "\nArviZ is undergoing", FutureWarning)
        try:
            return importlib.import_module("arviz")
        except ImportError as error:
            raise ImportError(
                "ArviZ is not installed: pip install 'sgld-jax[arviz]'"
            ) from error


def _resampled(groups: dict[str, dict], weights: np.ndarray) -> dict[str, dict]:
    """Each draw as often as its weight `[C, S]` says, rounded, in the same order.

    Systematic resampling: J. Carpenter, P. Clifford and P. Fearnhead, Improved particle
    filter for nonlinear problems, IEE Proc. Radar Sonar Navig. 146(1), 1999.
    """
    num_samples = weights.shape[1]
    if not (weights > 0).any(axis=1).all():
        raise ValueError(
            "weighted=True, but a chain has no draw of positive weight: it failed at "
            "its start. Use to_arviz(samples.healthy(), weighted=True)."
        )
    shares = np.cumsum(weights, axis=1) / weights.sum(axis=1, keepdims=True)
    points = (np.arange(num_samples) + 0.5) / num_samples
    index = np.array([np.searchsorted(chain, points) for chain in shares])
    chains = np.arange(len(weights))[:, None]
    return {
        name: {key: x[chains, index] for key, x in group.items()}
        for name, group in groups.items()
    }


def _sample_stats(samples: Any) -> dict[str, np.ndarray]:
    failed = np.asarray(samples.failed)[:, None]
    return {
        "lp": -np.asarray(samples.potential),
        "weight": np.asarray(samples.weights),
        "count": np.asarray(samples.counts),
        "diverging": failed & (np.asarray(samples.weights) == 0),
    }


def _arrays(tree: PyTree, default: str) -> dict[str, np.ndarray]:
    arrays = {k: np.asarray(v) for k, v in named_arrays(tree, default).items()}
    return {k: x.astype(np.float32) if _is_half(x) else x for k, x in arrays.items()}


def _is_half(x: np.ndarray) -> bool:
    return jnp.issubdtype(x.dtype, jnp.floating) and x.dtype.itemsize < 4


def _check_axes(groups: dict[str, dict[str, np.ndarray]], draws: tuple) -> None:
    for group, arrays in groups.items():
        least = 3 if group == "log_likelihood" else 2
        for name, x in arrays.items():
            if x.shape[:2] != draws or x.ndim < least:
                raise ValueError(
                    f"{name!r} of {group} has shape {x.shape}: expected [C, S, "
                    f"{'N]' if least == 3 else '...]'} with the C, S = {draws} of the "
                    f"draws."
                )
            if name in ("chain", "draw"):
                raise ValueError(
                    f"{name!r} of {group} has the name of an axis of ArviZ: rename it, "
                    f"for instance in collect."
                )


def _pointwise(log_likelihood: Any, samples: Any, data: PyTree) -> PyTree:
    """Values `[C, S, N]` of a function of a draw, or of a potential; else as it is."""
    if not callable(log_likelihood):
        return log_likelihood
    of_batch = getattr(log_likelihood, "log_likelihood", None)
    if of_batch is not None and data is None:
        raise ValueError(
            "log_likelihood is a potential: pass data=, all rows it is of, too."
        )
    if declares_key(of_batch):
        raise ValueError(
            "The likelihoods of this potential are random: expected exact ones, a "
            "function log_likelihood(params)."
        )

    def of_draw(params: PyTree, data: PyTree) -> PyTree:
        return log_likelihood(params) if of_batch is None else of_batch(params, data)

    @jax.jit
    def of_all(draws: PyTree, data: PyTree) -> PyTree:
        return jax.lax.map(lambda p: of_draw(p, data), draws, batch_size=_AT_ONCE)

    axes = samples.potential.shape
    draws = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), samples.params)
    values = jax.tree.map(np.asarray, of_all(draws, data))
    return jax.tree.map(lambda x: x.reshape(*axes, *x.shape[1:]), values)


def _container(az: Any, groups: dict[str, dict[str, np.ndarray]], named: dict) -> Any:
    from sgld_jax import __version__

    attrs = {"inference_library": "sgld_jax", "inference_library_version": __version__}
    with _many_chains_allowed():
        if int(az.__version__.split(".")[0]) >= 1:
            attrs = {name: attrs for name in ("/", *groups)}
            return az.from_dict(groups, attrs=attrs, **named)
        each = {f"{name}_attrs": attrs for name in groups}
        return az.from_dict(**groups, **each, **named, attrs=attrs)


@contextlib.contextmanager
def _many_chains_allowed() -> Iterator[None]:
    """ArviZ takes C > S for swapped axes; a thousand short chains are usual here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "More chains", UserWarning)
        warnings.filterwarnings("ignore", "Found chain dimension", UserWarning)
        yield
