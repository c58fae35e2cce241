"""The driver: what was drawn is kept, whatever stops a run; chunks follow the clock."""

import os
import signal
import subprocess
import sys
import textwrap
import time
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sgld_jax
from sgld_jax import program
from sgld_jax.engine import drive
from tests.runs import QUADRATIC, SAMPLER, arrays, assert_equal_bits, normal, run

# Most runs here have chains that fail on purpose.
pytestmark = pytest.mark.filterwarnings("ignore:.*chains have failed:UserWarning")


def interrupt(monkeypatch, method, at, error=KeyboardInterrupt):
    """Makes call number `at` of a method of the driver raise."""
    original, calls = getattr(drive._Run, method), []

    def raising(self, *args):
        calls.append(args)
        if len(calls) == at:
            raise error
        return original(self, *args)

    monkeypatch.setattr(drive._Run, method, raising)


@pytest.mark.parametrize("method", ["launch", "settle", "_call", "_measure"])
@pytest.mark.parametrize("plan", [(3000, 0, 1), (3000, 5000, 1), (40, 0, 100)])
def test_ctrl_c_keeps_the_draws_and_says_how_to_go_on(method, plan, monkeypatch):
    num_samples, burn_in, thinning = plan
    counts = {"burn_in": burn_in, "thinning": thinning}
    whole = run(num_samples, **counts)
    with monkeypatch.context() as patch:
        interrupt(patch, method, at=8)
        samples = run(num_samples, **counts)
    done = samples.report.updates
    drawn = max(done - burn_in, 0) // thinning
    assert samples.interrupted and 0 < done == int(samples.final.count[0])
    assert samples.num_samples == drawn < num_samples
    np.testing.assert_array_equal(samples.params, whole.params[:, :drawn])
    left = burn_in + drawn * thinning - done  # below 0 within a draw
    more = num_samples - drawn
    sentence = f"burn_in={left}, num_samples={more}, thinning={thinning}"
    assert sentence in str(samples.report)
    rest = sgld_jax.resume(
        samples.final,
        SAMPLER,
        QUADRATIC,
        burn_in=left,
        num_samples=more,
        thinning=thinning,
    )
    joined = samples.concatenate(rest)
    assert_equal_bits(arrays(joined)[:2], arrays(whole)[:2])
    assert_equal_bits(joined.final, whole.final)


def test_an_interruption_before_anything_was_settled_is_raised(monkeypatch):
    interrupt(monkeypatch, "settle", at=1)
    with pytest.raises(KeyboardInterrupt):
        run(10)


def test_burn_in_below_zero_is_for_draws_that_were_begun():
    chain = run(2).final
    for burn_in in (-3, -4):
        with pytest.raises(ValueError, match=f"burn_in={burn_in}: expected at least"):
            sgld_jax.resume(
                chain, SAMPLER, QUADRATIC, num_samples=1, burn_in=burn_in, thinning=3
            )


def failing_at(update):
    """A potential whose callback raises in one update of one chain."""

    def check(calls):
        if calls == update:
            raise RuntimeError("the disk is full")
        return np.float32(0.0)

    def potential(p, batch):
        del batch
        made = jax.lax.stop_gradient(p["updates"])
        shape = jax.ShapeDtypeStruct((), np.float32)
        zero = jax.pure_callback(check, shape, made, vmap_method="sequential")
        return zero - p["updates"]

    return potential


def test_an_exception_from_a_callback_leaves_the_draws_so_far():
    counting = sgld_jax.sgld(1.0, temperature=0.0)  # one up in every update
    init = lambda key: {"updates": jnp.zeros(())}  # noqa: E731
    with pytest.warns(UserWarning, match="Stopped by .*What was drawn is returned"):
        samples = run(1000, counting, failing_at(700), init)
    made = samples.num_samples
    assert samples.interrupted and 250 <= made <= 700
    np.testing.assert_array_equal(
        samples.params["updates"], np.tile(np.arange(made) + 1, (4, 1))
    )
    assert "num_samples=" + str(1000 - made) in samples.report.interrupted
    with pytest.raises(Exception, match="disk is full"):
        run(1000, counting, failing_at(0), init)


SLOW_RUN = """
    import signal, time
    import jax, jax.numpy as jnp, numpy as np, sgld_jax

    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells may ignore it
    seen = []

    def wait(x):
        if not seen:
            print("running", flush=True)
        seen.append(x)
        time.sleep(0.012)
        return np.float32(0.0)

    def potential(x, batch):
        shape = jax.ShapeDtypeStruct((), np.float32)
        fixed = jax.lax.stop_gradient(x)
        return 0.5 * jnp.sum(x**2) + jax.pure_callback(
            wait, shape, fixed, vmap_method="sequential")

    samples = sgld_jax.sample(
        0, sgld_jax.sgld(0.1), potential, jax.random.normal,
        num_samples=2_000, thinning={thinning})
    print(samples.num_samples, samples.report.updates, samples.interrupted)
"""


@pytest.mark.parametrize("thinning", [1, 10**6])
def test_sigint_in_a_slow_run_returns_its_draws_within_two_seconds(thinning):
    """Updates of 12 ms; the signal comes one second into the run."""
    code = textwrap.dedent(SLOW_RUN).replace("{thinning}", str(thinning))
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "running\n"
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    began = time.perf_counter()
    drawn, updates, interrupted = process.stdout.readline().split()
    assert time.perf_counter() - began < 2
    process.stdout.close()
    process.wait(timeout=60)
    assert interrupted == "True" and int(updates) >= 10
    assert int(drawn) == (int(updates) if thinning == 1 else 0)


def chunks(monkeypatch):
    seen = []
    measure = drive._Run._measure

    def spy(self, now):
        measure(self, now)
        steps = now.steps
        seen.append((steps.end - steps.begin, time.perf_counter() - now.at))

    monkeypatch.setattr(drive._Run, "_measure", spy)
    return seen


def test_a_chunk_takes_about_half_a_second(monkeypatch):
    seen = chunks(monkeypatch)
    run(2, thinning=2_000_000, num_chains=1)
    updates, seconds = np.transpose(seen)
    assert updates.sum() == 4_000_000 and updates.max() > 1000
    assert (updates[:2] == 1).all() and (updates[2:] <= 4 * updates[:-2].max()).all()
    assert seconds.max() < 4 * drive._SECONDS  # of two that are under way


def test_seconds_leave_out_every_compilation():
    limit = 9 + 1e-5 * (time.time_ns() % 10_000)  # of a program that no cache has

    def potential(x, batch):  # fails late, so that there is a replay
        del batch
        wall = jnp.where(jnp.sum(x**2) > limit, jnp.nan, 0.0)
        return 0.5 * jnp.sum(x**2) + wall * jnp.sum(x)

    program._kept.clear()
    began = time.perf_counter()
    samples = run(500, potential=potential, num_chains=16)
    whole = time.perf_counter() - began
    report = samples.report
    assert samples.failed.any()
    assert report.seconds + report.compile_seconds < whole
    assert report.seconds < 0.5 * report.compile_seconds


def test_draws_are_in_host_memory_once():
    """Written to where they stay: not gathered first, and joined at the end."""
    collect = lambda x: jnp.zeros(500) + x[0]  # noqa: E731
    run(2, collect=collect)
    tracemalloc.start()
    try:
        samples = run(3000, collect=collect)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert samples.params.nbytes == 24_000_000
    assert peak < 1.3 * samples.params.nbytes


@pytest.mark.parametrize("collect", [None, lambda x: {"a": x[0], "b": x.sum()}])
def test_frozen_chains_repeat_where_they_stopped_and_leave_the_others_alone(collect):
    def potential(x, batch):
        del batch
        return 0.5 * jnp.sum(x**2) + jnp.sum(jnp.where(x > 3.6, jnp.nan, 0.0) * x)

    samples = run(2000, potential=potential, num_chains=32, collect=collect)
    clean = run(2000, num_chains=32, collect=collect)
    failed = samples.failed
    assert 1 < failed.sum() < 31
    assert_equal_bits(samples.healthy().params, clean[~failed].params)
    for failure in samples.report.failures:
        for leaf, whole in zip(
            jax.tree.leaves(samples.params), jax.tree.leaves(clean.params)
        ):
            path, stop = leaf[failure.chain], failure.step
            np.testing.assert_array_equal(path[:stop], whole[failure.chain, :stop])
            assert (path[stop:] == path[stop - 1]).all()
    more = sgld_jax.resume(
        samples.final, SAMPLER, potential, num_samples=300, collect=collect
    )
    for leaf, new in zip(jax.tree.leaves(samples.params), jax.tree.leaves(more.params)):
        np.testing.assert_array_equal(
            new[failed], np.repeat(leaf[failed][:, -1:], 300, axis=1)
        )
    assert (more.weights[failed] == 0).all() and np.isnan(more.potential[failed]).all()


def test_optimizers_without_a_key_run_too():
    samples = run(50, optax.sgd(0.1), init=normal)
    assert np.abs(samples.params[:, -1]).max() < 0.02
