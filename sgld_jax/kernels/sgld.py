"""SGLD: stochastic gradient Langevin dynamics.

Target     π(θ) ∝ exp(−U(θ)/T),  U(θ) = −log p(θ) − Σᵢ log p(xᵢ|θ) over all N data
Dynamics   dθ = −G ∇U(θ) dt + √(2T) G^½ dW
Update     θ ← θ − ε G ∇Ũ(θ) + √(2εT) G^½ ξ,   ξ ~ N(0, I)

    ε   step_size        number or schedule(count)
    T   temperature      number or schedule(count); 1 is the posterior
    G   preconditioner   identity() unless given
        with position_dependent(scale_fn) the update has + εT Γ, Γᵢ = Σⱼ ∂Gᵢⱼ/∂θⱼ
    ∇Ũ  the gradients handed to update: of −log p(θ) − (N/n) Σ_batch log p(xᵢ|θ)

Cost       one gradient and one normal per coordinate and update; no memory
T = 0      θ ← θ − ε ∇Ũ(θ) is optax.sgd(ε), bit for bit
Exact law  on U = λθ²/2 with gradient noise of variance V, for 0 < ελ < 2,
           Var θ = (T + εV/2) / (λ (1 − ελ/2)):  too wide by ελ/2 for the step
           and by εV/(2T) for the minibatch. Both go to zero with ε.
Steps of others   Welling and Teh's step is 2ε; a mean loss U/N has step Nε
                  and temperature T/N.

M. Welling and Y. W. Teh, Bayesian learning via stochastic gradient Langevin
dynamics, ICML 2011, equation 4.
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


class SGLDState(NamedTuple):
    """State of `sgld`.

    Attributes:
      count: updates made so far, int32 `[]`.
      rng_key: a typed key `[]`, or `Unseeded`; never changed by an update.
      metric: state of the preconditioner.
      trace: what the last update used.
    """

    count: jax.Array
    rng_key: jax.Array | Unseeded
    metric: Any
    trace: Trace


def sgld(
    step_size: optax.ScalarOrSchedule,
    temperature: optax.ScalarOrSchedule = 1.0,
    *,
    preconditioner: Preconditioner = identity(),
    key: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Stochastic gradient Langevin dynamics (Welling and Teh 2011, equation 4).

    Args:
      step_size: ε > 0, a number or `schedule(count)`. Stable while ε times the
        largest curvature of U stays below 2; accurate well below 1.
      temperature: T ≥ 0, a number or `schedule(count)`. With the literal 0 no
        noise is drawn and no key is needed.
      preconditioner: the matrix G, in units of θ²; also one that is a function of θ.
      key: a seed, a typed key or a legacy key. Without one, `seed` the state.

    Returns:
      A transformation of gradients of U, the sum over *all* data, into additive
      updates. Under `jax.vmap` every chain draws noise of its own.

    Raises:
      ValueError, TypeError: here, for a step size, temperature or key out of
        range; in `init`, for leaves that cannot be sampled (integers, complex
        numbers, bfloat16, running statistics); while tracing `update`, for
        gradients that do not fit the parameters, or if there is no key.

    Example:
      >>> import jax, jax.numpy as jnp, optax, sgld_jax
      >>> potential = lambda x: 0.5 * jnp.sum(x**2)
      >>> sampler = sgld_jax.sgld(0.1, key=0)
      >>> x = jnp.zeros(3)
      >>> state = sampler.init(x)
      >>> updates, state = sampler.update(jax.grad(potential)(x), state, x)
      >>> x = optax.apply_updates(x, updates)
    """
    check_settings(step_size, temperature, preconditioner, key, adds_divergence=True)

    def init(params):
        check_params(params, optimises=is_zero(temperature))
        metric = preconditioner.init(params)
        return first_state(SGLDState, "sgld", key, params, metric=metric)

    def update(grads, state, params=None, **extra):
        del extra
        grads = checked_grads(grads, params, optimises=is_zero(temperature))
        eps = at(step_size, state.count, "step_size")  # step size
        T = at(temperature, state.count, "temperature")  # temperature
        metric = preconditioner.update(grads, state.metric, params)

        updates = scale(-eps, preconditioner.multiply(metric, grads))  # drift
        if preconditioner.divergence is not None:
            gamma = preconditioner.divergence(metric)
            updates = add(updates, scale(eps * T, gamma))  # Γ
        if not is_zero(temperature):
            # Two roots, since one of the product has the slope 0/0 in ε at T = 0.
            sd = jnp.sqrt(2 * eps) * jnp.sqrt(T)  # noise
            sd_xi = noise(state, sd, grads)
            updates = add(updates, preconditioner.multiply_sqrt(metric, sd_xi))  # kick

        return updates, next_state(
            state, grads, step_size=eps, temperature=T, metric=metric
        )

    return optax.GradientTransformationExtraArgs(init, update)  # pyright: ignore
