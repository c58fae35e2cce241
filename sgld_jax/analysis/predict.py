"""What every draw predicts for new inputs, in bounded memory."""

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from sgld_jax.analysis.draws import healthy_tree, is_samples
from sgld_jax.analysis.weights import usable_weights
from sgld_jax.arguments import check_count, check_takes
from sgld_jax.program import Program

PyTree = Any

_DRAWS, _DRAW_BYTES = 64, 16 * 2**20  # computed at once: so many, of so much


def predict(
    apply: Callable[..., PyTree],
    samples: Any,
    inputs: PyTree,
    *,
    batch_size: int = 256,
    reduce: Callable[..., PyTree] | None = None,
    weighted: bool = False,
) -> PyTree:
    """The network's outputs at every draw, for inputs that it may never have seen.

    Inputs go through in batches, and draws in groups. With `reduce` only what it makes
    of a batch is kept, so that memory does not grow with the inputs:
    `reduce=predictive_probs` gives averaged probabilities `[n, K]`,
    `reduce=entropy_split` their uncertainty, and `reduce=lambda out:
    variance_split(out[..., 0], np.exp(out[..., 1]))` the mean and variances of a
    regression.

    Args:
      apply: `(params, *inputs) -> outputs`, the network at one draw, such as
        `Network.apply`; outputs `[n, ...]`, or a tree of such.
      samples: `Samples`, whose failed chains are left out with a warning; or their
        parameters, a tree of arrays `[C, S, ...]`.
      inputs: arrays `[n, ...]`, or a tree of such; a tuple is several arguments.
      batch_size: inputs at a time. The device holds the outputs of at most 64 draws for
        them, and the host those of all draws.
      reduce: of the outputs for a batch, `[C, S, b, ...]`; makes arrays `[b, ...]`.
      weighted: whether `reduce` is called with the weights of the draws, too:
        `reduce(outputs, weights=w)`, with `Samples.weights` `[C, S]`. A warning says
        where they matter. `predictive_probs`, `entropy_split` and `variance_split`
        take them.

    Returns:
      NumPy arrays `[C, S, n, ...]`, or with `reduce` what that makes, `[n, ...]`.

    Raises:
      TypeError: for what cannot be called with parameters and inputs.
      ValueError: for inputs, or outputs, without a common leading axis, and for
        `weighted` draws of unknown weights, or without `reduce`.

    Example:
      >>> import jax, jax.numpy as jnp, sgld_jax
      >>> potential = sgld_jax.from_log_density(lambda w: -0.5 * jnp.sum(w**2))
      >>> samples = sgld_jax.sample(
      ...     0, sgld_jax.sgld(0.1), potential, lambda key: jnp.zeros((3, 2)),
      ...     num_samples=10, num_chains=4)
      >>> x = jnp.ones((1000, 3))
      >>> network = lambda w, x: x @ w
      >>> sgld_jax.predict(network, samples, x).shape           # logits
      (4, 10, 1000, 2)
      >>> sgld_jax.predict(
      ...     network, samples, x, reduce=sgld_jax.predictive_probs).shape
      (1000, 2)
    """
    check_count("batch_size", batch_size, 1)
    arguments = inputs if isinstance(inputs, tuple) else (inputs,)
    check_takes(apply, ", ".join(["params", *["inputs"] * len(arguments)]), "apply")
    params, (num_chains, num_draws) = healthy_tree(samples)
    reduce = _weighted(reduce, samples, weighted)
    arguments = jax.tree.map(np.asarray, arguments)
    num_inputs = _num_inputs(arguments)
    draws = jax.tree.map(
        lambda x: x.reshape(num_chains * num_draws, *x.shape[2:]), params
    )
    program = _Outputs(apply, draws, arguments, min(batch_size, num_inputs))

    def outputs(start: int) -> PyTree:
        made = program.of_all_draws(start)
        return jax.tree.map(
            lambda x: x.reshape(num_chains, num_draws, *x.shape[1:]), made
        )

    starts = range(0, num_inputs, batch_size)
    if reduce is None:
        return _filled(map(outputs, starts), num_inputs)
    return _joined([jax.tree.map(np.asarray, reduce(outputs(i))) for i in starts], 0)


def _weighted(
    reduce: Callable | None, samples: Any, weighted: bool
) -> Callable[[PyTree], PyTree] | None:
    """`reduce` with the weights of the healthy chains, if they are to count."""
    if reduce is None:
        if weighted:
            raise ValueError(
                "weighted=True without reduce: outputs of every draw are returned, and "
                "none is averaged. Expected reduce, such as predictive_probs."
            )
        return None
    kept = ~np.asarray(samples.failed) if is_samples(samples) else slice(None)
    weights = usable_weights(samples, weighted, kept)
    return reduce if weights is None else functools.partial(reduce, weights=weights)


class _Outputs:
    """A compiled network that maps a group of draws over a batch of inputs."""

    def __init__(self, apply: Callable, draws: PyTree, inputs: tuple, batch: int):
        self._draws, self._inputs, self._batch = draws, inputs, batch
        leaves = jax.tree.leaves(draws)
        self._total = len(leaves[0])
        one = max(1, sum(x[0].nbytes for x in leaves))
        self._group = max(1, min(_DRAWS, _DRAW_BYTES // one, self._total))

        def of_group(draws: PyTree, inputs: tuple) -> PyTree:
            return jax.vmap(lambda params: apply(params, *inputs))(draws)

        first_draws = _padded(draws, 0, self._group)
        self._program = Program(of_group, first_draws, _padded(inputs, 0, batch))

    def of_all_draws(self, start: int) -> PyTree:
        """Outputs `[CS, b, ...]` for the batch that begins at `start`."""
        inputs = _padded(self._inputs, start, self._batch)
        num_inputs = min(self._batch, len(jax.tree.leaves(self._inputs)[0]) - start)
        parts = []
        for first in range(0, self._total, self._group):
            made = self._program(_padded(self._draws, first, self._group), inputs)
            parts.append(jax.tree.map(np.asarray, made))
        whole = _joined(parts, axis=0)
        _check_outputs(whole, self._batch)
        return jax.tree.map(lambda x: x[: self._total, :num_inputs], whole)


def _padded(tree: PyTree, start: int, size: int) -> PyTree:
    """`size` rows from `start`, the last one repeated where there are no more."""

    def rows(x: np.ndarray) -> np.ndarray:
        part = x[start : start + size]
        missing = size - len(part)
        return np.concatenate([part, np.repeat(part[-1:], missing, 0)])

    return jax.tree.map(rows, tree)


def _filled(parts: Iterator[PyTree], num_inputs: int) -> PyTree:
    """Parts `[C, S, b, ...]` as one array `[C, S, n, ...]`, that is in memory once."""
    first = next(parts)
    whole = jax.tree.map(
        lambda x: np.empty((*x.shape[:2], num_inputs, *x.shape[3:]), x.dtype), first
    )
    start = 0
    for part in itertools.chain([first], parts):
        end = start + jax.tree.leaves(part)[0].shape[2]
        for place, x in zip(jax.tree.leaves(whole), jax.tree.leaves(part)):
            place[:, :, start:end] = x
        start = end
    return whole


def _joined(parts: list[PyTree], axis: int) -> PyTree:
    return jax.tree.map(lambda *x: np.concatenate(x, axis=axis), *parts)


def _num_inputs(inputs: tuple) -> int:
    lengths = {np.shape(x)[:1] for x in jax.tree.leaves(inputs)}
    if len(lengths) != 1 or lengths <= {(), (0,)}:
        raise ValueError(
            f"inputs have the leading axes {sorted(lengths)}: expected arrays [n, ...] "
            f"with one n, at least 1. A tuple is several arguments of apply."
        )
    return lengths.pop()[0]


def _check_outputs(outputs: PyTree, batch: int) -> None:
    for x in jax.tree.leaves(outputs):
        if x.shape[1:2] != (batch,):
            raise ValueError(
                f"apply made an output of shape {x.shape[1:]} for {batch} inputs: "
                f"expected [n, ...], a row for each input."
            )
