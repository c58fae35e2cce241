"""What may be sampled: the checks that every kernel makes of parameters and gradients.

All of them look at structure and types, so they cost nothing in a compiled step.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sgld_jax.leaves import paths

PyTree = Any

_NOT_SAMPLED = {"BatchStat", "RngState", "Cache", "Intermediate"}  # NNX
_COLLECTIONS = ("batch_stats", "cache", "intermediates")  # Linen


def check_params(params: PyTree, optimises: bool = False) -> None:
    """Raises `TypeError` unless every leaf is a real number that may be sampled.

    Args:
      params: what a kernel was given.
      optimises: whether no noise is drawn; then leaves may be of low precision.
    """
    check_sampled_kinds(params)
    dtypes = {p: jnp.result_type(x) for p, x in paths(params).items() if x is not None}
    refused = {p: d for p, d in dtypes.items() if not jnp.issubdtype(d, jnp.floating)}
    if refused:
        complex_leaf = any(
            jnp.issubdtype(d, jnp.complexfloating) for d in refused.values()
        )
        remedy = (
            "wrap the sampler in optax.contrib.split_real_and_imaginary(...), since "
            "complex noise has half the variance Langevin needs"
            if complex_leaf
            else "keep them out of the parameters, as nnx.split(model, nnx.Param, ...) "
            "does, and close over them in the potential"
        )
        raise TypeError(
            f"Only real floating leaves can be sampled, not {_listed(refused)}: "
            f"{remedy}."
        )
    low = {p: d for p, d in dtypes.items() if jnp.finfo(d).bits < 32}
    if low and not optimises:
        raise TypeError(
            f"Parameters of low precision lose the law: {_listed(low)} rounds most of "
            f"a small step away. Keep parameters in float32 (Flax: param_dtype) and "
            f"compute in bfloat16 inside the potential (Flax: dtype)."
        )


def check_sampled_kinds(params: PyTree) -> None:
    """Raises `TypeError` for what Flax keeps beside parameters, and for tied weights.

    Flax's Variables are known by the names of their classes, since it is not imported.
    """
    variables = [
        (jax.tree_util.keystr(path), leaf)
        for path, leaf in jax.tree_util.tree_flatten_with_path(
            params, is_leaf=_is_variable
        )[0]
        if _is_variable(leaf)
    ]
    kept = {path: type(v).__name__ for path, v in variables if _kinds(v) & _NOT_SAMPLED}
    if isinstance(params, Mapping):
        kept |= {f"['{name}']": "Linen" for name in params if name in _COLLECTIONS}
    if kept:
        raise TypeError(
            f"These are not parameters and would be sampled: {_listed(kept)}. NNX: "
            f"graph, params, rest = nnx.split(model, nnx.Param, ...), and start from "
            f"params; Linen: start from variables['params']. For BatchNorm use "
            f"GroupNorm or LayerNorm; dropout is no likelihood."
        )
    seen: dict[int, str] = {}
    for path, variable in variables:
        other = seen.setdefault(id(variable), path)
        if other != path:
            raise TypeError(
                f"{path} and {other} are one Variable, tied weights, and would be "
                f"sampled as two. Start from nnx.state(model, nnx.Param), which has it "
                f"once."
            )


def _kinds(variable: Any) -> set[str]:
    return {kind.__name__ for kind in type(variable).__mro__}


def _is_variable(leaf: Any) -> bool:
    kinds = type(leaf).__mro__
    return any(k.__name__ == "Variable" and "flax" in k.__module__ for k in kinds)


def _listed(leaves: dict[str, Any], most: int = 5) -> str:
    shown = [f"{path} ({kind})" for path, kind in list(leaves.items())[:most]]
    more = f" and {len(leaves) - most} more" if len(leaves) > most else ""
    return ", ".join(shown) + more


def checked_grads(
    grads: PyTree, params: PyTree | None, optimises: bool = False
) -> PyTree:
    """Gradients as arrays; raises where they do not fit parameters, naming the leaf.

    `optax.apply_updates` would broadcast a (4, 3) gradient into a (3,) parameter
    and so change the parameter's shape. Costs nothing in a compiled step.
    """
    check_params(grads, optimises)
    if params is not None:
        _check_fit(grads, params)
    return jax.tree.map(jnp.asarray, grads)


def _check_fit(grads: PyTree, params: PyTree) -> None:
    have, want = paths(grads), paths(params)
    if have.keys() != want.keys():
        missing = sorted(want.keys() - have.keys())
        extra = sorted(have.keys() - want.keys())
        raise ValueError(
            f"Gradients and parameters are different trees: gradients lack {missing} "
            f"and have {extra} in addition. Pass update(grads, state, params) the "
            f"parameters the gradients were taken at."
        )
    for path, g in have.items():
        p = want[path]
        if g is not None and p is not None and np.shape(g) != np.shape(p):
            raise ValueError(
                f"The gradient of {path} has shape {np.shape(g)}, the parameter has "
                f"{np.shape(p)}. Take the gradient of a scalar potential at params."
            )
