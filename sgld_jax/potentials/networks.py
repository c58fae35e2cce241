"""Networks: from a Flax model to its posterior, and from draws back to models."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from sgld_jax.arguments import check_takes, shown
from sgld_jax.parameters import check_sampled_kinds
from sgld_jax.potentials.potential import Potential, minibatch_potential

PyTree = Any


@dataclasses.dataclass(frozen=True)
class Network:
    """A network as `sample` takes it: parameters are a tree of plain arrays.

    Attributes:
      potential: `(params, batch) -> U`, of all N data, estimated on a batch.
      init: `key -> params`, where a chain starts.
      apply: `(params, *inputs) -> outputs`, the network at a draw; of one position.
      log_likelihood: `(params, batch) -> [n]`.
      log_prior: `params -> log p(θ)`.
      num_data: N.
      weights: `params -> tree`, the network's own parameters; `params` itself unless
        it was made by `hierarchical`.
    """

    potential: Potential
    init: Callable[[jax.Array], PyTree]
    apply: Callable[..., Any]
    log_likelihood: Callable[[PyTree, PyTree], jax.Array]
    log_prior: Callable[[PyTree], jax.Array]
    num_data: int
    weights: Callable[[PyTree], PyTree] = lambda params: params


def network_of(
    init: Callable,
    model_of: Callable[[PyTree], Callable],
    log_likelihood: Callable,
    log_prior: Callable,
    num_data: int,
) -> Network:
    """A `Network`, from how parameters make a model that can be called."""

    def apply(params: PyTree, *inputs: Any, **options: Any) -> Any:
        return model_of(params)(*inputs, **options)

    def of_params(params: PyTree, batch: PyTree) -> jax.Array:
        return log_likelihood(model_of(params), batch)

    potential = minibatch_potential(log_prior, of_params, num_data)
    return Network(potential, init, apply, of_params, log_prior, int(num_data))


def from_nnx(
    make_model: Any,
    log_likelihood: Callable[[Any, PyTree], jax.Array],
    log_prior: Callable[[PyTree], jax.Array],
    num_data: int,
    *,
    wrt: Any = None,
) -> Network:
    """The posterior of an NNX model.

    Args:
      make_model: `rngs -> nnx.Module`, so that each chain starts with parameters of its
        own; or a Module, trained perhaps, where every chain starts.
      log_likelihood: `(model, batch) -> [n]`, one log p(yᵢ|xᵢ, θ) for each example; see
        `likelihoods`.
      log_prior: `params -> log p(θ)`, of a dict of dicts of arrays that is named as the
        model's attributes are, such as `fan_in_prior(2.0)`.
      num_data: N, the examples in the whole data set.
      wrt: an NNX filter for what is sampled, `nnx.Param` if None; such as
        `nnx.All(nnx.Param, nnx.PathContains("head"))` for the last layer. The rest is
        held where it is: in the Module given, or in `make_model(nnx.Rngs(0))`.

    Returns:
      `Network`.

    Raises:
      ImportError: without Flax.
      TypeError: for models that change when they are called (BatchNorm, dropout), for
        what is no model, and for filters that find no parameter.

    Example:
      >>> import jax, jax.numpy as jnp, sgld_jax
      >>> from flax import nnx
      >>> x = jax.random.normal(jax.random.key(0), (64, 3))
      >>> data = {"x": x, "y": (x[:, 0] > 0).astype(int)}
      >>> network = sgld_jax.from_nnx(
      ...     lambda rngs: nnx.Linear(3, 2, rngs=rngs),
      ...     lambda model, batch: sgld_jax.likelihoods.categorical(
      ...         model(batch["x"]), batch["y"]),
      ...     sgld_jax.fan_in_prior(2.0), num_data=64)
      >>> samples = sgld_jax.sample(
      ...     0, sgld_jax.sgld(1e-3), network.potential, network.init, data=data,
      ...     num_samples=10, num_chains=4)
      >>> samples.params["kernel"].shape
      (4, 10, 3, 2)
      >>> network.apply(samples.draw(0, 9), x[:5]).shape
      (5, 2)
    """
    nnx = _import_nnx()
    check_takes(log_likelihood, "model, batch", "log_likelihood")
    wrt = nnx.Param if wrt is None else wrt
    model = _a_model(nnx, make_model)
    graph, sampled, rest = nnx.split(model, wrt, ...)
    _check_is_fixed(nnx, sampled, rest, wrt)

    def model_of(params: PyTree) -> Any:
        state = jax.tree.map(lambda x: x, sampled)
        nnx.replace_by_pure_dict(state, params)
        return nnx.merge(graph, state, rest, copy=True)

    def init(key: jax.Array) -> PyTree:
        if isinstance(make_model, nnx.Module):
            return nnx.to_pure_dict(sampled)
        state = nnx.split(make_model(nnx.Rngs(key)), wrt, ...)[1]
        return nnx.to_pure_dict(state)

    return network_of(init, model_of, log_likelihood, log_prior, num_data)


def from_linen(
    module: Any,
    example_inputs: Any,
    log_likelihood: Callable[[Callable, PyTree], jax.Array],
    log_prior: Callable[[PyTree], jax.Array],
    num_data: int,
) -> Network:
    """The posterior of a Linen module.

    Args:
      module: a `flax.linen.Module`.
      example_inputs: what it is called with, an array or a tuple of arguments; only
        shapes and types matter.
      log_likelihood: `(model, batch) -> [n]`, as `from_nnx`; `model(inputs)` is
        `module.apply` at the parameters in question.
      log_prior: as `from_nnx`, of `module.init(...)["params"]`.
      num_data: N, the examples in the whole data set.

    Returns:
      `Network`.

    Raises:
      TypeError: for modules that keep more than parameters (BatchNorm, caches).

    Example:
      >>> import jax, jax.numpy as jnp, sgld_jax
      >>> from flax import linen
      >>> network = sgld_jax.from_linen(
      ...     linen.Dense(1), jnp.zeros((1, 3)),
      ...     lambda model, batch: sgld_jax.likelihoods.normal(
      ...         model(batch["x"])[:, 0], 0.1, batch["y"]),
      ...     sgld_jax.fan_in_prior(1.0), num_data=64)
      >>> params = network.init(jax.random.key(0))
      >>> network.apply(params, jnp.ones((5, 3))).shape
      (5, 1)
    """
    if not (hasattr(module, "init") and hasattr(module, "apply")):
        raise TypeError(
            f"module is {shown(module)}: expected a flax.linen.Module. For NNX: "
            f"sgld_jax.from_nnx."
        )
    check_takes(log_likelihood, "model, batch", "log_likelihood")
    inputs = example_inputs if isinstance(example_inputs, tuple) else (example_inputs,)

    def variables(key: jax.Array) -> PyTree:
        return module.init(key, *(jnp.asarray(x) for x in inputs))

    kept = jax.eval_shape(variables, jax.random.key(0))
    check_sampled_kinds({name: kept[name] for name in kept if name != "params"})
    if set(kept) != {"params"}:
        raise TypeError(
            f"The module keeps {sorted(kept)}: expected parameters alone. What is "
            f"fixed can be closed over in a module of yours."
        )

    def model_of(params: PyTree) -> Callable:
        def call(*inputs: Any, **options: Any) -> Any:
            return module.apply({"params": params}, *inputs, **options)

        return call

    def init(key: jax.Array) -> PyTree:
        return variables(key)["params"]

    return network_of(init, model_of, log_likelihood, log_prior, num_data)


def _import_nnx() -> Any:
    try:
        from flax import nnx
    except ImportError as error:
        raise ImportError(
            "Flax is not installed: pip install 'sgld-jax[flax]'"
        ) from error
    return nnx


def _a_model(nnx: Any, make_model: Any) -> Any:
    if isinstance(make_model, nnx.Module):
        return make_model
    check_takes(make_model, "rngs", "make_model", "Or pass an nnx.Module.")
    model = make_model(nnx.Rngs(0))
    if not isinstance(model, nnx.Module):
        raise TypeError(
            f"make_model(rngs) returned a {type(model).__name__}: expected an "
            f"nnx.Module. For Linen: sgld_jax.from_linen."
        )
    return model


def _check_is_fixed(nnx: Any, sampled: Any, rest: Any, wrt: Any) -> None:
    """Raises unless something is sampled, and what is not stays as it is in a call."""
    if not jax.tree.leaves(sampled):
        raise TypeError(
            f"wrt={shown(wrt)} finds no parameter in the model: expected an NNX "
            f"filter, such as nnx.Param or nnx.All(nnx.Param, "
            f"nnx.PathContains('head'))."
        )
    check_sampled_kinds(sampled)
    try:
        check_sampled_kinds(rest)
    except TypeError:
        kinds = {type(x).__name__ for _, x in nnx.to_flat_state(rest)}
        raise TypeError(
            f"The model keeps {', '.join(sorted(kinds - {'Param'}))}, which change "
            f"when it is called: a posterior is of fixed functions. For BatchNorm use "
            f"GroupNorm or LayerNorm; leave dropout out, and set a prior instead."
        ) from None
