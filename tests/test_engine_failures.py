"""Chains that go non-finite: found, frozen, flagged, and harmless to the others."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sgld_jax
from tests.runs import (
    SAMPLER,
    assert_equal_bits,
    run,
)

# Most runs here have chains that fail on purpose.
pytestmark = pytest.mark.filterwarnings("ignore:.*chains have failed:UserWarning")


def poisoned(leaf, limit=3.0):
    """A potential whose gradient turns NaN in one leaf where that leaf exceeds a limit."""

    def potential(p, batch):
        del batch
        wall = jnp.where(p[leaf] > limit, jnp.nan, 0.0) * p[leaf]
        return 0.5 * sum(jnp.sum(x**2) for x in jax.tree.leaves(p)) + jnp.sum(wall)

    return potential


def two_leaves(key):
    a, b = jax.random.split(key)
    return {"a": jax.random.normal(a), "b": jax.random.normal(b)}


def test_non_finite_chains_are_frozen_flagged_and_poison_no_other():
    kwargs = {"num_chains": 32, "thinning": 2, "init": two_leaves}
    samples = run(900, potential=poisoned("b"), **kwargs)
    clean = run(900, potential=poisoned("b", limit=1e9), **kwargs)
    failed = samples.failed
    assert 3 < failed.sum() < 30
    assert_equal_bits(samples.healthy().params, clean[~failed].params)
    for failure in samples.report.failures:
        c = failure.chain
        path, count = samples.params["b"][c], samples.counts[c]
        assert failed[c] and failure.leaf == "['b']"
        assert np.isfinite(path).all()
        last = failure.step // 2  # draws made before update number `step` failed
        np.testing.assert_array_equal(path[:last], clean.params["b"][c, :last])
        assert path[-1] > 3.0 and (count[last + 1 :] == failure.step).all()
        assert (samples.weights[c, :last] > 0).all() and (
            samples.weights[c, last + 1 :] == 0
        ).all()
        assert np.isnan(samples.potential[c, last + 1 :]).all()
    assert f"chain {samples.report.failures[0].chain} went non-finite in update" in str(
        samples.report
    )


def test_failed_chains_stay_failed_when_resumed():
    samples = run(600, potential=poisoned("b"), num_chains=32, init=two_leaves)
    more = sgld_jax.resume(samples.final, SAMPLER, poisoned("b"), num_samples=40)
    assert set(more.report.failures) >= set(samples.report.failures)
    for c in np.flatnonzero(samples.failed):
        np.testing.assert_array_equal(more.params["b"][c], samples.params["b"][c, -1])
        assert (more.weights[c] == 0).all()
    joined = samples.concatenate(more)
    assert joined.num_samples == 640 and joined.report.failures == more.report.failures


def test_the_step_and_leaf_of_a_failure_are_the_first():
    def potential(p, batch):
        del batch
        return p["a"] + jnp.where(p["a"] < -2.5, jnp.nan, 1.0) * p["b"]

    def init(key):
        return {"a": jnp.zeros(()), "b": jnp.zeros(())}

    sampler = sgld_jax.sgld(1.0, temperature=0.0)  # a falls by 1 an update
    samples = run(10, sampler, potential, init)
    assert [(f.step, f.leaf) for f in samples.report.failures] == [(3, "['b']")] * 4
    np.testing.assert_array_equal(
        samples.params["a"][0], [-1, -2, -3, -3, -3, -3, -3, -3, -3, -3]
    )


def test_a_non_finite_potential_alone_is_found():
    def potential(p, batch):
        del batch
        return p + jax.lax.stop_gradient(jnp.where(p < -2.5, jnp.inf, 0.0))

    samples = run(
        10, sgld_jax.sgld(1.0, temperature=0.0), potential, lambda key: jnp.zeros(())
    )
    assert {(f.step, f.leaf) for f in samples.report.failures} == {(3, "the potential")}


def test_an_exploding_step_ends_as_a_failure_not_as_an_error():
    samples = run(400, sgld_jax.sgld(2.5))
    assert samples.failed.all() and np.isfinite(samples.params).all()
    assert samples.healthy().num_chains == 0


@pytest.mark.key_reuse_off("optax selects between states")
def test_apply_if_finite_keeps_a_chain_going():
    """It skips the bad updates, so nothing fails, and the draws stay finite."""
    sampler = optax.apply_if_finite(sgld_jax.sgld(0.3), max_consecutive_errors=10**6)
    rows = jnp.array([1.0, -1.0, jnp.nan, 0.5, -0.5])  # one bad row

    def potential(theta, row):
        return 0.5 * jnp.sum((theta - row) ** 2)

    kwargs = {"data": rows, "batches": sgld_jax.with_replacement(1), "thinning": 2}
    samples = run(300, sampler, potential, lambda key: jnp.zeros(()), **kwargs)
    assert not samples.report.failures
    assert np.isfinite(samples.params).all()
    assert np.isnan(samples.potential).any()  # the updates that were skipped
    assert run(
        300, sgld_jax.sgld(0.3), potential, lambda key: jnp.zeros(()), **kwargs
    ).failed.all()


@pytest.mark.parametrize("thinning, burn_in", [(1, 0), (40, 0), (4, 40)])
def test_a_potential_that_was_not_finite_between_draws_is_found(thinning, burn_in):
    def potential(x, batch):
        del batch
        return 0.5 * x**2 + jax.lax.stop_gradient(jnp.where(x > 1, jnp.inf, 0.0))

    kwargs = {"thinning": thinning, "burn_in": burn_in, "num_chains": 8}
    samples = run(
        40 // thinning,
        sgld_jax.sgld(0.3),
        potential,
        lambda key: jnp.zeros(()),
        **kwargs,
    )
    every = run(
        80, sgld_jax.sgld(0.3), potential, lambda key: jnp.zeros(()), num_chains=8
    )
    made = burn_in + 40
    expected = {f for f in every.report.failures if f.step < made}
    assert expected and set(samples.report.failures) == expected
