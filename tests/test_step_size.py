"""`auto_step_size`: the laws it goes by, and the bias that chains then have."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import linalg

import sgld_jax
from sgld_jax.tuning import gaussian_laws
from sgld_jax.tuning.gaussian_laws import Noise, covariance, widest
from tests.kernels import FRICTION, KERNELS
from tests.law import Z
from tests.mutants import mutated

LAM = np.array([0.3, 1.0, 3.0])
V = np.array([[2.0, 0.7, -0.5], [0.7, 1.0, 0.2], [-0.5, 0.2, 3.0]])
NAMES = ("sgld", "sghmc", "baoa", "leimkuhler_matthews")

# --- the laws ------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("noise", [0.0, 3.0])
def test_the_variances_are_those_of_the_registry(name, noise):
    """Each kernel's own formula, of laws.md."""
    alpha = FRICTION if name in ("sghmc", "baoa") else 1.0
    found = covariance(name, LAM, 0.2, 1.7, alpha, Noise(noise * np.eye(3), 1))
    law = KERNELS[name].law(LAM, 0.2, 1.7, noise)
    np.testing.assert_allclose(np.diag(found), law, rtol=1e-10)
    assert np.abs(found - np.diag(np.diag(found))).max() < 1e-12


def lyapunov(name, eps, T, alpha):
    """The whole 2d × 2d system at once, by SciPy."""
    step = gaussian_laws.KERNELS[name].recursion(LAM, eps, alpha)
    d = len(LAM)
    A = np.zeros((2 * d, 2 * d))
    for i in range(d):
        A[i::d, i::d] = step.step[i]
    b, c = (np.kron(x[:, None], np.eye(d)) for x in step[1:])
    Q = b @ V @ b.T + 2 * alpha * eps * T * c @ c.T
    return linalg.solve_discrete_lyapunov(A, Q)[:d, :d]


@pytest.mark.parametrize("name", NAMES)
def test_covariances_between_directions(name):
    alpha = 0.3 if name in ("sghmc", "baoa") else 1.0
    found = covariance(name, LAM, 0.2, 1.7, alpha, Noise(V, 1))
    np.testing.assert_allclose(found, lyapunov(name, 0.2, 1.7, alpha), rtol=1e-9)


def test_shuffled_epochs_have_their_golden_values():
    """laws.md 12, the four phases of an epoch, in the mean."""
    x = np.arange(8.0)
    one = 8**2 * np.var(x, ddof=1) / 2 * (1 - 2 / 8)
    found = covariance(
        "sgld", np.array([8.0]), 0.05, 1.0, 1.0, Noise(np.array([[one]]), 4)
    )
    golden = [0.5782047, 0.5241537, 0.4182953, 0.3283463]
    np.testing.assert_allclose(found, np.mean(golden), atol=1e-7)


@pytest.mark.parametrize("name", ["sghmc", "baoa"])
def test_shuffled_epochs_with_a_velocity(name):
    """Two directions, written out: the noises of an epoch as one vector."""
    m, eps, alpha, lam = 5, 0.1, 0.2, np.array([0.5, 2.0])
    noise = V[:2, :2]
    step = gaussian_laws.KERNELS[name].recursion(lam, eps, alpha)
    A = linalg.block_diag(*step.step)
    b = np.zeros((4, 2))
    b[:2, 0] = b[2:, 1] = step.from_gradient
    within = (m * np.eye(m) - np.ones((m, m))) / (m - 1)

    def after(k):
        ways = np.hstack([np.linalg.matrix_power(A, k - 1 - t) @ b for t in range(k)])
        return ways @ np.kron(within[:k, :k], noise) @ ways.T

    start = linalg.solve_discrete_lyapunov(np.linalg.matrix_power(A, m), after(m))
    mean = 0.0
    for k in range(1, m + 1):
        P = np.linalg.matrix_power(A, k)
        mean = mean + (P @ start @ P.T + after(k))[::2, ::2] / m
    still = covariance(name, lam, eps, 1.0, alpha, Noise(0 * noise, m))
    found = covariance(name, lam, eps, 1.0, alpha, Noise(noise, m))
    np.testing.assert_allclose(found - still, mean, rtol=1e-9)


def test_the_widest_direction():
    lam = np.array([1.0, 4.0])
    found = np.array([[1.0, 0.0], [0.0, 0.25]]) + 0.1 * np.array(
        [[1, 0.5], [0.5, 0.25]]
    )
    width, way = widest(lam, found, 1.0)
    variance = way @ found @ way / (way @ np.diag(1 / lam) @ way)
    assert width**2 == pytest.approx(variance) and width**2 == pytest.approx(1.2)


@pytest.mark.parametrize(
    "mark, line, test",
    [
        (
            "kicks",
            "injected = np.diag(_stationary(M, M, kicks)[:, 1, 1])",
            lambda: test_the_variances_are_those_of_the_registry("sghmc", 0.0),
        ),
        (
            "cancels",
            "apart = 0 * all_of_them",
            test_shuffled_epochs_have_their_golden_values,
        ),
    ],
)
def test_mutants_of_the_laws_are_killed(mark, line, test, monkeypatch):
    mutant = mutated(gaussian_laws, mark, line)
    monkeypatch.setitem(globals(), "covariance", mutant.covariance)
    with pytest.raises(AssertionError):
        test()


# --- steps, and the bias that chains have with them ----------------------------------


@functools.cache
def regression(seed, N=1000, d=4):
    """y ~ N(Xβ, 1), prior N(0, 10²): a Gaussian whose batches are of its own data."""
    rng = np.random.default_rng(seed)
    units = 10 ** rng.uniform(-0.7, 0.7, d)
    X = rng.normal(size=(N, d)) @ (rng.normal(size=(d, d)) + 2 * np.eye(d)) * units
    y = X @ (rng.normal(size=d) / units) + rng.normal(size=N) * (1 + (X[:, 0] > 0))
    precision = X.T @ X + np.eye(d) / 100
    mean, covariance = np.linalg.solve(precision, X.T @ y), np.linalg.inv(precision)
    potential = sgld_jax.minibatch_potential(
        sgld_jax.gaussian_prior(10.0),
        lambda beta, row: -0.5 * (row["y"] - row["x"] @ beta) ** 2,
        N,
    )
    data = {"x": X.astype(np.float32), "y": y.astype(np.float32)}
    return potential, data, mean.astype(np.float32), covariance


SCHEMES = {
    "all": sgld_jax.full_batch(),
    "drawn": sgld_jax.with_replacement(100),
    "shuffled": sgld_jax.shuffled(100),
}


def chosen(kernel, scheme, seed, metric=True, tolerance=0.05):
    """The step, and the sampler that has it."""
    potential, data, mean, covariance = regression(seed)
    G = sgld_jax.dense(covariance) if metric else sgld_jax.identity()
    found = sgld_jax.auto_step_size(
        potential,
        jnp.asarray(mean),
        kernel=kernel,
        friction=0.2,
        data=data,
        batches=SCHEMES[scheme],
        preconditioner=G,
        tolerance=tolerance,
    )
    friction = [0.2] if kernel in ("sghmc", "baoa") else []
    sampler = getattr(sgld_jax, kernel)(found.step_size, *friction, preconditioner=G)
    return found, sampler


def measured(kernel, scheme, seed, chains=512, draws=40):
    """The bias in the direction that was said, its error, and what was predicted."""
    potential, data, mean, covariance = regression(seed)
    found, sampler = chosen(kernel, scheme, seed)
    pace = found.step_size / (0.2 if kernel in ("sghmc", "baoa") else 1.0)
    # Of a shuffled epoch of 10 batches all phases are drawn.
    thinning = 11 if scheme == "shuffled" else max(5, int(0.5 / pace))
    rng = np.random.default_rng(seed + 100)
    starts = rng.multivariate_normal(mean, covariance, chains).astype(np.float32)
    samples = sgld_jax.sample(
        seed,
        sampler,
        potential,
        sgld_jax.stacked(jnp.asarray(starts)),
        num_chains=chains,
        num_samples=draws,
        burn_in=int(5 / pace),
        thinning=thinning,
        data=data,
        batches=SCHEMES[scheme],
    )
    way = np.asarray(found.direction, np.float64)
    z = (samples.params - mean) @ way / np.sqrt(way @ covariance @ way)
    squares = (z**2).mean(1)
    width = np.sqrt(squares.mean())
    return width - 1, squares.std(ddof=1) / np.sqrt(chains) / 2 / width, found


MEASURED = [
    ("sgld", "all", 0),
    ("sgld", "drawn", 1),
    ("sgld", "shuffled", 2),
    ("sghmc", "drawn", 3),
    ("sghmc", "shuffled", 4),
    ("sgld", "all", 5),
    ("sgld", "shuffled", 6),
    ("sghmc", "all", 7),
    ("sghmc", "shuffled", 8),
    ("sgld", "drawn", 9),
]


@pytest.mark.parametrize(
    "kernel, scheme, seed",
    [
        case if i in (2, 4) else pytest.param(*case, marks=pytest.mark.slow)
        for i, case in enumerate(MEASURED)
    ],
)
def test_the_bias_is_what_was_predicted_and_uses_the_tolerance(kernel, scheme, seed):
    """Ten Gaussians, within 4.5 standard errors of the prediction, which is 5 %."""
    bias, error, found = measured(kernel, scheme, seed)
    assert found.predicted_bias == pytest.approx(0.05, rel=1e-4)
    assert error < 0.01
    assert abs(bias - found.predicted_bias) < Z * error
    assert bias > 0.05 / 3


@pytest.mark.parametrize("scheme", ["all", "shuffled"])
def test_baoa_has_no_bias_without_noise_and_a_bound_on_its_step(scheme):
    found, _ = chosen("baoa", scheme, 3)
    if scheme == "all":
        assert found.step_size * found.largest_curvature == pytest.approx(0.9, rel=2e-3)
        assert found.predicted_bias < 1e-9
        assert "the largest that baoa is used with" in found.explanation
    else:
        assert found.predicted_bias == pytest.approx(0.05, rel=1e-3)


def test_the_metric_is_that_of_the_law():
    """Without a metric the step is that of the steepest direction, in its units."""
    _, _, _, covariance = regression(0)
    plain, _ = chosen("sgld", "all", 0, metric=False)
    white, _ = chosen("sgld", "all", 0, metric=True)
    steepest = 1 / np.linalg.eigvalsh(covariance)[0]
    assert plain.largest_curvature == pytest.approx(steepest, rel=1e-3)
    assert white.largest_curvature == pytest.approx(1.0, rel=1e-3)
    exact = 2 * (1 - 1 / 1.05**2)
    for found in (plain, white):
        step = found.step_size * found.largest_curvature
        assert step == pytest.approx(exact, rel=1e-3)


def test_a_tolerance_of_half_takes_half_the_step_and_the_reason_is_said():
    wide, _ = chosen("sgld", "drawn", 1)
    half, _ = chosen("sgld", "drawn", 1, tolerance=0.025)
    assert 0.45 < half.step_size / wide.step_size < 0.55
    assert 0.05 < wide.noise_ratio < 0.15
    assert "the noise of single batches of 100" in wide.explanation
    assert "or a control variate" in wide.explanation
    alone, _ = chosen("sgld", "all", 1)
    assert "by its own size: mala or baoa" in alone.explanation


def test_without_a_friction_the_one_that_forgets_fastest_is_taken():
    potential, data, mean, covariance = regression(4)
    given = {"data": data, "batches": SCHEMES["shuffled"], "kernel": "sghmc"}
    given["preconditioner"] = sgld_jax.dense(covariance)
    best = sgld_jax.auto_step_size(potential, jnp.asarray(mean), **given)
    for alpha in (best.friction * 0.6, min(1.0, best.friction * 1.7)):
        other = sgld_jax.auto_step_size(
            potential, jnp.asarray(mean), friction=alpha, **given
        )
        assert best.memory < other.memory
    sgld = chosen("sgld", "shuffled", 4)[0]
    assert sgld.friction == 1.0 and best.memory < 0.6 * sgld.memory
    # A start is forgotten as ρ^t: SGLD's slowest direction is that of 1 − ελ.
    assert sgld.memory == pytest.approx(-1 / np.log(1 - sgld.step_size), rel=1e-3)


def test_rows_beyond_4096_are_a_sample_of_them():
    N = 10_000
    x = np.random.default_rng(0).normal(size=N).astype(np.float32)
    potential = sgld_jax.minibatch_potential(
        lambda theta: jnp.zeros(()), lambda theta, x: -0.5 * (x - theta) ** 2, N
    )
    found = sgld_jax.auto_step_size(
        potential,
        jnp.float32(x.mean()),
        data=x,
        batches=sgld_jax.with_replacement(50),
        key=1,
    )
    noise = N**2 * np.var(x) / 50
    exact = (1.05**2 - 1) / (noise / 2 + N * 1.05**2 / 2)
    assert found.step_size == pytest.approx(exact, rel=0.1)  # 4,096 rows: 2.2 %


# --- where the posterior is no Gaussian -----------------------------------------------


@functools.cache
def classification(seed=0, N=800, d=4):
    """A logistic regression, and the law of its coefficients from exact chains."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(N, d)) * [1.0, 0.3, 2.0, 1.0]
    X[:, 3] += X[:, 0]
    odds = X @ [0.8, -2.0, 0.3, 0.5] - 1.0
    data = {
        "x": np.column_stack([np.ones(N), X]).astype(np.float32),
        "y": (rng.uniform(size=N) < 1 / (1 + np.exp(-odds))).astype(np.float32),
    }
    potential = sgld_jax.minibatch_potential(
        sgld_jax.gaussian_prior(3.0),
        lambda beta, row: sgld_jax.likelihoods.bernoulli(row["x"] @ beta, row["y"]),
        N,
    )
    fit = sgld_jax.warm_up(
        seed, potential, lambda key: jnp.zeros(d + 1), num_chains=64, data=data
    )
    exact = sgld_jax.sample(
        seed + 1,
        fit.sampler,
        potential,
        fit.init,
        num_chains=64,
        num_samples=500,
        burn_in=fit.burn_in,
        thinning=fit.thinning,
        data=data,
    )
    return potential, data, np.asarray(exact.params, np.float64)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kernel, scheme", [("sgld", "all"), ("sgld", "drawn"), ("sghmc", "shuffled")]
)
def test_a_logistic_regression_has_nearly_the_bias_of_its_gaussian(kernel, scheme):
    """Beside the three with published references of `python -m benchmarks posteriors`."""
    potential, data, exact = classification()
    mean, covariance = exact.mean((0, 1)), np.cov(exact.reshape(-1, exact.shape[2]).T)
    G = sgld_jax.dense(covariance)
    found = sgld_jax.auto_step_size(
        potential,
        jnp.asarray(mean, jnp.float32),
        kernel=kernel,
        data=data,
        batches=SCHEMES[scheme],
        preconditioner=G,
    )
    make = {
        "sgld": lambda: sgld_jax.sgld(found.step_size, preconditioner=G),
        "sghmc": lambda: sgld_jax.sghmc(
            found.step_size, found.friction, preconditioner=G
        ),
    }[kernel]
    starts = exact[:, ::100].reshape(-1, exact.shape[2]).astype(np.float32)
    samples = sgld_jax.sample(
        7,
        make(),
        potential,
        sgld_jax.stacked(jnp.asarray(starts)),
        num_chains=len(starts),
        num_samples=200,
        burn_in=int(5 * found.memory),
        thinning=11 if scheme == "shuffled" else max(5, int(found.memory / 2)),
        data=data,
        batches=SCHEMES[scheme],
    )
    way = np.asarray(found.direction, np.float64)
    widths, errors = [], []
    for draws in (exact, np.asarray(samples.params, np.float64)):
        squares = ((draws @ way - mean @ way) ** 2).mean(1)
        widths += [np.sqrt(squares.mean())]
        errors += [squares.std(ddof=1) / np.sqrt(len(squares)) / squares.mean() / 2]
    bias, error = widths[1] / widths[0] - 1, np.hypot(*errors)
    assert found.predicted_bias == pytest.approx(0.05, rel=1e-3) and error < 0.006
    assert 0.05 / 3 < bias < 0.05 + Z * error


QUADRATIC = sgld_jax.from_log_density(lambda x: -0.5 * jnp.sum(x**2))


@pytest.mark.parametrize(
    "changed, error, words",
    [
        ({"kernel": "mala"}, ValueError, "follows from what is accepted: warm_up"),
        ({"tolerance": 0.0}, ValueError, "tolerance"),
        ({"temperature": -1.0}, ValueError, "temperature"),
        ({"params": jnp.zeros(401)}, ValueError, "401 coordinates"),
        (
            {"preconditioner": sgld_jax.rmsprop(num_data=1)},
            ValueError,
            "never changes",
        ),
        ({"batches": sgld_jax.shuffled(3)}, ValueError, "data"),
        (
            {"potential": lambda x, batch: -0.5 * jnp.sum(x**2)},
            ValueError,
            "curves upwards in no direction",
        ),
        (
            {"potential": lambda x, batch: jnp.sum(jnp.sqrt(x))},
            ValueError,
            "no finite second derivatives",
        ),
    ],
)
def test_what_is_refused(changed, error, words):
    given = {"potential": QUADRATIC, "params": jnp.zeros(2)} | changed
    with pytest.raises(error, match=words):
        sgld_jax.auto_step_size(given.pop("potential"), given.pop("params"), **given)


def test_a_potential_that_is_no_mean_over_rows_is_refused():
    potential, data, mean, _ = regression(0)
    squared = lambda beta, batch: potential(beta, batch) * len(batch["y"])  # noqa: E731
    with pytest.raises(ValueError, match="not the mean of those of its rows"):
        sgld_jax.auto_step_size(
            squared, jnp.asarray(mean), data=data, batches=sgld_jax.shuffled(10)
        )
