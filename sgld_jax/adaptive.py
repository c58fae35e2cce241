"""Preconditioners that change with the gradients or the position of a chain.

    rmsprop             G = 1/(δ + √v),  v the running mean of squared mean gradients
    position_dependent  G = a function of θ, with the Γ that it needs
    freeze              G as it is after some updates, whatever it was made by

Where G depends on θ, the drift needs εTΓ beside −εG∇Ũ, Γᵢ = Σⱼ ∂Gᵢⱼ/∂θⱼ: without it a
chain spends too long where G is small (Ma, Chen and Fox 2015, arXiv 1506.04696).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer
from jax.flatten_util import ravel_pytree

from sgld_jax.arguments import check_count, check_takes, shown
from sgld_jax.fingerprint import fingerprint
from sgld_jax.leaves import check_positive, is_numeric, times, wide_dtype
from sgld_jax.preconditioners import FixedMetric, Preconditioner, check_preconditioner

PyTree = Any


class RMSPropMetric(NamedTuple):
    """The state of `rmsprop`.

    Attributes:
      count: updates made so far, int32 `[]`.
      mean_square: v, not yet corrected for its start at 0, like the parameters.
      settings: fingerprint of N, decay and eps, for `resume`.
    """

    count: jax.Array
    mean_square: PyTree
    settings: FixedMetric


def rmsprop(num_data: float, decay: float = 0.99, eps: float = 1e-5) -> Preconditioner:
    """The metric of RMSprop: G = 1/(δ + √v), v of squared mean gradients.

        v ← a v + (1 − a) (∇Ũ/N)²,   G = 1/(δ + √(v/(1 − aᵏ)))  in update k

    The correction by 1 − aᵏ makes the first G that of the first gradient, where v alone
    would give steps ten times too long at a = 0.99. A gradient of the mean loss has no
    N in it, so the step that suits G is near Adam's learning rate over N.

    **Put it into `freeze`**, as `psgld` does: G depends on the path, and its Γ is out
    of an update's sight. Left out, G wanders: with full gradients and chains that move
    less than the mean forgets, they sample π(θ)(δ + |∇U|/N): a Gaussian comes out with
    up to twice its variance. The more of v is noise of minibatches, and the closer a is
    to 1, the smaller the error.

    A coordinate whose gradient is always 0 has G = 1/δ, 10⁵ at the default, and noise
    as large; give every coordinate a prior, or take δ larger.

    Args:
      num_data: N, the number of data in U.
      decay: a in [0, 1), the share of v that an update keeps.
      eps: δ > 0, in units of a gradient of U/N.

    Raises:
      ValueError, TypeError: for numbers out of range.

    Example:
      >>> import sgld_jax
      >>> metric = sgld_jax.freeze(sgld_jax.rmsprop(num_data=60_000), after=2_000)
      >>> sampler = sgld_jax.sghmc(1e-8, friction=0.1, preconditioner=metric, key=0)

    Source: Li et al. 2016, arXiv 1512.07666, algorithm 1; the correction as in Kingma
    and Ba 2015.
    """
    _check_rmsprop(num_data, decay, eps)
    code = fingerprint([num_data, decay, eps])

    def init(params: PyTree) -> RMSPropMetric:
        still = jax.tree.map(jnp.zeros_like, params)
        settings = FixedMetric(jnp.asarray(code, jnp.int32))
        return RMSPropMetric(jnp.zeros([], jnp.int32), still, settings)

    def update(grads: PyTree, state: RMSPropMetric, params: PyTree | None) -> PyTree:
        def remembered(v: jax.Array, g: jax.Array) -> jax.Array:
            a, mean = jnp.asarray(decay, v.dtype), g / jnp.asarray(num_data, g.dtype)
            return a * v + (1 - a) * mean**2  # running mean

        return state._replace(
            count=optax.safe_increment(state.count),
            mean_square=jax.tree.map(remembered, state.mean_square, grads),
        )

    def multiply(power: float, state: RMSPropMetric, tree: PyTree) -> PyTree:
        def scaled(v: jax.Array, x: jax.Array) -> jax.Array:
            wide = wide_dtype(x)
            filled = 1 - jnp.asarray(decay, wide) ** state.count.astype(wide)  # start
            G = 1 / (jnp.asarray(eps, wide) + jnp.sqrt(v.astype(wide) / filled))  # G
            return (G if power == 1.0 else jnp.sqrt(G)).astype(x.dtype) * x

        return jax.tree.map(scaled, state.mean_square, tree)

    return Preconditioner(
        init=init,
        update=update,
        multiply=lambda state, v: multiply(1.0, state, v),
        multiply_sqrt=lambda state, v: multiply(0.5, state, v),
    )


def _check_rmsprop(num_data: Any, decay: Any, eps: Any) -> None:
    _check_injected_count("num_data", num_data)
    known = not isinstance(decay, Tracer)
    if known and not (is_numeric(decay) and np.ndim(decay) == 0 and 0 <= decay < 1):
        raise ValueError(
            f"decay={shown(decay)}: expected a number of at least 0 and below 1, the "
            f"share of its running mean that an update keeps."
        )
    check_positive(eps, "eps")


def _check_injected_count(name: str, value: Any) -> None:
    """As `check_count`, also of what `optax.inject_hyperparams` makes of a number."""
    if isinstance(value, Tracer):
        return
    check_count(name, value.item() if isinstance(value, jax.Array) else value, 1)


class Position(NamedTuple):
    """The state of `position_dependent`: both functions at the present position.

    Attributes:
      scale: the diagonal of G, like the parameters.
      divergence: Γ, like the parameters.
    """

    scale: PyTree
    divergence: PyTree


def position_dependent(scale_fn: Callable[[PyTree], PyTree]) -> Preconditioner:
    """G = diag(scale_fn(θ)), with Γᵢ = ∂Gᵢ/∂θᵢ by automatic differentiation.

    For `sgld` alone, which then makes the update

        θ ← θ − ε G(θ) ∇Ũ(θ) + εT Γ(θ) + √(2εT) G(θ)^½ ξ

    Γ costs one derivative of `scale_fn` in every direction: d of them an update, for d
    up to some hundreds.

    Args:
      scale_fn: `params -> tree` like the parameters, above 0, in units of θ². A number
        that is not makes the update NaN.

    Raises:
      TypeError, ValueError: for what is not such a function, the latter while tracing;
        and from kernels that have no place for Γ.

    Example:
      >>> import jax.numpy as jnp, sgld_jax
      >>> potential = lambda x: jnp.sum(x - 4 * jnp.log(x))  # Gamma(5, 1), x > 0
      >>> metric = sgld_jax.position_dependent(lambda x: x)
      >>> sampler = sgld_jax.sgld(0.01, preconditioner=metric, key=0)

    Source: Ma, Chen and Fox 2015, arXiv 1506.04696, equation 3.
    """
    check_takes(scale_fn, "params", "position_dependent(scale_fn)")

    def at(params: PyTree | None) -> Position:
        if params is None:
            raise ValueError(
                "position_dependent needs the position: update(grads, state, params)."
            )
        scale = scale_fn(params)
        _check_like(scale, params)
        return Position(scale, _own_derivatives(scale_fn, params))

    return Preconditioner(
        init=at,
        update=lambda grads, state, params: at(params),
        multiply=lambda state, v: times(state.scale, v),
        multiply_sqrt=lambda state, v: times(jax.tree.map(jnp.sqrt, state.scale), v),
        divergence=lambda state: state.divergence,
    )


def _own_derivatives(function: Callable, params: PyTree) -> PyTree:
    """∂fᵢ/∂θᵢ of every coordinate i, one direction after the other."""
    flat, unravel = ravel_pytree(params)

    def own(i: jax.Array) -> jax.Array:
        direction = jnp.zeros_like(flat).at[i].set(1)
        _, tangent = jax.jvp(
            lambda x: ravel_pytree(function(unravel(x)))[0], (flat,), (direction,)
        )
        return tangent[i]

    return unravel(jax.vmap(own)(jnp.arange(flat.size)))


def _check_like(scale: PyTree, params: PyTree) -> None:
    have, want = (
        jax.tree.map(lambda x: f"{jnp.result_type(x)}{list(jnp.shape(x))}", tree)
        for tree in (scale, params)
    )
    if have != want:
        raise ValueError(
            f"position_dependent: scale_fn returned {shown(have)}, expected a tree "
            f"like the parameters, {shown(want)}."
        )


class FrozenMetric(NamedTuple):
    """The state of `freeze`.

    Attributes:
      count: updates made so far, int32 `[]`, at most `after`.
      metric: state of the preconditioner, which no longer changes at `after`.
    """

    count: jax.Array
    metric: PyTree


def freeze(preconditioner: Preconditioner, after: int) -> Preconditioner:
    """A preconditioner that adapts in its first updates, and then stays as it is.

    From there on the law is that of a fixed G, known exactly: make `after` the burn-in,
    or less. Before, it has no law of its own, and Γ is left out.

    Args:
      preconditioner: one that adapts.
      after: how many updates adapt it, at least 1.

    Raises:
      TypeError, ValueError: for what is no preconditioner, and for `after` below 1.

    Example:
      >>> import sgld_jax
      >>> metric = sgld_jax.freeze(sgld_jax.diagonal(2.0), after=500)
      >>> sampler = sgld_jax.sgld(0.1, preconditioner=metric, key=0)
    """
    check_preconditioner(preconditioner)
    _check_injected_count("after", after)

    def init(params: PyTree) -> FrozenMetric:
        return FrozenMetric(jnp.zeros([], jnp.int32), preconditioner.init(params))

    def update(grads: PyTree, state: FrozenMetric, params: PyTree | None) -> PyTree:
        adapted = preconditioner.update(grads, state.metric, params)
        is_early = state.count < after
        metric = jax.tree.map(  # freeze
            lambda new, old: jnp.where(is_early, new, old), adapted, state.metric
        )
        last = jnp.asarray(after, jnp.int32)
        return FrozenMetric(jnp.minimum(state.count + 1, last), metric)

    return Preconditioner(
        init=init,
        update=update,
        multiply=lambda state, v: preconditioner.multiply(state.metric, v),
        multiply_sqrt=lambda state, v: preconditioner.multiply_sqrt(state.metric, v),
        is_diagonal=preconditioner.is_diagonal,
    )
