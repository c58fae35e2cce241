"""Batches of a loader: in their order, each once, for all chains alike."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sgld_jax
from sgld_jax.engine import feed as feed_module
from tests.runs import arrays, assert_equal_bits

ROWS = np.array([-1.5, -0.3, 0.2, 0.4, 0.9, 1.1, 2.0, 2.8], np.float32)
N = len(ROWS)
MEAN = sgld_jax.minibatch_potential(
    lambda x: jnp.zeros(()), lambda x, rows: -0.5 * (rows - x) ** 2, N
)
STEP = 0.03


def sampler(temperature=1.0):
    return sgld_jax.sgld(STEP, temperature)


def epoch(num=7, size=2, seed=1):
    """Some batches drawn with replacement, the same ones in every epoch."""
    rng = np.random.default_rng(seed)
    return [ROWS[rng.integers(N, size=size)] for _ in range(num)]


def run(num_samples, loader=epoch, temperature=1.0, **kwargs):
    kwargs = {"num_chains": 4, "num_data": N, **kwargs}
    return sgld_jax.sample(
        3,
        sampler(temperature),
        kwargs.pop("potential", MEAN),
        kwargs.pop("init", lambda key: jnp.zeros(())),
        num_samples=num_samples,
        loader=loader,
        **kwargs,
    )


@pytest.mark.parametrize("most", [1, 3, 256])
def test_updates_see_the_batches_in_their_order(monkeypatch, most):
    monkeypatch.setattr(feed_module, "_MOST", most)
    made = run(20, temperature=0.0)
    x, path = 0.0, []
    for rows in [*epoch(), *epoch(), *epoch()][:20]:
        x = x + STEP * N / len(rows) * np.sum(rows - x)
        path.append(x)
    np.testing.assert_allclose(made.params, np.tile(path, (4, 1)), rtol=1e-5)
    assert made.streams.tolist() == [0] * 4 and made.report.shared_by == 4
    assert "4 chains share each batch" in repr(made)


@pytest.mark.parametrize("first", [1, 4, 7, 12])
def test_a_run_goes_on_at_the_right_batch_bit_for_bit(first, tmp_path):
    whole, part = run(15, thinning=2), run(first, thinning=2)
    part.save(tmp_path / "run")
    for samples in (part, sgld_jax.load(tmp_path / "run")):
        more = sgld_jax.resume(
            samples.final,
            *(sampler(), MEAN),
            num_samples=15 - first,
            thinning=2,
            loader=epoch,
            num_data=N,
        )
        assert_equal_bits(arrays(samples.concatenate(more)), arrays(whole))


def assert_law_of_with_replacement(params):
    """Variance of each chain, and the covariance of two, that see batches of n = 2.

    As in `test_shared_batches.py`; draws are 60 updates apart, of which each forgets
    24 %, so the means over the chains of a draw are independent.
    """
    x = params.astype(float)[:, 5:] - ROWS.mean(dtype=float)
    a = 1 - N * STEP
    common = STEP**2 * N**2 * ROWS.var(dtype=float) / 2 / (1 - a**2)
    variance = common + 2 * STEP / (1 - a**2)
    count = len(x)
    pairs = (x.sum(0) ** 2 - (x**2).sum(0)) / (count * (count - 1))
    for value, expected in [((x**2).mean(0), variance), (pairs, common)]:
        z = (value.mean() - expected) / (value.std() / np.sqrt(value.size))
        assert abs(z) < 4.5
    each = (x**2).mean(1)
    z = (each - variance) / (np.std(x**2, axis=1) / np.sqrt(x.shape[1]))
    assert np.abs(z).max() < 5


def test_each_chain_has_the_law_of_drawing_with_replacement():
    rng = np.random.default_rng(0)

    def batches():  # of an epoch, other ones in each
        rows = ROWS[rng.integers(N, size=(1000, 2))]
        yield from rows

    made = run(3000, batches, num_chains=8, thinning=60)
    assert_law_of_with_replacement(made.params)


@pytest.mark.slow
def test_a_torch_data_loader_gives_that_law():
    torch = pytest.importorskip("torch")
    data = torch.utils.data.TensorDataset(torch.tensor(ROWS))
    draw = torch.utils.data.RandomSampler(
        data, True, num_samples=4000, generator=torch.Generator().manual_seed(0)
    )
    loader = torch.utils.data.DataLoader(data, batch_size=2, sampler=draw)
    potential = sgld_jax.minibatch_potential(
        lambda x: jnp.zeros(()), lambda x, batch: -0.5 * (batch[0] - x) ** 2, N
    )
    made = run(2000, loader, num_chains=8, thinning=60, potential=potential)
    assert_law_of_with_replacement(made.params)


@pytest.mark.parametrize("failing", [0, 1])
def test_a_chain_that_fails_changes_no_batch_of_the_others(failing):
    def cliff(x, rows):
        return MEAN(x, rows) + 0 * jnp.log(x + 1)

    start = jnp.array([0.5, -0.6, 0.1, 0.3])
    with pytest.warns(UserWarning, match="1 of 4 chains have failed"):
        made = run(
            40,
            temperature=0.0,
            potential=cliff,
            init=sgld_jax.stacked(start.at[failing].set(-2.0)),
        )
    fine = run(40, temperature=0.0, init=sgld_jax.stacked(start))
    healthy = [i for i in range(4) if i != failing]
    np.testing.assert_allclose(made.params[healthy], fine.params[healthy], rtol=1e-5)
    with pytest.warns(UserWarning, match="1 of 4 chains have failed"):
        more = sgld_jax.resume(
            made.final, sampler(0.0), cliff, num_samples=9, loader=epoch, num_data=N
        )
    whole = run(49, temperature=0.0, init=sgld_jax.stacked(start)).params[healthy, 40:]
    np.testing.assert_allclose(more.params[healthy], whole, rtol=1e-5)


def test_an_exception_of_the_loader_leaves_the_draws_made_so_far():
    def breaking():
        yield from epoch(300)
        raise OSError("the disk is gone")

    with pytest.warns(UserWarning, match="Stopped by OSError .the disk is gone"):
        made = run(2000, breaking)
    assert made.interrupted and 0 < made.num_samples <= 300
    whole = run(made.num_samples, lambda: epoch(300))
    np.testing.assert_array_equal(made.params, whole.params)


def test_trees_of_batches_and_lists():
    def batches():
        for rows in epoch(size=3):
            yield {"x": [rows, rows]}

    def potential(x, batch):
        a, b = batch["x"]
        return MEAN(x, 0.5 * (a + b))

    made = run(9, batches, potential=potential)
    np.testing.assert_allclose(
        made.params, run(9, lambda: epoch(size=3)).params, rtol=1e-6
    )


REFUSED = {
    "a generator": (
        dict(loader=iter(epoch())),
        TypeError,
        "can be read once: expected a function",
    ),
    "a number": (dict(loader=3), TypeError, "loader=3: expected batches"),
    "no N": (dict(num_data=None), ValueError, "loader without num_data"),
    "another N": (dict(num_data=9), ValueError, "built for 8 examples"),
    "N that is no number": (dict(num_data="8"), TypeError, "num_data='8'"),
    "data beside it": (dict(data=ROWS), ValueError, "loader was given with data"),
    "batches beside it": (
        dict(batches=sgld_jax.shuffled(2)),
        ValueError,
        "loader was given with data or batches",
    ),
    "no batch": (dict(loader=list), ValueError, "gave no batch in an epoch"),
    "text": (dict(loader=[["a", "b"]]), TypeError, "expected an array of numbers"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    changes, error, words = REFUSED[name]
    with pytest.raises(error, match=words):
        run(2, **changes)


def test_a_smaller_last_batch_is_pointed_out():
    uneven = [*epoch(3), ROWS[:1]]
    with pytest.warns(
        UserWarning, match=r"Stopped by ValueError .The loader gave a bat"
    ):
        made = run(20, lambda: uneven)
    assert made.num_samples <= 3
    with pytest.raises(ValueError, match="drop_last=True"):
        run(20, lambda: [ROWS[:2], ROWS[:1]])


def test_another_loader_is_refused_when_a_run_goes_on():
    final = run(3).final
    go_on = lambda **kwargs: sgld_jax.resume(  # noqa: E731
        final, sampler(), MEAN, num_samples=1, **kwargs
    )
    with pytest.raises(ValueError, match=r"started with loader\(2, shared_by=4\)"):
        go_on(loader=lambda: epoch(size=4), num_data=N)
    with pytest.raises(ValueError, match=r"started with loader\(2, shared_by=4\)"):
        go_on(data=ROWS, batches=sgld_jax.with_replacement(2))
    with pytest.raises(ValueError, match="full_batch"):
        go_on()


def test_updates_by_hand_see_what_a_run_sees():
    """`step(batch=)` is the same update, for a loop of one's own."""
    whole = run(10)
    chain = sgld_jax.start(3, sampler(), lambda key: jnp.zeros(()), num_chains=4)
    one = jax.jit(
        lambda chain, batch: sgld_jax.step(chain, sampler(), MEAN, batch=batch)
    )
    path = []
    for batch in [*epoch(), *epoch()][:10]:
        chain, _ = one(chain, batch)
        path.append(np.asarray(chain.params))
    np.testing.assert_allclose(np.stack(path, 1), whole.params, rtol=1e-5)
