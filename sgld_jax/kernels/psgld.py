"""pSGLD: SGLD with the metric of RMSprop.

Target     π(θ) ∝ exp(−U(θ)/T),  U(θ) = −log p(θ) − Σᵢ log p(xᵢ|θ) over all N data
Dynamics   dθ = −G ∇U(θ) dt + √(2T) G^½ dW,  G fixed after the first updates
Update     v ← a v + (1−a) (∇Ũ(θ)/N)²,   G = 1/(δ + √(v/(1−aᵏ))),   in update k
           θ ← θ − ε G ∇Ũ(θ) + √(2εT) G^½ ξ,   ξ ~ N(0, I)

    ε   step_size        number or schedule(count); about Adam's learning rate over N
    T   temperature      number or schedule(count); 1 is the posterior
    N   num_data         the number of data in U
    a   decay            the share of v that an update keeps
    δ   eps              in units of a gradient of U/N
    k   count            from 1 to freeze_after; from then on G stays as it is

Cost       one gradient and one normal per coordinate and update; v
T = 0      optax.rmsprop without momentum at the rate ε N, δ added to the root
Exact law  after freeze_after that of `sgld` with the G that there is: on U = λθ²/2 with
           gradient noise of variance V, for εGλ < 2,
           Var θ = (T + εGV/2) / (λ (1 − εGλ/2)).

C. Li, C. Chen, D. Carlson and L. Carin, Preconditioned stochastic gradient Langevin
dynamics for deep neural networks, AAAI 2016, algorithm 1, whose step is 2ε and whose Γ
is left out here in favour of freezing G.
"""

from typing import Any

import optax

from sgld_jax.adaptive import freeze, rmsprop
from sgld_jax.kernels.sgld import sgld


def psgld(
    step_size: optax.ScalarOrSchedule,
    temperature: optax.ScalarOrSchedule = 1.0,
    *,
    num_data: int,
    decay: float = 0.99,
    eps: float = 1e-5,
    freeze_after: int | None,
    key: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Preconditioned SGLD (Li et al. 2016): `sgld` with `freeze(rmsprop(...))`.

    For networks whose layers have gradients of very different size. The same metric
    goes into `sghmc` and `baoa` by `preconditioner=`: what comes nearest to Adam and
    samples.

    Args:
      step_size: ε > 0, a number or `schedule(count)`. Stable while ε G times the
        largest curvature of U stays below 2. G is 1/√v of gradients of U/N, so that ε
        is about what Adam has as its learning rate, divided by N.
      temperature: T ≥ 0, a number or `schedule(count)`. With the literal 0 no
        noise is drawn and no key is needed.
      num_data: N, the number of data in U.
      decay: a in [0, 1). G follows the gradients of about 1/(1 − a) updates.
      eps: δ > 0. G is at most 1/δ, where the gradient is always 0.
      freeze_after: how many updates adapt G, at least 1; at most the burn-in, since the
        draws before have no known law. None adapts it for ever, at the cost told in
        `rmsprop`: up to twice a Gaussian's variance with full gradients.
      key: a seed, a typed key or a legacy key. Without one, `seed` the state.

    Returns:
      As `sgld`, whose state it has.

    Raises:
      ValueError, TypeError: as `sgld`; also for num_data, decay, eps or freeze_after
        out of range.

    Example:
      >>> import jax, sgld_jax
      >>> potential = sgld_jax.from_log_density(lambda x: -0.5 * (x**2).sum())
      >>> samples = sgld_jax.sample(
      ...     0, sgld_jax.psgld(0.1, num_data=1, eps=0.1, freeze_after=200), potential,
      ...     lambda key: jax.random.normal(key, (3,)), num_chains=64,
      ...     burn_in=300, num_samples=100)
    """
    metric = rmsprop(num_data, decay, eps)
    if freeze_after is not None:
        metric = freeze(metric, freeze_after)
    return sgld(step_size, temperature, preconditioner=metric, key=key)
