"""Keys: never defaulted, never shared, never reused.

Every random part of a sampler owns one slot in its state, `rng_key`, that holds
a typed key. Streams branch by `fold_in`, and end in counters:

    seed ── kernel and parameter tree ── chain ┄┄ update count, coordinate ── noise
             `init_key`                   `chain_key`  `generator.py`

Chain numbers are folded in below 2³¹, tags of a level at or above it, so no key of one
level is ever a key of another; and the counters of the generator are none that
`fold_in` uses. Without that, what a lone chain draws at step t is the base key of chain
t in a batch, which neither R-hat nor JAX's key-reuse checker sees.
"""

import functools
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

from sgld_jax.arguments import shown

PyTree = Any

_CHAIN = 0x8000_0001  # the tag of a level: any number from 2³¹ up


class Unseeded(NamedTuple):
    """The key slot of a sampler that was built without a key: an empty pytree."""


_REMEDY = (
    "Give the sampler a key, as in sgld(1e-3, key=0), or fill the slots of its state: "
    "state = sgld_jax.seed(state, key)."
)


def check_key(key: Any) -> None:
    """Raises unless `key` is None or something `as_key` takes."""
    if key is not None:
        as_key(key)


def as_key(key: Any) -> jax.Array:
    """A typed key of shape `[]` from a seed, a typed key, or a legacy key.

    Raises:
      TypeError: for booleans, floats, strings and None.
      ValueError: for a seed that JAX would wrap, and for a batch of keys.
    """
    if (
        isinstance(key, (bool, np.bool_))
        or isinstance(key, (str, bytes))
        or key is None
    ):
        raise TypeError(
            f"key={shown(key)}: expected a seed such as 0, or jax.random.key(0)."
        )
    if isinstance(key, (int, np.integer)):
        return jax.random.key(_checked_seed(int(key)))
    dtype = getattr(key, "dtype", None)
    if dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key):
        if key.shape != ():
            raise ValueError(
                f"key has shape {key.shape}, a batch of keys: expected one key. "
                f"For several chains use jax.vmap(sgld_jax.seed)(states, keys)."
            )
        return key
    if dtype == jnp.uint32 and np.ndim(key) >= 1:
        return _from_legacy(key)
    if dtype is not None and jnp.issubdtype(dtype, jnp.integer) and np.ndim(key) == 0:
        if not isinstance(key, Tracer):
            _checked_seed(int(key))
        return jax.random.key(key)
    raise TypeError(
        f"key={shown(key)}: expected a seed from 0 to 2**32 - 1, "
        f"jax.random.key(seed), or jax.random.PRNGKey(seed)."
    )


def check_vmappable(implementation: Any) -> None:
    """Raises `ValueError` for kinds of keys that `jax.vmap` makes chains share."""
    if "rbg" in str(implementation):
        raise ValueError(
            f"{str(implementation)!r} keys under jax.vmap use only the first one: "
            f"chains would not have streams of their own. Use threefry keys: "
            f"jax.random.key(seed, impl='threefry2x32')."
        )


def is_key(leaf: Any) -> bool:
    """Whether a leaf is an array of typed keys."""
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def init_key(key: Any, kernel: str, params: PyTree) -> jax.Array | Unseeded:
    """The key slot of a fresh state, one of its own for every chain.

    Folds in the kernel's name and the tree's paths and shapes: one seed used twice
    (two groups of `optax.partition`, `model.init`, `optax.add_noise`) gives
    different streams, and the caller's buffer stays the caller's.
    """
    if key is None:
        return Unseeded()
    flat, _ = jax.tree_util.tree_flatten_with_path(params)
    shapes = [(jax.tree_util.keystr(path), np.shape(leaf)) for path, leaf in flat]
    return chain_key(jax.random.fold_in(as_key(key), tag(kernel, shapes)), params)


def chain_key(key: jax.Array, values: PyTree) -> jax.Array:
    """`key`, or under a `vmap` that maps `values` and not `key`, one key per chain.

    `jax.vmap` copies a key that is not mapped to all chains, which then draw the
    same noise and look perfectly mixed. Here chain i gets `fold_in(key, i)`,
    whatever the number of chains. For common noise on purpose, map equal keys.

    Args:
      key: a typed key of shape `[]`.
      values: any tree; its numbers are not used, only whether a `vmap` maps them.
    """
    implementation = jax.random.key_impl(key)
    split = _key_data_for_chains(implementation)
    data = split(jax.random.key_data(key), _without_derivatives(values))
    return jax.random.wrap_key_data(data, impl=implementation)


def copy_per_chain(tree: PyTree, values: PyTree) -> PyTree:
    """`tree`, which under a `vmap` that maps `values` is mapped, too.

    A state made of constants would not show `seed` that there are chains, if both
    are called inside one `vmap`, as in an `nnx.vmap` that builds its optimizer; and
    on a mesh of Explicit axes `vmap` wants all parts of a state laid out alike.
    """
    values = _without_derivatives(values)
    return jax.tree.map(lambda x: _copies(lax.stop_gradient(x), values), tree)


def _without_derivatives(tree: PyTree) -> list:
    """The leaves that are no keys. `custom_vmap` would differentiate through them."""
    return [lax.stop_gradient(x) for x in jax.tree.leaves(tree) if not is_key(x)]


def _under_vmap(expand: Callable, check: Callable = lambda: None) -> Callable:
    """`(x, values) -> x`, but `expand(x, C)` under a `vmap` of `values` and not of x.

    `check` is called under any `vmap`.
    """

    @jax.custom_batching.custom_vmap
    def unchanged(x: jax.Array, values: list) -> jax.Array:
        del values
        return x

    # JAX calls this rule in place of `unchanged` inside a vmap, and says which of its
    # arguments are mapped: the one public way to learn that there are chains.
    @unchanged.def_vmap
    def rule(axis_size: int, in_batched: list, x: jax.Array, values: list):
        check()
        x_mapped, values_mapped = in_batched
        # With two vmaps, one in the other, this is the inner one. The call below is
        # seen by the outer one alone, which so gets its turn to expand x.
        x = unchanged(x, values)
        if x_mapped or not any(values_mapped):
            return x, x_mapped
        mapped = [v for v, is_mapped in zip(values, values_mapped) if is_mapped]
        return _laid_out_like(expand(x, axis_size), mapped), True

    return unchanged


@functools.lru_cache
def _key_data_for_chains(implementation: Any) -> Callable:
    def expand(data: jax.Array, num_chains: int) -> jax.Array:
        keys = jax.random.wrap_key_data(data, impl=implementation)
        split = functools.partial(chain_keys, num_chains=num_chains)
        for _ in keys.shape:  # an inner vmap maps the key already
            split = jax.vmap(split, out_axes=1)
        return jax.random.key_data(split(keys))  # key of the chain

    return _under_vmap(expand, lambda: check_vmappable(implementation))


_copies = _under_vmap(lambda x, num_chains: jnp.broadcast_to(x, (num_chains, *x.shape)))


def _laid_out_like(x: jax.Array, values: list) -> jax.Array:
    """`x` with its chain axis laid over the mesh as that of `values` is.

    Only Explicit axes have it in their type; there, `vmap` refuses to mix layouts.
    """
    shardings = [jax.typeof(v).sharding for v in values]
    sharding = next((s for s in shardings if s.spec[0] is not None), None)
    if sharding is None:
        return x
    spec = jax.P(sharding.spec[0], *[None] * (x.ndim - 1))
    return jax.reshard(x, jax.NamedSharding(sharding.mesh, spec))


def chain_keys(key: jax.Array, num_chains: int) -> jax.Array:
    """Keys `[num_chains]`; the first k of them do not depend on `num_chains`."""
    base = jax.random.fold_in(key, _CHAIN)  # level
    numbers = jnp.arange(num_chains, dtype=jnp.uint32)  # number of the chain
    return jax.vmap(lambda i: jax.random.fold_in(base, i))(numbers)


def key_of_chain(rng_key: jax.Array | Unseeded, values: PyTree) -> jax.Array:
    """The key that the noise of a chain comes from, `[]`.

    `values` are what the update computes with; they tell chains apart where a `vmap`
    maps them over one shared state.

    Raises:
      ValueError: while tracing, if the slot is `Unseeded`.
    """
    if isinstance(rng_key, Unseeded):
        raise ValueError(f"This sampler's state has no key. {_REMEDY}")
    return chain_key(rng_key, values)


def host_generator(key: jax.Array) -> np.random.Generator:
    """NumPy's generator, seeded by a key `[]`: for what the host draws once.

    A program that draws by `jax.random` takes a second to compile, and this none.
    """
    return np.random.default_rng(np.ravel(jax.random.key_data(key)))


def tag(*parts: Any) -> int:
    """A number from 2³¹ up that stands for the parts, to `fold_in`."""
    return zlib.crc32(repr(parts).encode()) | 0x8000_0000


def _checked_seed(number: int) -> int:
    if not 0 <= number < 2**32:
        raise ValueError(
            f"key={number}: a seed must be in 0 ... 2**32 - 1, since JAX would wrap it "
            f"around and give the stream of another seed. Use jax.random.key(seed)."
        )
    return number


def _from_legacy(key: Any) -> jax.Array:
    expected = jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0))).shape
    if np.shape(key) != expected:
        raise ValueError(
            f"key is a uint32 array of shape {np.shape(key)}: expected {expected}, one "
            f"legacy key. For several chains use jax.vmap(sgld_jax.seed)(states, keys)."
        )
    return jax.random.wrap_key_data(key)
