"""Contour SGLD: a flattened energy landscape, and weights that undo it.

Target     π(θ) ∝ exp(−U(θ)/T), by draws of π(θ) Ψ(U(θ))^(−ζ) with weights Ψ^ζ
Dynamics   dθ = −(1 + ζT s(U)) ∇U(θ) dt + √(2T) dW,   s = d log Ψ/dU
Update     θ ← θ − ε (1 + ζT s_J) ∇Ũ(θ) + √(2εT) ξ,   J the bin of Ũ(θ)
           w ← w + ω_k w_J^ζ (1_J − w),   ω_k = min(.003, 10/(k^.8 + 100))

    ε, T  step_size, temperature   numbers or schedules
    ζ     zeta                     how much is flattened; 0 is `sgld`
    w     the share of time in each bin of energy, learned until freeze_after
    Ψ     log-linear in each bin, w_J at its upper edge; constant beyond the edges, so
          that there the chain is `sgld`

Cost       one gradient, one normal per coordinate and update; one number a bin
T = 0      the multiplier is 1, and it is `sgld`
Exact law  of w that is frozen: π Ψ^(−ζ) as ε → 0. With log w falling by κ for each unit
           of U it is `sgld` with step mε at temperature T/m, m = 1 − ζTκ.
           A draw has the weight of U one update earlier: an error of order ε.

W. Deng, G. Lin and F. Liang, A contour stochastic gradient Langevin dynamics algorithm
for simulations of multi-modal distributions, NeurIPS 2020, algorithm 1.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sgld_jax.keys import Unseeded
from sgld_jax.leaves import add, scale
from sgld_jax.noise import noise
from sgld_jax.parameters import check_params, checked_grads
from sgld_jax.preconditioners import identity
from sgld_jax.schedules import at, is_zero
from sgld_jax.settings import check_contour, check_given, check_settings
from sgld_jax.states import Trace, first_state, next_state


class CSGLDState(NamedTuple):
    """State of `csgld`.

    Attributes:
      count: updates made so far, int32 `[]`.
      rng_key: a typed key `[]`, or `Unseeded`; never changed by an update.
      shares: w, of time in each bin of energy, summing to 1, `[m]`.
      trace: what the last update used; its weight is Ψ^ζ.
    """

    count: jax.Array
    rng_key: jax.Array | Unseeded
    shares: jax.Array
    trace: Trace


def csgld(
    step_size: optax.ScalarOrSchedule,
    temperature: optax.ScalarOrSchedule = 1.0,
    *,
    energy_edges: Sequence[float],
    zeta: float = 0.75,
    freeze_after: int | None,
    shares: Sequence[float] | None = None,
    key: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Contour stochastic gradient Langevin dynamics (Deng et al. 2020).

    A chain that is long at one energy is pushed to others, and so over barriers. Its
    draws are not of the target: average them by their weights, with `weighted=True` in
    `summary` and `predict`.

    Args:
      step_size: ε > 0, a number or `schedule(count)`; multipliers make it longer.
      temperature: T ≥ 0, a number or `schedule(count)`.
      energy_edges: ascending, m + 1 of m bins, from about the least U to the height of
        the barriers. Of U of all data.
      zeta: ζ of at least 0.
      freeze_after: updates that learn w, at most the burn-in: no law is known while w
        changes. None learns for ever; 0 keeps what `shares` says.
      shares: w at the start, `[m]`, above 0; equal if None.
      key: a seed, a typed key or a legacy key. Without one, `seed` the state.

    Returns:
      As `sgld`; its `update` needs `value=U`, which `sample` gives.

    Raises:
      ValueError, TypeError: as `sgld`; for edges, ζ, shares out of range; no `value`.

    Example:
      >>> import jax, jax.numpy as jnp, numpy as np, sgld_jax
      >>> two_modes = sgld_jax.from_log_density(lambda x: -6 * (x**2 - 1) ** 2)
      >>> sampler = sgld_jax.csgld(
      ...     1e-3, energy_edges=np.linspace(0, 6, 25), freeze_after=20_000)
      >>> samples = sgld_jax.sample(
      ...     0, sampler, two_modes, lambda key: jnp.array(1.0), num_chains=16,
      ...     burn_in=20_000, num_samples=500, thinning=100)
      >>> w = samples.weights / samples.weights.sum()
      >>> bool(0.3 < (w * (samples.params < 0)).sum() < 0.7)  # all began at 1
      True
    """
    check_settings(step_size, temperature, identity(), key)
    edges, first = check_contour(energy_edges, zeta, freeze_after, shares)

    def init(params):
        check_params(params, optimises=is_zero(temperature))
        start = jnp.asarray(first, jnp.float32)
        return first_state(CSGLDState, "csgld", key, params, shares=start)

    def update(grads, state, params=None, *, value=None, **extra):
        del extra
        check_given(params, value)
        grads = checked_grads(grads, params, optimises=is_zero(temperature))
        eps = at(step_size, state.count, "step_size")  # step size
        T = at(temperature, state.count, "temperature")  # temperature

        U, w = jax.lax.stop_gradient(jnp.asarray(value, jnp.float32)), state.shares
        J, slope, log_psi = contour(U, jnp.asarray(edges), w)
        updates = scale(-eps * (1 + zeta * T * slope), grads)  # drift
        if not is_zero(temperature):
            sd = jnp.sqrt(2 * eps) * jnp.sqrt(T)  # noise
            updates = add(updates, noise(state, sd, grads))

        rate = jnp.minimum(0.003, 10 / (state.count**0.8 + 100.0))
        until = np.inf if freeze_after is None else freeze_after
        rate = jnp.where(state.count < until, rate, 0.0)  # frozen
        learned = w + rate * w[J] ** zeta * (jax.nn.one_hot(J, len(w)) - w)  # shares
        return updates, next_state(
            state,
            grads,
            step_size=eps,
            temperature=T,
            weight=jnp.exp(zeta * log_psi),  # weight
            shares=learned,
        )

    return optax.GradientTransformationExtraArgs(init, update)  # pyright: ignore


def contour(U: jax.Array, edges: jax.Array, w: jax.Array) -> tuple:
    """The bin of U, the slope of log Ψ there, and log Ψ."""
    log_w, widths = jnp.log(w), jnp.diff(edges)
    slopes = jnp.diff(log_w) / widths[1:]
    slopes = jnp.concatenate([slopes[:1], slopes])  # the first bin as the second
    J = jnp.clip(jnp.sum(U >= edges) - 1, 0, len(w) - 1)
    inside = (U >= edges[0]) & (U < edges[-1])
    within = jnp.clip(U, edges[0], edges[-1])
    log_psi = log_w[J] + slopes[J] * (within - edges[J + 1])
    return J, jnp.where(inside, slopes[J], 0.0), log_psi
