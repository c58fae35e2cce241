"""A ladder of temperatures, and how neighbours on it swap their positions.

    D = (1/T_k − 1/T_{k+1}) (U(θ_k) − U(θ_{k+1}))
    neighbours swap with probability min(1, exp(D − σ²_D/2)),
    σ²_D = 2 (1/T_k − 1/T_{k+1})² σ², σ² the variance of a minibatch estimate of U

A cold chain with the higher U always swaps. With σ² known and the noise Gaussian the
rule is in detailed balance, as without noise: E exp(D̃ − σ²_D/2) = e^D. Positions move
and temperatures stay, so that a chain of the result is at one temperature; a velocity
goes with its position, in units of its new √(εT).

W. Deng, Q. Feng, L. Gao, F. Liang and G. Lin, Non-convex learning via replica exchange
stochastic gradient MCMC, ICML 2020; D. M. Ceperley and M. Dewing, The penalty method
for random walks with uncertain energies, J. Chem. Phys. 1999, for the noise.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sgld_jax.arguments import check_count
from sgld_jax.engine.chain import Chain
from sgld_jax.keys import is_key, tag
from sgld_jax.potentials.batches import Batches

PyTree = Any

_SWAP = tag("swap")
_UP, _DOWN = 1, 2
_MOVES = ("velocity", "kick")  # of a kernel's state, in units of √(εT)


class Rung(NamedTuple):
    """The state of a chain on a ladder, leaves `[]`.

    Attributes:
      inner: of its sampler.
      rung: k, which stays.
      tried: how often it was asked to swap with k + 1.
      swapped: how often it did.
      way: of its position: 1 on its way up from the bottom, 2 down from the top, 0
        if it has not been at the bottom yet.
      trips: round trips of its position.
    """

    inner: PyTree
    rung: jax.Array
    tried: jax.Array
    swapped: jax.Array
    way: jax.Array
    trips: jax.Array


class Ladder(NamedTuple):
    """Temperatures and steps, `[K]` each, and how chains on them swap."""

    temperatures: np.ndarray
    step_sizes: np.ndarray
    swap_every: int
    energy_variance: float

    @classmethod
    def of(cls, T: Any, eps: Any, swap_every: Any, variance: Any) -> "Ladder":
        T, eps = np.asarray(T, np.float32), np.asarray(eps, np.float32)
        rises = T.ndim == 1 and len(T) > 1 and (np.diff(T) > 0).all()
        if not (rises and T[0] > 0 and np.isfinite(T).all()):
            raise ValueError(
                f"temperatures={T.tolist()}: expected at least two that rise, above 0, "
                f"such as [1.0, 2.0, 4.0]."
            )
        if eps.shape != T.shape or not ((eps > 0) & np.isfinite(eps)).all():
            raise ValueError(
                f"step_sizes={eps.tolist()}: expected a number above 0 for each of "
                f"{len(T)} temperatures."
            )
        check_count("swap_every", swap_every, 1)
        if not (np.ndim(variance) == 0 and np.isfinite(variance) and variance >= 0):
            raise ValueError(
                f"energy_variance={variance}: expected a finite number of at least 0."
            )
        return cls(T, eps, int(swap_every), float(variance))

    def sampler(self, make: Callable) -> optax.GradientTransformationExtraArgs:
        """The sampler of any rung, which its state names."""
        T, eps = jnp.asarray(self.temperatures), jnp.asarray(self.step_sizes)

        def init(params: PyTree) -> Rung:
            zeros = (jnp.zeros([], jnp.int32) for _ in range(5))
            return Rung(make(eps[0], T[0]).init(params), *zeros)

        def update(
            grads: PyTree, state: Any, params: PyTree = None, **extra: Any
        ) -> tuple[PyTree, Rung]:
            inner = make(eps[state.rung], T[state.rung])
            act = optax.with_extra_args_support(inner).update
            updates, after = act(grads, state.inner, params, **extra)
            return updates, state._replace(inner=after)

        return optax.GradientTransformationExtraArgs(init, update)  # pyright: ignore

    def swapped(self, chain: Chain, energies: jax.Array) -> Chain:
        """Chains `[LK, ...]` after an attempt, with neighbours of one parity."""
        state, K = chain.state, len(self.temperatures)
        turn = (jnp.max(chain.count) // self.swap_every) % 2
        number = jnp.arange(len(energies))
        above = jnp.minimum(number + 1, len(energies) - 1)
        # A chain that has failed stays where it is, and keeps what it has.
        fine = jnp.isfinite(energies) & (chain.failure.step < 0)
        tries = (state.rung % 2 == turn) & (state.rung < K - 1) & fine & fine[above]
        log_p = self.log_probability(energies, energies[above], state.rung)
        swaps = tries & (jnp.log(_uniforms(chain)) < log_p)  # swaps
        from_below = jnp.roll(swaps, 1).at[0].set(False)
        source = jnp.where(swaps, number + 1, jnp.where(from_below, number - 1, number))
        way = state.way[source]
        trips = state.trips[source] + ((state.rung == 0) & (way == _DOWN))
        way = jnp.where(state.rung == 0, _UP, way)
        way = jnp.where((state.rung == K - 1) & (way == _UP), _DOWN, way)
        state = state._replace(
            inner=self._moved(state.inner, state.rung, source),
            tried=state.tried + tries,
            swapped=state.swapped + swaps,
            way=way,
            trips=trips,
        )
        return chain._replace(
            params=jax.tree.map(lambda x: x[source], chain.params), state=state
        )

    def log_probability(self, here: Any, above: Any, rung: jax.Array) -> jax.Array:
        """D − σ²_D/2 of swapping `rung` with the one above; may be above 0."""
        beta = jnp.append(1 / jnp.asarray(self.temperatures), 0.0)
        between = beta[rung] - beta[rung + 1]
        D = between * (here - above)  # exponent
        return D - between**2 * self.energy_variance  # penalty

    def _moved(self, inner: PyTree, rung: jax.Array, source: jax.Array) -> PyTree:
        """The samplers' states, with velocities that have come with their positions."""
        width = jnp.sqrt(jnp.asarray(self.step_sizes * self.temperatures))
        factor = width[rung] / width[rung[source]]  # units

        def leaf(path: tuple, x: Any) -> Any:
            if not any(getattr(part, "name", "") in _MOVES for part in path):
                return x
            wide = factor.reshape(-1, *[1] * (x.ndim - 1)).astype(x.dtype)
            return wide * x[source]

        return jax.tree_util.tree_map_with_path(leaf, inner)


def energies_of(
    chain: Chain, potential: Callable, data: PyTree, batches: Batches, num_data: int
) -> tuple[jax.Array, Chain]:
    """U of each chain where it is, `[LK]`, by a batch of its own, and the streams."""

    def one(params: PyTree, stream: Any, data: PyTree) -> tuple:
        indices, stream = batches.next(stream, num_data)
        return potential(params, batches.take(data, indices)), stream

    every = jax.vmap(one, (0, 0, None))
    energies, streams = every(chain.params, chain.batches, data)
    return energies, chain._replace(batches=streams)


def _uniforms(chain: Chain) -> jax.Array:
    """A number in (0, 1) for each chain, of a stream of its own, `[LK]`."""
    keys = next(x for x in jax.tree.leaves(chain.state.inner) if is_key(x))

    def one(key: jax.Array, count: jax.Array) -> jax.Array:
        key = jax.random.fold_in(jax.random.fold_in(key, _SWAP), count)
        return jax.random.uniform(key, minval=jnp.finfo(jnp.float32).tiny)

    return jax.vmap(one)(keys, chain.count)
