"""Leimkuhler-Matthews: SGLD whose kick is the mean of this update's and the last one's.

Target     π(θ) ∝ exp(−U(θ)/T),  U(θ) = −log p(θ) − Σᵢ log p(xᵢ|θ) over all N data
Dynamics   dθ = −G ∇U(θ) dt + √(2T) G^½ dW
Update     r' ← √(2εT) G^½ ξ,   ξ ~ N(0, I)
           θ  ← θ − ε G ∇Ũ(θ) + (r + r')/2,   r ← r'

    ε   step_size        number or schedule(count)
    T   temperature      number or schedule(count); 1 is the posterior
    G   preconditioner   identity() unless given
    r   kick             the last one, 0 at the start

Cost       one gradient and one normal per coordinate and update; one kick
T = 0      θ ← θ − ε ∇Ũ(θ) is optax.sgd(ε), bit for bit
Exact law  on U = λθ²/2 with gradient noise of variance V, for 0 < ελ < 2,
           Var θ = T/λ + εV / (λ (2 − ελ)):  without noise exactly T/λ at every stable
           step; elsewhere its bias is of second order in ε, where that of SGLD is of
           the first.

B. Leimkuhler and C. Matthews, Rational construction of stochastic numerical methods for
molecular sampling, Applied Mathematics Research eXpress 2013(1).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from sgld_jax.keys import Unseeded
from sgld_jax.leaves import add, scale
from sgld_jax.noise import noise
from sgld_jax.parameters import check_params, checked_grads
from sgld_jax.preconditioners import Preconditioner, identity
from sgld_jax.schedules import at, is_zero
from sgld_jax.settings import check_settings
from sgld_jax.states import Trace, first_state, next_state


class LeimkuhlerMatthewsState(NamedTuple):
    """State of `leimkuhler_matthews`.

    Attributes:
      count: updates made so far, int32 `[]`.
      rng_key: a typed key `[]`, or `Unseeded`; never changed by an update.
      kick: r, like the parameters.
      metric: state of the preconditioner.
      trace: what the last update used.
    """

    count: jax.Array
    rng_key: jax.Array | Unseeded
    kick: Any
    metric: Any
    trace: Trace


def leimkuhler_matthews(
    step_size: optax.ScalarOrSchedule,
    temperature: optax.ScalarOrSchedule = 1.0,
    *,
    preconditioner: Preconditioner = identity(),
    key: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """The method of Leimkuhler and Matthews (2013).

    At the cost of `sgld`, the step leaves no bias on Gaussians and one of second order
    elsewhere. Noise on the gradient widens it as much as `sgld`.

    Args:
      step_size: ε > 0, a number or `schedule(count)`. Stable while ε times the
        largest curvature of U stays below 2.
      temperature: T ≥ 0, a number or `schedule(count)`. With the literal 0 no
        noise is drawn and no key is needed.
      preconditioner: the matrix G, in units of θ².
      key: a seed, a typed key or a legacy key. Without one, `seed` the state.

    Returns:
      As `sgld`.

    Raises:
      ValueError, TypeError: as `sgld`.

    Example:
      >>> import jax, sgld_jax
      >>> potential = sgld_jax.from_log_density(lambda x: -0.5 * (x**2).sum())
      >>> samples = sgld_jax.sample(
      ...     0, sgld_jax.leimkuhler_matthews(0.5), potential,
      ...     lambda key: jax.random.normal(key, (3,)), num_chains=64, num_samples=100)
    """
    check_settings(step_size, temperature, preconditioner, key)

    def init(params):
        check_params(params, optimises=is_zero(temperature))
        still = jax.tree.map(jnp.zeros_like, params)
        memory = {"kick": still, "metric": preconditioner.init(params)}
        kind = LeimkuhlerMatthewsState
        return first_state(kind, "leimkuhler_matthews", key, params, **memory)

    def update(grads, state, params=None, **extra):
        del extra
        grads = checked_grads(grads, params, optimises=is_zero(temperature))
        eps = at(step_size, state.count, "step_size")  # step size
        T = at(temperature, state.count, "temperature")  # temperature
        metric = preconditioner.update(grads, state.metric, params)

        updates = scale(-eps, preconditioner.multiply(metric, grads))  # drift
        kick = state.kick
        if not is_zero(temperature):
            sd = jnp.sqrt(2 * eps) * jnp.sqrt(T)  # noise
            sd_xi = noise(state, sd, grads)
            kick = preconditioner.multiply_sqrt(metric, sd_xi)  # the new kick
            updates = add(updates, scale(0.5, add(state.kick, kick)))  # kick

        memory = {"kick": kick, "metric": metric}
        return updates, next_state(state, grads, step_size=eps, temperature=T, **memory)

    return optax.GradientTransformationExtraArgs(init, update)  # pyright: ignore
