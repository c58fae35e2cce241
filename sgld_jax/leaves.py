"""Arithmetic on the leaves of trees, and settings that fit a tree.

optax's own tree arithmetic leaves dtypes to promotion; a kernel must not: a
bfloat16 leaf stays bfloat16, a float64 leaf gets a float64 step, and nothing
is promoted implicitly (`jax_numpy_dtype_promotion="strict"` passes).
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from sgld_jax.arguments import shown

PyTree = Any


def wide_dtype(leaf: Any) -> Any:
    """What noise is drawn in: float64 for float64 leaves, float32 for all others."""
    return jnp.float64 if leaf.dtype == jnp.float64 else jnp.float32


def widest_dtype(tree: PyTree) -> Any:
    """float64 where a leaf is float64, else float32."""
    wide = [wide_dtype(x) for x in jax.tree.leaves(tree)]
    return jnp.float64 if jnp.float64 in wide else jnp.float32


def mean(tree: PyTree, dtype: Any) -> jax.Array:
    """The mean of all coordinates, `[]`; 0 where there are none."""
    leaves = [x.astype(dtype) for x in jax.tree.leaves(tree)]
    total = sum((jnp.sum(x) for x in leaves), jnp.zeros([], dtype))
    return total / max(1, sum(x.size for x in leaves))


def scale(scalar: Any, tree: PyTree) -> PyTree:
    """`scalar` times every leaf, in the leaf's own dtype."""
    return jax.tree.map(lambda x: jnp.asarray(scalar, x.dtype) * x, tree)


def times(factor: PyTree, tree: PyTree) -> PyTree:
    """A number, or a tree of factors, times a tree; in the dtypes of the latter."""
    if jax.tree.structure(factor) == jax.tree.structure(0):
        return scale(factor, tree)
    return jax.tree.map(lambda f, x: f.astype(x.dtype) * x, factor, tree)


def add(tree: PyTree, noise: PyTree) -> PyTree:
    """`tree + noise`, summed in the dtype of the noise, returned in that of `tree`."""
    return jax.tree.map(
        lambda x, z: (x.astype(z.dtype) + z).astype(x.dtype), tree, noise
    )


def subtract(tree: PyTree, other: PyTree) -> PyTree:
    """`tree - other`, leaves of the same dtypes."""
    return jax.tree.map(jnp.subtract, tree, other)


def dot(a: PyTree, b: PyTree) -> jax.Array:
    """The scalar product of two trees, `[]`, in the widest of their dtypes."""
    dtype = widest_dtype(a)
    products = jax.tree.map(lambda x, y: jnp.sum(x * y, dtype=dtype), a, b)
    return sum(jax.tree.leaves(products), jnp.zeros([], dtype))


def all_finite(tree: PyTree) -> jax.Array:
    """Whether all numbers of a tree are finite, bool `[]`."""
    flags = [jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(tree)]
    return jnp.all(jnp.array([True, *flags]))


def where(chosen: jax.Array, new: PyTree, old: PyTree) -> PyTree:
    """`new` if `chosen`, bool `[]`, else `old`: trees of the same leaves."""
    return jax.tree.map(lambda n, o: jnp.where(chosen, n, o), new, old)


def instances(tree: PyTree, kind: type) -> list:
    """All parts of a tree that are of one type, such as the traces in a state."""
    found = jax.tree.leaves(tree, is_leaf=lambda x: isinstance(x, kind))
    return [x for x in found if isinstance(x, kind)]


def is_numeric(leaf: Any) -> bool:
    """Whether JAX can take a leaf as an array."""
    return isinstance(leaf, (jax.Array, np.ndarray, np.generic, float, int))


def paths(tree: PyTree) -> dict[str, Any]:
    """The leaves of a tree by their path, `None` kept as a leaf."""
    flat, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda x: x is None)
    keystr = jax.tree_util.keystr
    return {keystr(as_typed(path)) or "(the leaf)": leaf for path, leaf in flat}


def as_typed(path: tuple) -> tuple:
    """A path without the `.value` in which NNX's Variables end, and nobody types."""
    is_value = path and getattr(path[-1], "name", None) == "value"
    return path[:-1] if is_value else path


def matched(setting: PyTree, tree: PyTree, name: str) -> PyTree:
    """`setting`, a number or a tree of them, with the structure of `tree`.

    Raises:
      ValueError: naming the leaf, where an entry is missing or has another shape.
    """
    if jax.tree.structure(setting) == jax.tree.structure(0) and np.ndim(setting) == 0:
        return jax.tree.map(lambda _: setting, tree)
    have, want = paths(setting), paths(tree)
    missing = sorted(
        path for path in want.keys() - have.keys() if want[path] is not None
    )
    if missing:
        raise ValueError(
            f"{name} has no entry for {missing}; it has {sorted(have)}. Pass one "
            f"number, or a tree with the structure of the parameters."
        )
    present = {path: leaf for path, leaf in want.items() if leaf is not None}
    for path, leaf in present.items():
        if np.shape(have[path]) not in ((), np.shape(leaf)):
            raise ValueError(
                f"{name}: {path} has shape {np.shape(have[path])}, the parameter has "
                f"{np.shape(leaf)}; expected the same shape, or a number."
            )
    return jax.tree.structure(tree).unflatten([have[path] for path in present])


def spread(setting: PyTree, tree: PyTree, name: str) -> PyTree:
    """`setting` as `matched` returns it, with the shapes and dtypes of `tree`."""
    return jax.tree.map(
        lambda value, x: jnp.broadcast_to(jnp.asarray(value, x.dtype), x.shape),
        matched(setting, tree, name),
        tree,
    )


def check_positive(setting: PyTree, name: str, zero: bool = False) -> None:
    """Raises unless `setting` has numbers above 0, with `zero` of at least 0."""
    if not jax.tree.leaves(setting):
        raise TypeError(f"{name} is {shown(setting)}: expected a number, or a tree.")
    for path, leaf in paths(setting).items():
        if leaf is None or isinstance(leaf, Tracer):
            continue
        if not is_numeric(leaf) or isinstance(leaf, bool):
            raise TypeError(f"{name}: {path} is {shown(leaf)}: expected a number.")
        value = np.asarray(leaf, np.float64)
        in_range = value >= 0 if zero else value > 0
        if not (np.isfinite(value).all() and in_range.all()):
            at_least = "of at least" if zero else "above"
            raise ValueError(
                f"{name}: {path} holds {value.min():.3g} to {value.max():.3g}; "
                f"expected finite numbers {at_least} 0."
            )
