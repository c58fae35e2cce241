"""MALA: Langevin steps that are accepted or rejected, and so exact at any step size.

Target     π(θ) ∝ exp(−U(θ)/T),  U(θ) = −log p(θ) − Σᵢ log p(xᵢ|θ) over all N data
Proposal   θ' = θ − ε G ∇U(θ) + √(2εT) G^½ ξ,   ξ ~ N(0, I)
Update     θ ← θ' with probability min(1, eᵃ), else θ stays, where
           a T = U(θ) − U(θ') + ½ (θ' − θ)·(g + g') − ¼ ε (g'ᵀG g' − gᵀG g)
           and g = ∇U(θ), g' = ∇U(θ')

    ε   step_size        number or schedule(count)
    T   temperature      number or schedule(count) above 0; 1 is the posterior
    G   preconditioner   identity() unless given; fixed
    U   the value handed to update, of all data, as the gradients are

Cost       one gradient and one normal per coordinate and update; memory for θ and g:
           the parameters are the proposal θ', which the next update judges
T = 0      nothing but descent would be accepted. Refused.
Exact law  π itself, for any ε and G. A step that is too large is rejected: the chain
           stays, where others wander off. An ε that accepts .57 is best.

G. O. Roberts and R. L. Tweedie, Bernoulli 2, 1996; .57: G. O. Roberts and
J. S. Rosenthal, J. R. Stat. Soc. B 60, 1998.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from sgld_jax.keys import Unseeded
from sgld_jax.leaves import add, all_finite, dot, scale, subtract, where
from sgld_jax.noise import noise, one_uniform
from sgld_jax.parameters import check_params, checked_grads
from sgld_jax.preconditioners import Preconditioner, identity
from sgld_jax.schedules import at
from sgld_jax.settings import check_exact_settings, check_given, check_settings
from sgld_jax.states import Position, Trace, first_state, next_state, recent_mean


class MALAState(NamedTuple):
    """State of `mala`.

    Attributes:
      count: updates made so far, int32 `[]`.
      rng_key: a typed key `[]`, or `Unseeded`; never changed by an update.
      metric: state of the preconditioner.
      position: θ, with U and its gradient there.
      trace: what made the proposal.
    """

    count: jax.Array
    rng_key: jax.Array | Unseeded
    metric: Any
    position: Position
    trace: Trace


def mala(
    step_size: optax.ScalarOrSchedule,
    temperature: optax.ScalarOrSchedule = 1.0,
    *,
    preconditioner: Preconditioner = identity(),
    key: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """The Metropolis-adjusted Langevin algorithm (Roberts and Tweedie 1996).

    For potentials of all data: `sample` refuses minibatches. It records the position,
    in loops of your own `state.position.params`: the parameters are a proposal. Where
    one gradient an update is too little, take NUTS from blackjax or NumPyro.

    Args:
      step_size: ε > 0, a number or `schedule(count)`. One that accepts about .57 of
        the proposals is best: `samples.report.acceptance`, `warm_up`.
      temperature: T > 0, a number or `schedule(count)`.
      preconditioner: the matrix G, in units of θ²; `diagonal` or `dense`.
      key: a seed, a typed key or a legacy key. Without one, `seed` the state.

    Returns:
      A transformation of gradients of U into additive updates from one proposal to the
      next. `update` needs `params` and `value=`, U there; optax's wrappers hand it on.

    Raises:
      ValueError, TypeError: as `sgld`; also for a temperature of 0, for a
        preconditioner that changes, and in `update`, without params or value.

    Example:
      >>> import jax, jax.numpy as jnp, sgld_jax
      >>> potential = sgld_jax.from_log_density(lambda x: -0.25 * jnp.sum(x**4))
      >>> samples = sgld_jax.sample(
      ...     0, sgld_jax.mala(0.5), potential, jax.random.normal,
      ...     num_chains=64, num_samples=500, burn_in=50)
      >>> 0.5 < samples.report.acceptance < 0.9
      True
    """
    check_settings(step_size, temperature, preconditioner, key)
    check_exact_settings(temperature, preconditioner)

    def init(params):
        check_params(params)
        memory = {"metric": preconditioner.init(params)}
        memory |= {"position": Position.before_any(params)}
        return first_state(MALAState, "mala", key, params, **memory)

    def update(grads, state, params=None, *, value=None, **extra):
        del extra
        grads, here = checked_grads(grads, params), state.position
        check_given(params, value)
        G = functools.partial(preconditioner.multiply, state.metric)

        there = here._replace(params=params, potential=value, gradient=grads)
        log_a = _log_acceptance(state, there, G)
        accepted = jnp.log(one_uniform(state, there)) < log_a  # accept
        here = here.moved(accepted, there, jnp.exp(jnp.minimum(log_a, 0.0)))

        # Of 32 bits, as the trace keeps them: the next update judges by the same.
        eps = jnp.asarray(at(step_size, state.count, "step_size"), jnp.float32)
        T = jnp.asarray(at(temperature, state.count, "temperature"), jnp.float32)
        sd = jnp.sqrt(2 * eps) * jnp.sqrt(T)  # noise
        kick = preconditioner.multiply_sqrt(state.metric, noise(state, sd, grads))
        move = add(scale(-eps, G(here.gradient)), kick)  # drift
        proposal = add(here.params, move)
        # What overflows has density 0, and is rejected by proposing to stay. Noise that
        # is no number shows all the same.
        possible = all_finite(proposal) | ~all_finite(kick)
        updates = subtract(where(possible, proposal, here.params), params)

        often = recent_mean(state.trace.acceptance, here.acceptance, state.count)
        used = {"step_size": eps, "temperature": T, "weight": 1.0, "acceptance": often}
        return updates, next_state(state, grads, **used, position=here)

    return optax.GradientTransformationExtraArgs(init, update)  # pyright: ignore


def _log_acceptance(state: MALAState, there: Position, G: Callable) -> jax.Array:
    """The a of a proposal, `[]`; −∞ if it cannot be, 0 for a first position."""
    here, dtype = state.position, state.position.potential.dtype
    eps, T = (x.astype(dtype) for x in (state.trace.step_size, state.trace.temperature))
    value = jnp.asarray(there.potential, dtype)
    slopes, way = (
        add(here.gradient, there.gradient),
        subtract(there.params, here.params),
    )
    lengths = [dot(g, G(g)) for g in (there.gradient, here.gradient)]
    a = here.potential - value + dot(way, slopes) / 2
    a = (a - eps * (lengths[0] - lengths[1]) / 4) / T  # ratio
    a = jnp.where(state.count == 0, 0.0, a)
    fine = jnp.isfinite(value) & all_finite(there.gradient) & ~jnp.isnan(a)
    return jnp.where(fine, a, -jnp.inf)
