"""Networks for tables, and starting points that have not learned by heart."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sgld_jax
from tests.law import Z


def table(N=200, D=3, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(N, D)).astype(np.float32)
    return x, (np.tanh(x[:, 0]) + 0.3 * rng.normal(size=N)).astype(np.float32)


def drawn_from_the_prior(network, num=4_000):
    """Parameters whose every coordinate is N(0, 1)."""
    params = network.init(jax.random.key(0))
    leaves, structure = jax.tree.flatten(params)
    rng = np.random.default_rng(1)
    shape = [rng.normal(size=(num, *x.shape)).astype(np.float32) for x in leaves]
    return structure.unflatten(shape)


def test_the_prior_of_the_outputs_is_the_one_that_is_written_down():
    """One linear layer: Var f = 9 E[s²] E[eᵃ] |x|²/D + 1 by hand, for both outputs."""
    network = sgld_jax.tabular_regression(3, (), num_data=5)
    params = drawn_from_the_prior(network)
    x = jnp.array([[1.0, -2.0, 0.5]])
    outputs = np.asarray(jax.vmap(network.apply, (0, None))(params, x))[:, 0]
    relevance = np.exp(0.5)  # E[e^a], a ~ N(0, 1)
    scale = 9 * np.exp(0.25**2 * 2)  # E[(3 e^{η/4})²]
    size = float((x**2).sum()) / 3
    for k, factor, center in ((0, 1.0, 0.0), (1, 0.1, -1.5)):
        f = outputs[:, k] - center
        exact = factor**2 * scale * relevance * size + 1
        squares = f**2
        z = (squares.mean() - exact) / (squares.std() / np.sqrt(len(f)))
        assert abs(z) < Z
        assert abs(f.mean() / (f.std() / np.sqrt(len(f)))) < Z


def test_scales_of_classes_spread_four_times_as_far():
    """3 e^η in place of 3 e^{η/4}: else a logit is the mean of a regression."""
    numbers = sgld_jax.tabular_regression(3, (4, 5), num_data=5)
    classes = sgld_jax.tabular_classification(3, (4, 5), 2, num_data=5)
    params = jax.tree.map(lambda z: z[0], drawn_from_the_prior(numbers, 1))
    wider = [
        layer | {"log_scale": 4 * layer["log_scale"]} for layer in params["layers"]
    ]
    x = jnp.array([[1.0, -2.0, 0.5], [0.2, 0.1, 3.0]])
    logits = classes.apply(params, x)[:, 0]
    means = numbers.apply(params | {"layers": wider}, x)[:, 0]
    np.testing.assert_allclose(logits, means, rtol=1e-5)


def test_potentials_are_ones_and_the_floor_holds():
    x, y = table()
    network = sgld_jax.tabular_regression(3, (8, 8), num_data=len(x), floor=0.2)
    params = network.init(jax.random.key(0))
    sgld_jax.check_potential(network.potential, params, (x, y))
    outputs = network.apply(jax.tree.map(lambda z: 5 * z - 3, params), x)
    assert outputs.shape == (200, 2) and (outputs[:, 1] >= np.log(0.2) - 1e-6).all()
    labels = (y > 0).astype(int)
    network = sgld_jax.tabular_classification(3, (8,), 2, num_data=len(x))
    params = network.init(jax.random.key(0))
    sgld_jax.check_potential(network.potential, params, (x, labels))


@pytest.mark.parametrize("sizes", [(0, (8,)), (3, (8, 0)), (3, (2.5,))])
def test_widths_that_are_none_are_refused(sizes):
    with pytest.raises((ValueError, TypeError), match="a layer's width"):
        sgld_jax.tabular_regression(*sizes, num_data=5)


@pytest.mark.slow
def test_early_stopped_starts_do_better_on_new_rows_than_optima():
    """Noise alone: what there is to learn is learned by heart."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=(60, 10)).astype(np.float32)
    y = rng.normal(size=60).astype(np.float32)
    new = rng.normal(size=(500, 10)).astype(np.float32)
    new_y = rng.normal(size=500).astype(np.float32)
    network = sgld_jax.tabular_regression(10, (32,), num_data=60)
    starts = sgld_jax.early_stopped(0, network, (x, y), num_chains=4, updates=2_000)

    def loss(params, batch):
        return -np.asarray(jax.vmap(network.log_likelihood, (0, None))(params, batch))

    early = loss(starts.params, (new, new_y)).mean(1)
    late = sgld_jax.warm_up(  # from the optimum that Adam comes to
        0, network.potential, network.init, num_chains=4, data=(x, y),
        metric="diagonal", updates=50,
    )  # fmt: skip
    assert loss(late.init.params, (x, y)).mean() < loss(starts.params, (x, y)).mean()
    assert loss(late.init.params, (new, new_y)).mean() > early.mean() + 1.0


def test_every_chain_holds_other_rows_out_and_never_learns_from_them():
    """A mean for each row, by a table: rows that were held out are where they began."""
    N = 50

    def log_likelihood(p, i):
        # What is held out gets better by the rest alone, so that the last look is best,
        # and so much worse by moving itself that the start would be.
        seen = jnp.sum(p) - 100 * p[i] ** 2
        return -((p[i] - 1.0) ** 2) + jax.lax.stop_gradient(seen)

    network = sgld_jax.Network(
        potential=lambda p, b: jnp.zeros(()),
        init=lambda key: jnp.zeros(N),
        apply=lambda p, i: p[i],
        log_likelihood=log_likelihood,
        log_prior=lambda p: jnp.zeros(()),
        num_data=N,
    )
    starts = sgld_jax.early_stopped(
        0, network, jnp.arange(N), num_chains=6, updates=400, held_out=0.2
    )
    moved = np.asarray(starts.params) > 0.2
    assert (moved.sum(1) == 40).all()
    assert len({tuple(row) for row in moved}) == 6
    again = sgld_jax.early_stopped(
        0, network, jnp.arange(N), num_chains=6, updates=400, held_out=0.2
    )
    np.testing.assert_array_equal(again.params, starts.params)


@pytest.mark.parametrize(
    "changed, error, words",
    [
        ({"network": sgld_jax.full_batch()}, TypeError, "expected a Network"),
        ({"held_out": 1.0}, ValueError, "a share between 0 and 1"),
        ({"updates": 0}, ValueError, "updates=0"),
        ({"data": table(1)}, ValueError, "num_data=200"),
    ],
)
def test_what_is_refused(changed, error, words):
    network = sgld_jax.tabular_regression(3, (8,), num_data=200)
    given = {"network": network, "data": table(), "num_chains": 2} | changed
    with pytest.raises(error, match=words):
        sgld_jax.early_stopped(0, given.pop("network"), given.pop("data"), **given)
