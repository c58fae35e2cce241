"""Predictions and their scores, against scikit-learn, closed forms and float64."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy.special import log_softmax, logsumexp
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

import sgld_jax
from sgld_jax import entropy_split, plots, predictive_probs
from sgld_jax.analysis import scores

TOLERANCE = 1e-6  # of float32 on numbers of order 1; float64 is held to 1e-12


def random_logits(shape=(3, 5, 40, 4), spread=3.0, seed=0):
    return spread * np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def random_prediction(n=200, num_classes=5, seed=1):
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.ones(num_classes), n)
    return probs, rng.integers(0, num_classes, n)


def entropy64(log_p):
    return -(np.exp(log_p) * log_p).sum(-1)


# --- predictive_probs, entropy_split ---------------------------------------------


def test_probabilities_are_averaged_not_logits():
    logits = random_logits()
    expected = np.exp(log_softmax(logits.astype(np.float64), -1)).mean((0, 1))
    np.testing.assert_allclose(
        predictive_probs(logits), expected, rtol=0, atol=TOLERANCE
    )
    of_mean_logits = jax.nn.softmax(logits.mean((0, 1)))
    assert np.abs(of_mean_logits - expected).max() > 0.01


def test_extreme_logits_keep_small_probabilities():
    logits = np.array([[0.0, 60.0], [0.0, 1e4]], np.float32)[None, :, None, :]
    probs = np.asarray(predictive_probs(logits))[0]
    np.testing.assert_allclose(probs, [np.exp(-60.0) / 2, 1.0], rtol=1e-5)


def test_parts_of_the_entropy_against_float64():
    logits = random_logits()
    log_p = log_softmax(logits.astype(np.float64), -1)
    total = entropy64(logsumexp(log_p, (0, 1)) - np.log(15))
    aleatoric = entropy64(log_p).mean((0, 1))
    split = entropy_split(logits)
    for got, want in zip(split, (total, aleatoric, total - aleatoric)):
        assert got.shape == (40,)
        np.testing.assert_allclose(got, want, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("spread", [1e-4, 1.0, 300.0])
def test_the_split_adds_up_exactly_and_is_never_negative(spread):
    split = entropy_split(random_logits(spread=spread))
    assert (split.total == split.aleatoric + split.epistemic).all()
    assert (split.epistemic >= 0).all()


def test_epistemic_part_keeps_its_digits_where_draws_nearly_agree():
    # Here the mutual information is 2e-7 of the entropy, and a difference of
    # float32 entropies would be nothing but rounding.
    base = random_logits((1, 1, 40, 4))
    logits = base + random_logits((2, 50, 40, 4), spread=1e-3, seed=2)
    log_p = log_softmax(logits.astype(np.float64), -1)
    log_mean = logsumexp(log_p, (0, 1)) - np.log(100)
    want = (np.exp(log_p) * (log_p - log_mean)).sum(-1).mean((0, 1))
    got = np.asarray(entropy_split(logits).epistemic)
    assert want.max() < 1e-6
    np.testing.assert_allclose(got, want, rtol=0.01)


def test_hand_worked_splits():
    sure = np.array([[-np.inf, 0.0], [0.0, -np.inf]], np.float32)
    divided = entropy_split(sure[None, :, None, :])  # sure, but of two classes
    agreed = entropy_split(np.zeros((4, 3, 1, 8), np.float32))  # all say 1/8
    one = entropy_split(random_logits((1, 1, 9, 3)))
    np.testing.assert_allclose(divided, [[np.log(2)], [0], [np.log(2)]], atol=1e-6)
    np.testing.assert_allclose(agreed, [[np.log(8)], [np.log(8)], [0]], atol=1e-6)
    assert (one.epistemic == 0).all()


@pytest.mark.parametrize("shape", [(8,), (3, 8), (2, 3, 8), (2, 0, 3, 8)])
@pytest.mark.parametrize("function", [predictive_probs, entropy_split])
def test_other_shapes_are_refused_with_the_remedy(function, shape):
    with pytest.raises(ValueError, match=r"logits\[None, None\] for one network"):
        function(np.zeros(shape))


# --- scores -----------------------------------------------------------------------


def test_scores_against_scikit_learn():
    probs, labels = random_prediction()
    want = log_loss(labels, probs)
    assert scores.nll(probs, labels) == pytest.approx(want, abs=1e-12)
    want = brier_score_loss(labels, probs, scale_by_half=False)
    assert scores.brier(probs, labels) == pytest.approx(want, abs=1e-12)


def test_auroc_against_scikit_learn_with_many_ties():
    rng = np.random.default_rng(3)
    inside, outside = rng.integers(0, 9, 150), rng.integers(3, 12, 80)
    truth = np.repeat([0, 1], [150, 80])
    want = roc_auc_score(truth, np.concatenate([inside, outside]))
    assert scores.auroc(inside, outside) == pytest.approx(want, abs=1e-12)


def test_impossible_label_costs_infinity():
    assert np.isposinf(scores.nll(np.array([[1.0, 0.0]]), np.array([1])))


def hand_worked():
    """Six predictions of two classes; three bins of two, gaps .05, .35 and 0."""
    top = np.array([0.6, 0.5, 0.8, 0.9, 1.0, 1.0])
    right = np.array([1, 0, 1, 0, 1, 1])
    return np.stack([top, 1 - top], 1), 1 - right


def test_calibration_error_by_hand():
    probs, labels = hand_worked()
    bins = scores.calibration_bins(probs, labels, 3)
    np.testing.assert_array_equal(bins.count, [2, 2, 2])
    np.testing.assert_allclose(bins.confidence, [0.55, 0.85, 1.0], atol=1e-12)
    np.testing.assert_allclose(bins.accuracy, [0.5, 0.5, 1.0], atol=1e-12)
    error = scores.expected_calibration_error(probs, labels, 3)
    assert error == pytest.approx((2 * 0.05 + 2 * 0.35) / 6, abs=1e-12)


@pytest.mark.parametrize("num_bins", [1, 7, 200, 500])
def test_bins_have_equal_mass_and_drop_nothing(num_bins):
    probs, labels = random_prediction()
    count = np.asarray(scores.calibration_bins(probs, labels, num_bins).count)
    assert count.sum() == 200
    assert count.max() - count.min() <= 1


def test_saturated_confidence_is_counted_in_any_order():
    # All at exactly 1, half of them wrong: an open last bin would return 0.
    probs = np.tile(np.array([[1.0, 0.0]]), (100, 1))
    labels = np.repeat([0, 1], 50)
    for order in (labels, labels[::-1]):
        error = scores.expected_calibration_error(probs, order)
        assert error == pytest.approx(0.5, abs=1e-12)


def test_calibration_error_of_one_bin_is_confidence_minus_accuracy():
    probs, labels = random_prediction()
    want = abs(probs.max(1).mean() - (probs.argmax(1) == labels).mean())
    got = scores.expected_calibration_error(probs, labels, 1)
    assert got == pytest.approx(want, abs=1e-12)


def test_error_at_coverage_by_hand():
    probs, labels = hand_worked()  # by confidence: right, right, wrong, right, ...
    errors = [scores.error_at_coverage(probs, labels, k / 6) for k in range(1, 7)]
    np.testing.assert_allclose(errors, [0, 0, 1 / 3, 1 / 4, 1 / 5, 1 / 3], atol=1e-12)


def test_predictions_may_be_jitted_and_vmapped():
    logits = random_logits((2, 3, 20, 4))
    probs = jax.jit(jax.vmap(predictive_probs))(logits[:, None])
    np.testing.assert_allclose(
        probs.mean(0), predictive_probs(logits), rtol=0, atol=TOLERANCE
    )
    split = jax.jit(entropy_split)(logits)
    np.testing.assert_allclose(split, entropy_split(logits), rtol=0, atol=TOLERANCE)


SCORES = (
    scores.nll,
    scores.brier,
    scores.expected_calibration_error,
    scores.error_at_coverage,
)


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize(
    "labels, error, message",
    [
        (np.zeros(3, int), ValueError, r"expected \[n, K\] and \[n\]"),
        (np.zeros((4, 2), int), ValueError, r"expected \[n, K\] and \[n\]"),
        (np.zeros(4), TypeError, "expected integers"),
        (np.array([0, 1, 2, 0]), ValueError, "classes from 0 to 1"),
        (np.array([0, 1, -1, 0]), ValueError, "labels run from -1 to 1"),
    ],
)
def test_labels_that_do_not_fit_are_refused(score, labels, error, message):
    with pytest.raises(error, match=message):
        score(np.full((4, 2), 0.5), labels)


def test_other_arguments_out_of_range_are_refused():
    probs, labels = hand_worked()
    with pytest.raises(ValueError, match="num_bins=0"):
        scores.expected_calibration_error(probs, labels, 0)
    with pytest.raises(ValueError, match="coverage=1.2"):
        scores.error_at_coverage(probs, labels, 1.2)


def test_failed_chains_of_samples_are_left_out_with_a_warning():
    def potential(x, batch):
        del batch
        wall = jnp.where(jnp.abs(x).max() > 2.8, jnp.nan, 0.0)
        return 0.5 * jnp.sum(x**2) + wall * jnp.sum(x)

    def collect(x):  # logits [n, K] of one image
        return jnp.stack([x, -x])[:, :2]

    with pytest.warns(UserWarning, match="chains have failed and are left out"):
        samples = sgld_jax.sample(
            0,
            sgld_jax.sgld(0.1),
            potential,
            lambda key: jax.random.normal(key, (2,)),
            num_samples=60,
            num_chains=16,
            collect=collect,
        )
    assert 0 < samples.failed.sum() < 16
    healthy = samples.healthy().params
    with pytest.warns(UserWarning, match=f"Left out {samples.failed.sum()} of 16"):
        np.testing.assert_array_equal(
            predictive_probs(samples), predictive_probs(healthy)
        )
    with pytest.warns(UserWarning, match="Left out"):
        np.testing.assert_array_equal(entropy_split(samples), entropy_split(healthy))
    tree = dataclasses.replace(samples, params={"a": healthy, "b": healthy})
    with pytest.raises(ValueError, match="tree of 2 arrays: expected one, logits"):
        predictive_probs(tree)


def logits_as_samples(num_failed=0):
    """`Samples` of logits `[3, 5, 40, 4]`, the first chains failed, weights falling."""
    position = sgld_jax.stacked(jnp.zeros(3))
    density = sgld_jax.from_log_density(lambda x: -0.5 * x**2)
    run = sgld_jax.sample(
        0, sgld_jax.sgld(0.1), density, position, num_samples=5, num_chains=3
    )
    failure = run.final.failure._replace(
        step=jnp.where(jnp.arange(3) < num_failed, 7, -1)
    )
    return dataclasses.replace(
        run,
        params=random_logits(),
        final=run.final._replace(failure=failure),
    )


def test_weighted_predictions_are_those_of_repeated_draws():
    repeats = np.array([5, 3, 2, 1, 1])
    samples = dataclasses.replace(
        logits_as_samples(), weights=np.broadcast_to(0.1 * repeats, (3, 5))
    )
    repeated = np.repeat(samples.params, repeats, axis=1)
    for function in (predictive_probs, entropy_split):
        got, want = function(samples, weighted=True), function(repeated)
        np.testing.assert_allclose(got, want, rtol=0, atol=TOLERANCE)
        with pytest.warns(UserWarning, match="weights change over the draws"):
            alike = function(samples)
        np.testing.assert_array_equal(alike, function(samples.params))
    with pytest.raises(ValueError, match="weights of these draws are unknown"):
        predictive_probs(samples.params, weighted=True)


def test_scores_and_pictures_take_samples_without_their_failed_chains():
    samples, labels = logits_as_samples(num_failed=1), np.arange(40) % 4
    probs = predictive_probs(samples.params[1:])
    entropies = entropy_split(samples.params[1:]).total
    with pytest.warns(UserWarning, match="Left out 1 of 3 chains: chain 0 failed"):
        for score in (
            scores.nll,
            scores.brier,
            scores.expected_calibration_error,
            scores.error_at_coverage,
        ):
            assert score(samples, labels) == score(probs, labels)
        assert scores.auroc(samples, [9.0]) == scores.auroc(entropies, [9.0]) == 1
        split = entropy_split(samples)
        ax = plots.reliability({"SGLD": samples}, labels, ax=Figure().add_subplot())
        assert f"NLL {scores.nll(probs, labels):.3f}" in ax.lines[-1].get_label()
        plots.ood_histogram(samples, samples, ax=Figure().add_subplot())
        images = np.zeros((40, 8, 8))
        for given in (samples, split):
            plots.uncertain_images(images, given, ax=Figure().add_subplot())


def test_swarms_take_samples_without_their_failed_chains():
    samples = logits_as_samples(num_failed=1)
    samples = dataclasses.replace(samples, params=random_logits((3, 5, 2)))
    with pytest.warns(UserWarning, match="Left out 1 of 3 chains"):
        ax = plots.swarm(samples, jnp.sum, ax=Figure().add_subplot())
    shown = ax.collections[-1].get_offsets()
    np.testing.assert_array_equal(shown, samples.params[1:, -1])
