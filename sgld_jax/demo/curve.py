"""A curve through twenty points, with a gap where there are none."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sgld_jax.analysis.diagnostics import rhat
from sgld_jax.demo.methods import Lengths
from sgld_jax.demo.networks import CURVE_NOISE, curve_network, held, starts_at
from sgld_jax.engine.chain import stacked
from sgld_jax.engine.sample import sample
from sgld_jax.kernels.sgld import sgld

GAP = (0.0, 1.5)
NUM_CHAINS = 16
ADAM_UPDATES = 3_000
PRIOR_SCALE = 2.0  # held for Adam's nets; the prior median of the chains'
STEP_SIZE = 5e-4


class Curve(NamedTuple):
    """What the picture of the curve shows.

    Attributes:
      x: `[20]`, where there are data.
      y: `[20]`.
      at: `[n]`, where curves are drawn.
      adam: `[C, n]`, curves of nets by Adam.
      draws: `[C, S, n]`, curves drawn by SGLD.
      rhat: of the drawn curves, `[n]`.
    """

    x: np.ndarray
    y: np.ndarray
    at: np.ndarray
    adam: np.ndarray
    draws: np.ndarray
    rhat: np.ndarray

    @property
    def truth(self) -> np.ndarray:
        """The curve that the data are about."""
        return np.sin(2 * self.at)

    def off(self, curves: np.ndarray) -> tuple[float, float]:
        """In the gap: how far the mean of `curves` is off, and their spread; rms."""
        inside = (self.at > GAP[0]) & (self.at < GAP[1])
        curves = curves.reshape(-1, len(self.at))[:, inside]
        error = curves.mean(axis=0) - self.truth[inside]
        return float(np.sqrt((error**2).mean())), float(np.sqrt(curves.var(0).mean()))


def run(key: jax.Array, lengths: Lengths) -> Curve:
    """Nets by Adam and chains of SGLD through the same points.

    Raises:
      KeyboardInterrupt: if it was stopped.
    """
    x, y = points()
    at = np.linspace(-2.6, 2.8, 109)
    network = curve_network(len(x))
    data = (jnp.float32(x[:, None]), jnp.float32(y))
    grid = jnp.float32(at[:, None])
    common = {
        "num_chains": NUM_CHAINS,
        "data": data,
        "collect": lambda params: network.apply(params, grid),
        "progress": True,
    }
    scales = np.full(NUM_CHAINS, PRIOR_SCALE)
    adam = sample(
        key,
        held(optax.adam(optax.cosine_decay_schedule(1e-2, ADAM_UPDATES))),
        network.potential,
        stacked(starts_at(network, key, scales)),
        num_samples=1,
        thinning=ADAM_UPDATES,
        **common,
    )
    chains = sample(
        key,
        sgld(STEP_SIZE),
        network.potential,
        network.init,
        **lengths._asdict(),
        **common,
    )
    if adam.interrupted or chains.interrupted:
        raise KeyboardInterrupt
    draws = chains.healthy().params
    return Curve(x, y, at, adam.params[:, -1], draws, rhat(draws))


def points() -> tuple[np.ndarray, np.ndarray]:
    """Twenty noisy points of sin 2x, none of them in the gap."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(-2, GAP[0], 12), rng.uniform(GAP[1], 2.4, 8)])
    return x, np.sin(2 * x) + CURVE_NOISE * rng.standard_normal(len(x))
