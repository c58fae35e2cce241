"""Batches shared by chains: the law of each chain, and how they move together."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sgld_jax
from tests.marks import briefly
from tests.runs import (
    DATA,
    MEAN,
    SMALL_STEPS,
    arrays,
    assert_equal_bits,
    on_data,
    run,
)

SHARED = {
    "with replacement": lambda k: sgld_jax.with_replacement(3, shared_by=k),
    "shuffled": lambda k: sgld_jax.shuffled(6, shared_by=k),
    "blocks": lambda k: sgld_jax.blocks(6, seed=2, shared_by=k),
}
ROWS = np.array([-1.5, -0.3, 0.2, 0.4, 0.9, 1.1, 2.0, 2.8], np.float32)
Z = 4.5


def location(batches, num_chains, step_size, num_samples, **kwargs):
    """Chains for the mean of `ROWS`, a flat prior, from 0."""
    potential = sgld_jax.minibatch_potential(
        lambda x: jnp.zeros(()), lambda x, rows: -0.5 * (rows - x) ** 2, len(ROWS)
    )
    return sgld_jax.sample(
        5,
        sgld_jax.sgld(step_size, **kwargs),
        potential,
        lambda key: jnp.zeros(()),
        num_samples=num_samples,
        num_chains=num_chains,
        thinning=1 if num_samples == 6 else 60,
        data=ROWS,
        batches=batches,
    )


def test_the_law_of_chains_that_share_batches():
    """Each chain has its law; two of a stream have the covariance of their batches.

    θ' = aθ + ε Ñ + √(2ε) ξ with a = 1 − Nε, Ñ the batch's estimate of Σx, of variance
    V = N² s²/n. Batches are common to a stream and ξ is not, so that
    Var θ = (ε²V + 2ε)/(1 − a²), of which ε²V/(1 − a²) is common to two of its chains.
    """
    n, shared_by, epsilon, streams = 2, 4, 0.03, 1024
    batches = sgld_jax.with_replacement(n, shared_by=shared_by)
    x = location(batches, streams * shared_by, epsilon, 8).params
    x = x.reshape(streams, shared_by, 8).astype(float) - ROWS.mean(dtype=float)
    a = 1 - len(ROWS) * epsilon
    noise = len(ROWS) ** 2 * ROWS.var(dtype=float) / n
    common = epsilon**2 * noise / (1 - a**2)
    variance = common + 2 * epsilon / (1 - a**2)
    total = (x.sum(1) ** 2 - (x**2).sum(1)) / (shared_by * (shared_by - 1))
    for value, expected in [
        ((x**2).mean(1), variance),
        (total, common),
        (x[:-1].mean(1) * x[1:].mean(1), 0.0),  # neighbouring streams
    ]:
        error = np.std(value) / np.sqrt(value.size)
        assert abs(value.mean() - expected) < Z * error
    assert common > 0.4 * variance


@pytest.mark.parametrize("scheme", SHARED)
def test_rows_are_those_of_one_chain(scheme):
    """Without noise the chains of stream g move as chain g does with its own rows."""
    alone = location(SHARED[scheme](1), 4, 0.02, 6, temperature=0.0)
    for size in (2, 4):
        shared = location(SHARED[scheme](size), 4, 0.02, 6, temperature=0.0)
        stream = np.arange(4) // size
        assert (shared.streams == stream).all()
        np.testing.assert_allclose(shared.params, alone.params[stream], rtol=1e-6)
        np.testing.assert_array_equal(shared.params, shared.params[stream * size])
    assert len(np.unique(alone.params[:, -1])) == 4


@pytest.mark.parametrize("scheme", SHARED)
@pytest.mark.parametrize("failing", [0, 3])
def test_a_chain_that_fails_does_not_hold_its_stream_back(scheme, failing):
    potential = sgld_jax.minibatch_potential(
        lambda x: 0 * jnp.log(x + 1), lambda x, rows: -0.5 * (rows - x) ** 2, len(ROWS)
    )

    def path(start, num_samples=30):
        return sgld_jax.sample(
            5,
            sgld_jax.sgld(0.02, temperature=0.0),
            potential,
            sgld_jax.stacked(start),
            num_samples=num_samples,
            num_chains=4,
            data=ROWS,
            batches=SHARED[scheme](2),
        ).params

    start = jnp.array([0.5, 0.1, 0.3, 0.7])
    with pytest.warns(UserWarning, match="1 of 4 chains have failed"):
        made = path(start.at[failing].set(-2.0))
    healthy = [i for i in range(4) if i != failing]
    np.testing.assert_allclose(made[healthy], path(start)[healthy], rtol=1e-5)


def test_noise_is_each_chains_own():
    flat = lambda x, batch: 0.0 * jnp.sum(batch["x"])  # noqa: E731
    own, shared = (
        run(3, potential=flat, data=DATA, batches=sgld_jax.shuffled(3, shared_by=size))
        for size in (1, 4)
    )
    np.testing.assert_array_equal(own.params, shared.params)


@pytest.mark.parametrize("scheme", SHARED)
@pytest.mark.parametrize("sizes", briefly([(2, None), (2, 2), (4, None)], (2, 2)))
def test_a_run_goes_on_bit_for_bit(scheme, sizes):
    size, groups = sizes
    batches = SHARED[scheme](size)
    whole = on_data(9, batches=batches, groups=groups, thinning=2)
    first = on_data(4, batches=batches, groups=groups, thinning=2)
    more = sgld_jax.resume(
        first.final,
        *(SMALL_STEPS, MEAN),
        num_samples=5,
        thinning=2,
        data=DATA,
        batches=batches,
    )
    assert_equal_bits(arrays(first.concatenate(more)), arrays(whole))
    chain = sgld_jax.start(
        3,
        SMALL_STEPS,
        lambda key: jax.random.normal(key, (2,)),
        num_chains=4,
        data=DATA,
        batches=batches,
    )
    one = jax.jit(
        lambda chain: sgld_jax.step(
            chain, SMALL_STEPS, MEAN, data=DATA, batches=batches
        )
    )
    for _ in range(18):
        chain, _ = one(chain)
    np.testing.assert_allclose(chain.params, whole.final.params, rtol=1e-4)
    np.testing.assert_array_equal(chain.batches.offset, whole.final.batches.offset)
    np.testing.assert_array_equal(chain.batches.count, whole.final.batches.count)


def test_groups_hold_whole_streams():
    batches = sgld_jax.with_replacement(3, shared_by=2)
    assert on_data(2, batches=batches, groups=2).report.group_size == 2
    with pytest.raises(
        ValueError, match="groups=4 makes groups of 1 chains.*at most 2"
    ):
        on_data(2, batches=batches, groups=4)


def test_parts_of_a_stream_cannot_go_on():
    batches = sgld_jax.shuffled(6, shared_by=2)
    samples = on_data(2, batches=batches)
    kwargs = {"num_samples": 2, "data": DATA, "batches": batches}
    sgld_jax.resume(samples[2:].final, SMALL_STEPS, MEAN, **kwargs)
    for part in (samples[1:], samples[1:3], samples[[0, 2]]):
        with pytest.raises(ValueError, match="are not whole groups.*multiple of 2"):
            sgld_jax.resume(part.final, SMALL_STEPS, MEAN, **kwargs)


def test_what_is_shared_is_said():
    batches = sgld_jax.with_replacement(3, shared_by=4)
    assert repr(batches) == "with_replacement(3, shared_by=4)"
    assert repr(sgld_jax.blocks(3, 2, shared_by=2)) == "blocks(3, shared_by=2, seed=2)"
    samples = on_data(20, batches=batches)
    assert samples.report.shared_by == 4
    assert "4 chains share each batch and are correlated" in repr(samples)
    assert "share" not in repr(on_data(3, batches=sgld_jax.with_replacement(3)))
    with pytest.warns(UserWarning, match="4 chains saw 1 streams of batches"):
        sgld_jax.rhat(samples)
    with pytest.warns(UserWarning, match="ArviZ takes chains for independent"):
        sgld_jax.to_arviz(samples)


@pytest.mark.parametrize(
    "shared_by, error, words",
    [
        (3, ValueError, "groups of 3, and the 4 chains are not whole groups"),
        (8, ValueError, "groups of 8"),
        (0, ValueError, "shared_by=0"),
        (2.0, TypeError, "shared_by=2.0"),
    ],
)
def test_refused(shared_by, error, words):
    with pytest.raises(error, match=words):
        on_data(2, batches=sgld_jax.with_replacement(3, shared_by=shared_by))


def test_another_sharing_is_refused_when_a_run_goes_on():
    chain = on_data(2, batches=sgld_jax.shuffled(6, shared_by=2)).final
    with pytest.raises(ValueError, match=r"started with shuffled\(6, shared_by=2\)"):
        sgld_jax.resume(
            chain,
            *(SMALL_STEPS, MEAN),
            num_samples=1,
            data=DATA,
            batches=sgld_jax.shuffled(6),
        )
