"""Running chains: compiled chunks, checked one by one."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sgld_jax.engine.chain import (
    Chain,
    Stacked,
    check_count,
    check_distinct_keys,
    check_sampler,
    pick,
    start,
)
from sgld_jax.engine.chunk import Draw, Recipe, compile_chunk
from sgld_jax.engine.progress import Progress
from sgld_jax.engine.samples import RunReport, Samples, failures_of
from sgld_jax.target.data import Batches, check_batches, full_batch, num_rows
from sgld_jax.target.potential import Potential

PyTree = Any

_UPDATES_PER_CHUNK = (
    1024  # some 0.1 to 1 s of work: a bar that moves, a Ctrl-C that acts
)
_BYTES_PER_CHUNK = 64 * 2**20  # of draws, held twice while they are copied to the host


def sample(
    key: Any,
    sampler: optax.GradientTransformation,
    potential: Potential,
    init: Callable[[jax.Array], PyTree] | Stacked,
    *,
    num_samples: int,
    num_chains: int = 1,
    data: PyTree = None,
    batches: Batches = full_batch(),
    burn_in: int = 0,
    thinning: int = 1,
    collect: Callable[[PyTree], PyTree] | None = None,
    progress: bool = False,
) -> Samples:
    """Draws from many chains at once.

    Draw k of a chain is its position after `burn_in + (k + 1) * thinning` updates.
    A chain that goes non-finite stays where it was last finite, is named in the
    report, and touches no other chain. Ctrl-C ends the run with the draws made.

    Args:
      key: a seed or key; starting points, noise and batches branch from it.
      sampler: a kernel, or any optax transformation around one. Its key slots are
        filled anew, so it needs no key of its own.
      potential: `(params, batch) -> scalar`, the negative log density.
      init: `key -> params`, called once per chain, or `stacked(params)`.
      num_samples: S, draws to keep of each chain.
      num_chains: C. Chain i draws the same noise whatever the number.
      data: arrays `[N, ...]`, or None; an argument of the compiled program.
      batches: which rows an update sees.
      burn_in: updates before the first draw's own.
      thinning: updates per draw.
      collect: what to keep of a position, `params -> tree`; everything if None.
      progress: whether to show a bar.

    Returns:
      `Samples` with leaves `[C, S, ...]`.

    Raises:
      TypeError, ValueError: before any work, for arguments out of range or that do
        not fit together.

    Example:
      >>> import jax, jax.numpy as jnp, sgld_jax
      >>> potential = sgld_jax.from_log_density(lambda x: -0.5 * jnp.sum(x**2))
      >>> samples = sgld_jax.sample(
      ...     0, sgld_jax.sgld(0.1), potential, lambda key: jax.random.normal(key, (3,)),
      ...     num_samples=100, num_chains=8, burn_in=50, thinning=5)
      >>> samples.params.shape
      (8, 100, 3)
    """
    check_count("burn_in", burn_in, 0)
    check_count("num_samples", num_samples, 1)
    chain = start(key, sampler, init, num_chains=num_chains, data=data, batches=batches)
    recipe = _recipe(sampler, potential, data, batches, collect)
    return _drive(recipe, chain, data, num_samples, burn_in, thinning, progress)


def resume(
    chain: Chain,
    sampler: optax.GradientTransformation,
    potential: Potential,
    *,
    num_samples: int,
    data: PyTree = None,
    batches: Batches = full_batch(),
    thinning: int = 1,
    collect: Callable[[PyTree], PyTree] | None = None,
    progress: bool = False,
) -> Samples:
    """Runs chains on, as if they had never stopped.

    m draws and then k draws of `samples.final` equal one run of m + k draws, bit for
    bit, on the same machine and JAX version.

    Args:
      chain: from `start`, or the `final` of a run.
      sampler, potential, data, batches, collect: as in the run before.
      num_samples: draws to make now.
      thinning: updates per draw.
      progress: whether to show a bar.

    Raises:
      ValueError: if two chains share a key, and as `sample` does.

    Example:
      >>> import jax, jax.numpy as jnp, sgld_jax
      >>> sampler = sgld_jax.sgld(0.1)
      >>> potential = sgld_jax.from_log_density(lambda x: -0.5 * jnp.sum(x**2))
      >>> first = sgld_jax.sample(
      ...     0, sampler, potential, jax.random.normal, num_samples=10, num_chains=4)
      >>> more = sgld_jax.resume(first.final, sampler, potential, num_samples=10)
      >>> first.concatenate(more).params.shape
      (4, 20)
    """
    check_sampler(sampler)
    check_batches(batches, data)
    check_distinct_keys(chain)
    recipe = _recipe(sampler, potential, data, batches, collect)
    return _drive(recipe, chain, data, num_samples, 0, thinning, progress)


def _recipe(sampler, potential, data, batches, collect) -> Recipe:
    if not callable(potential):
        raise TypeError(
            f"potential={potential!r}: expected a function (params, batch) -> scalar."
        )
    num_data = getattr(potential, "num_data", None)
    if num_data is not None and data is not None and num_data != num_rows(data):
        raise ValueError(
            f"The potential was built with num_data={num_data}, but data has "
            f"{num_rows(data)} rows: N/n would be wrong. Pass num_data={num_rows(data)}."
        )
    return Recipe(sampler, potential, batches, collect or _everything)


def _everything(params: PyTree) -> PyTree:
    return params


def _drive(
    recipe: Recipe,
    chain: Chain,
    data: PyTree,
    num_samples: int,
    burn_in: int,
    thinning: int,
    progress: bool,
) -> Samples:
    check_count("num_samples", num_samples, 1)
    check_count("thinning", thinning, 1)
    data = jax.tree.map(jnp.asarray, data)
    length = _draws_per_chunk(recipe, chain, thinning)
    began = time.perf_counter()
    program = compile_chunk(recipe, chain, data, length, checked=False)
    compile_seconds = time.perf_counter() - began
    bar = Progress(burn_in + num_samples * thinning, progress)
    kept: list[Draw] = []
    done, interrupted = 0, False
    began = time.perf_counter()
    try:
        for updates, num_kept in _chunks(num_samples, burn_in, thinning, length):
            chain, draws = _advance(program, recipe, chain, data, updates)
            done += int(updates.sum())
            kept.append(jax.tree.map(lambda x: x[:num_kept], draws))
            failed = np.asarray(chain.failure.step) >= 0
            bar.advance(
                int(updates.sum()),
                _mean(draws.potential, updates, failed),
                failed.sum(),
            )
    except KeyboardInterrupt:
        if not kept:
            raise
        interrupted = True
    finally:
        bar.close()
    seconds = time.perf_counter() - began
    report = RunReport(done, seconds, compile_seconds, failures_of(chain))
    joined = jax.tree.map(lambda *x: np.moveaxis(np.concatenate(x), 0, 1), *kept)
    return Samples(
        joined.params,
        joined.potential,
        joined.weight,
        joined.count,
        chain,
        report,
        interrupted,
    )


def _draws_per_chunk(recipe: Recipe, chain: Chain, thinning: int) -> int:
    """A function of thinning and sizes alone, so that all runs of a chain share a program."""
    one = jax.eval_shape(jax.vmap(recipe.collect), chain.params)
    size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(one))
    return max(1, min(_UPDATES_PER_CHUNK // thinning, _BYTES_PER_CHUNK // max(size, 1)))


def _chunks(
    num_samples: int, burn_in: int, thinning: int, length: int
) -> Iterator[tuple]:
    """Updates before each draw of a chunk `[length]`, and how many of its draws to keep."""
    while burn_in > 0:
        updates = np.zeros(length, np.int32)
        updates[0] = min(burn_in, _UPDATES_PER_CHUNK)
        burn_in -= updates[0]
        yield updates, 0
    while num_samples > 0:
        now = min(num_samples, length)
        num_samples -= now
        yield np.where(np.arange(length) < now, thinning, 0).astype(np.int32), now


def _advance(
    program: Callable, recipe: Recipe, chain: Chain, data: PyTree, updates: np.ndarray
):
    """One chunk; chains that went non-finite in it are replayed with a check each update.

    The healthy chains keep the bits of the fast program. Chains that failed earlier
    are run along and put back, which costs nothing while there are none.
    """
    end, draws, finite = program(chain, data, updates)
    frozen = np.asarray(chain.failure.step) >= 0
    failing = ~np.asarray(finite) & ~frozen
    if failing.any():
        replay = compile_chunk(recipe, chain, data, len(updates), checked=True)
        safe_end, safe_draws, _ = replay(chain, data, updates)
    elif frozen.any():
        safe_end, safe_draws = chain, _held(recipe, chain, len(updates))
    else:
        return end, jax.tree.map(np.asarray, draws)
    chosen = jnp.asarray(failing | frozen)
    draws = jax.vmap(pick, (None, 0, 0))(chosen, safe_draws, draws)
    return pick(chosen, safe_end, end), jax.tree.map(np.asarray, draws)


def _held(recipe: Recipe, chain: Chain, num_draws: int) -> Draw:
    """The draws of chains that no longer move, leaves `[num_draws, C, ...]`."""
    nothing = jnp.zeros(chain.count.shape, jnp.float32)
    held = Draw(
        jax.vmap(recipe.collect)(chain.params), nothing + jnp.nan, nothing, chain.count
    )
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (num_draws, *x.shape)), held)


def _mean(potential: np.ndarray, updates: np.ndarray, failed: np.ndarray) -> float:
    seen = potential[updates > 0][:, ~failed]
    return float(seen.mean()) if seen.size else float("nan")
