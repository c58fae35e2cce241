"""Chains in groups: the same noise and batches, the same paths to rounding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sgld_jax
from sgld_jax.engine import groups as groups_module
from tests.marks import briefly
from tests.runs import (
    DATA,
    MEAN,
    SCHEMES,
    SMALL_STEPS,
    arrays,
    assert_equal_bits,
    on_data,
    run,
)

ON_DATA = {"data": DATA, "batches": SCHEMES["shuffled"]}


def close(a, b):
    """Paths of two runs of one seed, that differ by the order of sums alone."""
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("groups", briefly([2, 4], 2))
def test_paths_agree_to_rounding(scheme, groups):
    whole = on_data(7, scheme, groups=1, thinning=3, burn_in=2)
    parts = on_data(7, scheme, groups=groups, thinning=3, burn_in=2)
    assert (whole.report.group_size, parts.report.group_size) == (4, 4 // groups)
    close(whole.params, parts.params)
    close(whole.potential, parts.potential)
    np.testing.assert_array_equal(whole.counts, parts.counts)
    for whole_key, part_key in zip(
        *(jax.tree.leaves(s.final.state) for s in (whole, parts))
    ):
        if jnp.issubdtype(whole_key.dtype, jax.dtypes.prng_key):
            assert (whole_key == part_key).all()


def test_noise_is_equal_in_bits():
    flat = lambda x, _: jnp.zeros(())  # noqa: E731
    runs = [run(5, potential=flat, groups=groups) for groups in (1, 2, 4)]
    for other in runs[1:]:
        np.testing.assert_array_equal(runs[0].params, other.params)


@pytest.mark.parametrize("groups", [None, 2])
def test_a_run_goes_on_in_its_groups_bit_for_bit(groups):
    whole = on_data(9, groups=groups)
    first = on_data(4, groups=groups)
    more = sgld_jax.resume(first.final, SMALL_STEPS, MEAN, num_samples=5, **ON_DATA)
    assert more.report.group_size == whole.report.group_size
    assert_equal_bits(arrays(first.concatenate(more)), arrays(whole))


def test_groups_may_change_when_a_run_goes_on():
    first = on_data(4, groups=2)
    more = sgld_jax.resume(
        first.final, SMALL_STEPS, MEAN, num_samples=5, groups=4, **ON_DATA
    )
    assert more.report.group_size == 1
    close(first.concatenate(more).params, on_data(9, groups=1).params)


def test_a_failed_chain_in_a_group_is_named_and_harms_no_other():
    cliff = lambda x, _: 0.5 * jnp.sum(x**2) + 0 * jnp.sum(jnp.log(x + 1))  # noqa: E731
    start = sgld_jax.stacked(
        jnp.array([[0.5, 0.5], [-2.0, 0.0], [0.1, 0.2], [0.3, 0.9]])
    )
    with pytest.warns(UserWarning, match="1 of 4 chains have failed.*chain 1 failed"):
        parts = run(6, sgld_jax.sgld(1e-4), cliff, start, groups=2)
    with pytest.warns(UserWarning, match="chain 1 failed"):
        whole = run(6, sgld_jax.sgld(1e-4), cliff, start, groups=1)
    assert parts.report.failures == whole.report.failures
    close(parts.params, whole.params)


@pytest.mark.parametrize(
    "row_bytes, batch, chains, shared_cache, size",
    [
        (4 * 501, 256, 64, 32, 2),  # a batch is half as large as a core's own cache
        (4 * 501, 256, 64, 256, 64),  # but all of them fit the shared one
        (4 * 65, 32, 64, 32, 64),
        (4 * 51, 32, 10_000, 32, 125),
        (4 * 51, 32, 10_000, 512, 125),
        (4 * 51, 32, 1_009, 32, 1),  # a prime number has no other groups
        (8, 4, 64, 32, 64),
    ],
)
def test_the_driver_fits_the_batches_of_a_group_into_the_cache(
    monkeypatch, row_bytes, batch, chains, shared_cache, size
):
    monkeypatch.setattr(groups_module, "_shared_cache", lambda: shared_cache * 2**20)
    data = np.zeros((1000, row_bytes // 4), np.float32)
    chain = sgld_jax.start(
        0,
        sgld_jax.sgld(0.1),
        lambda key: jnp.zeros(2),
        num_chains=chains,
        data=data,
        batches=sgld_jax.shuffled(batch),
    )
    assert groups_module.group_size(chain, data, sgld_jax.shuffled(batch)) == size
    assert groups_module.group_size(chain, data, sgld_jax.full_batch()) == chains


def test_the_shared_cache_is_read_or_assumed(monkeypatch, tmp_path):
    for text, size in (("307200K\n", 300), ("nonsense", 32), (None, 32)):
        file = tmp_path / "size"
        file.unlink(missing_ok=True)
        if text is not None:
            file.write_text(text)
        monkeypatch.setattr(groups_module, "_SHARED_CACHE", file)
        groups_module._shared_cache.cache_clear()
        assert groups_module._shared_cache() == size * 2**20
    groups_module._shared_cache.cache_clear()


def test_the_report_says_it():
    assert "groups of 2" in str(on_data(3, groups=2).report)
    assert "group" not in str(on_data(3).report)


@pytest.mark.parametrize(
    "groups, error", [(3, ValueError), (0, ValueError), ("2", TypeError)]
)
def test_groups_of_unequal_size_are_refused(groups, error):
    with pytest.raises(error, match=f"groups={groups!r}"):
        run(3, groups=groups)
