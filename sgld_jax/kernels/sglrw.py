"""SGLRW: a random walk on a lattice, whose drift is in the odds of going up.

Target     π(θ) ∝ exp(−U(θ)/T),  U(θ) = −log p(θ) − Σᵢ log p(xᵢ|θ) over all N data
Dynamics   dθ = −G ∇U(θ) dt + √(2T) G^½ dW
Update     δᵢ = √(2εT Gᵢ)
           θᵢ ← θᵢ + δᵢ with probability (1 − εGᵢ∇ᵢŨ(θ)/δᵢ)/2, else θᵢ − δᵢ

    ε   step_size        number or schedule(count)
    T   temperature      number or schedule(count) above 0; 1 is the posterior
    G   preconditioner   identity() unless given; diagonal

Cost       one gradient and one uniform number per coordinate and update; no memory
T = 0      there is no such walk: δ = 0. Refused.
Exact law  on U = Σ λᵢθᵢ²/2 with gradient noise of any variance V,
           Var θᵢ = T/λᵢ:  neither the step nor the minibatch widens it, as long as
           no gradient is beyond the limit |∇ᵢŨ| = √(2T/(εGᵢ)), where the probability
           would leave [0, 1]. What is beyond is cut short, and counted in `Trace`.
           Between coordinates that U correlates both leave a bias.

A. Mensch et al., arXiv 2602.15925, 2026.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from sgld_jax.keys import Unseeded
from sgld_jax.leaves import mean, scale
from sgld_jax.noise import uniform_noise
from sgld_jax.parameters import check_params, checked_grads
from sgld_jax.preconditioners import Preconditioner, identity
from sgld_jax.schedules import at, is_zero
from sgld_jax.settings import check_settings
from sgld_jax.states import Trace, first_state, next_state, recent_mean


class SGLRWState(NamedTuple):
    """State of `sglrw`.

    Attributes:
      count: updates made so far, int32 `[]`.
      rng_key: a typed key `[]`, or `Unseeded`; never changed by an update.
      metric: state of the preconditioner.
      trace: what the last update used, and the share of moves that were cut short.
    """

    count: jax.Array
    rng_key: jax.Array | Unseeded
    metric: Any
    trace: Trace


def sglrw(
    step_size: optax.ScalarOrSchedule,
    temperature: optax.ScalarOrSchedule = 1.0,
    *,
    preconditioner: Preconditioner = identity(),
    key: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """The stochastic gradient lattice random walk (Mensch et al. 2026).

    Every coordinate moves by the same amount in every update, however large its
    gradient: a gradient of heavy tails throws no chain out. In return the step must be
    small enough that gradients stay below √(2T/ε): `samples.report.clipped` says how
    often they did not, and the law holds where that is 0.

    Args:
      step_size: ε > 0, a number or `schedule(count)`.
      temperature: T > 0, a number or `schedule(count)`. Where a schedule is 0 the
        chain stands still.
      preconditioner: the matrix G, in units of θ²; one that mixes no coordinates.
      key: a seed, a typed key or a legacy key. Without one, `seed` the state.

    Returns:
      As `sgld`. Derivatives with respect to ε and T follow the size of the moves and
      not their odds: they are not those of the law.

    Raises:
      ValueError, TypeError: as `sgld`; also for a temperature of 0 and for a
        preconditioner that is not diagonal.

    Example:
      >>> import jax, sgld_jax
      >>> potential = sgld_jax.from_log_density(lambda x: -0.5 * (x**2).sum())
      >>> samples = sgld_jax.sample(
      ...     0, sgld_jax.sglrw(0.02), potential,
      ...     lambda key: jax.random.normal(key, (3,)), num_chains=64, num_samples=100)
      >>> samples.report.clipped
      0.0
    """
    check_settings(step_size, temperature, preconditioner, key)
    if is_zero(temperature):
        raise ValueError(
            "temperature=0: a lattice random walk would stand still. For gradient "
            "descent take sgld(step_size, temperature=0.0), which is optax.sgd."
        )
    if not preconditioner.is_diagonal:
        raise ValueError("sglrw needs a preconditioner that mixes no coordinates.")

    def init(params):
        check_params(params)
        metric = preconditioner.init(params)
        return first_state(SGLRWState, "sglrw", key, params, metric=metric)

    def update(grads, state, params=None, **extra):
        del extra
        grads = checked_grads(grads, params)
        eps = at(step_size, state.count, "step_size")  # step size
        T = at(temperature, state.count, "temperature")  # temperature
        metric = preconditioner.update(grads, state.metric, params)

        drift = scale(-eps, preconditioner.multiply(metric, grads))  # drift
        sd = jnp.sqrt(2 * eps) * jnp.sqrt(T)  # noise
        sizes = jax.tree.map(lambda g: jnp.full_like(g, sd), grads)
        sizes = preconditioner.multiply_sqrt(metric, sizes)  # δ
        u = uniform_noise(state, (grads, sd), grads)
        updates = jax.tree.map(_move, sizes, drift, u)

        cut = jax.tree.map(lambda m, size: jnp.abs(m) > size, drift, sizes)
        share = mean(cut, jnp.float32)
        share = recent_mean(state.trace.clipped, share, state.count + 1)
        return updates, next_state(
            state,
            grads,
            step_size=eps,
            temperature=T,
            clipped=share,
            metric=metric,
        )

    return optax.GradientTransformationExtraArgs(init, update)  # pyright: ignore


def _move(size: jax.Array, drift: jax.Array, u: jax.Array) -> jax.Array:
    """+δ where 2u − 1 < drift/δ, else −δ; NaN where one of them is."""
    odds = (1 - 2 * u).astype(size.dtype) * size  # odds
    return size * jnp.sign(drift + odds)
