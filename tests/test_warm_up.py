"""`warm_up`: from a potential and a guess to draws of the right law, and its parts."""

import functools
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sgld_jax
from sgld_jax.tuning.adaptation import _shrunk, short_steps_between
from sgld_jax.tuning.correlation import autocorrelation_time
from sgld_jax.tuning.descent import descend
from sgld_jax.tuning.landscape import curvature, landscape, steepest
from tests.law import Z

# --- parts ---------------------------------------------------------------------------

UNITS = np.array([1e-3, 1.0, 1e3])
CORRELATED = np.array([[1.0, 0.99, 0.0], [0.99, 1.0, 0.3], [0.0, 0.3, 1.0]])
CORRELATED[1, 2] = CORRELATED[2, 1] = 0.05
PRECISION = np.linalg.inv(CORRELATED * np.outer(UNITS, UNITS))


def on(density, dim):
    return landscape(sgld_jax.from_log_density(density), jnp.zeros(dim))


def test_curvature_is_the_hessian_whatever_the_units():
    with jax.enable_x64(True):
        land = on(lambda x: -0.5 * x @ PRECISION @ x, 3)
        curve = curvature(land, jnp.ones(3), None)
        np.testing.assert_allclose(
            curve.root @ curve.root.T / np.outer(UNITS, UNITS), CORRELATED, atol=1e-8
        )
        assert float(curve.log_volume) == pytest.approx(
            -0.5 * np.linalg.slogdet(PRECISION)[1]
        )
        assert curve.is_minimum


def test_at_a_saddle_curvature_is_that_of_a_minimum():
    land = on(lambda x: -0.5 * (x[0] ** 2 - 4 * x[1] ** 2), 2)
    curve = curvature(land, jnp.ones(2), None)
    np.testing.assert_allclose(curve.root @ curve.root.T, np.diag([1, 0.25]), atol=1e-6)
    assert not curve.is_minimum


def test_where_there_is_no_curvature_it_is_that_of_a_sphere():
    land = on(lambda x: jnp.where(x[0] > 0, -jnp.sum(x**2), jnp.nan), 2)
    curve = curvature(land, -jnp.ones(2), None)
    assert np.isfinite(curve.root).all() and not curve.is_minimum


def rosenbrock(x):
    return -(100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2)


def test_every_start_finds_the_end_of_a_curved_valley():
    with jax.enable_x64(True):
        starts = np.random.default_rng(0).uniform(-3, 3, (64, 2))
        places = descend(on(rosenbrock, 2), starts, None)
        assert places.converged == 1.0 and len(places.masses) == 1
        np.testing.assert_allclose(places.x, 1.0, atol=0.05)  # a thousandth of a nat
        assert places.value.max() < 1e-3


def two_wells(x):
    """Wells at −2 and 2, the right one twice as wide."""
    left, right = -8 * (x[0] + 2) ** 2, -2 * (x[0] - 2) ** 2
    return jnp.logaddexp(left, right) - x[1] ** 2 / 2


def test_optima_are_kept_apart_and_weighed():
    """Equal heights, widths 1 : 2, so that masses differ by log 2."""
    starts = np.random.default_rng(1).uniform(-2, 2, (64, 2))
    places = descend(on(two_wells, 2), starts, None)
    assert len(places.masses) == 2
    assert places.masses[1] == pytest.approx(-np.log(2), abs=0.01)
    right = places.x[:, 0] > 0
    np.testing.assert_array_equal(places.optimum, np.where(right, 0, 1))
    assert 10 < right.sum() < 54


def test_hopeless_starts_begin_elsewhere():
    """A well 1,000 nats above the other one; and starts where there is no density."""

    def density(x):
        far = -1000 - jnp.sum((x + 10) ** 2)
        inside = jnp.all(jnp.abs(x) < 20)
        return jnp.where(inside, jnp.logaddexp(-jnp.sum((x - 1) ** 2), far), -jnp.inf)

    starts = np.array([[-9.5, -9.5], [1.5, 0.0], [100.0, 0.0], [0.0, 1.0]])
    places = descend(on(density, 2), starts, None)
    np.testing.assert_allclose(places.x, 1.0, atol=0.05)


def test_no_start_at_all_is_an_error():
    with pytest.raises(ValueError, match="finite at no starting point"):
        descend(on(lambda x: jnp.nan * x.sum(), 2), np.zeros((8, 2)), None)


def test_autocorrelation_time_of_an_autoregression():
    """(1 + ρ)/(1 − ρ), in the mean of 20 runs; within 5 %, for want of a whole sum.

    It ends at the first noise below 0, which is a bias of a few per cent.
    """
    rng, rho = np.random.default_rng(2), np.array([0.0, 0.5, 0.9])
    found = []
    for _ in range(20):
        noise = rng.normal(size=(64, 400, 3)) * np.sqrt(1 - rho**2)
        x = [rng.normal(size=(64, 3))]
        for t in range(1, 400):
            x.append(rho * x[-1] + noise[:, t])
        found.append(autocorrelation_time(np.stack(x, 1)))
    found, exact = np.array(found), (1 + rho) / (1 - rho)
    assert np.abs(found.mean(0) / exact - 1).max() < 0.05


def test_the_metric_is_the_covariance_within_optima_and_shrinks_to_the_one_before():
    rng = np.random.default_rng(3)
    draws = rng.normal(size=(4000, 8, 2))
    optimum = np.arange(8) % 2
    draws[:, optimum == 1] += 100.0
    before = np.array([[3.0, 1.0], [1.0, 2.0]])
    within = [
        np.cov(draws[:, optimum == k].reshape(-1, 2).T, bias=True) for k in (0, 1)
    ]
    weight = 2 / (2 + 8 * 200)
    expected = (1 - weight) * np.mean(within, axis=0) + weight * before
    np.testing.assert_allclose(_shrunk(draws, optimum, before), expected, rtol=1e-9)


def test_steps_in_turn():
    turns = np.array([short_steps_between(2.0)(i) for i in range(32)])
    assert (turns == 2.0).sum() == 24 and (turns == 0.25).sum() == 6
    assert (turns == 2 / 64).sum() == 2


def test_the_steepest_curvature_is_in_the_units_of_the_metric():
    with jax.enable_x64(True):
        land = on(lambda x: -0.5 * x @ PRECISION @ x, 3)
        curves = steepest(land, np.linalg.inv(PRECISION) * 4, np.ones((8, 3)), None)
        np.testing.assert_allclose(curves, 4.0, rtol=1e-5)


# --- the whole -----------------------------------------------------------------------


def fitted(density, dim, **kwargs):
    """Warm-up and run, from anywhere near 0."""
    kwargs = {"num_chains": 64, **kwargs}
    potential = sgld_jax.from_log_density(density)
    fit = sgld_jax.warm_up(0, potential, lambda key: jnp.zeros(dim), **kwargs)
    samples = sgld_jax.sample(
        1,
        fit.sampler,
        potential,
        fit.init,
        num_chains=kwargs["num_chains"],
        num_samples=200,
        burn_in=fit.burn_in,
        thinning=fit.thinning,
    )
    return fit, samples


@functools.cache
def ridge(kernel):
    """A Gaussian whose units differ by 10⁶ and whose correlation is .99."""
    with jax.enable_x64(True):
        return fitted(lambda x: -0.5 * x @ PRECISION @ x, 3, kernel=kernel)


@pytest.mark.parametrize("kernel", ["mala", "baoa"])
def test_a_badly_scaled_gaussian_has_its_law(kernel):
    """Means and squares within 4.5 errors over chains, along the principal axes."""
    fit, samples = ridge(kernel)
    white = samples.params / UNITS @ np.linalg.inv(np.linalg.cholesky(CORRELATED)).T
    for moment, exact in ((white, 0.0), (white**2, 1.0)):
        means = moment.mean(1)
        z = (means.mean(0) - exact) / (means.std(0, ddof=1) / 8)
        assert np.abs(z).max() < Z
    assert (sgld_jax.rhat(samples) < 1.01).all()
    assert fit.report.converged == 1.0 and not fit.report.warnings
    assert fit.report.kernel == kernel and fit.thinning < 12
    assert np.abs(np.log(np.diag(fit.metric) / UNITS**2)).max() < 0.1


def test_the_step_accepts_57_per_cent_and_the_metric_needs_no_scale():
    fit, samples = ridge("mala")
    assert 0.5 < fit.report.acceptance < 0.64
    assert 0.3 < fit.step_size < 3  # in units of the posterior
    assert fit.report.unevenness == pytest.approx(1.0, abs=1e-3)
    # Of 16 steps four are short, and nearly all of those are accepted.
    assert 0.55 < samples.report.acceptance < 0.8


def test_the_starts_are_wider_than_the_posterior():
    fit, _ = ridge("mala")
    spread = np.asarray(fit.init.params).std(0) / UNITS
    assert (spread > 1.1).all() and (spread < 2.0).all()


def test_the_same_key_gives_the_same_fit_and_the_report_can_be_read():
    again, _ = (lambda: fitted(lambda x: -0.5 * jnp.sum(x**2), 2, num_chains=8))()
    once, _ = fitted(lambda x: -0.5 * jnp.sum(x**2), 2, num_chains=8)
    np.testing.assert_array_equal(once.metric, again.metric)
    assert once.step_size == again.step_size
    text = str(once.report)
    assert "mala, warmed up with" in text and "gradients a chain" in text
    assert "100 % of the starting points led to an optimum; 1 found" in text


def test_data_are_an_argument_and_containers_may_be_any():
    """y ~ N(θ, 1): the posterior N(mean y, 1/N), through minibatch_potential."""
    y = np.random.default_rng(4).normal(3.0, 1.0, 500).astype(np.float32)
    potential = sgld_jax.minibatch_potential(
        lambda p: jnp.zeros(()), lambda p, y: -0.5 * (y - p["theta"]) ** 2, 500
    )
    fit = sgld_jax.warm_up(
        0, potential, lambda key: {"theta": jnp.zeros(())}, num_chains=16, data=y
    )
    assert set(fit.init.params) == {"theta"}
    assert fit.metric.item() == pytest.approx(1 / 500, rel=0.2)
    assert np.abs(np.asarray(fit.init.params["theta"]) - y.mean()).max() < 0.5


def location(N=600):
    """Rows of three numbers, each N(θ, 1): the posterior N(mean, 1/N) in each."""
    x = np.random.default_rng(5).normal(2.0, 1.0, (N, 3)).astype(np.float32)
    potential = sgld_jax.minibatch_potential(
        lambda p: jnp.zeros(()), lambda p, x: -0.5 * jnp.sum((x - p) ** 2, -1), N
    )
    return potential, x


@pytest.mark.parametrize(
    "kernel", ["auto", pytest.param("sgld", marks=pytest.mark.slow)]
)
def test_minibatches_have_the_bias_that_was_allowed(kernel):
    potential, x = location()
    given = {"data": x, "batches": sgld_jax.shuffled(60), "num_chains": 64}
    fit = sgld_jax.warm_up(
        0, potential, lambda key: jnp.zeros(3), kernel=kernel, **given
    )
    assert fit.report.kernel == ("sghmc" if kernel == "auto" else "sgld")
    assert fit.predicted_bias == pytest.approx(0.05, rel=1e-3)
    samples = sgld_jax.sample(
        1,
        fit.sampler,
        potential,
        fit.init,
        num_samples=400,
        burn_in=fit.burn_in,
        thinning=fit.thinning,
        **given,
    )
    away = (samples.params - x.mean(0)) * np.sqrt(len(x))
    squares = (away**2).mean((1, 2))
    width, error = np.sqrt(squares.mean()), squares.std(ddof=1) / 8 / 2
    assert abs(width - 1) < 0.05 + Z * error and error < 0.01
    assert (sgld_jax.rhat(samples) < 1.01).all()
    assert not fit.report.warnings


@pytest.mark.slow
def test_several_optima_are_said_and_kept():
    fit, samples = fitted(two_wells, 2)
    assert any("2 optima have mass" in words for words in fit.report.warnings)
    right = samples.params[:, :, 0] > 0
    assert (right == right[:, :1]).mean() > 0.95 and 10 < right[:, 0].sum() < 54
    assert np.sqrt(fit.metric[0, 0]) < 1.0  # and not the distance of the wells


@pytest.mark.slow
def test_a_funnel_is_said():
    """The centred eight schools, whose density has no top: τ goes to 0."""
    y = jnp.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
    errors = jnp.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])

    def schools(x):
        theta, mu, log_tau = x[:8], x[8], x[9]
        prior = -(mu**2) / 50 - jnp.log1p(jnp.exp(2 * log_tau) / 25) + log_tau
        prior -= jnp.sum((theta - mu) ** 2) * jnp.exp(-2 * log_tau) / 2 + 8 * log_tau
        return prior - jnp.sum(((y - theta) / errors) ** 2) / 2

    fit, _ = fitted(schools, 10)
    said = " ".join(fit.report.warnings)
    assert "a funnel" in said and "no step suits all" in said
    assert fit.burn_in <= 2_000


@pytest.mark.slow
def test_what_32_bits_cannot_tell_is_said():
    fit, _ = fitted(lambda x: 1e6 - 0.5 * jnp.sum((x - 1) ** 2), 2)
    assert any("jax_enable_x64" in words for words in fit.report.warnings)
    with jax.enable_x64(True):
        fit, _ = fitted(lambda x: 1e6 - 0.5 * jnp.sum((x - 1) ** 2), 2)
    assert not fit.report.warnings


@pytest.mark.parametrize(
    "changed, error, words",
    [
        ({"num_chains": 4}, ValueError, "num_chains=4: expected at least 8"),
        ({"kernel": "nuts"}, ValueError, "expected one of auto, mala, baoa"),
        (
            {"kernel": "mala", "data": jnp.ones(9), "batches": sgld_jax.shuffled(3)},
            ValueError,
            "is for gradients of all data",
        ),
        (
            {"init": sgld_jax.stacked(jnp.zeros((8, 2)))},
            TypeError,
            "finds the starting",
        ),
        (
            {"init": lambda key: jnp.zeros(401), "metric": "dense"},
            ValueError,
            "401 coord",
        ),
        ({"potential": lambda x: x}, TypeError, "params, batch"),
    ],
)
def test_what_is_refused(changed, error, words):
    given = {
        "potential": sgld_jax.from_log_density(lambda x: -jnp.sum(x**2)),
        "init": lambda key: jnp.zeros(2),
        "num_chains": 8,
    } | changed
    with pytest.raises(error, match=words):
        sgld_jax.warm_up(0, **given)


# --- published posteriors ------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif("SGLD_JAX_DATA" not in os.environ, reason="SGLD_JAX_DATA is unset")
@pytest.mark.parametrize(
    "name", ["earnings-earn_height", "eight_schools-eight_schools_noncentered"]
)
def test_reference_posteriors(name):
    """Two of the 24 that `python -m benchmarks posteriors` runs."""
    from benchmarks.posteriors import row

    with jax.enable_x64(True):
        found = row(name, "mala")
    assert found["worst mean"] < 0.1 and 0.93 < found["worst sd"] < 1.07
    assert found["R-hat"] < 1.01 and not found["warnings"]
