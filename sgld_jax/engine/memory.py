"""What chains remember of the data for an `Estimator`, such as `svrg`.

It is made when chains start, changed by their updates, and refreshed by a pass over all
data. Whether one is due is asked once for all chains, outside of their `vmap`: inside,
each update would pay for the pass and throw it away.
"""

from typing import Any

import jax
import jax.numpy as jnp

from sgld_jax.arguments import shown
from sgld_jax.engine.chain import Chain
from sgld_jax.potentials.estimators import Estimator
from sgld_jax.states import positions

PyTree = Any


def _check(chain: Chain, data: PyTree) -> None:
    """Raises `ValueError` where an estimator cannot be used."""
    if data is None:
        raise ValueError(
            "An estimator looks at all data: pass data=..., all N rows. Batches from a "
            "loader are no place for it."
        )
    if positions(chain.state):
        raise ValueError(
            "This kernel accepts or rejects by the potential of all data: an estimator "
            "of its gradient has no part in it."
        )


def with_memory(chain: Chain, potential: Any, data: PyTree) -> Chain:
    """The chain with what the estimator remembers, made here if there is none yet.

    Raises:
      ValueError: for the memory of another estimator.
    """
    if not isinstance(potential, Estimator):
        return chain._replace(memory=())
    _check(chain, data)
    data = jax.tree.map(jnp.asarray, data)
    make = jax.vmap(potential.init, (0, None))
    if jax.tree.leaves(chain.memory):
        expected = jax.eval_shape(make, chain.params, data)
        have, want = (
            jax.tree.map(lambda x: (x.shape, str(x.dtype)), tree)
            for tree in (chain.memory, expected)
        )
        if have != want:
            raise ValueError(
                f"The chains remember {shown(have)}, and this estimator wants "
                f"{shown(want)}: pass the one that they ran with."
            )
        return chain
    return chain._replace(memory=jax.jit(make)(chain.params, data))


def refreshed(chain: Chain, potential: Any, data: PyTree) -> Chain:
    """The chain after a pass over all data, if one is due before this update."""
    if not isinstance(potential, Estimator) or not potential.refresh_every:
        return chain

    def refresh(chain: Chain) -> Chain:
        every = jax.vmap(potential.refresh, (0, None, 0))
        return chain._replace(memory=every(chain.params, data, chain.memory))

    # Chains that have failed stay behind, and the others have made as many updates.
    due = jnp.max(chain.count) % potential.refresh_every == 0  # due
    return jax.lax.cond(due, refresh, lambda chain: chain, chain)
