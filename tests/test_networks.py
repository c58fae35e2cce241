"""Networks: Flax models as posteriors, their priors, and learned scales."""

import pathlib
import textwrap

import chex
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from scipy import stats

import sgld_jax
from sgld_jax.potentials import hierarchical as hierarchical_module
from tests.mutants import mutated
from tests.runs import run_python

KEY = jax.random.key(0)
X = jax.random.normal(KEY, (24, 8, 8, 1))
DATA = {"x": X, "y": jnp.arange(24) % 10}


class CNN(nnx.Module):
    """The architecture of Flax's MNIST example, narrower, without noise in it."""

    def __init__(self, *, rngs):
        self.conv1 = nnx.Conv(1, 4, kernel_size=(3, 3), rngs=rngs)
        self.conv2 = nnx.Conv(4, 8, kernel_size=(3, 3), rngs=rngs)
        self.linear1 = nnx.Linear(8 * 2 * 2, 16, rngs=rngs)
        self.linear2 = nnx.Linear(16, 10, rngs=rngs)

    def __call__(self, x):
        for conv in (self.conv1, self.conv2):
            x = nnx.avg_pool(nnx.relu(conv(x)), (2, 2), (2, 2))
        return self.linear2(nnx.relu(self.linear1(x.reshape(len(x), -1))))


def classes(model, batch):
    return sgld_jax.likelihoods.categorical(model(batch["x"]), batch["y"])


def cnn(make=lambda rngs: CNN(rngs=rngs), **kwargs):
    return sgld_jax.from_nnx(make, classes, sgld_jax.fan_in_prior(2.0), 24, **kwargs)


def draws(network, **kwargs):
    return sgld_jax.sample(
        0,
        sgld_jax.sgld(1e-4),
        network.potential,
        network.init,
        num_samples=3,
        num_chains=2,
        data=DATA,
        **kwargs,
    )


def test_a_potential_is_that_of_the_model():
    model, network = CNN(rngs=nnx.Rngs(3)), cnn()
    params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    chex.assert_trees_all_equal(network.init(jax.random.key(3)), params)
    np.testing.assert_array_equal(network.apply(params, X), model(X))
    by_hand = -network.log_prior(params) - classes(model, DATA).sum()
    np.testing.assert_allclose(network.potential(params, DATA), by_hand, rtol=1e-6)
    half = jax.tree.map(lambda x: x[:12], DATA)
    by_hand = -network.log_prior(params) - 2 * classes(model, half).sum()
    np.testing.assert_allclose(network.potential(params, half), by_hand, rtol=1e-6)
    assert network.weights(params) is params


def test_chains_start_apart_or_at_the_model_that_was_given():
    fresh = draws(cnn(), batches=sgld_jax.with_replacement(8))
    kernel = fresh.params["conv1"]["kernel"]
    assert kernel.shape == (2, 3, 3, 3, 1, 4) and kernel.std() > 0.05
    assert np.abs(kernel[0] - kernel[1]).mean() > 0.05
    trained = CNN(rngs=nnx.Rngs(1))
    same = draws(cnn(trained)).params["conv1"]["kernel"]
    assert 0 < np.abs(same - trained.conv1.kernel[...]).max() < 0.2


def test_the_last_layer_alone():
    trained = CNN(rngs=nnx.Rngs(1))
    before = trained(X)
    network = cnn(trained, wrt=nnx.All(nnx.Param, nnx.PathContains("linear2")))
    samples = draws(network)
    assert list(samples.params) == ["linear2"]
    np.testing.assert_array_equal(trained(X), before)
    np.testing.assert_allclose(
        network.apply(network.init(KEY), X), before, rtol=1e-6, atol=1e-6
    )


ANOTHER_DAY = """
    from tests.test_networks import *
    network = sgld_jax.from_nnx(lambda rngs: CNN(rngs=rngs), classes,
                                sgld_jax.fan_in_prior(2.0), num_data=24)
    samples = sgld_jax.load({folder!r})
    probs = sgld_jax.predict(network.apply, samples, 2 * X[:7],
                             reduce=sgld_jax.predictive_probs)
    np.save({folder!r} + "/probs.npy", probs)
"""


def test_from_a_module_to_predictions_in_another_process(tmp_path):
    folder = str(tmp_path / "run")
    network = sgld_jax.from_nnx(
        lambda rngs: CNN(rngs=rngs), classes, sgld_jax.fan_in_prior(2.0), num_data=24
    )
    samples = sgld_jax.sample(
        0,
        sgld_jax.sgld(1e-4),
        *(network.potential, network.init),
        data=DATA,
        batches=sgld_jax.shuffled(8),
        num_chains=2,
        num_samples=5,
        thinning=3,
    )
    samples.save(folder)
    root = str(pathlib.Path(__file__).parents[1])
    code = textwrap.dedent(ANOTHER_DAY).format(folder=folder)
    run_python(code, {"JAX_PLATFORMS": "cpu", "PYTHONPATH": root})
    probs = np.load(folder + "/probs.npy")
    assert probs.shape == (7, 10)
    np.testing.assert_allclose(probs.sum(axis=1), 1, rtol=1e-5)
    apply = jax.jit(network.apply)
    logits = [
        [apply(samples.draw(c, s), 2 * X[:7]) for s in range(5)] for c in range(2)
    ]
    direct = sgld_jax.predictive_probs(np.array(logits))
    np.testing.assert_allclose(probs, direct, rtol=1e-4, atol=1e-6)


def test_weights_that_are_tied_stay_tied():
    class Tied(nnx.Module):
        def __init__(self, rngs):
            self.first = nnx.Linear(3, 3, rngs=rngs)
            self.second = self.first

        def __call__(self, x):
            return self.second(jnp.tanh(self.first(x)))

    network = sgld_jax.from_nnx(
        Tied, lambda m, b: m(b).sum(1), sgld_jax.gaussian_prior(1.0), 2
    )
    params = network.init(KEY)
    assert len(jax.tree.leaves(params)) == 2
    np.testing.assert_allclose(
        network.apply(params, jnp.ones((2, 3))), Tied(nnx.Rngs(KEY))(jnp.ones((2, 3)))
    )


def test_linen():
    module = linen.Sequential([linen.Dense(4), jnp.tanh, linen.Dense(10)])
    x = X.reshape(24, -1)
    network = sgld_jax.from_linen(
        module, x[:1], classes, sgld_jax.fan_in_prior(2.0), 24
    )
    params = network.init(KEY)
    chex.assert_trees_all_equal(params, module.init(KEY, x[:1])["params"])
    expected = module.apply({"params": params}, x)
    np.testing.assert_array_equal(network.apply(params, x), expected)
    each = sgld_jax.likelihoods.categorical(expected, DATA["y"])
    value = network.potential(params, {"x": x, "y": DATA["y"]})
    np.testing.assert_allclose(
        value, -network.log_prior(params) - each.sum(), rtol=1e-6
    )


def test_equinox_by_the_recipe_of_the_documentation():
    """docs/coming_from.md: `eqx.partition` into what is sampled and what is not."""
    make = lambda key: eqx.nn.MLP(3, 2, 8, 1, key=key)  # noqa: E731
    _, static = eqx.partition(make(KEY), eqx.is_inexact_array)

    def log_likelihood(params, batch):
        model = eqx.combine(params, static)
        return sgld_jax.likelihoods.categorical(jax.vmap(model)(batch["x"]), batch["y"])

    samples = sgld_jax.sample(
        0,
        sgld_jax.sgld(1e-3),
        sgld_jax.minibatch_potential(sgld_jax.gaussian_prior(1.0), log_likelihood, 24),
        lambda key: eqx.partition(make(key), eqx.is_inexact_array)[0],
        num_samples=2,
        num_chains=2,
        data={"x": X[:, 0, :3, 0], "y": DATA["y"] % 2},
    )
    model = eqx.combine(samples.draw(1, 1), static)
    assert model(jnp.ones(3)).shape == (2,)


class Noisy(nnx.Module):
    def __init__(self, rngs):
        self.linear = nnx.Linear(2, 2, rngs=rngs)
        self.norm = nnx.BatchNorm(2, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)


PRIOR = sgld_jax.fan_in_prior(1.0)
REFUSED = {
    "dropout and batch norm": (
        lambda: cnn(Noisy),
        "keeps BatchStat, RngCount, RngKey, which change.*GroupNorm.*leave dropout out",
    ),
    "a filter that finds nothing": (
        lambda: cnn(CNN(rngs=nnx.Rngs(0)), wrt=nnx.BatchStat),
        "finds no parameter",
    ),
    "a function without rngs": (lambda: cnn(lambda: 3), "cannot be called with .rngs"),
    "a function that makes no model": (lambda: cnn(lambda rngs: 3), "returned a int"),
    "a Linen module": (lambda: cnn(lambda rngs: linen.Dense(1)), "from_linen"),
    "no Linen module": (
        lambda: sgld_jax.from_linen(3, X, classes, PRIOR, 24),
        "expected a flax.linen.Module",
    ),
    "batch norm in Linen": (
        lambda: sgld_jax.from_linen(
            linen.BatchNorm(use_running_average=True), X, classes, PRIOR, 24
        ),
        "batch_stats.*GroupNorm",
    ),
    "a likelihood of parameters": (
        lambda: sgld_jax.from_nnx(CNN, lambda model: 0.0, PRIOR, 24),
        "cannot be called with .model, batch",
    ),
    "a scale for what is no network": (
        lambda: sgld_jax.hierarchical(CNN),
        "expected what from_nnx",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_fixed_function_is_refused(name):
    call, words = REFUSED[name]
    with pytest.raises(TypeError, match=words):
        call()


# --- priors --------------------------------------------------------------------------

SHAPES = {
    "conv.kernel": ((3, 3, 4, 8), 36),
    "dense.kernel": ((5, 2), 5),
    "dense.bias": ((2,), 0),
    "norm.scale": ((5,), 0),
    "embed.embedding": ((9, 4), 1),
    "attention.query.kernel": ((6, 2, 3), 6),
    "attention.query.bias": ((2, 3), 0),
    "attention.out.kernel": ((2, 3, 6), 6),
}


def named(shapes, value):
    tree = {}
    for name, (shape, _) in shapes.items():
        *folders, leaf = name.split(".")
        place = tree
        for folder in folders:
            place = place.setdefault(folder, {})
        place[leaf] = value(shape)
    return tree


@pytest.mark.parametrize("name", SHAPES)
def test_fan_in_follows_from_names_and_shapes(name):
    shape, fan_in = SHAPES[name]
    x = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    params = named({name: SHAPES[name]}, lambda _: jnp.asarray(x))
    center = 1.0 if name.endswith("scale") else 0.0
    sd = 2 / np.sqrt(fan_in) if fan_in else 0.5
    prior = sgld_jax.fan_in_prior(2.0, bias_scale=0.5)
    expected = stats.norm.logpdf(x, center, sd) - stats.norm.logpdf(0, 0, sd)
    np.testing.assert_allclose(prior(params), expected.sum(), rtol=1e-5)


def test_flax_names_its_layers_so():
    class Block(nnx.Module):
        def __init__(self, rngs):
            self.embed = nnx.Embed(9, 6, rngs=rngs)
            self.attention = nnx.MultiHeadAttention(2, 6, rngs=rngs, decode=False)
            self.norm = nnx.LayerNorm(6, rngs=rngs)

    state = nnx.to_pure_dict(nnx.state(Block(nnx.Rngs(0)), nnx.Param))
    flat, _ = jax.tree_util.tree_flatten_with_path(state)
    found = {
        jax.tree_util.keystr(path, simple=True, separator="."): (
            x.shape,
            hierarchical_module.fan_in_of(path, x.shape),
        )
        for path, x in flat
    }
    assert found == {
        "attention.key.bias": ((2, 3), 0),
        "attention.key.kernel": ((6, 2, 3), 6),
        "attention.out.bias": ((6,), 0),
        "attention.out.kernel": ((2, 3, 6), 6),
        "attention.query.bias": ((2, 3), 0),
        "attention.query.kernel": ((6, 2, 3), 6),
        "attention.value.bias": ((2, 3), 0),
        "attention.value.kernel": ((6, 2, 3), 6),
        "embed.embedding": ((9, 6), 1),
        "norm.bias": ((6,), 0),
        "norm.scale": ((6,), 0),
    }


# --- learned scales ------------------------------------------------------------------


def test_learned_scales_start_where_the_network_starts():
    for per, names in (
        ("layer", ["conv1", "conv2", "linear1", "linear2"]),
        ("network", ["network"]),
    ):
        plain = cnn()
        network = sgld_jax.hierarchical(plain, (0.3, 0.5), per=per)
        params = network.init(KEY)
        assert sorted(params["log_scale"]) == names
        chex.assert_trees_all_close(
            network.weights(params), plain.init(KEY), rtol=1e-5, atol=1e-7
        )
        np.testing.assert_allclose(
            network.apply(params, X),
            plain.apply(plain.init(KEY), X),
            rtol=1e-4,
            atol=1e-5,
        )
        wider = {
            **params,
            "log_scale": {n: v + 1 for n, v in params["log_scale"].items()},
        }
        np.testing.assert_allclose(
            network.weights(wider)["conv1"]["kernel"],
            np.e * network.weights(params)["conv1"]["kernel"],
            rtol=1e-5,
        )
        z, scales = params["z"], np.array(list(wider["log_scale"].values()))
        expected = -0.5 * sum(np.sum(np.square(x)) for x in jax.tree.leaves(z))
        expected -= 0.5 * np.sum(((scales - 0.3) / 0.5) ** 2)
        np.testing.assert_allclose(network.log_prior(wider), expected, rtol=1e-5)
    samples = draws(network)
    assert samples.params["log_scale"]["network"].shape == (2, 3)


def marginal_of_log_scale(x, y, noise, mean, sd):
    """Mean and sd of log s by quadrature: w is integrated out of y = x w + noise."""
    grid = np.linspace(mean - 5 * sd, mean + 5 * sd, 2001)
    gram = x @ x.T / x.shape[1]
    log_p = [
        stats.multivariate_normal.logpdf(
            y, cov=np.exp(2 * t) * gram + noise**2 * np.eye(len(y))
        )
        for t in grid
    ]
    p = np.exp(log_p - np.max(log_p)) * stats.norm.pdf(grid, mean, sd)
    p /= p.sum()
    center = p @ grid
    return center, np.sqrt(p @ (grid - center) ** 2)


def learned_scale(module):
    """Draws of log s of a linear model without bias, and what quadrature says."""
    rng = np.random.default_rng(4)
    x = rng.normal(size=(6, 3)).astype(np.float32)
    y = (x @ np.array([1.5, -1.0, 0.5]) + rng.normal(size=6)).astype(np.float32)
    plain = sgld_jax.from_nnx(
        lambda rngs: nnx.Linear(3, 1, use_bias=False, rngs=rngs),
        lambda model, b: sgld_jax.likelihoods.normal(model(b[0])[:, 0], 1.0, b[1]),
        sgld_jax.gaussian_prior(1.0),
        6,
    )
    prior = (0.0, 0.5)
    network = module.hierarchical(plain, prior)
    samples = sgld_jax.sample(
        0,
        sgld_jax.sgld(5e-4),
        network.potential,
        network.init,
        data=(x, y),
        num_chains=512,
        num_samples=40,
        burn_in=4000,
        thinning=500,
    )
    draws = samples.params["log_scale"]["kernel"].astype(float)
    return draws, marginal_of_log_scale(x, y, 1.0, *prior)


def z_scores(draws, expected):
    """Of mean and sd, from the means of independent chains."""
    mean, sd = expected
    z = []
    for each, value in ((draws, mean), ((draws - mean) ** 2, sd**2)):
        chains = each.mean(axis=1)
        z.append((chains.mean() - value) / (chains.std(ddof=1) / np.sqrt(len(chains))))
    return np.array(z)


@pytest.mark.slow
def test_the_marginal_of_a_learned_scale_is_that_of_quadrature():
    """512 chains of a small step."""
    draws, expected = learned_scale(hierarchical_module)
    assert np.abs(z_scores(draws, expected)).max() < 4.5
    wrong = mutated(
        hierarchical_module, "weights", "return z * (scale**2 / math.sqrt(fan_in))"
    )
    draws, expected = learned_scale(wrong)
    assert np.abs(z_scores(draws, expected)).max() > 10
