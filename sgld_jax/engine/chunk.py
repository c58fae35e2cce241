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
import numpy as np
import optax

from sgld_jax.engine.chain import Chain, Failure, pick, step
from sgld_jax.potentials.batches import Batches
from sgld_jax.potentials.potential import Potential
from sgld_jax.states import Trace

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
    # These change what a program means; devices and layouts are jit's to watch.
    config: Any = jax.config
    settings = (config.jax_enable_x64, config.jax_default_matmul_precision)
    program = _traced(recipe, treedef, shapes, num_draws, checked, settings)
    nothing = np.zeros(num_draws, np.int32)
    jax.block_until_ready(program(chain, data, nothing)[2])  # compiles, makes no draw
    return program


@functools.lru_cache(maxsize=32)
def _traced(
    recipe: Recipe,
    treedef: Any,
    shapes: tuple,
    num_draws: int,
    checked: bool,
    settings: tuple,
) -> "Program":
    del settings
    chain, data = treedef.unflatten(shapes)
    updates = jax.ShapeDtypeStruct((num_draws,), jnp.int32)
    run = functools.partial(_run, recipe, _checked_step if checked else _plain_step)
    return Program(run, chain, data, updates)


class _Moving(NamedTuple):
    """Chains between two draws.

    Attributes:
      chain: after the last update.
      value: U as that update saw it, `[C]`.
      sane: whether U has been finite at every update of this chunk, bool `[C]`.
    """

    chain: Chain
    value: jax.Array
    sane: jax.Array


def _run(
    recipe: Recipe, advance: Callable, chain: Chain, data: PyTree, updates: jax.Array
):
    one_update = functools.partial(advance, recipe, data)
    value = jax.eval_shape(lambda c: _update(recipe, data, c)[1], chain)
    unseen = jnp.zeros(value.shape, value.dtype)

    def make(chain: Chain, sane: jax.Array, n: jax.Array):
        start = _Moving(chain, unseen, sane)
        end = jax.lax.fori_loop(0, n, lambda _, moving: one_update(moving), start)
        return (end.chain, end.sane), _record(recipe, end.chain, end.value)

    sane = jnp.ones(value.shape, bool)
    blank = jax.eval_shape(make, chain, sane, updates[0])[1]

    def skip(chain: Chain, sane: jax.Array, n: jax.Array):
        del n
        nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), blank)
        return (chain, sane), nothing

    def draw(carry: tuple, n: jax.Array) -> tuple[tuple, Draw]:
        return jax.lax.cond(n > 0, make, skip, *carry, n)

    (chain, sane), draws = jax.lax.scan(draw, (chain, sane), updates)
    return chain, draws, sane & _finite(chain.params)


def _update(recipe: Recipe, data: PyTree, chain: Chain) -> tuple[Chain, jax.Array]:
    return step(
        chain, recipe.sampler, recipe.potential, data=data, batches=recipe.batches
    )


def _plain_step(recipe: Recipe, data: PyTree, old: _Moving) -> _Moving:
    chain, value = _update(recipe, data, old.chain)
    return _Moving(chain, value, old.sane & jnp.isfinite(value))


def _checked_step(recipe: Recipe, data: PyTree, old: _Moving) -> _Moving:
    """An update that a chain does not make if it would leave the finite numbers.

    A potential that is not finite fails a chain that moves by it; a transformation
    that skips such an update, `optax.apply_if_finite`, keeps its chain going.
    """
    new, value = _update(recipe, data, old.chain)
    before, after = jax.tree.leaves(old.chain.params), jax.tree.leaves(new.params)
    moved = ~functools.reduce(jnp.logical_and, map(_equal, before, after))
    bad = [~_finite(leaf) for leaf in after] + [~jnp.isfinite(value) & moved]
    failing = functools.reduce(jnp.logical_or, bad) & (old.chain.failure.step < 0)
    leaf = jnp.argmax(jnp.stack(bad), axis=0).astype(jnp.int32)
    failure = pick(failing, Failure(old.chain.count, leaf), old.chain.failure)
    alive = failure.step < 0
    chain = pick(alive, new, old.chain)._replace(failure=failure)
    return _Moving(chain, pick(alive, value, old.value), old.sane)


def _equal(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.all(a == b, axis=tuple(range(1, a.ndim)))


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


class Program:
    """A compiled function, with the arrays it closes over as arguments.

    A potential may close over its data. As constants they would be compiled in:
    slowly, twice in memory, and once more for every new data set.
    """

    def __init__(self, function: Callable, *args: PyTree):
        jaxpr, out_shape = jax.make_jaxpr(function, return_shape=True)(*args)
        self._out_tree = jax.tree.structure(out_shape)
        self.constants = [jnp.asarray(c) for c in jaxpr.consts]

        def flat(constants: list, leaves: list) -> list:
            closed = jaxpr.replace(consts=constants)
            return jax.extend.core.jaxpr_as_fun(closed)(*leaves)

        self.jitted = jax.jit(flat)

    def __call__(self, *args: PyTree) -> PyTree:
        """The outputs of the function."""
        return self._out_tree.unflatten(
            self.jitted(self.constants, jax.tree.leaves(args))
        )
