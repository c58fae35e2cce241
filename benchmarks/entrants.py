"""Who runs: ours through `sample`, and rivals in the loop their users write.

    ours         sgld_jax.sgld through sgld_jax.resume, as users have it
    bare         our update in a bare scan: what `resume` could cost at best
    floor        the same update without noise, optax.sgd, in a bare scan: no sampler
                 can be faster
    add_noise    optax.add_noise after optax.sgd, whose scale the user works out
    blackjax     blackjax.sgld in a scan, keys split as in its examples

Every entrant has the same potential, starting points, batch size and step.
"""

import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

import sgld_jax
from benchmarks.models import Model
from benchmarks.timing import Loop, clocked
from sgld_jax.engine.update import advance

PyTree = Any

STEP_SIZE = 1e-6


def ours(model: Model, num_chains: int, batches: Any, **options: Any) -> Loop:
    """`resume` as users call it, new objects every time, by the clock on the wall."""
    chain = _start(model, sgld_jax.sgld(STEP_SIZE), num_chains, batches)
    reports = []

    def run(updates: int) -> float:
        began = time.perf_counter()
        samples = sgld_jax.resume(
            chain,
            sgld_jax.sgld(STEP_SIZE),
            model.potential(),
            num_samples=1,
            thinning=updates,
            data=model.data,
            batches=batches,
            **options,
        )
        reports[:] = [samples.report]
        return time.perf_counter() - began

    return Loop(run, lambda: reports[0].temporary_bytes)


def bare(
    model: Model, num_chains: int, batches: Any, kernel: Callable = sgld_jax.sgld
) -> Loop:
    """Our own update in a bare scan, with our batches."""
    return _scan(model, kernel(STEP_SIZE), num_chains, batches)


def floor(model: Model, num_chains: int, batches: Any) -> Loop:
    """Gradient descent in a bare scan, with our batches."""
    return _scan(model, optax.sgd(STEP_SIZE), num_chains, batches)


def add_noise(model: Model, num_chains: int, batches: Any) -> Loop:
    """Optax's noise in a bare scan, with our batches."""
    noisy = optax.chain(
        optax.sgd(STEP_SIZE), optax.add_noise((2 * STEP_SIZE), 0.0, key=0)
    )
    return _scan(model, noisy, num_chains, batches)


def blackjax(model: Model, num_chains: int, batches: Any) -> Loop:
    """blackjax.sgld in a scan under vmap; rows by `randint`, or by our scheme."""
    from blackjax import sgld

    kernel = sgld(_gradient_of_log_density(model))
    data = model.data
    if batches is None:
        rows = _rows_by_randint
    else:
        laid_out, data = batches.laid_out(data)
        rows = _rows_of(laid_out)

    @functools.partial(jax.jit, static_argnums=2)
    def run(params: PyTree, key: jax.Array, updates: int, data: PyTree) -> PyTree:
        def one_chain(params: PyTree, key: jax.Array) -> PyTree:
            def body(carry, key):
                params, stream = carry
                key_rows, key_noise = jax.random.split(key)
                batch, stream = rows(key_rows, stream, model, data)
                return (kernel.step(key_noise, params, batch, STEP_SIZE), stream), None

            stream = None if batches is None else batches.init(key)
            keys = jax.random.split(key, updates)
            return jax.lax.scan(body, (params, stream), keys)[0][0]

        return jax.vmap(one_chain)(params, jax.random.split(key, num_chains))

    params = jax.vmap(model.init)(jax.random.split(jax.random.key(0), num_chains))
    return clocked(run, lambda n: (params, jax.random.key(1), n, data))


def _gradient_of_log_density(model: Model) -> Callable:
    """What blackjax asks for: the gradient of log p on a batch."""
    potential = model.potential()
    return jax.grad(lambda params, batch: -potential(params, batch))


def _rows_by_randint(key, stream, model, data):
    rows = jax.random.randint(key, (model.batch_size,), 0, model.num_data)
    return jax.tree.map(lambda x: x[rows], data), stream


def _rows_of(batches: Any) -> Callable:
    def rows(key, stream, model, data):
        del key
        indices, stream = batches.next(stream, model.num_data)
        return batches.take(data, indices), stream

    return rows


def _start(model: Model, sampler: Any, num_chains: int, batches: Any):
    return sgld_jax.start(
        0,
        sampler,
        model.init,
        num_chains=num_chains,
        data=model.data,
        batches=batches,
    )


def _scan(model: Model, sampler: Any, num_chains: int, batches: Any) -> Loop:
    chain = _start(model, sampler, num_chains, batches)
    potential = model.potential()
    laid_out, data = batches.laid_out(model.data)

    @functools.partial(jax.jit, static_argnums=1)
    def run(chain: PyTree, updates: int, data: PyTree) -> PyTree:
        def one(carry, _):  # U is carried along, since `sample` records it
            return advance(
                carry[0], sampler, potential, data, laid_out, model.num_data
            ), None

        start = chain, jnp.zeros(num_chains)
        return jax.lax.scan(one, start, None, length=updates)[0]

    return clocked(run, lambda n: (chain, n, data))
