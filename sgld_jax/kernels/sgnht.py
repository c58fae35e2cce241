"""SGNHT: momentum whose friction adapts until the chain has the right temperature.

Target     π(θ) ∝ exp(−U(θ)/T),  U(θ) = −log p(θ) − Σᵢ log p(xᵢ|θ) over all N data
Dynamics   dθ = v dt,  dv = −∇U(θ) dt − ξ v dt + √(2AT) dW,  dξ = (vᵀv/d − T) dt
Update     v ← (1−ξ) v − ε ∇Ũ(θ) + √(2AεT) ζ,   ζ ~ N(0, I)
           θ ← θ + v
           ξ ← ξ + vᵀv/d − εT

    ε   step_size        number or schedule(count)
    A   friction         in (0, 1], of the injected noise and at the start, or schedule
    T   temperature      number or schedule(count); 1 is the posterior
    v   velocity         in units of θ an update, from N(0, εT) at the start
    ξ   thermostat       the friction there is, A at the start
    d   coordinates      that share a thermostat: all of a chain, or one

Cost       one gradient and one normal per coordinate and update; one velocity, and one
           number, or with per_coordinate as many again
T = 0      the update without its noise: gradient descent with a momentum that fades
Exact law  on U = λθ²/2 with gradient noise of variance V, as d → ∞: with the smaller
           root ξ of 2ξ² − (4 − ελ) ξ + 4A + 2εV/T = 0,  Var θ = (T/λ)(1 − ξ/2). The
           friction takes up the noise of the gradient, whose V nobody need know; but it
           makes the law too narrow by ξ/2, at every step.

N. Ding, Y. Fang, R. Babbush, C. Chen, R. D. Skeel and H. Neven, Bayesian sampling using
stochastic gradient thermostats, NeurIPS 2014, algorithm 2.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from sgld_jax.keys import Unseeded
from sgld_jax.leaves import add, mean, scale, times, widest_dtype
from sgld_jax.noise import noise
from sgld_jax.parameters import check_params, checked_grads
from sgld_jax.preconditioners import identity
from sgld_jax.schedules import at, is_zero
from sgld_jax.settings import check_settings
from sgld_jax.states import Trace, first_state, next_state


class SGNHTState(NamedTuple):
    """State of `sgnht`.

    Attributes:
      count: updates made so far, int32 `[]`.
      rng_key: a typed key `[]`, or `Unseeded`; never changed by an update.
      velocity: v, like the parameters; 0 before the first update draws it.
      thermostat: ξ, `[]`, or like the parameters with one per coordinate.
      trace: what the last update used.
    """

    count: jax.Array
    rng_key: jax.Array | Unseeded
    velocity: Any
    thermostat: Any
    trace: Trace


def sgnht(
    step_size: optax.ScalarOrSchedule,
    friction: optax.ScalarOrSchedule = 0.1,
    temperature: optax.ScalarOrSchedule = 1.0,
    *,
    per_coordinate: bool = False,
    key: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """The stochastic gradient Nosé-Hoover thermostat (Ding et al. 2014).

    For minibatches whose gradient noise is large and unknown: where it would heat
    `sghmc` by εV/(2α), here the friction grows until the velocity has its temperature.
    What that costs: the variance is too small by ξ/2, 5 % at the default friction, and
    a smaller step does not help, only a smaller friction.

    A thermostat of d coordinates wanders by √(εT/d) about its mean. That must stay
    small against 1, or chains run off: with d = 1, ε = .05 and T = 1.3, 5 in 100 did
    within 1,000 updates, with ε = .02 none (`tests/test_sgnht.py`).

    Args:
      step_size: ε > 0, a number or `schedule(count)`. The thermostat moves by ε as
        well, so that its pace, unlike all else, depends on the units of θ.
      friction: A in (0, 1], a number or `schedule(count)`: of the noise that is
        injected, and of the start. ξ settles at about A + εV/(2T).
      temperature: T ≥ 0, a number or `schedule(count)`. With the literal 0 no
        noise is drawn and no key is needed.
      per_coordinate: one thermostat for each coordinate, for gradient noise of
        different size; else one for all of them, whose law is known as they are many.
      key: a seed, a typed key or a legacy key. Without one, `seed` the state.

    Returns:
      As `sgld`.

    Raises:
      ValueError, TypeError: as `sgld`; also for a friction outside (0, 1].

    Example:
      >>> import jax, sgld_jax
      >>> potential = sgld_jax.from_log_density(lambda x: -0.5 * (x**2).sum())
      >>> samples = sgld_jax.sample(
      ...     0, sgld_jax.sgnht(0.05, friction=0.1), potential,
      ...     lambda key: jax.random.normal(key, (30,)), num_chains=64, num_samples=100)
    """
    check_settings(step_size, temperature, identity(), key, friction)
    if not isinstance(per_coordinate, bool):
        raise TypeError(f"per_coordinate={per_coordinate!r}: expected True or False.")

    def init(params):
        check_params(params, optimises=is_zero(temperature))
        still = jax.tree.map(jnp.zeros_like, params)
        alpha = at(friction, jnp.zeros([], jnp.int32), "friction")
        like = still if per_coordinate else jnp.zeros([], widest_dtype(params))
        thermostat = jax.tree.map(lambda x: jnp.full_like(x, alpha), like)
        memory = {"velocity": still, "thermostat": thermostat}
        return first_state(SGNHTState, "sgnht", key, params, **memory)

    def update(grads, state, params=None, **extra):
        del extra
        grads = checked_grads(grads, params, optimises=is_zero(temperature))
        eps = at(step_size, state.count, "step_size")  # step size
        alpha = at(friction, state.count, "friction")  # friction
        T = at(temperature, state.count, "temperature")  # temperature

        kept = jax.tree.map(lambda xi: 1 - xi, state.thermostat)  # kept
        velocity = add(times(kept, state.velocity), scale(-eps, grads))  # velocity
        if not is_zero(temperature):
            # The first kick is that of two: (1−A) v with v ~ N(0, εT), and its own.
            first = jnp.sqrt(eps * (1 + alpha**2)) * jnp.sqrt(T)  # first
            later = jnp.sqrt(2 * alpha * eps) * jnp.sqrt(T)  # noise
            sd = jnp.where(state.count == 0, first, later)
            velocity = add(velocity, noise(state, sd, grads))
        squares = jax.tree.map(jnp.square, velocity)
        if not per_coordinate:
            squares = mean(squares, state.thermostat.dtype)
        thermostat = jax.tree.map(
            lambda xi, v2: xi + v2 - jnp.asarray(eps * T, xi.dtype),  # thermostat
            state.thermostat,
            squares,
        )

        memory = {"velocity": velocity, "thermostat": thermostat}
        return velocity, next_state(
            state, grads, step_size=eps, temperature=T, friction=alpha, **memory
        )

    return optax.GradientTransformationExtraArgs(init, update)  # pyright: ignore
