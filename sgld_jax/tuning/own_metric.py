"""A metric and a step for every chain where coordinates are many, such as networks.

    metric   Gᵢ = 1/E[(∂U/∂θᵢ)²]    at T = 1 that is 1/E[∂²U/∂θᵢ²], without a Hessian
    step     the one with which an update's energy error leaves exp(−|ΔH|) at .9, and
             at most λh² = 1/3, a twelfth of what is stable, λ the largest curvature
             of G^½HG^½ on the way, which changes as chains go on

The first is integration by parts: E[(∂U/∂θᵢ)²] = T E[∂²U/∂θᵢ²] on the target. So the
gradients of chains that run anyway are enough, with the curvature of the prior in them.
With minibatches they have the variance V of the batches in them, too. Then GᵢVᵢ ≤ 1,
and a step of ε = 2αδ warms no coordinate by more than a share δ of T: by the law of
`baoa` that is εGV/(2α). Directions in which coordinates agree may have more. A tenth
of each mean square is that of all chains together.

Y. N. Dauphin, H. de Vries and Y. Bengio, Equilibrated adaptive learning rates for
non-convex optimization, NeurIPS 2015, on diagonal metrics where U is not convex.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sgld_jax.kernels.baoa import baoa
from sgld_jax.keys import host_generator
from sgld_jax.leaves import where
from sgld_jax.potentials.batches import Batches, with_replacement
from sgld_jax.potentials.data import num_rows
from sgld_jax.preconditioners import diagonal
from sgld_jax.seeding import seed
from sgld_jax.tuning.landscape import Landscape

PyTree = Any

FRICTION, FRICTION_OF_BATCHES = 0.01, 0.1
BLOCK = 50  # updates of one call, within which the metric stays
_BEST = 0.9  # mean exp(−|ΔH|) of an update
_FIRST = 1e-2  # the time step h, before anything is known
_PROBES = 16  # of the Hessian at the start
_MARGIN = 3.0  # a step of λh² = 1/3; λh² = 4 is the end of what is stable
_SHARED = 0.1  # of a mean square, that of all chains
_REMEMBERED = 0.97  # of the largest curvature, from block to block
_LOST = 1e3  # an energy error with which a chain is put back


class Own(NamedTuple):
    """What chains have settled on.

    Attributes:
      x: where they are, `[C, d]`.
      scale: G of every chain, `[C, d]`.
      step_size: ε of every chain, `[C]`.
      kept: mean exp(−|ΔH|) of every chain over the last third, `[C]`.
      potential: mean U of every chain, block by block, `[n, C]`.
      gradients: what it took for each chain.
    """

    x: np.ndarray
    scale: np.ndarray
    step_size: np.ndarray
    kept: np.ndarray
    potential: np.ndarray
    gradients: int


class Run(NamedTuple):
    """How chains run while they adapt.

    Attributes:
      land: the landscape.
      batches: rows of an update.
      friction: α.
      largest: the ε that no step may exceed.
    """

    land: Landscape
    batches: Batches
    friction: float
    largest: float

    @classmethod
    def of(cls, land: Landscape, batches: Batches, tolerance: float) -> "Run":
        """A run whose standard deviations are too large by a tolerance at most."""
        if batches.batch_size is None:
            return cls(land, batches, FRICTION, 1.0)
        alpha = FRICTION_OF_BATCHES
        most = 2 * alpha * ((1 + tolerance) ** 2 - 1)
        # Of all schemes this one has the largest variance.
        drawn = with_replacement(batches.batch_size)
        return cls(land, drawn, alpha, most)

    def next_rows(self, stream: Any, data: PyTree) -> tuple[Any, Any]:
        """Rows of the next update, None for all, and the stream after it."""
        return self.batches.next(stream, 0 if data is None else num_rows(data))

    def value_and_slope(self, x: Any, rows: Any, data: PyTree) -> tuple:
        """U of these rows and its gradient; of all for None."""
        batch = self.batches.take(data, rows)
        return jax.value_and_grad(self.land.value)(x, batch)


class _Walk(NamedTuple):
    """Chains on their way; `before` is the update of which the energy is to be known.

    Attributes:
      x: `[C, d]`.
      state: of `baoa`.
      log_h: logarithm of the time step, `[C]`.
      stream: of batches.
      way: where U curves most in the metric, as far as is known, `[C, d]`.
      curved: how much, the largest that has been seen lately, `[C]`.
      before: the update before this one.
    """

    x: Any
    state: Any
    log_h: jax.Array
    stream: Any
    way: jax.Array
    curved: jax.Array
    before: "_Before"


class _Before(NamedTuple):
    """An update: from x, with U of rows and its gradient, by the kicked velocity."""

    x: Any
    rows: Any
    value: jax.Array
    grads: jax.Array
    kicked: jax.Array


def adapt_own(run: Run, x: Any, key: jax.Array, data: PyTree, updates: int) -> Own:
    """Runs `baoa` from x `[C, d]`, and adapts metric and step as it goes."""
    block = jax.jit(functools.partial(_block, run))
    walk, square = _started(run, jnp.asarray(x), key, data)
    all_kept, values, shared = [], [], _with_others(square)
    for k in range(-(-updates // BLOCK)):
        walk, seen, kept, value = block(walk, 1 / shared, data)
        all_kept += [np.asarray(kept, np.float64)]
        values += [np.asarray(value, np.float64)]
        # Later gradients count for more: the k-th for k, so that starts are forgotten.
        square = square + 2 / (k + _PROBES) * (seen - square)
        before, shared = shared, _with_others(square)
        walk = _in_units(walk, before / shared)
    eps = np.exp(2 * np.asarray(walk.log_h, np.float64)) * (1 - run.friction / 2)
    of_update = 1 if run.batches.batch_size is None else 2
    # A product with the Hessian, at the start or in the power iteration, counts as two.
    gradients = len(values) * (BLOCK * of_update + 2) + 2 * _PROBES
    return Own(
        np.asarray(walk.x),
        np.asarray(1 / shared, np.float64),
        eps,
        np.mean(all_kept[-max(1, len(all_kept) // 3) :], 0),
        np.asarray(values),
        gradients,
    )


def _with_others(square: jax.Array) -> jax.Array:
    """Mean squares `[C, d]`, each with a share of those of the other chains.

    A weight that is idle where a chain is, and could move as its prior does, may count
    for much where the chain goes; in some of the others it does already.
    """
    return (1 - _SHARED) * square + _SHARED * square.mean(0)


def _started(
    run: Run, x: jax.Array, key: jax.Array, data: PyTree
) -> tuple[_Walk, jax.Array]:
    """Chains at x before their first update, and a guess of mean squares, `[C, d]`.

    That is the length of each row of the Hessian, more than its diagonal: the root of
    E[(Hz)ᵢ²] with z ~ N(0, I), by some z, the same for all chains.
    """
    sampler = baoa(1.0, run.friction, preconditioner=diagonal(1.0))
    keys = jax.random.split(key, (2, len(x)))
    state = jax.vmap(lambda x, key: seed(sampler.init(x), key))(x, keys[0])
    z = host_generator(key).normal(size=(_PROBES, run.land.dim))
    slope = jax.grad(run.land.value)

    def first(x: jax.Array, key: jax.Array, z: jax.Array, data: PyTree) -> tuple:
        rows, stream = run.next_rows(run.batches.init(key), data)
        value, grads = run.value_and_slope(x, rows, data)
        curved = jax.linearize(lambda x: slope(x, data), x)[1]
        squares = jax.lax.map(lambda z: curved(z) ** 2, z).mean(0)
        before = _Before(x, rows, value, grads, jnp.zeros_like(x))
        return stream, before, jnp.sqrt(squares)

    every = jax.jit(jax.vmap(first, (0, 0, None, None)))
    stream, before, norms = every(x, keys[1], jnp.asarray(z, x.dtype), data)
    log_h = jnp.full(len(x), np.log(_FIRST), x.dtype)
    way = jnp.asarray(np.tile(z[0], (len(x), 1)), x.dtype)
    return _Walk(x, state, log_h, stream, way, jnp.zeros(len(x)), before), norms


def _block(
    run: Run, walk: _Walk, G: jax.Array, data: PyTree
) -> tuple[_Walk, jax.Array, jax.Array, jax.Array]:
    """50 updates; log h climbs by what exp(−|ΔH|) has more than .9.

    Returns:
      The chains; the mean square of their gradients `[C, d]`; the mean exp(−|ΔH|) and
      the mean U, `[C]`.
    """

    def one(walk: _Walk, G: jax.Array) -> tuple:
        rows, stream = run.next_rows(walk.stream, data)
        value, grads = run.value_and_slope(walk.x, rows, data)
        then = value, grads  # of the rows of the update before, whose energy is asked
        if rows is not None:
            then = run.value_and_slope(walk.x, walk.before.rows, data)
        velocity, h = walk.state.velocity, jnp.exp(walk.log_h)
        error = energy_error(walk.before, velocity, then[0], then[1], G, h)
        fine = error < _LOST  # and no NaN
        here = _Before(walk.x, rows, value, grads, walk.before.kicked)
        here = where(fine, here, walk.before)
        kept = jnp.where(fine, jnp.exp(-jnp.abs(error)), 0.0)
        return _moved(run, walk._replace(stream=stream, before=here), fine, G, kept)

    def update(carry: tuple, _: Any) -> tuple:
        walk, total = carry
        walk, kept = jax.vmap(one)(walk, G)
        seen = walk.before.grads
        return (walk, total + seen**2), (kept, walk.before.value)  # squares

    carry = walk, jnp.zeros_like(G)
    (walk, total), (kept, value) = jax.lax.scan(update, carry, length=BLOCK)
    way, curved = jax.vmap(functools.partial(_steepest, run, data))(walk, G)
    known = jnp.isfinite(curved)
    curved = jnp.maximum(jnp.where(known, curved, 0.0), _REMEMBERED * walk.curved)
    way = jnp.where(known[:, None], way, walk.way)
    walk = walk._replace(way=way, curved=curved)
    return walk, total / BLOCK, kept.mean(0), value.mean(0)


def _steepest(run: Run, data: PyTree, walk: _Walk, G: Any) -> tuple:
    """A step of the power iteration for G^½HG^½: the way, and how much U curves."""

    def slope(x: jax.Array) -> jax.Array:
        return run.value_and_slope(x, walk.before.rows, data)[1]

    way = walk.way / jnp.linalg.norm(walk.way)
    along = jax.jvp(slope, (walk.before.x,), (jnp.sqrt(G) * way,))[1]
    return jnp.sqrt(G) * along, jnp.linalg.norm(jnp.sqrt(G) * along)


def _moved(
    run: Run, walk: _Walk, fine: Any, G: Any, kept: Any
) -> tuple[_Walk, jax.Array]:
    """One update by `baoa`, with a step that has learned from the one before.

    It begins at `walk.before`, which is where the chain is, or was if it got lost.
    """
    here, alpha = walk.before, run.friction
    count = walk.state.count.astype(kept.dtype)
    log_h = walk.log_h + 0.5 / (1 + count / 20) ** 0.6 * (kept - _BEST)
    log_h = jnp.minimum(log_h, np.log(run.largest / (1 - alpha / 2)) / 2)
    log_h = jnp.minimum(log_h, -jnp.log(_MARGIN * walk.curved) / 2)  # stable
    still = jnp.where(fine, jnp.exp(log_h - walk.log_h), 0.0)  # v is in units of h
    state = walk.state._replace(velocity=still * walk.state.velocity)
    eps = jnp.exp(2 * log_h) * (1 - alpha / 2)
    sampler = baoa(eps, alpha, preconditioner=diagonal(G))
    moves: Any
    moves, state = sampler.update(here.grads, state, here.x, value=here.value)
    kicked = 2 * moves - state.velocity  # pyright: ignore
    x = optax.apply_updates(here.x, moves)
    walk = walk._replace(x=x, state=state, log_h=log_h)
    return walk._replace(before=here._replace(kicked=kicked)), kept


def energy_error(
    before: _Before, velocity: Any, value: Any, grads: Any, G: Any, h: Any
) -> jax.Array:
    """What an update of `baoa` has added to the energy, but for friction and noise.

        ΔH = U' − U − (m·g + v'·g')/2 + h² (g'ᵀGg' − gᵀGg)/8

    m is the velocity after the kick, v' that after friction and noise. It is the error
    of a step of the Verlet method from half a kick to half a kick: 0 as h → 0.
    """
    work = (before.kicked @ before.grads + velocity @ grads) / 2
    kicks = jnp.sum(G * grads**2) - jnp.sum(G * before.grads**2)
    return value - before.value - work + h**2 * kicks / 8  # energy


def _in_units(walk: _Walk, ratio: jax.Array) -> _Walk:
    """Velocities where G has grown by `ratio`: they are in units of its root."""
    root = jnp.sqrt(ratio)
    state = walk.state._replace(velocity=root * walk.state.velocity)
    before = walk.before._replace(kicked=root * walk.before.kicked)
    return walk._replace(state=state, before=before)
