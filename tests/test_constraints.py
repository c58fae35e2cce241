"""Parameters with bounds: densities that still integrate to 1, and draws within."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import sgld_jax
from tests.law import Z
from tests.marks import briefly

dist = pytest.importorskip("numpyro.distributions")


def two(first, second):
    """A point of a simplex or a sorted pair, as `like` wants one."""
    return {"x": jnp.array([first, second])}


ONE = {"x": jnp.array(0.5)}
# Densities that are normalised: SciPy's or NumPyro's, of one or two free coordinates.
DENSITIES = {
    "positive": (lambda x: dist.Gamma(3.0, 2.0).log_prob(x), "positive", ONE),
    "unit_interval": (lambda x: dist.Beta(2.0, 3.0).log_prob(x), "unit_interval", ONE),
    "interval": (
        lambda x: dist.Beta(2.0, 3.0).log_prob((x + 1) / 5) - jnp.log(5),
        ("interval", -1.0, 4.0),
        ONE,
    ),
    "greater_than": (
        lambda x: dist.Exponential(2.0).log_prob(x + 1),
        ("greater_than", -1.0),
        ONE,
    ),
    "less_than": (
        lambda x: dist.Exponential(2.0).log_prob(1 - x),
        ("less_than", 1.0),
        ONE,
    ),
    "simplex": (
        lambda x: dist.Dirichlet(jnp.array([2.0, 3.0, 4.0])).log_prob(x),
        "simplex",
        {"x": jnp.array([0.2, 0.3, 0.5])},
    ),
    "ordered": (
        lambda x: jnp.log(2) + dist.Normal().log_prob(x).sum(),
        "ordered",
        two(-1.0, 2.0),
    ),
    "positive_ordered": (
        lambda x: jnp.log(2) + dist.Gamma(2.0, 1.0).log_prob(x).sum(),
        "positive_ordered",
        two(1.0, 2.0),
    ),
    "corr_cholesky": (
        lambda x: dist.LKJCholesky(2, 2.0).log_prob(x),
        "corr_cholesky",
        {"x": jnp.eye(2)},
    ),
    "corr_matrix": (
        lambda x: dist.LKJ(2, 2.0).log_prob(x),
        "corr_matrix",
        {"x": jnp.eye(2)},
    ),
    "lower_cholesky": (
        lambda x: (
            dist.Gamma(2.0, 1.0).log_prob(jnp.diag(x)).sum()
            + dist.Normal().log_prob(x[1, 0])
        ),
        "lower_cholesky",
        {"x": jnp.eye(2)},
    ),
    "positive_definite": (
        lambda x: dist.Wishart(4.0, jnp.eye(2)).log_prob(x),
        "positive_definite",
        {"x": jnp.eye(2)},
    ),
    "numpyro's own": (
        lambda x: dist.Gamma(3.0, 2.0).log_prob(x),
        dist.constraints.softplus_positive,
        ONE,
    ),
    "real": (lambda x: dist.Normal(1.0, 2.0).log_prob(x), "real", ONE),
}


@pytest.mark.parametrize(
    "name", briefly(DENSITIES, "positive", "simplex", "corr_cholesky")
)
def test_the_density_of_what_is_sampled_integrates_to_1(name):
    """By quadrature over z: the Jacobian is there, and once."""
    log_density, constraint, like = DENSITIES[name]
    model = sgld_jax.constrained(lambda p: log_density(p["x"]), {"x": constraint}, like)
    d = model.unconstrain(like)["x"].size
    grid = np.linspace(*{1: (-14, 14, 2_801), 2: (-9, 9, 181), 3: (-9, 9, 73)}[d])
    points = np.stack(np.meshgrid(*[grid] * d), -1).reshape(-1, d)
    shape = model.unconstrain(like)["x"].shape
    z = {"x": jnp.asarray(points, jnp.float32).reshape(-1, *shape)}
    density = np.exp(-np.float64(jax.vmap(lambda z: model.potential(z, None))(z)))
    density = np.nan_to_num(density)  # far out, where θ overflows, it is 0
    total = density.sum() * (grid[1] - grid[0]) ** d
    assert total == pytest.approx(1.0, abs=2e-3)


@pytest.mark.parametrize("name", DENSITIES)
def test_there_and_back(name):
    _, constraint, like = DENSITIES[name]
    model = sgld_jax.constrained(lambda p: 0.0, {"x": constraint}, like)
    back = model.constrain(model.unconstrain(like))
    np.testing.assert_allclose(back["x"], like["x"], atol=1e-5)
    starts = jax.vmap(model.init)(jax.random.split(jax.random.key(0), 5))
    assert len(np.unique(np.ravel(starts["x"]))) == starts["x"].size
    assert np.abs(starts["x"]).max() < 2.0


def test_draws_are_on_the_natural_scale_everywhere():
    """σ ~ Gamma(3, 2) and p ~ Dirichlet(2, 3, 4): means and sds, by a small step."""
    model = sgld_jax.constrained(
        lambda q: (
            dist.Gamma(3.0, 2.0).log_prob(q["sigma"])
            + dist.Dirichlet(jnp.array([2.0, 3.0, 4.0])).log_prob(q["p"])
            + dist.Normal(0.0, 1.5).log_prob(q["x"])
        ),
        {"sigma": "positive", "p": "simplex"},
        like={"sigma": 1.0, "p": jnp.array([0.2, 0.3, 0.5]), "x": 0.0},
    )
    samples = sgld_jax.sample(
        0,
        sgld_jax.leimkuhler_matthews(0.1),
        model.potential,
        model.init,
        collect=model.constrain,
        num_chains=1_024,
        num_samples=20,
        burn_in=500,
        thinning=100,
    )
    sigma, p = (np.float64(samples.params[name]) for name in ("sigma", "p"))
    assert (sigma > 0).all()
    np.testing.assert_allclose(p.sum(-1), 1.0, atol=1e-6)
    law = stats.gamma(3, scale=0.5)
    for draws, mean in (
        (sigma, law.mean()),
        (sigma**2, law.moment(2)),
        (p[..., 0], 2 / 9),
        (p[..., 2], 4 / 9),
        (samples.params["x"] ** 2, 1.5**2),
    ):
        means = draws.mean(1)
        z = (means.mean() - mean) / (means.std() / np.sqrt(len(means)))
        assert abs(z) < Z, (mean, z)
    pytest.importorskip("arviz")
    names = set(sgld_jax.summary(samples).index)
    assert {"sigma", "x"} <= names and "p[2]" in names


def test_minibatches_by_its_parts():
    """`constrain` and `log_jacobian` make a potential with data, as by hand."""
    model = sgld_jax.constrained(
        lambda q: -q["rate"], {"rate": "positive"}, like={"rate": 1.0}
    )
    x = jnp.array([1.0, 2.0, 4.0])
    potential = sgld_jax.minibatch_potential(
        lambda z: -model.constrain(z)["rate"] + model.log_jacobian(z),
        lambda z, x: z["rate"] - x * model.constrain(z)["rate"],
        num_data=3,
    )
    z = {"rate": jnp.array(0.3)}
    expected = 8 * np.exp(0.3) - 4 * 0.3
    np.testing.assert_allclose(potential(z, x), expected, rtol=1e-6)


BAD = [
    ({"y": "positive"}, ONE, "names .'y'."),
    ({"x": "postive"}, ONE, "expected one of"),
    ({"x": ("interval", 1.0)}, ONE, "expected one of"),
    ({"x": 3}, ONE, "expected one of"),
    ({"x": "positive"}, {"x": jnp.array(-1.0)}, "out of its bounds"),
    ({"x": "simplex"}, {"x": jnp.array([0.5, 0.6])}, "out of its bounds"),
    ("positive", ONE, "expected a dict"),
    ({"x": "positive"}, 3.0, "expected a dict"),
    ({"x": "positive"}, {"x": "much"}, "expected an array"),
]


@pytest.mark.parametrize("constraints, like, words", BAD)
def test_what_cannot_be_is_refused(constraints, like, words):
    with pytest.raises((TypeError, ValueError), match=words):
        sgld_jax.constrained(lambda p: 0.0, constraints, like)


def test_without_numpyro_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "numpyro.distributions", None)
    with pytest.raises(ImportError, match=r"sgld-jax\[numpyro\]"):
        sgld_jax.constrained(lambda p: 0.0, {"x": "positive"}, ONE)
