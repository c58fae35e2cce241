"""A first run, which says for how long a start is remembered."""

from typing import Any

import jax
import numpy as np

from sgld_jax.engine.chain import Stacked
from sgld_jax.engine.sample import resume, sample
from sgld_jax.engine.samples import Samples
from sgld_jax.tuning.correlation import autocorrelation_time

_PILOT, _DOUBLINGS = 200, 3  # updates, and how often as many again
LONG = 20  # times of autocorrelation in which a start is forgotten


def pilot_run(
    key: jax.Array, sampler: Any, potential: Any, init: Stacked, given: Any, metric: Any
) -> Samples:
    """A run that lasts for 20 times of autocorrelation if 1,600 updates are enough."""
    num_chains = len(jax.tree.leaves(init.params)[0])
    plan = {"num_samples": _PILOT, **given}
    pilot = sample(key, sampler, potential, init, num_chains=num_chains, **plan)
    for _ in range(_DOUBLINGS):
        if pilot.num_samples > LONG * memory(pilot, metric):
            break
        plan["num_samples"] = pilot.num_samples
        pilot = pilot.concatenate(resume(pilot.final, sampler, potential, **plan))
    return pilot


def memory(pilot: Samples, metric: np.ndarray) -> float:
    """The longest autocorrelation time of whitened coordinates and their squares.

    Without end where all chains have failed.
    """
    healthy = pilot.healthy()
    if not healthy.num_chains:
        return float("inf")
    leaves = jax.tree.leaves(healthy.params)
    x = np.concatenate([a.reshape(*a.shape[:2], -1) for a in leaves], 2)
    x = np.asarray(x, np.float64)[:, pilot.num_samples // 4 :]
    z = np.linalg.solve(np.linalg.cholesky(metric), (x - x.mean((0, 1)))[..., None])
    z = z[..., 0]
    return float(autocorrelation_time(np.concatenate([z, z**2], 2)).max())
