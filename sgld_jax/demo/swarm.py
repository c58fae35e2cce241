"""Particles over a landscape of 25 Gaussians: what chains find, and what not."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from sgld_jax.demo.networks import landscape
from sgld_jax.engine.chain import start
from sgld_jax.engine.sample import sample
from sgld_jax.kernels.sgld import sgld

SWARM_SIZE, SWARM_STEP = 500, 0.003


class Swarm(NamedTuple):
    """Positions `[F, P, 2]` of particles after `counts` `[F]` updates."""

    positions: np.ndarray
    counts: np.ndarray
    centres: np.ndarray
    energy: Callable[..., jax.Array]


def run(key: jax.Array, num_updates: int) -> Swarm:
    """Particles from a uniform start over 25 Gaussians of equal weight.

    Raises:
      KeyboardInterrupt: if it was stopped.
    """
    centres, energy = landscape()

    def init(key):
        return jax.random.uniform(key, (2,), minval=-6.0, maxval=6.0)

    sampler = sgld(SWARM_STEP)
    first = start(key, sampler, init, num_chains=SWARM_SIZE).params
    samples = sample(
        key, sampler, energy, init, num_samples=num_updates, num_chains=SWARM_SIZE
    )
    if samples.interrupted:
        raise KeyboardInterrupt
    path = np.concatenate([np.asarray(first)[:, None], samples.params], axis=1)
    # Most of the motion is at the start: every update there, ever fewer later.
    later = np.geomspace(25, samples.num_samples, 30).round().astype(int)
    counts = np.unique(np.concatenate([np.arange(25), later]))
    return Swarm(path[:, counts].swapaxes(0, 1), counts, centres, energy)


def nearest(positions: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """The index of the nearest centre, `[P]`."""
    squares = ((positions[:, None] - centres) ** 2).sum(axis=-1)
    return squares.argmin(axis=-1)
