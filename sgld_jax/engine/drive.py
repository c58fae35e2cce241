"""The driver: a run as a sequence of compiled chunks, each checked when it is done."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sgld_jax.engine.chain import Chain, check_count, pick
from sgld_jax.engine.chunk import Draw, Recipe, compile_chunk
from sgld_jax.engine.progress import Progress
from sgld_jax.engine.samples import RunReport, Samples, failures_of

PyTree = Any

# Some 0.1 to 1 s of work: a bar that moves, a Ctrl-C that acts.
_UPDATES_PER_CHUNK = 1024
_BYTES_PER_CHUNK = 64 * 2**20  # of draws, on the device and once more on the host


def drive(
    recipe: Recipe,
    chain: Chain,
    data: PyTree,
    num_samples: int,
    burn_in: int,
    thinning: int,
    progress: bool,
) -> Samples:
    """Burn-in, then `num_samples` draws; see `sample` for what the arguments mean."""
    check_count("num_samples", num_samples, 1)
    check_count("thinning", thinning, 1)
    data = jax.tree.map(jnp.asarray, data)
    length = _draws_per_chunk(recipe, chain, thinning)
    began = time.perf_counter()
    program = compile_chunk(recipe, chain, data, length, checked=False)
    compile_seconds = time.perf_counter() - began
    bar = Progress(burn_in + num_samples * thinning, progress)
    kept: list[Draw] = []
    done, interrupted = 0, ""
    began = time.perf_counter()
    try:
        for updates, num_kept in _chunks(num_samples, burn_in, thinning, length):
            end, draws = _advance(program, recipe, chain, data, updates)
            block = _first(num_kept, draws)
            # Nothing slow from here on: draws and chain must not be torn apart.
            kept.append(block)
            chain, done = end, done + int(updates.sum())
            bar.advance(int(updates.sum()), *_pulse(chain, draws, updates))
    except KeyboardInterrupt:
        if not kept:
            raise
        interrupted = _how_to_go_on(done, num_samples, burn_in, thinning)
    finally:
        bar.close()
    seconds = time.perf_counter() - began
    report = RunReport(done, seconds, compile_seconds, failures_of(chain), interrupted)
    joined = jax.tree.map(lambda *x: np.moveaxis(np.concatenate(x), 0, 1), *kept)
    return Samples(
        joined.params, joined.potential, joined.weight, joined.count, chain, report
    )


def _how_to_go_on(done: int, num_samples: int, burn_in: int, thinning: int) -> str:
    left = max(burn_in - done, 0)
    drawn = max(done - burn_in, 0) // thinning
    return (
        f"Interrupted after {done} updates with {drawn} of {num_samples} draws. Go on "
        f"with sgld_jax.resume(samples.final, ..., burn_in={left}, "
        f"num_samples={num_samples - drawn}, thinning={thinning})."
    )


def _draws_per_chunk(recipe: Recipe, chain: Chain, thinning: int) -> int:
    """A function of thinning and sizes alone, so that all runs share a program."""
    one = jax.eval_shape(jax.vmap(recipe.collect), chain.params)
    size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(one))
    return max(1, min(_UPDATES_PER_CHUNK // thinning, _BYTES_PER_CHUNK // max(size, 1)))


def _chunks(
    num_samples: int, burn_in: int, thinning: int, length: int
) -> Iterator[tuple]:
    """Updates before each draw of a chunk `[length]`, and how many draws to keep."""
    while burn_in > 0:
        updates = np.zeros(length, np.int32)
        updates[0] = min(burn_in, _UPDATES_PER_CHUNK)
        burn_in -= updates[0]  # burn-in left
        yield updates, 0  # burn-in kept
    while num_samples > 0:
        now = min(num_samples, length)
        num_samples -= now
        plan = np.where(np.arange(length) < now, thinning, 0)  # draws
        yield plan.astype(np.int32), now


def _advance(
    program: Callable, recipe: Recipe, chain: Chain, data: PyTree, updates: np.ndarray
):
    """One chunk; what went non-finite in it is replayed with a check each update.

    The healthy chains keep the bits of the fast program. Chains that failed earlier
    are run along and put back, which costs nothing while there are none.
    """
    end, draws, finite = program(chain, data, updates)
    frozen = np.asarray(chain.failure.step) >= 0
    suspect = ~np.asarray(finite) & ~frozen
    if suspect.any():
        replay = compile_chunk(recipe, chain, data, len(updates), checked=True)
        safe_end, safe_draws, _ = replay(chain, data, updates)
        failing = np.asarray(safe_end.failure.step) >= 0
    elif frozen.any():
        safe_end, safe_draws = chain, _held(recipe, chain, len(updates))
        failing = frozen
    else:
        return end, jax.tree.map(np.asarray, draws)
    chosen = jnp.asarray(failing & (suspect | frozen))
    draws = jax.vmap(pick, (None, 0, 0))(chosen, safe_draws, draws)
    return pick(chosen, safe_end, end), jax.tree.map(np.asarray, draws)


def _held(recipe: Recipe, chain: Chain, num_draws: int) -> Draw:
    """The draws of chains that no longer move, leaves `[num_draws, C, ...]`."""
    nothing = jnp.zeros(chain.count.shape, jnp.float32)
    held = Draw(
        jax.vmap(recipe.collect)(chain.params), nothing + jnp.nan, nothing, chain.count
    )
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (num_draws, *x.shape)), held)


def _first(n: int, draws: Draw) -> Draw:
    """A copy of the first draws, so that the buffer of the whole chunk can go."""
    return jax.tree.map(lambda x: np.array(x[:n]), draws)


def _pulse(chain: Chain, draws: Draw, updates: np.ndarray) -> tuple[float, int]:
    """The mean potential of the healthy chains in a chunk, and how many are not."""
    failed = np.asarray(chain.failure.step) >= 0
    seen = draws.potential[updates > 0][:, ~failed]
    return float(seen.mean()) if seen.size else float("nan"), int(failed.sum())
