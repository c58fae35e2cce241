"""Noise alone: nanoseconds a number inside a scan, ours against `jax.random.normal`."""

import functools
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp

from benchmarks.timing import clocked, interleaved
from sgld_jax.noise import normal_like

SIZES = (50, 26_122, 10**6, 10**7)
LEAVES = (1, 8, 50, 200)  # of 540 numbers each


def speeds(rounds: int, seconds: float, sizes: tuple = SIZES) -> list[dict]:
    """A row for each length and generator, in ns a number, the whole step counted."""
    rows = []
    for size in sizes:
        loops = {name: _loop(draw, size) for name, draw in DRAWS.items()}
        for name, t in interleaved(loops, 1, rounds, seconds).items():
            per_number = [1e3 * x / size for x in (t.micro, t.low, t.high)]
            columns = ("ns a number", "fastest", "slowest")
            rows.append(
                {"numbers": size, "drawn by": name, **dict(zip(columns, per_number))}
            )
    return rows


def compile_times(leaves: tuple = LEAVES) -> list[dict]:
    """Seconds to compile a scanned update of trees of many leaves."""
    rows = []
    for count in leaves:
        tree = [jnp.zeros(540) for _ in range(count)]
        for name, draw in DRAWS.items():
            began = time.perf_counter()
            _scan(draw).lower(jax.random.key(0), tree, 2).compile()
            seconds = time.perf_counter() - began
            rows.append({"leaves": count, "drawn by": name, "compile s": seconds})
    return rows


def _nothing(key, count, tree):
    del key, count
    return tree


def _by_jax(key, count, tree):
    """One flat draw of even length, cut into leaves: jax.random at its best."""
    leaves, treedef = jax.tree.flatten(tree)
    total = sum(x.size for x in leaves)
    key = jax.random.fold_in(key, count)
    flat = jax.random.normal(key, (total + -total % 4,))
    cut, at = [], 0
    for x in leaves:
        cut.append(flat[at : at + x.size].reshape(x.shape))
        at += x.size
    return treedef.unflatten(cut)


DRAWS: dict[str, Callable] = {
    "nothing": _nothing,
    "jax.random.normal": _by_jax,
    "sgld_jax": normal_like,
}


def _scan(draw: Callable):
    """θ ← 0.99 θ + 0.01 ξ, so often."""

    @functools.partial(jax.jit, static_argnums=2)
    def run(key, tree, updates):
        def body(carry, _):
            tree, count = carry
            noise = draw(key, count, tree)
            tree = jax.tree.map(lambda x, z: 0.99 * x + 0.01 * z, tree, noise)
            return (tree, count + 1), None

        return jax.lax.scan(body, (tree, jnp.int32(0)), None, length=updates)[0][0]

    return run


def _loop(draw: Callable, size: int):
    key, tree = jax.random.key(0), jnp.zeros(size)
    return clocked(_scan(draw), lambda updates: (key, tree, updates))
