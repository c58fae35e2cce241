"""Draws of a loop of one's own, as `Samples`."""

from typing import Any

import jax
import numpy as np

from sgld_jax.engine.chain import Chain, Failure
from sgld_jax.engine.report import RunReport, failures_of
from sgld_jax.engine.samples import Samples
from sgld_jax.potentials.batches import BatchState, full_batch

PyTree = Any


def samples_from_draws(
    draws: PyTree, *, potential: Any = None, weights: Any = None
) -> Samples:
    """`Samples` of draws that a loop of your own has kept.

    For `summary`, `to_arviz`, `predict`, the scores and `save`; there is no chain to go
    on from. A chain with draws that are not finite counts as failed.

    Args:
      draws: a tree of arrays `[C, S, ...]`, chain and draw first. A list of a chain's
        positions is `jax.tree.map(lambda *x: np.stack(x)[None], *kept)`.
      potential: U at each draw, `[C, S]`; NaN if None.
      weights: of the draws, `[C, S]`, such as the steps that led to them where steps
        shrink; None to count all alike.

    Raises:
      ValueError: for arrays without the same two leading axes.

    Example:
      >>> import jax, jax.numpy as jnp, numpy as np, optax, sgld_jax
      >>> sampler = sgld_jax.sgld(0.1, key=0)
      >>> w, kept = jnp.zeros(3), []
      >>> state = sampler.init(w)
      >>> for _ in range(50):
      ...     update, state = sampler.update(w, state)   # the gradient of |w|²/2
      ...     w = optax.apply_updates(w, update)
      ...     kept.append({"w": w})
      >>> draws = jax.tree.map(lambda *x: np.stack(x)[None], *kept)
      >>> samples = sgld_jax.samples_from_draws(draws)
      >>> samples.params["w"].shape
      (1, 50, 3)
    """
    params = jax.tree.map(np.asarray, draws)
    shapes = {x.shape[:2] for x in jax.tree.leaves(params)}
    if len(shapes) != 1 or len(next(iter(shapes))) < 2 or 0 in next(iter(shapes)):
        raise ValueError(
            f"The draws have the leading axes {sorted(shapes)}: expected arrays "
            f"[C, S, ...], chain and draw first. A single chain is x[None]."
        )
    ((num_chains, num_draws),) = shapes
    axes = num_chains, num_draws
    potential = np.full(axes, np.nan) if potential is None else np.asarray(potential)
    weights = np.ones(axes) if weights is None else np.asarray(weights)
    for name, x in (("potential", potential), ("weights", weights)):
        if x.shape != axes:
            raise ValueError(f"{name} has shape {x.shape}: expected {axes}, as draws.")
    counts = np.broadcast_to(np.arange(1, num_draws + 1, dtype=np.int32), axes)
    final = _end_of(params, counts)
    failures, begin = failures_of(final), np.zeros(num_chains, np.int32)
    report = RunReport(0, 0.0, 0.0, failures, "", begin, num_chains, 1, 0)
    return Samples(params, potential, weights, counts.copy(), final, report)


def _end_of(params: PyTree, counts: np.ndarray) -> Chain:
    """Chains where the draws end, without the state of a sampler."""
    num_chains, num_draws = counts.shape
    fine = [
        np.isfinite(x).reshape(num_chains, num_draws, -1).all(-1)
        for x in jax.tree.leaves(params)
    ]
    bad = ~np.array(fine)  # leaf, chain, draw
    failed = bad.any(axis=(0, 2))
    step = np.where(failed, bad.any(axis=0).argmax(axis=1), -1)
    leaf = np.where(failed, bad.any(axis=2).argmax(axis=0), -1)
    zero: Any = np.zeros(num_chains, np.int32)
    source: Any = np.tile(full_batch().source(None), (num_chains, 1))
    number: Any = np.arange(num_chains, dtype=np.int32)
    stream = BatchState(number, None, zero, zero, source)
    last = jax.tree.map(lambda x: x[:, -1], params)
    where: Any = (step.astype(np.int32), leaf.astype(np.int32))
    end: Any = counts[:, -1]
    return Chain(last, (), stream, end, Failure(*where), zero)
