"""Parameters with bounds: sampled where there are none, given back where they live.

    θ = f(z),   U(z) = −log p(f(z)) − log |det ∂f/∂z|

z has no bounds, and f is a bijection of NumPyro's for each constraint. Draws of z are
taken back by f, so that summaries and plots are of θ.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sgld_jax.arguments import check_takes, shown
from sgld_jax.leaves import is_numeric
from sgld_jax.potentials.potential import Potential

PyTree = Any

_NAMES = """
real positive unit_interval simplex ordered positive_ordered corr_cholesky corr_matrix
lower_cholesky positive_definite
""".split()
_WITH_BOUNDS = {"interval": 2, "greater_than": 1, "less_than": 1}
_VECTORS = ("ordered", "positive_ordered")  # NumPyro adds _vector to these


class Constrained(NamedTuple):
    """A density of parameters with bounds, and how to sample it.

    Attributes:
      potential: `(z, batch) -> U(z)`, of unbounded parameters, for `sample`.
      init: `key -> z`, every coordinate uniform in (−2, 2), as Stan starts.
      constrain: `z -> θ`, for `sample(collect=)` and wherever θ is wanted.
      unconstrain: `θ -> z`, for starting points of one's own.
      log_jacobian: `z -> log |det ∂θ/∂z|`, for a potential of one's own, such as one
        with minibatches.
      data: for `sample(data=)`: row numbers of a plate that takes some of its rows, for
        `from_numpyro`; else None.
    """

    potential: Potential
    init: Callable[[jax.Array], PyTree]
    constrain: Callable[[PyTree], PyTree]
    unconstrain: Callable[[PyTree], PyTree]
    log_jacobian: Callable[[PyTree], jax.Array]
    data: PyTree = None


def constrained(
    log_density: Callable[[PyTree], jax.Array],
    constraints: Mapping[str, Any],
    like: Mapping[str, Any],
) -> Constrained:
    """A density whose parameters have bounds, as one to be sampled without.

    Args:
      log_density: `params -> log p(θ)`, a scalar, up to a constant: a density of θ as
        it is written down, without a Jacobian.
      constraints: for the parameters that have one, by name: "positive",
        "unit_interval", "simplex", "ordered", "positive_ordered", "corr_cholesky",
        "corr_matrix", "lower_cholesky", "positive_definite", "real";
        ("interval", low, high), ("greater_than", low), ("less_than", high); or a
        constraint of `numpyro.distributions.constraints`.
      like: parameters within their bounds, a dict of float arrays; for their shapes.

    Returns:
      A `Constrained`.

    Raises:
      ImportError: without NumPyro: `pip install 'sgld-jax[numpyro]'`.
      TypeError, ValueError: for constraints that are not known or that no parameter
        has, and for values in `like` that are out of bounds.

    Example:
      >>> import jax.numpy as jnp, sgld_jax
      >>> model = sgld_jax.constrained(  # Gamma(3, 2)
      ...     lambda p: 2 * jnp.log(p["rate"]) - 2 * p["rate"],
      ...     {"rate": "positive"}, like={"rate": jnp.ones(())})
      >>> samples = sgld_jax.sample(
      ...     0, sgld_jax.baoa(0.1), model.potential, model.init,
      ...     collect=model.constrain, num_chains=64, num_samples=100, burn_in=200)
      >>> bool((samples.params["rate"] > 0).all())
      True
    """
    check_takes(log_density, "params", "log_density")
    bijections = _bijections(constraints, like)
    like = {name: jnp.asarray(x, float) for name, x in like.items()}

    def constrain(z: Mapping[str, Any]) -> PyTree:
        return {name: bijections[name](x) for name, x in z.items()}

    def unconstrain(params: Mapping[str, Any]) -> PyTree:
        return {name: bijections[name].inv(x) for name, x in params.items()}

    def log_jacobian(z: Mapping[str, Any]) -> jax.Array:
        parts = [
            bijections[name].log_abs_det_jacobian(x, bijections[name](x))
            for name, x in z.items()
        ]
        return sum((jnp.sum(part) for part in parts), jnp.zeros([]))

    def potential(z: PyTree, batch: PyTree) -> jax.Array:
        del batch
        return -log_density(constrain(z)) - log_jacobian(z)

    init = uniform_start(jax.eval_shape(unconstrain, like))
    return Constrained(potential, init, constrain, unconstrain, log_jacobian)


def uniform_start(shapes: Mapping[str, Any]) -> Callable[[jax.Array], PyTree]:
    """`key -> z`, every coordinate of these shapes uniform in (−2, 2)."""

    def init(key: jax.Array) -> PyTree:
        keys = jax.random.split(key, max(1, len(shapes)))
        return {
            name: jax.random.uniform(k, x.shape, x.dtype, -2.0, 2.0)
            for k, (name, x) in zip(keys, shapes.items())
        }

    return init


def _bijections(constraints: Any, like: Any) -> dict[str, Any]:
    """A bijection of NumPyro's for every parameter, by name."""
    try:
        from numpyro.distributions import biject_to
    except ImportError:
        raise ImportError(
            "constrained takes its bijections from NumPyro: pip install "
            "'sgld-jax[numpyro]'"
        ) from None
    for given, what in ((constraints, "constraints"), (like, "like")):
        if not isinstance(given, Mapping):
            raise TypeError(
                f"{what}={shown(given)}: expected a dict by parameter name."
            )
    unknown = sorted(set(constraints) - set(like))
    if unknown:
        raise ValueError(
            f"constraints names {unknown}; like has the parameters {sorted(like)}."
        )
    chosen = {name: _constraint(constraints.get(name, "real"), name) for name in like}
    for name, value in like.items():
        if not is_numeric(value):
            raise TypeError(f"like[{name!r}] is {shown(value)}: expected an array.")
        if not np.all(chosen[name](jnp.asarray(value, float))):
            raise ValueError(
                f"like[{name!r}] is out of its bounds, {chosen[name]}: expected "
                f"values within, since starting shapes and bijections come from them."
            )
    return {name: biject_to(constraint) for name, constraint in chosen.items()}


def _constraint(given: Any, name: str) -> Any:
    """A constraint of NumPyro's, from what one types."""
    from numpyro.distributions import constraints

    if isinstance(given, constraints.Constraint):
        return given
    if isinstance(given, str) and given in _NAMES:
        return getattr(constraints, given + "_vector" * (given in _VECTORS))
    if isinstance(given, tuple) and given and given[0] in _WITH_BOUNDS:
        kind, *bounds = given
        if len(bounds) == _WITH_BOUNDS[kind] and all(map(is_numeric, bounds)):
            return getattr(constraints, kind)(*bounds)
    raise ValueError(
        f"constraints[{name!r}] is {shown(given)}: expected one of "
        f"{', '.join(map(repr, _NAMES))}, ('interval', low, high), "
        f"('greater_than', low), ('less_than', high), or a constraint of NumPyro's."
    )
