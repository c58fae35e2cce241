"""Starting points that have learned, and have not yet learned by heart."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sgld_jax.arguments import check_count
from sgld_jax.engine.chain import Stacked, stacked
from sgld_jax.keys import as_key, chain_keys, host_generator
from sgld_jax.leaves import where
from sgld_jax.potentials.batches import with_replacement
from sgld_jax.potentials.data import num_rows
from sgld_jax.potentials.networks import Network
from sgld_jax.potentials.potential import check_num_data

PyTree = Any

_LOOKS = 80  # at the rows that are held out


class _Learned(NamedTuple):
    """A chain that learns; `best` is where it did best on what it never saw."""

    params: PyTree
    state: PyTree
    best: PyTree
    loss: jax.Array


def early_stopped(
    key: Any,
    network: Network,
    data: PyTree,
    *,
    num_chains: int,
    updates: int = 4_000,
    batch_size: int = 128,
    learning_rate: float = 1e-2,
    held_out: float = 0.1,
) -> Stacked:
    """Starting points for a network's chains: Adam, stopped where it does best.

    Every chain holds a tenth of the rows out, another tenth each, and descends the
    potential of the rest by Adam with a learning rate that falls to 0 (a cosine). It
    starts where the rows that it has not seen were most likely, at one of 80 looks.

    From an optimum a chain has to climb to where the posterior is, and a network that
    has learned its data by heart is a place it does not soon come back from. What was
    held out is in `data`, and so in the posterior.

    Args:
      key: a seed or key, of weights, of rows held out and of batches.
      network: whose `log_likelihood` and `log_prior` are taken.
      data: all N rows, arrays `[N, ...]`.
      num_chains: C.
      updates: of Adam.
      batch_size: rows of an update, drawn with replacement.
      learning_rate: at the start.
      held_out: share of the rows, between 0 and 1; at least one row is.

    Returns:
      `stacked` parameters, for `warm_up` and `sample`.

    Raises:
      TypeError, ValueError: for arguments out of range, and for fewer than 2 rows.

    Example:
      >>> import jax, sgld_jax
      >>> x = jax.random.normal(jax.random.key(0), (200, 2))
      >>> data = (x, x[:, 0] * x[:, 1])
      >>> network = sgld_jax.tabular_regression(2, (8,), num_data=200)
      >>> starts = sgld_jax.early_stopped(0, network, data, num_chains=4, updates=200)
      >>> starts.params["relevance"].shape
      (4, 2)
    """
    _check(network, data, num_chains, updates, batch_size, held_out)
    N = num_rows(data)
    num_held = max(1, round(held_out * N))
    batches = with_replacement(batch_size)
    looks = min(_LOOKS, updates)
    between = updates // looks
    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, updates))

    def loss(params: PyTree, batch: PyTree) -> jax.Array:
        """U/N, of the rows that are learned from."""
        fitted = jnp.mean(network.log_likelihood(params, batch))
        return -fitted - network.log_prior(params) / (N - num_held)

    def learned(start: PyTree, order: Any, key: jax.Array, data: PyTree) -> PyTree:
        held = jax.tree.map(lambda x: x[order[:num_held]], data)

        def update(carry: tuple, _: Any) -> tuple[tuple, None]:
            chain, stream = carry
            drawn, stream = batches.next(stream, N - num_held)
            rows = order[num_held + jnp.asarray(drawn)]
            grads = jax.grad(loss)(chain.params, jax.tree.map(lambda x: x[rows], data))
            moves, state = optimizer.update(grads, chain.state, chain.params)
            params: Any = optax.apply_updates(chain.params, moves)
            return (chain._replace(params=params, state=state), stream), None

        def look(carry: tuple, _: Any) -> tuple[tuple, None]:
            (chain, stream), _ = jax.lax.scan(update, carry, length=between)
            now = -jnp.mean(network.log_likelihood(chain.params, held))
            better = now < chain.loss
            best = where(better, chain.params, chain.best)
            least = jnp.where(better, now, chain.loss)
            return (chain._replace(best=best, loss=least), stream), None

        chain = _Learned(start, optimizer.init(start), start, jnp.array(jnp.inf))
        carry, _ = jax.lax.scan(look, (chain, batches.init(key)), length=looks)
        return carry[0].best

    init_key, batch_key, rows_key = jax.random.split(as_key(key), 3)
    start = jax.vmap(network.init)(chain_keys(init_key, num_chains))
    rows = np.tile(np.arange(N), (num_chains, 1))
    order = jnp.asarray(host_generator(rows_key).permuted(rows, axis=1))
    every = jax.jit(jax.vmap(learned, (0, 0, 0, None)))
    data = jax.tree.map(jnp.asarray, data)
    return stacked(every(start, order, chain_keys(batch_key, num_chains), data))


def _check(
    network: Any, data: PyTree, num_chains: Any, updates: Any, size: Any, held_out: Any
) -> None:
    if not isinstance(network, Network):
        raise TypeError(
            f"network is a {type(network).__name__}: expected a Network, such as "
            f"from_nnx, hierarchical and tabular_regression return."
        )
    check_num_data(network.potential, data)
    check_count("the rows of data", num_rows(data), 2)
    for name, value in (
        ("num_chains", num_chains),
        ("updates", updates),
        ("batch_size", size),
    ):
        check_count(name, value, 1)
    if not 0 < held_out < 1:
        raise ValueError(f"held_out={held_out}: expected a share between 0 and 1.")
