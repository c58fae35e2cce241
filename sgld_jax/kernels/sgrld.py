"""SGRLD: Langevin dynamics of positive parameters, whose steps shrink towards 0.

Target     π(φ) ∝ exp(−U(φ)/T) of φ = log θ: parameters are the logarithms of θ > 0
Dynamics   dθ = −∇U(φ) dt + √(2Tθ) dW: for θ that is the metric G = θ, and its Γ = 1
           cancels the slope of the density of φ
Update     θ' = |θ − ε ∇Ũ(φ) + √(2εTθ) ξ|,   φ ← log θ',   ξ ~ N(0, I)

    ε   step_size        number or schedule(count)
    T   temperature      number or schedule(count); 1 is the posterior
    ∇Ũ  the gradients handed to update, with respect to φ; U has the Jacobian in it,
        U(φ) = −log p(eᵠ) − φ, as `constrained` and `log_gamma_prior` have it

Cost       one gradient, one normal, one exponential and one logarithm per coordinate
           and update; no memory
T = 0      θ' = |θ − ε ∇Ũ(φ)|, descent in the metric of φ that is 1/θ
Exact law  for θ ~ Gamma(a, 1), U = eᵠ − aφ, while no step is reflected at 0,
           E θ = a,  Var θ = T a / (1 − ε/2).  Near 0 steps are reflected, and θ is
           too large: E θ of Gamma(.01, 1) is .326 at ε = .1 and .193 at ε = .01, and of
           Dirichlet(.1, …, .1) in 5 parts E Σπ² is .400 and .489, not .733, by a
           simulation without JAX (`tests/test_sgrld.py`).

S. Patterson and Y. W. Teh, Stochastic gradient Riemannian Langevin dynamics on the
probability simplex, NeurIPS 2013, section 4, whose step is 2ε.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from sgld_jax.keys import Unseeded
from sgld_jax.noise import noise
from sgld_jax.parameters import check_params, checked_grads
from sgld_jax.preconditioners import identity
from sgld_jax.schedules import at, is_zero
from sgld_jax.settings import check_settings
from sgld_jax.states import Trace, first_state, next_state


class SGRLDState(NamedTuple):
    """State of `sgrld`.

    Attributes:
      count: updates made so far, int32 `[]`.
      rng_key: a typed key `[]`, or `Unseeded`; never changed by an update.
      trace: what the last update used.
    """

    count: jax.Array
    rng_key: jax.Array | Unseeded
    trace: Trace


def sgrld(
    step_size: optax.ScalarOrSchedule,
    temperature: optax.ScalarOrSchedule = 1.0,
    *,
    key: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Stochastic gradient Riemannian Langevin dynamics (Patterson and Teh 2013).

    For parameters above 0 that may be very small, such as the word counts of a topic:
    θ is hardly moved where it is small, so that one step fits all sizes. Parameters are
    log θ, since θ itself would leave the range of floats. For a point of the simplex
    take φ ~ `log_gamma_prior(β)` for each part and the likelihood of `softmax(φ)`: it
    is Dirichlet(β) a priori.

    Args:
      step_size: ε > 0, a number or `schedule(count)`; well below 1, and below the
        shape of the smallest Gamma: a shape much below ε has a large bias.
      temperature: T ≥ 0, a number or `schedule(count)`.
      key: a seed, a typed key or a legacy key. Without one, `seed` the state.

    Returns:
      A transformation of gradients of U with respect to φ, the sum over *all* data,
      into additive updates of φ. Its `update` needs `params`.

    Raises:
      ValueError, TypeError: as `sgld`; also while tracing `update` without `params`.

    Example:
      >>> import jax, jax.numpy as jnp, sgld_jax
      >>> prior = sgld_jax.log_gamma_prior(2.0)              # of φ = log θ
      >>> counts = jnp.array([6.0, 3.0, 1.0])
      >>> potential = sgld_jax.from_log_density(
      ...     lambda phi: prior(phi) + counts @ jax.nn.log_softmax(phi))
      >>> samples = sgld_jax.sample(
      ...     0, sgld_jax.sgrld(0.05), potential, lambda key: jnp.zeros(3),
      ...     num_chains=64, num_samples=100, thinning=20, collect=jax.nn.softmax)
      >>> [round(float(x), 1) for x in samples.params.mean((0, 1))]  # (8, 5, 3)/16
      [0.5, 0.3, 0.2]
    """
    check_settings(step_size, temperature, identity(), key)

    def init(params):
        check_params(params, optimises=is_zero(temperature))
        return first_state(SGRLDState, "sgrld", key, params)

    def update(grads, state, params=None, **extra):
        del extra
        if params is None:
            raise ValueError(
                "sgrld moves by where it is: call update(grads, state, params)."
            )
        grads = checked_grads(grads, params, optimises=is_zero(temperature))
        eps = at(step_size, state.count, "step_size")  # step size
        T = at(temperature, state.count, "temperature")  # temperature

        theta = jax.tree.map(jnp.exp, params)
        moved = jax.tree.map(lambda t, g: t - eps * g, theta, grads)  # drift
        if not is_zero(temperature):
            sd = jnp.sqrt(2 * eps) * jnp.sqrt(T)  # noise
            xi = noise(state, sd, grads)
            moved = jax.tree.map(lambda m, t, x: m + jnp.sqrt(t) * x, moved, theta, xi)
        updates = jax.tree.map(_to_log, moved, params)
        return updates, next_state(state, grads, step_size=eps, temperature=T)

    return optax.GradientTransformationExtraArgs(init, update)  # pyright: ignore


def _to_log(moved: jax.Array, phi: jax.Array) -> jax.Array:
    """What brings φ to log |θ'|; a θ' of 0 is the smallest float."""
    least = jnp.finfo(moved.dtype).tiny
    positive = jnp.maximum(jnp.abs(moved), least)  # reflected
    return jnp.log(positive) - phi
