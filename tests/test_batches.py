"""Batches: the right rows, inside the loop, per chain, and nothing silently clamped."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import sgld_jax
from sgld_jax.potentials import shuffle as shuffle_module
from tests.mutants import mutated

ALPHA = 1e-6


def stream(batches, num_data, num_batches, seed=0):
    """Row indices `[num_batches, n]` of one chain."""

    @jax.jit
    def run(state):
        step = lambda s, _: batches.next(s, num_data)[::-1]  # noqa: E731
        return jax.lax.scan(step, state, None, length=num_batches)[1]

    return np.asarray(run(batches.init(jax.random.key(seed))))


@pytest.mark.parametrize("num_data", [1, 2, 3, 7, 10, 97, 100, 1000, 9973])
def test_every_epoch_holds_each_row_once(num_data):
    for n in {1, min(num_data, 7), num_data}:
        epochs = 3 if num_data < 1000 else 2
        rows = stream(
            sgld_jax.shuffled(n), num_data, -(-epochs * num_data // n)
        ).ravel()
        for e in range(epochs):
            epoch = rows[e * num_data : (e + 1) * num_data]
            np.testing.assert_array_equal(np.sort(epoch), np.arange(num_data))


@pytest.mark.parametrize("num_data", [1, 2, 7, 10, 97])
def test_every_epoch_of_blocks_holds_each_row(num_data):
    for n in {1, min(num_data, 3), num_data}:
        blocks_of_epoch = -(-num_data // n)
        rows = stream(sgld_jax.blocks(n, seed=2), num_data, 3 * blocks_of_epoch)
        for epoch in np.split(rows, 3):
            assert set(epoch.ravel().tolist()) == set(range(num_data))
            assert len(np.unique(epoch[:-1])) == epoch[:-1].size  # the last one wraps


def test_blocks_start_anywhere_and_keep_one_order():
    rows = stream(sgld_jax.blocks(3), 9, 3 * 4000).reshape(4000, 9)
    first = np.bincount(rows[:, 0], minlength=9)
    assert stats.chisquare(first).pvalue > ALPHA
    after = {(a, b) for a, b in zip(rows[:, 0].tolist(), rows[:, 1].tolist())}
    assert len(after) == 9  # each row has one neighbour
    other = stream(sgld_jax.blocks(3, seed=1), 9, 3)
    assert (np.diff(rows[0]) != np.diff(other.ravel())).any()


def test_laid_out_blocks_are_the_rows_that_are_named():
    data = {"x": np.arange(10.0, dtype=np.float32), "y": np.arange(20).reshape(10, 2)}
    scheme = sgld_jax.blocks(4, seed=3)
    fast, laid_out = scheme.laid_out(data)
    state = scheme.init(jax.random.key(5))
    for _ in range(12):
        rows, after = scheme.next(state, 10)
        start, state = fast.next(state, 10)
        assert jax.tree.all(
            jax.tree.map(
                np.array_equal, after._replace(rng_key=0), state._replace(rng_key=0)
            )
        )
        batch = fast.take(jax.tree.map(jnp.asarray, laid_out), start)
        for name, part in data.items():
            np.testing.assert_array_equal(batch[name], part[rows])


def test_another_order_of_blocks_is_refused_when_a_run_goes_on():
    from tests.runs import DATA, MEAN, SMALL_STEPS, on_data

    chain = on_data(2, "blocks").final
    with pytest.raises(ValueError, match="The data are not those"):
        sgld_jax.resume(
            chain,
            SMALL_STEPS,
            MEAN,
            num_samples=1,
            data=DATA,
            batches=sgld_jax.blocks(6, seed=1),
        )


def permutations(num_data, count, module=shuffle_module):
    words = jax.random.bits(jax.random.key(1), (count, 2, 1))
    one = lambda w: module.permuted(  # noqa: E731
        jnp.arange(num_data), jnp.broadcast_to(w, (2, num_data)), num_data
    )
    return np.asarray(jax.jit(jax.vmap(one))(words))


def smallest_pair_p(x):
    """Chi-square of every pair of the first entries against the uniform law of pairs."""
    count, num_data = x.shape
    off_diagonal = ~np.eye(num_data, dtype=bool)
    first = range(min(num_data, 5))
    return min(
        stats.chisquare(
            np.bincount(x[:, i] * num_data + x[:, j], minlength=num_data**2).reshape(
                num_data, num_data
            )[off_diagonal]
        ).pvalue
        for i in first
        for j in first
        if i != j
    )


@pytest.mark.parametrize("num_data", [2, 3, 5, 8, 20])
def test_the_order_of_an_epoch_is_uniform(num_data):
    assert smallest_pair_p(permutations(num_data, 60_000)) * 20 > ALPHA


def test_all_orders_of_five_rows_are_equally_likely():
    x = permutations(5, 60_000)
    _, counts = np.unique(x @ 5 ** np.arange(5), return_counts=True)
    assert len(counts) == 120
    assert stats.chisquare(counts).pvalue > ALPHA


@pytest.mark.parametrize(
    "mark, line",
    [("rounds", "_ROUNDS = 4"), ("one bit for both", "swap = _mix(x ^ key) >> 31")],
)
def test_too_few_rounds_or_a_broken_shuffle_are_seen(mark, line):
    x = permutations(8, 60_000, mutated(shuffle_module, mark, line))
    is_permutation = all(len(set(row)) == 8 for row in x[:100])
    assert not is_permutation or smallest_pair_p(x) * 20 < ALPHA


def test_successive_epochs_and_chains_are_not_correlated():
    orders = np.stack([stream(sgld_jax.shuffled(50), 50, 400, seed) for seed in (0, 1)])
    r = [
        np.corrcoef(orders[0, :-1].ravel(), orders[0, 1:].ravel())[0, 1],
        np.corrcoef(orders[0].ravel(), orders[1].ravel())[0, 1],
    ]
    assert np.abs(np.arctanh(r)).max() * np.sqrt(399 * 50 - 3) < 4.9  # p = 1e-6


def test_with_replacement_draws_rows_uniformly_and_independently():
    rows = stream(sgld_jax.with_replacement(4), 8, 20_000)
    assert stats.chisquare(np.bincount(rows.ravel(), minlength=8)).pvalue > ALPHA
    pairs = np.bincount(rows[:, 0] * 8 + rows[:, 1], minlength=64)
    assert stats.chisquare(pairs).pvalue > ALPHA
    steps = np.bincount(rows[:-1, 0] * 8 + rows[1:, 0], minlength=64)
    assert stats.chisquare(steps).pvalue > ALPHA


@pytest.mark.parametrize("make", [sgld_jax.with_replacement, sgld_jax.shuffled])
def test_chains_have_batches_of_their_own_whatever_their_number(make):
    seen = {}
    collect = lambda p: p  # noqa: E731
    for chains in (2, 5):
        # The potential's gradient is the batch's sum: the path spells out the rows.
        potential = lambda p, x: p * jnp.sum(x)  # noqa: E731
        seen[chains] = sgld_jax.sample(
            0,
            sgld_jax.sgld(1.0, temperature=0.0),
            potential,
            lambda key: jnp.zeros(()),
            num_samples=20,
            num_chains=chains,
            data=2.0 ** jnp.arange(16),
            batches=make(3),
            collect=collect,
        ).params
    np.testing.assert_array_equal(seen[2], seen[5][:2])
    assert len(np.unique(seen[5][:, 0])) > 1


def test_no_sort_and_no_host_call_in_a_step():
    for batches in (sgld_jax.with_replacement(32), sgld_jax.shuffled(32)):
        state = batches.init(jax.random.key(0))
        text = jax.jit(lambda s, b=batches: b.next(s, 1000)).lower(state).as_text()
        assert "sort" not in text and "callback" not in text


def test_streams_are_resumed_at_any_step():
    batches = sgld_jax.shuffled(7)
    state = batches.init(jax.random.key(0))
    seen = []
    for _ in range(9):
        rows, state = batches.next(state, 20)
        seen.append(np.asarray(rows))
    np.testing.assert_array_equal(np.stack(seen), stream(batches, 20, 9))


# --- bad input -----------------------------------------------------------------------


def run(data, batches, potential=lambda p, batch: p**2):
    return sgld_jax.sample(
        0,
        sgld_jax.sgld(0.1),
        potential,
        lambda key: jnp.zeros(()),
        num_samples=1,
        data=data,
        batches=batches,
    )


@pytest.mark.parametrize("make", [sgld_jax.with_replacement, sgld_jax.shuffled])
def test_bad_batches_and_data_are_refused(make):
    x = jnp.zeros((10, 2))
    for data, size, words in [
        (x, 11, "batch_size=11 is more than the 10 rows"),
        (jnp.zeros((0, 2)), 1, "0 rows"),
        ({"x": x, "y": jnp.zeros(9)}, 2, r"one common leading axis.*'y'.*9"),
        ({"x": x, "y": jnp.zeros(())}, 2, "one common leading axis"),
        (None, 2, "there is no data"),
    ]:
        with pytest.raises(ValueError, match=words):
            run(data, make(size))
    for size in (0, -3):
        with pytest.raises(ValueError, match="at least 1"):
            make(size)
    for size in (2.0, "2", None, True):
        with pytest.raises(TypeError, match="whole number"):
            make(size)
    with pytest.raises(TypeError, match="full_batch"):
        run(x, 32)


def test_num_data_that_is_not_the_number_of_rows_is_refused():
    potential = sgld_jax.minibatch_potential(
        sgld_jax.gaussian_prior(1.0), lambda p, x: -((x - p) ** 2), num_data=100
    )
    with pytest.raises(ValueError, match="num_data=100, but data has 10 rows"):
        run(jnp.zeros(10), sgld_jax.with_replacement(2), potential)
