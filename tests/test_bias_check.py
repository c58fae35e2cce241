"""`bias_check`: the law it predicts is the one that is measured, and mistakes stand out."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sgld_jax
from tests.law import Z
from tests.test_bias_order import GRID, NODES, operator, slope, stationary

WELL = sgld_jax.from_log_density(lambda x: -((x**2 - 1) ** 2))
EPS = 0.01


def two_wells(key):
    return jnp.sign(jax.random.normal(key)) + 0.1


def run(sampler, potential=WELL, init=two_wells, **kwargs):
    settings = {
        "num_chains": 512,
        "num_samples": 100,
        "burn_in": 1_000,
        "thinning": 20,
    }
    return sgld_jax.sample(0, sampler, potential, init, **settings | kwargs)


@pytest.fixture(scope="module")
def on_the_well():
    return run(sgld_jax.sgld(EPS))


def test_the_double_well_by_its_exact_operator(on_the_well):
    """1.032 at ε = .01: from the stationary law of the update, without sampling error."""
    noise = np.sqrt(2 * EPS) * NODES
    law = stationary(operator((GRID - EPS * slope(GRID))[:, None] + noise))
    exact = float(law @ (GRID * slope(GRID)))
    assert exact == pytest.approx(1 + EPS / 2 * law @ slope(GRID) ** 2, abs=2e-5)
    assert exact == pytest.approx(1.032, abs=5e-4)
    report = sgld_jax.bias_check(on_the_well, sgld_jax.sgld(EPS), WELL)
    assert abs(report.measured - exact) < Z * report.measured_error
    assert abs(report.predicted - exact) < Z * report.predicted_error
    assert report.predicted_error < 0.002 and report.measured_error < 0.02
    assert report.explained


@pytest.mark.key_reuse_off("optax.add_noise hands its key on")
def test_half_the_noise_is_flagged():
    """Optax's parts with a missing √2: a sampler that has no trace."""
    wrong = optax.chain(optax.scale(-EPS), optax.add_noise(EPS, 0.0, key=0))
    report = sgld_jax.bias_check(run(wrong), wrong, WELL, temperature=1.0)
    assert not report.explained and report.measured < 0.7
    assert "audit the sampler" in report.explanation
    right = optax.chain(optax.scale(-EPS), optax.add_noise(2 * EPS, 0.0, key=0))
    assert sgld_jax.bias_check(run(right), right, WELL, temperature=1.0).explained


def test_chains_that_have_not_settled_are_flagged():
    far = run(
        sgld_jax.sgld(EPS), burn_in=0, init=lambda key: jnp.float32(2.0), thinning=1
    )
    report = sgld_jax.bias_check(far[:, :20], sgld_jax.sgld(EPS), WELL)
    assert not report.explained and "have not settled" in report.explanation


# --- Gaussians, by the law of SGLD ----------------------------------------------------

LAM = np.array([0.5, 2.0])
G = np.array([1.5, 0.25])
GAUSSIAN = sgld_jax.from_log_density(
    lambda p: -0.25 * (p["a"] ** 2).sum() - (p["b"] ** 2).sum()
)


def test_a_metric_and_a_temperature():
    """Σ λ Var θ/(dT) = mean of 1/(1 − εGλ/2), one leaf for each λ."""
    T, eps = 2.5, 0.4
    metric = sgld_jax.diagonal({"a": 1.5, "b": 0.25})
    sampler = sgld_jax.sgld(eps, T, preconditioner=metric)
    init = lambda key: {"a": jax.random.normal(key, (2,)), "b": jnp.zeros(2)}
    samples = run(sampler, GAUSSIAN, init, burn_in=100, thinning=5)
    report = sgld_jax.bias_check(samples, sampler, GAUSSIAN)
    exact = np.mean(1 / (1 - eps * G * LAM / 2))
    assert abs(report.measured - exact) < Z * report.measured_error
    assert abs(report.predicted - exact) < Z * report.predicted_error
    assert report.explained and "Step and batches explain it" in report.explanation


X = jnp.arange(8.0)
LOCATION = sgld_jax.minibatch_potential(
    log_prior=lambda theta: jnp.zeros(()),
    log_likelihood=lambda theta, x: -0.5 * (x - theta) ** 2,
    num_data=8,
)


@pytest.mark.parametrize("shared_by", [1, 4])
def test_minibatches(shared_by):
    """λ Var θ/T = (1 + εV/2)/(1 − ελ/2), V = N² σ²/n: 6.5 times the posterior."""
    eps, batches = 0.05, sgld_jax.with_replacement(2, shared_by=shared_by)
    sampler = sgld_jax.sgld(eps)
    samples = run(
        sampler,
        LOCATION,
        lambda key: jnp.float32(3.5),
        data=X,
        batches=batches,
        burn_in=100,
        thinning=5,
    )
    given = {"key": 5, "data": X, "batches": batches}
    report = sgld_jax.bias_check(samples, sampler, LOCATION, **given)
    exact = (1 + eps * 8**2 * np.var(X) / 2 / 2) / (1 - eps * 8 / 2)
    assert exact == pytest.approx(8 * 0.8125)
    assert abs(report.measured - exact) < Z * report.measured_error
    assert abs(report.predicted - exact) < Z * report.predicted_error
    assert report.explained


def test_other_kernels_have_a_bias_and_no_prediction():
    """`baoa` has none on a Gaussian at any step."""
    sampler = sgld_jax.baoa(0.9, 0.5)
    init = lambda key: {"a": jax.random.normal(key, (2,)), "b": jnp.zeros(2)}
    samples = run(sampler, GAUSSIAN, init, burn_in=100, thinning=5)
    report = sgld_jax.bias_check(samples, sampler, GAUSSIAN)
    assert np.isnan(report.predicted) and report.explained
    assert abs(report.measured - 1) < Z * report.measured_error
    assert "predicted" in report.explanation and "predicted  " not in str(report)


# --- input ----------------------------------------------------------------------------


def test_a_report_can_be_read(on_the_well):
    text = str(sgld_jax.bias_check(on_the_well, sgld_jax.sgld(EPS), WELL))
    assert [line.split()[0] for line in text.splitlines()[:3]] == [
        "measured",
        "predicted",
        "z",
    ]


def test_what_cannot_be_checked_is_refused(on_the_well):
    sampler, data = sgld_jax.sgld(EPS), {"data": X}
    kept = run(sampler, num_samples=2, burn_in=0, collect=lambda x: (x, x))
    decayed = sgld_jax.sgld(optax.exponential_decay(0.01, 10, 0.9))
    cases = [
        (3, sampler, {}, "expected the Samples"),
        (kept, sampler, {}, "without collect="),
        (on_the_well[:7], sampler, {}, "at least 8"),
        (run(decayed, num_samples=5, burn_in=0), decayed, {}, "changes along the run"),
        (on_the_well, sampler, data | {"batches": sgld_jax.shuffled(2)}, "independent"),
        (
            on_the_well,
            sampler,
            data | {"batches": sgld_jax.with_replacement(2)},
            "expected key=",
        ),
        (run(optax.sgd(0.1), num_samples=2), optax.sgd(0.1), {}, "temperature="),
    ]
    for samples, tx, given, words in cases:
        with pytest.raises((TypeError, ValueError), match=words):
            sgld_jax.bias_check(samples, tx, WELL, **given)
