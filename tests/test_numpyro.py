"""`from_numpyro`: NumPyro's models by our samplers, with plates as minibatches."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import pytest
from numpyro import distributions as dist
from numpyro.infer import MCMC, NUTS, initialize_model

import sgld_jax
from tests.law import Z

N, GROUPS = 400, 5


@functools.cache
def table():
    """Rows of two features, a group and a label."""
    rng = np.random.default_rng(0)
    x, group = rng.normal(size=(N, 2)), rng.integers(GROUPS, size=N)
    effects = rng.normal(0.3, 0.8, GROUPS)
    logits = x @ np.array([1.0, -0.5]) + effects[group]
    y = rng.uniform(size=N) < 1 / (1 + np.exp(-logits))
    return x.astype(np.float32), group, y.astype(np.int32)


def hierarchical(x, group, y, subsample_size=None):
    """A logistic regression with an effect of each group, not centred."""
    mu = numpyro.sample("mu", dist.Normal(0.0, 2.0))
    tau = numpyro.sample("tau", dist.HalfNormal(1.0))
    with numpyro.plate("groups", GROUPS):
        raw = numpyro.sample("raw", dist.Normal(0.0, 1.0))
    effect = numpyro.deterministic("effect", mu + tau * raw)
    beta = numpyro.sample("beta", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    with numpyro.plate("rows", len(y), subsample_size=subsample_size):
        x = numpyro.subsample(jnp.asarray(x), event_dim=1)
        group, y = (numpyro.subsample(jnp.asarray(a), event_dim=0) for a in (group, y))
        logits = x @ beta + effect[group]
        numpyro.sample("y", dist.Bernoulli(logits=logits), obs=y)


def points(model, count=5):
    return [model.init(key) for key in jax.random.split(jax.random.key(1), count)]


def test_the_potential_is_numpyros_own():
    model = sgld_jax.from_numpyro(hierarchical, *table())
    theirs = initialize_model(jax.random.key(0), hierarchical, model_args=table())
    assert model.data is None
    assert set(model.init(jax.random.key(0))) == {"mu", "tau", "raw", "beta"}
    for z in points(model):
        ours = model.potential(z, None)
        np.testing.assert_allclose(ours, theirs.potential_fn(z), rtol=1e-5)
        # tau = exp(z), with the density of the change of variables.
        np.testing.assert_allclose(model.log_jacobian(z), z["tau"], atol=2e-3)


def test_draws_are_of_all_latent_and_deterministic_sites_and_come_back():
    model = sgld_jax.from_numpyro(hierarchical, *table())
    (z,) = points(model, 1)
    natural = model.constrain(z)
    assert set(natural) == {"mu", "tau", "raw", "beta", "effect"}
    assert natural["effect"].shape == (GROUPS,) and natural["tau"] > 0
    expected = natural["mu"] + natural["tau"] * natural["raw"]
    np.testing.assert_allclose(natural["effect"], expected, rtol=1e-6)
    back = model.unconstrain(natural)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), z, back)


def test_a_subsampled_plate_is_scaled_whatever_the_batch():
    """The mean over all single rows is U of all rows; so it is over batches of any n."""
    model = sgld_jax.from_numpyro(hierarchical, *table(), subsample_size=50)
    whole = sgld_jax.from_numpyro(hierarchical, *table())
    np.testing.assert_array_equal(model.data, np.arange(N))
    rows = jnp.arange(N)
    for z in points(model, 2):
        full = whole.potential(z, None)
        np.testing.assert_allclose(model.potential(z, rows), full, rtol=1e-5)
        for n in (1, 20):
            batches = rows.reshape(-1, n)
            values = jax.vmap(model.potential, (None, 0))(z, batches)
            np.testing.assert_allclose(values.mean(), full, rtol=1e-4)
            assert values.std() > 1


def test_a_lost_scale_would_be_seen():
    """The same model without N/n, as with `numpyro.handlers.block` of the plate."""
    model = sgld_jax.from_numpyro(hierarchical, *table(), subsample_size=50)
    (z,) = points(model, 1)
    n = 20
    few = model.potential(z, jnp.arange(n))
    prior = sgld_jax.from_numpyro(hierarchical, *(a[:n] for a in table()))
    unscaled = prior.potential(z, None)
    assert abs(float(few - unscaled)) > 10


def test_data_are_asked_for_and_checked():
    model = sgld_jax.from_numpyro(hierarchical, *table(), subsample_size=50)
    sampler = sgld_jax.sgld(1e-4)
    for data, words in ((None, "no data"), (np.arange(7), "7 rows")):
        with pytest.raises(ValueError, match=words):
            sgld_jax.sample(
                0, sampler, model.potential, model.init, num_samples=1, data=data
            )


def gaussian(y):
    """y ~ N(θ, 1) with a flat prior, but for N(0, 100)."""
    theta = numpyro.sample("theta", dist.Normal(0.0, 100.0))
    with numpyro.plate("rows", len(y), subsample_size=30):
        batch = numpyro.subsample(y, event_dim=0)
        numpyro.sample("y", dist.Normal(theta, 1.0), obs=batch)


def test_minibatches_of_a_plate_have_their_law():
    """SGLD with batches drawn with replacement: V = N² σ²/n."""
    y = np.random.default_rng(2).normal(1.0, 1.0, 300).astype(np.float32)
    model = sgld_jax.from_numpyro(gaussian, y)
    eps, n = 1e-3, 30
    samples = sgld_jax.sample(
        0,
        sgld_jax.sgld(eps),
        model.potential,
        model.init,
        num_samples=1,
        num_chains=20_000,
        burn_in=60,
        data=model.data,
        batches=sgld_jax.with_replacement(n),
        collect=model.constrain,
    )
    lam, noise = 300 + 1e-4, 300**2 * np.var(y) / n
    variance = (1 + eps * noise / 2) / (lam * (1 - eps * lam / 2))
    squares = (samples.params["theta"][:, 0].astype(float) - y.sum() / lam) ** 2
    z = (squares.mean() - variance) / (squares.std() / np.sqrt(len(squares)))
    assert abs(z) < Z


@pytest.mark.slow
def test_warm_up_and_arviz():
    model = sgld_jax.from_numpyro(hierarchical, *table())
    fit = sgld_jax.warm_up(0, model.potential, model.init, num_chains=16)
    samples = sgld_jax.sample(
        1,
        fit.sampler,
        model.potential,
        fit.init,
        num_chains=16,
        num_samples=50,
        burn_in=fit.burn_in,
        collect=model.constrain,
    )
    names = set(sgld_jax.to_arviz(samples).posterior.data_vars)
    assert names == {"mu", "tau", "raw", "beta", "effect"}
    assert (samples.params["tau"] > 0).all()


@functools.cache
def by_nuts():
    """8,000 draws of NumPyro's own."""
    mcmc = MCMC(
        NUTS(hierarchical),
        num_warmup=1000,
        num_samples=2000,
        num_chains=4,
        chain_method="vectorized",
        progress_bar=False,
    )
    mcmc.run(jax.random.key(0), *table())
    return mcmc.get_samples()


def by_us(batch_size, tolerance):
    """Draws after a warm-up, and whether it doubted its law."""
    model = sgld_jax.from_numpyro(hierarchical, *table(), subsample_size=batch_size)
    given = {"num_chains": 64, "data": model.data}
    if batch_size:
        given["batches"] = sgld_jax.shuffled(batch_size)
    fit = sgld_jax.warm_up(0, model.potential, model.init, tolerance=tolerance, **given)
    samples = sgld_jax.sample(
        1,
        fit.sampler,
        model.potential,
        fit.init,
        num_samples=500,
        burn_in=fit.burn_in,
        thinning=fit.thinning,
        collect=model.constrain,
        **given,
    )
    return samples, any("predicted for a Gaussian" in x for x in fit.report.warnings)


@pytest.mark.slow
@pytest.mark.parametrize("batch_size, tolerance", [(None, 0.05), (200, 0.005)])
def test_a_hierarchical_logistic_regression_agrees_with_nuts(batch_size, tolerance):
    """Means within .1 sd and sds within 7 %, with all rows, and with half of them."""
    samples, doubted = by_us(batch_size, tolerance)
    assert doubted == bool(batch_size)
    for name in ("mu", "tau", "effect", "beta"):
        a, b = samples.params[name], np.asarray(by_nuts()[name])
        mean, sd = b.mean(0), b.std(0)
        assert np.abs((a.mean((0, 1)) - mean) / sd).max() < 0.1, name
        assert np.abs(a.std((0, 1)) / sd - 1).max() < 0.07, name


@pytest.mark.slow
def test_the_tolerance_is_that_of_a_gaussian_which_a_scale_is_not():
    """3 % were allowed, and the scale is a fifth too narrow: with an R-hat of 1.00.

    Chains shun the tail, where the gradients of batches are noisier. It is said.
    """
    samples, doubted = by_us(50, 0.03)
    tau = samples.params["tau"]
    ratio = tau.std() / np.asarray(by_nuts()["tau"]).std()
    assert 0.7 < ratio < 0.87 and doubted
    assert sgld_jax.rhat(samples)["tau"] < 1.01


def local(y):
    """A latent variable of every row."""
    with numpyro.plate("rows", len(y), subsample_size=3):
        batch = numpyro.subsample(y, event_dim=0)
        own = numpyro.sample("own", dist.Normal(0.0, 1.0))
        numpyro.sample("y", dist.Normal(own, 1.0), obs=batch)


def discrete(y):
    """A coin that nobody has seen."""
    coin = numpyro.sample("coin", dist.Bernoulli(0.5))
    numpyro.sample("y", dist.Normal(1.0 * coin, 1.0), obs=y)


def two_plates(y):
    """Rows of two tables."""
    theta = numpyro.sample("theta", dist.Normal(0.0, 1.0))
    for name in ("a", "b"):
        with numpyro.plate(name, len(y), subsample_size=3):
            batch = numpyro.subsample(y, event_dim=0)
            numpyro.sample("y" + name, dist.Normal(theta, 1.0), obs=batch)


@pytest.mark.parametrize(
    "model, words",
    [
        (local, "'own' is a latent variable of every row of the plate 'rows'"),
        (discrete, "'coin' is discrete and not observed"),
        (two_plates, r"several plates, \['a', 'b'\]"),
    ],
)
def test_models_that_cannot_be_sampled_are_refused(model, words):
    with pytest.raises(ValueError, match=words):
        sgld_jax.from_numpyro(model, jnp.zeros(9))


def test_what_is_no_model_is_refused():
    with pytest.raises(TypeError, match="expected a function of NumPyro's"):
        sgld_jax.from_numpyro(3)
