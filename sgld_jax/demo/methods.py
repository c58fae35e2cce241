"""The two ways to learn a network: nets by Adam, and chains of SGLD.

Both know the same model and get as many gradients. What is kept are functions of the
parameters: logits of the given inputs, the potential, and the scales of the prior.
"""

from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from sgld_jax.demo.networks import held, starts_at
from sgld_jax.engine.chain import stacked
from sgld_jax.engine.sample import sample
from sgld_jax.engine.samples import Samples
from sgld_jax.kernels.sgld import sgld
from sgld_jax.potentials.batches import with_replacement
from sgld_jax.potentials.networks import Network

PyTree = Any

BATCH_SIZE = 64
LEARNING_RATE = 3e-3  # of Adam, decayed to 0 by a cosine
STEP_SIZE = 1e-3  # of SGLD


class Lengths(NamedTuple):
    """How many updates: as many of a net as of a chain."""

    burn_in: int
    num_samples: int
    thinning: int

    @property
    def budget(self) -> int:
        """Updates of every net and of every chain."""
        return self.burn_in + self.num_samples * self.thinning


class Task(NamedTuple):
    """A network, what it learns from, and the inputs whose logits are kept."""

    network: Network
    data: tuple[np.ndarray, np.ndarray]
    inputs: np.ndarray

    def collect(self, params: PyTree) -> PyTree:
        """What is kept of a net or a draw."""
        z = jax.tree.leaves(params["z"])
        return {
            "logits": self.network.apply(params, self.inputs),
            "potential": self.network.potential(params, self.data),
            "log_scale": params["log_scale"],
            "warmth": sum((x**2).sum() for x in z) / sum(x.size for x in z),
        }


def nets_by_adam(
    key: jax.Array, task: Task, lengths: Lengths, nets: int, scales: Any = None
) -> Samples:
    """A deep ensemble: each net has a start and batches of its own.

    Args:
      key: of starts and batches.
      task: what is learned.
      lengths: of the chains that it is compared with.
      nets: how many.
      scales: the prior scale of each net, held where it is; learned if None.

    Raises:
      KeyboardInterrupt: if it was stopped, since it is worth nothing then.
    """
    schedule = optax.cosine_decay_schedule(LEARNING_RATE, lengths.budget)
    once = Lengths(0, 1, lengths.budget)
    samples = _run(key, optax.adam(schedule), task, once, nets, scales)
    if samples.interrupted:
        raise KeyboardInterrupt
    return samples


def chains_by_sgld(
    key: jax.Array, task: Task, lengths: Lengths, chains: int, scales: Any = None
) -> Samples:
    """Draws from the posterior; arguments as in `nets_by_adam`.

    Raises:
      KeyboardInterrupt: if it was stopped before there were enough for R-hat.
    """
    samples = _run(key, sgld(STEP_SIZE), task, lengths, chains, scales)
    if samples.interrupted and samples.num_samples < 4:
        raise KeyboardInterrupt
    return samples


def _run(
    key: jax.Array,
    optimizer: optax.GradientTransformation,
    task: Task,
    lengths: Lengths,
    chains: int,
    scales: Any,
) -> Samples:
    """The engine runs any optax transformation, Adam too."""
    init = task.network.init
    if scales is not None:
        optimizer = held(optimizer)
        init = stacked(starts_at(task.network, key, np.broadcast_to(scales, chains)))
    return sample(
        key,
        optimizer,
        task.network.potential,
        init,
        **lengths._asdict(),
        num_chains=chains,
        data=task.data,
        batches=with_replacement(BATCH_SIZE),
        collect=task.collect,
        progress=True,
    )
