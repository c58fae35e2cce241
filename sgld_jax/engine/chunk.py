"""The compiled chunk: a fixed number of draws of all chains, in one program.

A run is a sequence of chunks of one shape. How many updates come before each
draw is an argument, so burn-in, thinning and the tail of a run all use the one
program, and a run of m then k draws makes the same bits as one of m + k.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.extend.core
import jax.numpy as jnp
import optax

from sgld_jax.engine.chain import Chain, Failure, pick, step
from sgld_jax.schedules import Trace
from sgld_jax.target.data import Batches
from sgld_jax.target.potential import Potential

PyTree = Any


class Draw(NamedTuple):
    """What is kept of the chains at one moment; a chunk stacks them in front.

    Attributes:
      params: what `collect` returned, leaves `[C, ...]`.
      potential: U as the last update saw it, one update earlier, `[C]`; NaN once a
        chain has gone non-finite.
      weight: importance weight, 0 once a chain has gone non-finite, float32 `[C]`.
      count: updates made, int32 `[C]`.
    """

    params: PyTree
    potential: jax.Array
    weight: jax.Array
    count: jax.Array


class Recipe(NamedTuple):
    """What is the same in every chunk of a run; hashable, so programs are kept."""

    sampler: optax.GradientTransformation
    potential: Potential
    batches: Batches
    collect: Callable[[PyTree], PyTree]


def compile_chunk(
    recipe: Recipe, chain: Chain, data: PyTree, num_draws: int, checked: bool
):
    """A program `(chain, data, updates [K]) -> (chain, draws [K, C, ...], finite [C])`.

    `updates[k]` updates are made before draw k; where it is 0 the draw is skipped and
    its record is zeros. With `checked`, every update is looked at: a chain that goes
    non-finite stays at its last finite position and notes the update and the leaf.

    Compiled once for every recipe and shape, and kept.
    """
    leaves, treedef = jax.tree.flatten((chain, data))
    shapes = tuple(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in leaves)
    x64 = jax.config.jax_enable_x64  # part of the meaning of a program
    return _compiled(recipe, treedef, shapes, num_draws, checked, x64)


@functools.lru_cache(maxsize=32)
def _compiled(
    recipe: Recipe, treedef: Any, shapes: tuple, num_draws: int, checked: bool, x64
):
    del x64
    chain, data = treedef.unflatten(shapes)
    updates = jax.ShapeDtypeStruct((num_draws,), jnp.int32)
    run = functools.partial(_run, recipe, _checked_step if checked else _plain_step)
    return _compile_without_constants(run, chain, data, updates)


def _run(
    recipe: Recipe, advance: Callable, chain: Chain, data: PyTree, updates: jax.Array
):
    one_update = functools.partial(advance, recipe, data)
    value_shape = jax.eval_shape(one_update, (chain, None))[1]
    unseen = jnp.zeros(value_shape.shape, value_shape.dtype)

    def make(chain: Chain, n: jax.Array) -> tuple[Chain, Draw]:
        chain, value = jax.lax.fori_loop(
            0, n, lambda _, c: one_update(c), (chain, unseen)
        )
        return chain, _record(recipe, chain, value)

    blank = jax.eval_shape(make, chain, updates[0])[1]

    def skip(chain: Chain, n: jax.Array) -> tuple[Chain, Draw]:
        del n
        return chain, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), blank)

    def draw(chain: Chain, n: jax.Array) -> tuple[Chain, Draw]:
        return jax.lax.cond(n > 0, make, skip, chain, n)

    chain, draws = jax.lax.scan(draw, chain, updates)
    finite = _finite(chain.params) & jnp.all(jnp.isfinite(draws.potential), axis=0)
    return chain, draws, finite


def _plain_step(recipe: Recipe, data: PyTree, carry: tuple) -> tuple[Chain, jax.Array]:
    chain, _ = carry
    return step(
        chain, recipe.sampler, recipe.potential, data=data, batches=recipe.batches
    )


def _checked_step(
    recipe: Recipe, data: PyTree, carry: tuple
) -> tuple[Chain, jax.Array]:
    old, old_value = carry
    new, value = _plain_step(recipe, data, carry)
    old_value = jnp.zeros_like(value) if old_value is None else old_value
    bad = [~_finite(leaf) for leaf in jax.tree.leaves(new.params)] + [
        ~jnp.isfinite(value)
    ]
    failing = functools.reduce(jnp.logical_or, bad) & (old.failure.step < 0)
    leaf = jnp.argmax(jnp.stack(bad), axis=0).astype(jnp.int32)
    failure = pick(failing, Failure(old.count, leaf), old.failure)
    alive = failure.step < 0
    return pick(alive, new, old)._replace(failure=failure), pick(
        alive, value, old_value
    )


def _record(recipe: Recipe, chain: Chain, value: jax.Array) -> Draw:
    traces = [
        leaf
        for leaf in jax.tree.leaves(chain.state, is_leaf=lambda x: isinstance(x, Trace))
        if isinstance(leaf, Trace)
    ]
    # Several kernels in one chain of transformations have no single weight.
    weight = (
        traces[0].weight
        if len(traces) == 1
        else jnp.ones(chain.count.shape, jnp.float32)
    )
    alive = chain.failure.step < 0
    return Draw(
        jax.vmap(recipe.collect)(chain.params),
        jnp.where(alive, value, jnp.nan),
        jnp.where(alive, weight, 0.0),
        chain.count,
    )


def _finite(tree: PyTree) -> jax.Array:
    """Whether all numbers of a chain are finite, `[C]`, for leaves `[C, ...]`."""
    flags = [
        jnp.all(jnp.isfinite(x), axis=tuple(range(1, x.ndim)))
        for x in jax.tree.leaves(tree)
    ]
    return functools.reduce(jnp.logical_and, flags)


def _compile_without_constants(function: Callable, *args: PyTree) -> Callable:
    """Compiles `function`, with the arrays it closes over as arguments.

    A potential may close over its data. As constants they would be compiled in:
    slowly, twice in memory, and once more for every new data set.
    """
    jaxpr, out_shape = jax.make_jaxpr(function, return_shape=True)(*args)
    out_tree = jax.tree.structure(out_shape)

    def flat(constants: list, leaves: list) -> list:
        return jax.extend.core.jaxpr_as_fun(jaxpr.replace(consts=constants))(*leaves)

    constants = [jnp.asarray(c) for c in jaxpr.consts]
    program = jax.jit(flat).lower(constants, jax.tree.leaves(args)).compile()

    def call(*args: PyTree) -> PyTree:
        return out_tree.unflatten(program(constants, jax.tree.leaves(args)))

    return call
