"""Networks whose prior scale is learned with their weights.

    w = s z / √fan_in      z ~ N(0, I),  log s ~ N(m, v²), a scale for each layer
    b = z                  biases; scales of normalisation layers are 1 + z

What is sampled is (z, log s), the non-centred form: in (w, log s) the width of w would
follow s, and no one step size would suit both. The mode of (w, s) says nothing of s:
the density grows without bound as both go to 0 together; their draws do.

O. Papaspiliopoulos, G. O. Roberts and M. Sköld, A general framework for the
parametrization of hierarchical models, Statistical Science 22(1), 2007.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sgld_jax.leaves import check_positive
from sgld_jax.potentials.networks import Network
from sgld_jax.potentials.potential import minibatch_potential
from sgld_jax.potentials.priors import center_of, fan_in_of, gaussian_prior, names_of

PyTree = Any


def hierarchical(
    network: Network,
    log_scale_prior: tuple[float, float] = (math.log(2.0), 1.0),
    per: str = "layer",
) -> Network:
    """The same network with a prior whose scales are sampled, not guessed.

    The prior replaces that of `network`: weights are N(0, s²/fan_in) with log s ~
    N(mean, sd²), biases N(0, 1); names and shapes say which is which, as in
    `fan_in_prior`.

    Args:
      network: from `from_nnx` or `from_linen`.
      log_scale_prior: mean and standard deviation of log s.
      per: "layer", a scale for the weights of each layer; or "network", one for all.

    Returns:
      A `Network` whose parameters are `{"z": tree, "log_scale": {layer: number}}`.
      `weights(params)` are those of the network in front, and `apply` uses them. A
      chain starts at the weights where that network would start, and at s = exp(mean).

    Raises:
      TypeError: for what is no `Network`.
      ValueError: for another `per`, an sd that is not above 0, and for networks without
        weights.

    Example:
      >>> import jax, sgld_jax
      >>> from flax import nnx
      >>> network = sgld_jax.hierarchical(sgld_jax.from_nnx(
      ...     lambda rngs: nnx.Linear(3, 1, rngs=rngs),
      ...     lambda model, batch: sgld_jax.likelihoods.normal(
      ...         model(batch["x"])[:, 0], 0.1, batch["y"]),
      ...     sgld_jax.gaussian_prior(1.0), num_data=64))
      >>> params = network.init(jax.random.key(0))
      >>> params["log_scale"]
      {'kernel': Array(0.6931472, dtype=float32)}
      >>> network.weights(params)["kernel"].shape
      (3, 1)
    """
    if not isinstance(network, Network):
        raise TypeError(
            f"network is a {type(network).__name__}: expected what from_nnx or "
            f"from_linen returned."
        )
    if per not in ("layer", "network"):
        raise ValueError(f"per={per!r}: expected 'layer' or 'network'.")
    mean, sd = log_scale_prior
    check_positive(sd, "log_scale_prior, its standard deviation")
    scales = _Scales(per)

    def log_prior(params: PyTree) -> jax.Array:
        log_scales = jnp.stack(jax.tree.leaves(params["log_scale"]))
        return gaussian_prior(1.0)(params["z"]) - 0.5 * jnp.sum(
            ((log_scales - mean) / sd) ** 2
        )

    def init(key: jax.Array) -> PyTree:
        weights = network.init(key)
        names = {name for name in jax.tree.leaves(scales.names(weights)) if name}
        if not names:
            raise ValueError("The network has no weights to scale: only biases.")
        log_scale = {name: jnp.asarray(mean, jnp.float32) for name in sorted(names)}
        return {"z": scales.standardised(weights, log_scale), "log_scale": log_scale}

    def of_params(params: PyTree, batch: PyTree) -> jax.Array:
        return network.log_likelihood(scales.weights(params), batch)

    def apply(params: PyTree, *inputs: Any, **options: Any) -> Any:
        return network.apply(scales.weights(params), *inputs, **options)

    return dataclasses.replace(
        network,
        potential=minibatch_potential(log_prior, of_params, network.num_data),
        init=init,
        apply=apply,
        log_likelihood=of_params,
        log_prior=log_prior,
        weights=lambda params: network.weights(scales.weights(params)),
    )


class _Scales:
    """Which scale a leaf has, and how it is applied and taken off."""

    def __init__(self, per: str):
        self._per = per

    def names(self, tree: PyTree) -> PyTree:
        """The name of the scale of each leaf; empty for biases and their like."""
        return jax.tree_util.tree_map_with_path(
            lambda path, x: self._name(path) if fan_in_of(path, np.shape(x)) else "",
            tree,
        )

    def weights(self, params: PyTree) -> PyTree:
        """W of (z, log s)."""

        def weight(path: tuple, z: jax.Array) -> jax.Array:
            fan_in = fan_in_of(path, np.shape(z))
            if not fan_in:
                return z + center_of(path)
            scale = jnp.exp(params["log_scale"][self._name(path)])
            return z * (scale / math.sqrt(fan_in))  # weights

        return jax.tree_util.tree_map_with_path(weight, params["z"])

    def standardised(self, weights: PyTree, log_scale: dict) -> PyTree:
        """Z of (w, log s)."""

        def z(path: tuple, w: jax.Array) -> jax.Array:
            fan_in = fan_in_of(path, np.shape(w))
            if not fan_in:
                return w - center_of(path)
            return w * (math.sqrt(fan_in) * jnp.exp(-log_scale[self._name(path)]))

        return jax.tree_util.tree_map_with_path(z, weights)

    def _name(self, path: tuple) -> str:
        if self._per == "network":
            return "network"
        names = names_of(path)
        return ".".join(names[:-1] or names)
