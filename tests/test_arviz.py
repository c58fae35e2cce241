"""ArviZ containers: the same names, groups and numbers on ArviZ 0.23 and 1.x."""

import datetime
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import sgld_jax
from sgld_jax import from_log_density, sample, sgld, stacked
from sgld_jax.analysis.arviz import import_arviz, to_arviz
from sgld_jax.analysis.diagnostics import summary

# Short runs on purpose; the tests of these two warnings ask for them.
pytestmark = [
    pytest.mark.filterwarnings("ignore:R-hat is above:UserWarning"),
    pytest.mark.filterwarnings("ignore:ESS is below:UserWarning"),
]

CHAINS, DRAWS, N = 6, 4, 7  # more chains than draws: ArviZ would warn


@pytest.fixture(scope="module")
def az():
    return import_arviz()


def log_density(p):
    cliff = 0 * jnp.log(p["b"] + 50)  # not a number below -50
    return -0.5 * jnp.sum(p["layer"]["w"] ** 2) - p["b"] ** 2 + cliff


@pytest.fixture(scope="module")
def samples():
    """Six chains, of which chain 4 fails in its first update."""
    start = {
        "layer": {"w": jnp.ones((CHAINS, 2, 3))},
        "b": jnp.array([0.0, 1.0, 2.0, 3.0, -60.0, 4.0]),
    }
    potential = from_log_density(log_density)
    with pytest.warns(UserWarning, match="1 of 6 chains have failed"):
        return sample(
            0,
            sgld(0.1),
            potential,
            stacked(start),
            num_samples=DRAWS,
            num_chains=CHAINS,
            collect=lambda p: {**p, "layer": {"w": p["layer"]["w"].astype("bfloat16")}},
        )


@pytest.fixture(scope="module")
def data(samples):
    """Log likelihoods that depend on the draw, as those of a location model do."""
    y = np.random.default_rng(0).normal(size=N).astype(np.float32)
    theta = samples.healthy().params["b"][..., None]
    return y, -0.5 * (y - theta) ** 2


def groups_of(container):
    groups = container.groups
    names = groups() if callable(groups) else groups
    return {name.strip("/") for name in names} - {""}


def test_posterior(samples):
    posterior = to_arviz(samples.healthy())["posterior"]
    assert set(posterior.data_vars) == {"layer.w", "b"}
    assert posterior["layer.w"].dims == (
        "chain",
        "draw",
        "layer.w_dim_0",
        "layer.w_dim_1",
    )
    assert posterior["layer.w"].dtype == np.float32  # from bfloat16
    healthy = samples.healthy().params
    np.testing.assert_array_equal(posterior["b"], healthy["b"])
    np.testing.assert_array_equal(
        posterior["layer.w"], healthy["layer"]["w"].astype(np.float32)
    )


def test_sample_stats(samples):
    stats = to_arviz(samples.healthy())["sample_stats"]
    healthy = samples.healthy()
    assert set(stats.data_vars) == {"lp", "weight", "count", "diverging"}
    assert stats["lp"].shape == (CHAINS - 1, DRAWS)
    np.testing.assert_array_equal(stats["lp"], -healthy.potential)
    np.testing.assert_array_equal(stats["weight"], healthy.weights)
    np.testing.assert_array_equal(stats["count"], healthy.counts)
    assert stats["diverging"].dtype == bool and not stats["diverging"].values.any()


def test_lp_is_one_update_behind(samples):
    """As documented: lp of draw k is the log density at draw k - 1."""
    container = to_arviz(samples.healthy())
    before = samples.healthy().params
    exact = jax.vmap(jax.vmap(log_density))(jax.tree.map(jnp.asarray, before))
    lp = container["sample_stats"]["lp"].values
    # The draws of w are kept in bfloat16: rounded to 2⁻⁸, and their squares to 2⁻⁷.
    np.testing.assert_allclose(lp[:, 1:], exact[:, :-1], rtol=2.0**-7)


def test_failed_chains_are_kept_and_flagged(samples):
    with pytest.warns(
        UserWarning, match=r"1 of 6 chains went non-finite: \[4\]"
    ) as caught:
        container = to_arviz(samples)
    assert caught[0].filename == __file__
    flagged = container["sample_stats"]["diverging"].values
    assert flagged.shape == (CHAINS, DRAWS)
    assert flagged[4].all() and not np.delete(flagged, 4, axis=0).any()


def test_draws_from_before_a_failure_are_not_flagged(samples):
    weights = samples.weights.copy()
    weights[4, :2] = 0.1
    late = sgld_jax.Samples(
        **{**vars(samples), "weights": weights},
    )
    with pytest.warns(UserWarning, match="non-finite"):
        flagged = to_arviz(late)["sample_stats"]["diverging"].values
    assert flagged[4].tolist() == [False, False, True, True]


def test_attributes(samples):
    container = to_arviz(samples.healthy())
    for attrs in (container.attrs, container["posterior"].attrs):
        assert attrs["inference_library"] == "sgld_jax"
        assert attrs["inference_library_version"] == sgld_jax.__version__
    created = container["posterior"].attrs["created_at"]
    assert datetime.datetime.fromisoformat(created).tzinfo is not None


def test_groups_that_are_given(samples, data):
    y, log_likelihood = data
    container = to_arviz(
        samples.healthy(),
        log_likelihood=log_likelihood,
        observed_data={"y": y},
        posterior_predictive={"y": jnp.asarray(log_likelihood, jnp.float16)},
    )
    given = {"log_likelihood", "observed_data", "posterior_predictive"}
    assert groups_of(container) == {"posterior", "sample_stats"} | given
    assert groups_of(to_arviz(samples.healthy())) == {"posterior", "sample_stats"}
    assert container["observed_data"]["y"].dims == ("y_dim_0",)
    for group in ("log_likelihood", "posterior_predictive"):
        assert container[group]["y"].dims == ("chain", "draw", "y_dim_0")
        assert container[group]["y"].dtype == np.float32
    np.testing.assert_array_equal(container["log_likelihood"]["y"], log_likelihood)


def test_arviz_summary_of_it_is_ours(az, samples):
    table = az.summary(to_arviz(samples.healthy()), round_to=10)
    ours = summary(samples.healthy())
    assert list(table.index) == list(ours.index)
    # Not ess_tail, where 1.x has tails of its own. R-hat because S is even: the table
    # of 0.23 folds before it splits, its rhat and all of 1.x after.
    for column in ("mean", "sd", "ess_bulk", "r_hat"):
        theirs = table[column].astype(float)
        np.testing.assert_allclose(theirs, ours[column], atol=1e-6, err_msg=column)


def test_loo(az, samples):
    """y ~ N(θ, 1), flat prior: y_i given the rest is N(their mean, 1 + 1/(n-1))."""
    n, rng = 20, np.random.default_rng(0)
    y = rng.normal(size=n)
    theta = rng.normal(y.mean(), n**-0.5, size=(4, 250))
    log_likelihood = stats.norm.logpdf(y, theta[..., None])
    exact = stats.norm.logpdf(
        y, (n * y.mean() - y) / (n - 1), np.sqrt(1 + 1 / (n - 1))
    ).sum()
    blank = np.zeros((4, 250))
    draws = {"params": theta, "potential": blank, "weights": blank, "counts": blank}
    run = sgld_jax.Samples(**{**vars(samples[:4]), **draws})
    result = az.loo(to_arviz(run, log_likelihood=log_likelihood))
    elpd = getattr(result, "elpd", None) or result.elpd_loo
    # exp(elpd_i) is a harmonic mean; |sum of errors| is at most the sum of |errors|.
    inverse = np.exp(-log_likelihood)
    se = inverse.std((0, 1)) / inverse.mean((0, 1)) / np.sqrt(theta.size)
    assert abs(elpd - exact) < 4 * se.sum()  # false alarm below 7e-5
    assert (result.n_samples, result.n_data_points) == (1000, n)


def test_files(az, samples, data, tmp_path):
    pytest.importorskip("h5py")
    container = to_arviz(samples.healthy(), observed_data=data[0])
    container.to_netcdf(tmp_path / "run.nc")
    back = az.from_netcdf(tmp_path / "run.nc")
    for group in ("posterior", "sample_stats", "observed_data"):
        for name, values in container[group].data_vars.items():
            np.testing.assert_array_equal(back[group][name], values)


def test_names(samples):
    healthy = samples.healthy()
    b = healthy.params["b"]
    bare = sgld_jax.Samples(**{**vars(healthy), "params": b})
    assert list(to_arviz(bare)["posterior"].data_vars) == ["x"]
    slash = sgld_jax.Samples(**{**vars(healthy), "params": {"a/b": (b, b)}})
    assert list(to_arviz(slash)["posterior"].data_vars) == ["a.b.0", "a.b.1"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"log_likelihood": np.ones((5, 4))}, r"'y' of log_likelihood .*\[C, S, N\]"),
        ({"log_likelihood": np.ones((5, 5, N))}, r"C, S = \(5, 4\)"),
        (
            {"posterior_predictive": np.ones(N)},
            r"posterior_predictive has shape \(7,\)",
        ),
        ({"posterior_predictive": {"draw": np.ones((5, 4))}}, "name of an axis"),
    ],
)
def test_refused(samples, arguments, message):
    with pytest.raises(ValueError, match=message):
        to_arviz(samples.healthy(), **arguments)


def test_arrays_are_refused():
    with pytest.raises(TypeError, match="takes what sample returned, not a ndarray"):
        to_arviz(np.ones((4, 10)))


def test_without_arviz(samples, monkeypatch):
    monkeypatch.setitem(sys.modules, "arviz", None)
    with pytest.raises(ImportError, match=r"pip install 'sgld-jax\[arviz\]'"):
        to_arviz(samples)


@pytest.mark.slow
def test_import_is_silent_on_the_first_of_the_day(tmp_path):
    """ArviZ 0.23 warns at its first import of a day; that concerns nobody here."""
    code = "from sgld_jax.analysis.arviz import import_arviz; import_arviz()"
    command = [sys.executable, "-W", "error::FutureWarning", "-c", code]
    subprocess.run(
        command, env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)}, check=True
    )


def test_weights_that_change_are_pointed_out(samples):
    weights = np.broadcast_to([4.0, 2.0, 1.0, 1.0], (CHAINS, DRAWS))
    run = sgld_jax.Samples(**{**vars(samples), "weights": weights}).healthy()
    with pytest.warns(UserWarning, match="weights change over the draws"):
        to_arviz(run)


def test_weighted_draws_stand_as_often_as_they_weigh(samples):
    weights = np.broadcast_to([4.0, 2.0, 1.0, 1.0], (CHAINS, DRAWS))
    run = sgld_jax.Samples(**{**vars(samples), "weights": weights}).healthy()
    container = to_arviz(run, log_likelihood=run.params["b"][..., None], weighted=True)
    # Of 4 draws, of weights 1/2, 1/4, 1/8 and 1/8: two, one, and one of the last two.
    for group, name in (("posterior", "b"), ("sample_stats", "count")):
        given = run.params["b"] if name == "b" else run.counts
        got = container[group][name].values
        np.testing.assert_array_equal(got[:, :3], given[:, [0, 0, 1]])
        assert ((got[:, 3] == given[:, 2]) | (got[:, 3] == given[:, 3])).all()
    b = container["posterior"]["b"].values
    np.testing.assert_array_equal(container["log_likelihood"]["y"][..., 0], b)


def test_weighted_draws_need_weights(samples):
    lost = sgld_jax.Samples(**{**vars(samples), "weights": samples.weights * np.nan})
    with pytest.raises(ValueError, match="weights of these draws are unknown"):
        to_arviz(lost.healthy(), weighted=True)
    with pytest.raises(ValueError, match="no draw of positive weight"):
        to_arviz(samples, weighted=True)


# --- names of axes, and pointwise likelihoods ----------------------------------------

Y = np.random.default_rng(0).normal(1.0, 1.0, 30).astype(np.float32)
LOCATION = sgld_jax.minibatch_potential(
    lambda p: -0.5 * p["mean"] ** 2 / 100,
    lambda p, y: -0.5 * (y - p["mean"]) ** 2 - 0.5 * np.log(2 * np.pi),
    len(Y),
)


@pytest.fixture(scope="module")
def located():
    return sample(
        0,
        sgld(1e-2),
        LOCATION,
        lambda key: {"mean": jax.random.normal(key)},
        num_samples=100,
        num_chains=4,
        burn_in=50,
        data=Y,
    )


def of_one_draw(p):
    return stats_logpdf(p["mean"])


def stats_logpdf(mean):
    return jax.scipy.stats.norm.logpdf(Y, mean, 1.0)


@pytest.mark.parametrize("given", ["potential", "function"])
def test_pointwise_likelihoods_are_those_of_every_row_and_draw(az, located, given):
    exact = stats.norm.logpdf(Y, np.asarray(located.params["mean"])[..., None], 1.0)
    if given == "potential":
        data = to_arviz(located, log_likelihood=LOCATION, data=Y)
    else:
        data = to_arviz(located, log_likelihood=of_one_draw)
    found = data.log_likelihood["y"].values
    assert found.shape == (4, 100, 30)
    np.testing.assert_allclose(found, exact, rtol=1e-4, atol=1e-4)
    loo = az.loo(data)
    # Of a location model: the mean log density less p = 1, within some noise.
    elpd = getattr(loo, "elpd_loo", None)
    elpd = loo.elpd if elpd is None else elpd
    fit = stats.norm.logpdf(Y, Y.mean(), 1.0).sum()
    assert abs(float(elpd) - (fit - 1.0)) < 1.0


def test_a_potential_without_data_is_refused(located):
    with pytest.raises(ValueError, match="pass data=, all rows"):
        to_arviz(located, log_likelihood=LOCATION)


def test_axes_can_be_named_and_labelled(samples):
    names = {"layer.w": ["out", "in"]}
    labels = {"out": ["a", "b"], "in": [10, 20, 30]}
    data = to_arviz(samples.healthy(), dims=names, coords=labels)
    w = data.posterior["layer.w"]
    assert w.dims == ("chain", "draw", "out", "in")
    assert list(w.coords["in"].values) == [10, 20, 30]
    assert data.posterior["b"].dims == ("chain", "draw")
