"""A metric and a step for every chain: the laws they rest on, and what comes of them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import sgld_jax
from sgld_jax.tuning import many, own_metric
from sgld_jax.tuning.landscape import landscape
from tests.law import Z
from tests.mutants import mutated

D, CHAINS = 450, 8
LAM = np.float32(np.logspace(-1, 5, D))


def bowl(x, batch):
    return 0.5 * jnp.sum(LAM * x**2)


@functools.cache
def adapted(module=own_metric):
    """Chains that start in the posterior of a Gaussian whose curvatures differ by 10⁶."""
    run = module.Run.of(landscape(bowl, jnp.zeros(D)), sgld_jax.full_batch(), 0.05)
    x = np.random.default_rng(0).normal(size=(CHAINS, D)) / np.sqrt(LAM)
    return module.adapt_own(
        run, jnp.asarray(x, jnp.float32), jax.random.key(1), None, 3_000
    )


def mean_curvature(own):
    """1/(λG), which is 1 where G is exact: its mean, and the error of it."""
    relative = 1 / (LAM * own.scale)
    means = relative.mean(1)
    return means.mean(), means.std(ddof=1) / np.sqrt(CHAINS), relative


def test_squares_of_gradients_are_curvatures():
    """E[(∂U/∂θᵢ)²] = ∂²U/∂θᵢ² on a Gaussian, whatever the units."""
    mean, error, relative = mean_curvature(adapted())
    assert error < 0.01 and abs(mean - 1) < Z * error
    slow, fast = relative[:, : D // 3].mean(), relative[:, -D // 3 :].mean()
    assert abs(slow - fast) < 0.1  # and no trend with the units


def test_the_step_leaves_the_energy_error_that_is_wanted():
    own = adapted()
    error = own.kept.std(ddof=1) / np.sqrt(CHAINS)
    assert error < 0.02 and abs(own.kept.mean() - 0.9) < Z * error
    assert np.ptp(np.log(own.step_size)) < 0.5


def test_in_few_coordinates_the_step_stays_well_inside_what_is_stable():
    """Two coordinates, correlated: λ of G^½HG^½ by NumPy, and λh² = 1/3."""
    H = np.array([[4.0, 1.9], [1.9, 1.0]])
    fit = sgld_jax.warm_up(
        0,
        lambda x, batch: x @ jnp.float32(H) @ x / 2,
        lambda key: jax.random.normal(key, (2,)),
        num_chains=4,
        metric="diagonal",
    )
    for scale in fit.metric:  # of each chain, with its step in it
        root = np.sqrt(fit.step_size * scale / (1 - own_metric.FRICTION / 2))
        largest = np.linalg.eigvalsh(root[:, None] * H * root).max()
        assert largest == pytest.approx(1 / own_metric._MARGIN, rel=0.1)


def test_a_share_of_a_mean_square_is_that_of_all_chains():
    """An idle weight: 1 where this chain is, 31 on average."""
    square = jnp.array([[1.0, 5.0], [61.0, 5.0]])
    shared = own_metric._with_others(square)
    np.testing.assert_allclose(shared, [[4.0, 5.0], [58.0, 5.0]], rtol=1e-6)


@pytest.mark.parametrize(
    "mark, line, test",
    [
        (
            "squares",
            "return (walk, total + jnp.abs(seen)), (kept, walk.before.value)",
            test_squares_of_gradients_are_curvatures,
        ),
        (
            "energy",
            "return value - before.value - work",
            lambda: test_the_error_of_the_energy_is_that_of_a_step_of_verlet(),
        ),
    ],
)
def test_mutants_are_killed(mark, line, test, monkeypatch):
    mutant = mutated(own_metric, mark, line)
    monkeypatch.setattr(own_metric, "energy_error", mutant.energy_error)
    own = adapted(mutant) if mark == "squares" else None
    monkeypatch.setitem(globals(), "adapted", lambda: own)
    with pytest.raises(AssertionError):
        test()


def test_the_error_of_the_energy_is_that_of_a_step_of_verlet():
    """By hand: half a kick, a move, half a kick; friction and noise in between add none."""
    rng = np.random.default_rng(2)
    G, x, v, xi = rng.uniform(0.5, 2, 5), *rng.normal(size=(3, 5))
    h, alpha = 0.3, 0.2

    def value(x):
        return np.sum(x**4) / 4 + np.prod(x)

    def slope(x):
        return x**3 + np.prod(x) / x

    def kinetic(v):
        return np.sum(v**2 / G) / (2 * h**2)

    on_step = v - h**2 / 2 * G * slope(x)  # after half a kick
    kicked = v - h**2 * G * slope(x)
    moved = x + kicked / 2
    cooled = (1 - alpha) * kicked + 0.1 * xi  # friction and noise
    moved = moved + cooled / 2
    ends = cooled - h**2 / 2 * G * slope(moved)
    added = kinetic(cooled) - kinetic(kicked)
    exact = value(moved) + kinetic(ends) - value(x) - kinetic(on_step) - added
    before = own_metric._Before(x, np.zeros(1), value(x), slope(x), kicked)
    with jax.enable_x64(True):
        found = own_metric.energy_error(
            jax.tree.map(jnp.asarray, before), cooled, value(moved), slope(moved), G, h
        )
    assert abs(exact) > 1e-3 and float(found) == pytest.approx(exact, rel=1e-9)


def regression(d=420, N=700):
    """y ~ N(Xβ, 1) with β ~ N(0, 1): correlated, and in units that differ by 30."""
    rng = np.random.default_rng(3)
    units = 10 ** rng.uniform(-1.5, 0.0, d)
    X = (rng.normal(size=(N, d)) + 0.3 * rng.normal(size=(N, 1))) * units
    y = X @ rng.normal(size=d) + rng.normal(size=N)
    data = {"x": X.astype(np.float32), "y": y.astype(np.float32)}
    potential = sgld_jax.minibatch_potential(
        lambda p: sgld_jax.gaussian_prior(1.0)(p["w"]),
        lambda p, row: -0.5 * (row["y"] - row["x"] @ p["w"]) ** 2,
        N,
    )
    precision = X.T @ X + np.eye(d)
    return potential, data, np.linalg.solve(precision, X.T @ y), precision


@functools.cache
def fitted():
    potential, data, mean, precision = regression()
    fit = sgld_jax.warm_up(
        0,
        potential,
        lambda key: {"w": jax.random.normal(key, (len(mean),))},
        num_chains=CHAINS,
        data=data,
    )
    samples = sgld_jax.sample(
        1,
        fit.sampler,
        potential,
        fit.init,
        num_chains=CHAINS,
        num_samples=200,
        burn_in=fit.burn_in,
        thinning=fit.thinning,
        data=data,
    )
    return fit, samples, mean, precision


def test_a_regression_with_420_coefficients_has_its_law():
    """Means and squares along all principal axes, over chains, and all pooled."""
    fit, samples, mean, precision = fitted()
    away = samples.params["w"] - mean
    white = away @ np.linalg.cholesky(precision)
    for moment, exact in ((white, 0.0), (white**2, 1.0)):
        pooled = moment.mean((1, 2))
        z = (pooled.mean() - exact) / (pooled.std(ddof=1) / np.sqrt(CHAINS))
        assert abs(z) < Z and pooled.std() < 0.05
    assert not fit.report.warnings and abs(fit.report.drift) < Z
    assert fit.metric.shape == (CHAINS, len(mean))


def test_the_report_can_be_read_and_the_same_key_gives_the_same_fit():
    fit, *_ = fitted()
    text = str(fit.report)
    assert "baoa, warmed up with 4152 gradients a chain" in text
    assert "a metric and a step for every chain" in text
    potential, data, mean, _ = regression()
    starts = {"w": jnp.zeros((2, len(mean)))}
    given = {"num_chains": 2, "data": data}
    once, again = (
        sgld_jax.warm_up(0, potential, sgld_jax.stacked(starts), **given)
        for _ in range(2)
    )
    np.testing.assert_array_equal(once.metric, again.metric)
    assert once.step_size == again.step_size
    assert "with 3152 gradients" in str(once.report)  # nothing to descend


@functools.cache
def location(N=600, n=60):
    """y ~ N(θ, units²) of 450 coordinates: batches whose noise is known."""
    rng = np.random.default_rng(6)
    units = np.logspace(-1, 1, D)
    y = (1 + units * rng.normal(size=(N, D))).astype(np.float32)
    potential = sgld_jax.minibatch_potential(
        lambda p: jnp.zeros(()),
        lambda p, y: -0.5 * jnp.sum(((y - p) / units) ** 2, -1),
        N,
    )
    given = {"num_chains": CHAINS, "data": y, "batches": sgld_jax.with_replacement(n)}
    fit = sgld_jax.warm_up(0, potential, lambda key: jnp.ones(D), **given)
    samples = sgld_jax.sample(
        1,
        fit.sampler,
        potential,
        fit.init,
        num_samples=100,
        burn_in=fit.burn_in,
        thinning=fit.thinning,
        **given,
    )
    lam, noise = N / units**2, N**2 / n * y.var(0) / units**4
    return fit, samples.params - y.mean(0), lam, noise


@pytest.mark.slow
def test_with_minibatches_the_metric_holds_their_noise_and_the_tolerance_is_kept():
    fit, away, lam, noise = location()
    alpha = own_metric.FRICTION_OF_BATCHES
    assert fit.step_size == pytest.approx(2 * alpha * (1.05**2 - 1), rel=1e-3)
    assert fit.predicted_bias == 0.05
    # Its law, by the metric that each chain has.
    eps, G = fit.step_size, fit.metric
    slow = 1 - eps * G * lam / (2 * (2 - alpha))
    law = 1 / lam + eps * G * noise / (2 * alpha * lam) / slow
    # The first guess, curvature alone, has kept this much of its weight.
    first = np.prod(1 - 2 / (np.arange(60) + own_metric._PROBES))
    seen = (1 - first) * (lam**2 * law + noise) + first * lam
    relative = (1 / (G * seen)).mean(1)
    error = relative.std(ddof=1) / np.sqrt(CHAINS)
    assert error < 0.01 and abs(relative.mean() - 1) < Z * error
    squares = (away**2 / law[:, None]).mean((1, 2))
    error = squares.std(ddof=1) / np.sqrt(CHAINS)
    assert error < 0.01 and abs(squares.mean() - 1) < Z * error
    # G itself is known to some per cent in single coordinates.
    assert (law * lam).mean() < 1.05**2 and (law * lam).max() < 1.06**2


def test_a_diagonal_metric_can_be_asked_for():
    fit = sgld_jax.warm_up(
        0,
        lambda x, batch: jnp.sum(jnp.array([1.0, 100.0]) * x**2) / 2,
        lambda key: jax.random.normal(key, (2,)),
        num_chains=4,
        metric="diagonal",
    )
    assert np.abs(np.log(fit.metric * [1.0, 100.0])).max() < 1.5
    assert ravel_pytree(fit.init.scale)[0].size == 8


def test_chains_that_have_not_settled_are_said():
    """U of a chain that climbs, block by block."""
    noise = np.random.default_rng(0).normal(size=(60, 8))
    assert abs(many._drift(noise)) < Z
    rising = noise + np.arange(60)[:, None]
    report = many.ManyReport("baoa", 1, 1.0, np.full(8, 0.6), rising, 0.0, ())
    report = report._replace(drift=many._drift(rising))
    said = " ".join(many._doubts(report))
    assert "U still rises" in said and "is too hot" in said


@pytest.mark.parametrize(
    "changed, words",
    [
        ({"kernel": "mala"}, 'expected "auto" or "baoa"'),
        ({"metric": "dense"}, "450 coordinates"),
        ({"metric": "fisher"}, "expected one of auto, dense, diagonal"),
        ({"init": lambda key: jnp.full(D, jnp.nan)}, "4 of 4 chains start"),
        ({"num_chains": 1}, "expected at least 2"),
        ({"init": sgld_jax.stacked(jnp.zeros((3, D)))}, "expected num_chains=4"),
    ],
)
def test_what_is_refused(changed, words):
    given = {
        "potential": bowl,
        "init": lambda key: jnp.zeros(D),
        "num_chains": 4,
    } | changed
    with pytest.raises(ValueError, match=words):
        sgld_jax.warm_up(0, **given)
