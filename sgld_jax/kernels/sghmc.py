"""SGHMC: stochastic gradient Hamiltonian Monte Carlo, SGD with momentum and noise.

Target     π(θ) ∝ exp(−U(θ)/T),  U(θ) = −log p(θ) − Σᵢ log p(xᵢ|θ) over all N data
Dynamics   dθ = v dt,  dv = −G ∇U(θ) dt − γ v dt + √(2γT) G^½ dW
Update     v ← (1−α) v − ε G ∇Ũ(θ) + √(2αεT) G^½ ξ,   ξ ~ N(0, I)
           θ ← θ + v:  the gradient is of the old θ, the move is by the new v

    ε   step_size        number or schedule(count)
    α   friction         in (0, 1], the share of v that an update loses, or schedule
    T   temperature      number or schedule(count); 1 is the posterior
    G   preconditioner   identity() unless given
    V   gradient_noise   variance of ∇Ũ, if it is known: noise is 2αεT − ε²GV instead
    v   velocity         in units of θ an update, 0 at the start

Cost       one gradient and one normal per coordinate and update; one velocity
T = 0      optax.sgd(ε, momentum=1−α), to rounding
α = 1      sgld(ε), bit for bit
Exact law  on U = λθ²/2 with gradient noise of variance V, for ελ < 2(2−α),
           Var θ = (T + εV/(2α)) / (λ (1 − ελ/(2(2−α)))):  too wide by ελ/(2(2−α)) for
           the step and by εV/(2αT) for the minibatch; without the latter where
           `gradient_noise` is V.
Time step  h² = 2ε/(2−α), e^(−γh) = 1−α: positions are those of OBABO

T. Chen, E. B. Fox and C. Guestrin, Stochastic gradient Hamiltonian Monte Carlo, ICML
2014, equation 15.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from sgld_jax.keys import Unseeded
from sgld_jax.leaves import add, check_positive, scale, spread
from sgld_jax.noise import beside, noise
from sgld_jax.parameters import check_params, checked_grads
from sgld_jax.preconditioners import Preconditioner, identity
from sgld_jax.schedules import at, is_zero
from sgld_jax.settings import check_settings
from sgld_jax.states import Trace, first_state, next_state


class SGHMCState(NamedTuple):
    """State of `sghmc`.

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


def sghmc(
    step_size: optax.ScalarOrSchedule,
    friction: optax.ScalarOrSchedule = 0.1,
    temperature: optax.ScalarOrSchedule = 1.0,
    *,
    preconditioner: Preconditioner = identity(),
    gradient_noise: Any = 0.0,
    key: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Stochastic gradient Hamiltonian Monte Carlo (Chen et al. 2014, equation 15).

    SGD with momentum, and the noise that makes it a sampler. Its velocity is never
    redrawn. `baoa` costs the same and has the right variance at any step.

    Args:
      step_size: ε > 0, a number or `schedule(count)`. Stable while ε times the largest
        curvature of U stays below 2(2 − α). The velocity is not rescaled when ε
        changes: let it change little in 1/α updates.
      friction: α in (0, 1], a number or `schedule(count)`. 0.1 is a momentum of 0.9.
      temperature: T ≥ 0, a number or `schedule(count)`. With the literal 0 no
        noise is drawn and no key is needed.
      preconditioner: the matrix G, in units of θ².
      gradient_noise: V ≥ 0, the variance of each coordinate of ∇Ũ: a number, or a tree
        like the parameters. The noise it brings is not injected again. Where it is more
        than there is to inject, εGV > 2αT, the chain fails, by its temperature. With
        the literal T = 0, where nothing is injected, it plays no part.
      key: a seed, a typed key or a legacy key. Without one, `seed` the state.

    Returns:
      As `sgld`.

    Raises:
      ValueError, TypeError: as `sgld`; also for a friction outside (0, 1], for a
        gradient noise below 0, and for one with a preconditioner that is not diagonal.

    Example:
      >>> import jax, sgld_jax
      >>> potential = sgld_jax.from_log_density(lambda x: -0.5 * (x**2).sum())
      >>> samples = sgld_jax.sample(
      ...     0, sgld_jax.sghmc(0.01, friction=0.1), potential,
      ...     lambda key: jax.random.normal(key, (3,)), num_chains=64, num_samples=100)
    """
    check_settings(step_size, temperature, preconditioner, key, friction)
    check_positive(gradient_noise, "gradient_noise", zero=True)
    if not (is_zero(gradient_noise) or preconditioner.is_diagonal):
        raise ValueError("gradient_noise needs a preconditioner that mixes nothing.")

    def init(params):
        check_params(params, optimises=is_zero(temperature))
        still = jax.tree.map(jnp.zeros_like, params)
        memory = {"velocity": still, "metric": preconditioner.init(params)}
        return first_state(SGHMCState, "sghmc", key, params, **memory)

    def update(grads, state, params=None, **extra):
        del extra
        grads = checked_grads(grads, params, optimises=is_zero(temperature))
        eps = at(step_size, state.count, "step_size")  # step size
        alpha = at(friction, state.count, "friction")  # friction
        T = at(temperature, state.count, "temperature")  # temperature
        metric = preconditioner.update(grads, state.metric, params)

        drift = scale(-eps, preconditioner.multiply(metric, grads))  # drift
        velocity = add(scale(1 - alpha, state.velocity), drift)  # velocity
        if not is_zero(temperature):
            sd = jnp.sqrt(2 * alpha * eps) * jnp.sqrt(T)  # noise
            if not is_zero(gradient_noise):
                V = spread(gradient_noise, grads, "gradient_noise")
                known = scale(eps**2, preconditioner.multiply(metric, V))  # known
                sd, is_enough = beside(sd, known)
                T = jnp.where(is_enough, T, jnp.nan)  # so that the report names it
            sd_xi = noise(state, sd, grads)
            kick = preconditioner.multiply_sqrt(metric, sd_xi)  # kick
            velocity = add(velocity, kick)

        memory = {"velocity": velocity, "metric": metric}
        return velocity, next_state(
            state, grads, step_size=eps, temperature=T, friction=alpha, **memory
        )

    return optax.GradientTransformationExtraArgs(init, update)  # pyright: ignore
