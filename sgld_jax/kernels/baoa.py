"""BAOA: underdamped Langevin dynamics with one gradient an update.

Target     π(θ) ∝ exp(−U(θ)/T),  U(θ) = −log p(θ) − Σᵢ log p(xᵢ|θ) over all N data
Dynamics   dθ = v dt,  dv = −G ∇U(θ) dt − γ v dt + √(2γT) G^½ dW
Update     m ← v − (2ε/(2−α)) G ∇Ũ(θ)                              B: the gradient kicks
           v ← (1−α) m + √(2αεT) G^½ ξ,   ξ ~ N(0, I)              O: friction, noise
           θ ← θ + (m + v)/2                                       A: the position moves

    ε   step_size        number or schedule(count)
    α   friction         in (0, 1], the share of v that an update loses, or schedule
    T   temperature      number or schedule(count); 1 is the posterior
    G   preconditioner   identity() unless given
    v   velocity         in units of θ an update, 0 at the start

Cost       one gradient and one normal per coordinate and update; one velocity
T = 0      optax.sgd(ε, momentum=1−α), to rounding
α = 1      leimkuhler_matthews(ε)
Exact law  on U = λθ²/2 with gradient noise of variance V, for ελ < 2(2−α),
           Var θ = T/λ + εV/(2αλ) / (1 − ελ/(2(2−α))):  without noise exactly T/λ at
           every stable step, whatever the friction; with it too hot by εV/(2α).
Time step  h² = 2ε/(2−α), e^(−γh) = 1−α, v = h × the momentum of unit mass

B. Leimkuhler and C. Matthews, Molecular Dynamics, Springer 2015, whose letters B, A and
O name the parts of an update.
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


class BAOAState(NamedTuple):
    """State of `baoa`.

    Attributes:
      count: updates made so far, int32 `[]`.
      rng_key: a typed key `[]`, or `Unseeded`; never changed by an update.
      velocity: v, like the parameters.
      metric: state of the preconditioner.
      trace: what the last update used.
    """

    count: jax.Array
    rng_key: jax.Array | Unseeded
    velocity: Any
    metric: Any
    trace: Trace


def baoa(
    step_size: optax.ScalarOrSchedule,
    friction: optax.ScalarOrSchedule = 0.1,
    temperature: optax.ScalarOrSchedule = 1.0,
    *,
    preconditioner: Preconditioner = identity(),
    key: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Underdamped Langevin dynamics, split as B, A, O, A (Leimkuhler and Matthews).

    Positions of Gaussians are exact at every stable step, so that with full gradients a
    larger ε is affordable than in `sgld`. With minibatches take the friction large
    enough for εV/(2α) to be well below T.

    Args:
      step_size: ε > 0, a number or `schedule(count)`. Stable while ε times the largest
        curvature of U stays below 2(2 − α). The velocity is not rescaled when ε
        changes: let it change little in 1/α updates.
      friction: α in (0, 1], a number or `schedule(count)`.
      temperature: T ≥ 0, a number or `schedule(count)`. With the literal 0 no
        noise is drawn and no key is needed.
      preconditioner: the matrix G, in units of θ².
      key: a seed, a typed key or a legacy key. Without one, `seed` the state.

    Returns:
      As `sgld`.

    Raises:
      ValueError, TypeError: as `sgld`; also for a friction outside (0, 1].

    Example:
      >>> import jax, sgld_jax
      >>> potential = sgld_jax.from_log_density(lambda x: -0.5 * (x**2).sum())
      >>> samples = sgld_jax.sample(
      ...     0, sgld_jax.baoa(0.3, friction=0.3), potential,
      ...     lambda key: jax.random.normal(key, (3,)), num_chains=64, num_samples=100)
    """
    check_settings(step_size, temperature, preconditioner, key, friction)

    def init(params):
        check_params(params, optimises=is_zero(temperature))
        still = jax.tree.map(jnp.zeros_like, params)
        memory = {"velocity": still, "metric": preconditioner.init(params)}
        return first_state(BAOAState, "baoa", key, params, **memory)

    def update(grads, state, params=None, **extra):
        del extra
        grads = checked_grads(grads, params, optimises=is_zero(temperature))
        eps = at(step_size, state.count, "step_size")  # step size
        alpha = at(friction, state.count, "friction")  # friction
        T = at(temperature, state.count, "temperature")  # temperature
        metric = preconditioner.update(grads, state.metric, params)

        g = preconditioner.multiply(metric, grads)
        drift = scale(-2 * eps / (2 - alpha), g)  # drift
        kicked = add(state.velocity, drift)  # B
        velocity = scale(1 - alpha, kicked)  # O
        if not is_zero(temperature):
            sd = jnp.sqrt(2 * alpha * eps) * jnp.sqrt(T)  # noise
            sd_xi = noise(state, sd, grads)
            kick = preconditioner.multiply_sqrt(metric, sd_xi)  # kick
            velocity = add(velocity, kick)
        updates = scale(0.5, add(kicked, velocity))  # A

        memory = {"velocity": velocity, "metric": metric}
        return updates, next_state(
            state, grads, step_size=eps, temperature=T, friction=alpha, **memory
        )

    return optax.GradientTransformationExtraArgs(init, update)  # pyright: ignore
