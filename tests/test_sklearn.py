"""The scikit-learn estimators: what they predict, units, files, and scikit-learn's checks."""

import functools
import os

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

from sgld_jax.sklearn import BayesianMLPClassifier, BayesianMLPRegressor

SMALL = {
    "hidden_layer_sizes": (8,),
    "num_chains": 2,
    "num_samples": 5,
    "start_updates": 300,
    "adapt_updates": 50,
    "random_state": 0,
}
MEDIUM = {
    "num_chains": 4,
    "num_samples": 30,
    "start_updates": 1_500,
    "adapt_updates": 1_500,
    "random_state": 0,
}


def curve(N, seed=0):
    """sin(2x), with noise of .05 on the left and .3 on the right."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-2, 2, N)
    sd = np.where(x < 0, 0.05, 0.3)
    return x[:, None], np.sin(2 * x) + sd * rng.normal(size=N), sd


@functools.cache
def regressor():
    x, y, _ = curve(300)
    return BayesianMLPRegressor((16, 16), **MEDIUM).fit(x, y)


@pytest.mark.slow
def test_it_finds_the_curve_and_its_noise_and_covers_what_it_says():
    model = regressor()
    x, y, sd = curve(4_000, seed=1)
    mean, found = model.predict(x, return_std=True)
    assert np.sqrt(np.mean((mean - np.sin(2 * x[:, 0])) ** 2)) < 0.06
    far = np.abs(x[:, 0]) > 0.3  # the noise jumps at 0, the network's is smooth
    assert 0.8 < np.median(found[far] / sd[far]) < 1.3
    for coverage in (0.5, 0.9):
        low, high = model.predict_interval(x, coverage)
        assert abs(np.mean((low <= y) & (y <= high)) - coverage) < 0.05
    best = np.mean(-0.5 * ((y - np.sin(2 * x[:, 0])) / sd) ** 2 - np.log(sd))
    assert model.log_prob(x, y).mean() > best - 0.5 * np.log(2 * np.pi) - 0.15
    assert model.score(x, y) > 0.9
    # Beyond all data it says that it does not know.
    assert model.predict([[6.0]], return_std=True)[1] > 1.5 * found.max()


@pytest.mark.slow
def test_units_do_not_matter():
    """Of X and y: the same numbers are sampled, and predictions are in those of y."""
    x, y, _ = curve(60)
    plain = BayesianMLPRegressor(**SMALL).fit(x, y)
    scaled = BayesianMLPRegressor(**SMALL).fit(1e3 * x - 7, 1e4 * y + 3)
    a, b = plain.predict(x), scaled.predict(1e3 * x - 7)
    np.testing.assert_allclose(b, 1e4 * a + 3, rtol=0.02, atol=200)
    jump = plain.log_prob(x, y) - scaled.log_prob(1e3 * x - 7, 1e4 * y + 3)
    np.testing.assert_allclose(jump, np.log(1e4), atol=0.1)


@pytest.mark.slow
def test_whole_numbers_as_targets_have_a_floor():
    """Rounded to units of .4 sd: a density on them cannot grow without bound."""
    x, y, _ = curve(200)
    model = BayesianMLPRegressor(**SMALL).fit(x, np.round(y / 0.3) * 0.3)
    assert model.floor_ == pytest.approx(0.3 / y.std() / np.sqrt(12), rel=0.1)
    assert model._outputs(x)[..., 1].min() >= np.log(model.floor_) - 1e-5
    assert BayesianMLPRegressor(**SMALL).fit(x, y).floor_ == 0.01


@functools.cache
def classifier():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 2))
    names = np.array(["red", "green", "blue"])
    label = names[(x[:, 0] > 0).astype(int) + (x[:, 1] > 0)]
    return BayesianMLPClassifier((16,), **MEDIUM).fit(x, label)


@pytest.mark.slow
def test_the_classifier_knows_names_and_what_it_does_not_know():
    model = classifier()
    assert model.classes_.tolist() == ["blue", "green", "red"]
    assert model.predict([[2, 2], [2, -2], [-2, -2]]).tolist() == [
        "blue",
        "green",
        "red",
    ]
    near, clear = model.predict_proba([[0.01, 1.0], [1.5, 1.5]])
    assert near.max() < 0.9 < clear.max()
    proba = model.predict_proba(np.zeros((3, 2)))
    np.testing.assert_allclose(proba.sum(1), 1.0, rtol=1e-14)
    log_p = model.log_prob([[1.5, 1.5]], ["blue"])
    np.testing.assert_allclose(log_p, np.log(clear[0]), rtol=1e-6)
    with pytest.raises(ValueError, match="'pink'"):
        model.log_prob([[0.0, 0.0]], ["pink"])


@pytest.mark.parametrize(
    "make", [pytest.param(f, marks=pytest.mark.slow) for f in (regressor, classifier)]
)
def test_what_was_saved_predicts_the_same(make, tmp_path):
    model = make()
    model.save(tmp_path / "model")
    again = type(model).load(tmp_path / "model")
    x = np.random.default_rng(3).normal(size=(7, model.n_features_in_))
    np.testing.assert_array_equal(again.predict(x), model.predict(x))
    assert again.get_params() == model.get_params()
    other = {regressor: BayesianMLPClassifier, classifier: BayesianMLPRegressor}[make]
    with pytest.raises(ValueError, match="expected a BayesianMLP"):
        other.load(tmp_path / "model")
    with pytest.raises(FileExistsError):
        model.save(tmp_path / "model")


@pytest.mark.slow
def test_in_a_pipeline_under_cross_validation_and_by_a_seed():
    x, y, _ = curve(60)
    small = BayesianMLPRegressor(**SMALL)
    scores = cross_val_score(make_pipeline(StandardScaler(), small), x, y, cv=2)
    assert scores.shape == (2,) and np.isfinite(scores).all()
    one, two = (clone(small).fit(x, y).predict(x) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    other = clone(small).set_params(random_state=1).fit(x, y).predict(x)
    assert not np.array_equal(one, other)


@pytest.mark.slow
def test_minibatches_and_verbose(capsys):
    x, y, _ = curve(120)
    model = BayesianMLPRegressor(**SMALL, batch_size=32, verbose=True).fit(x, y)
    assert "a metric and a step for every chain" in capsys.readouterr().out
    assert np.isfinite(model.predict(x)).all()


@pytest.mark.parametrize(
    "settings, error, words",
    [
        ({"num_chains": 1}, ValueError, "num_chains=1: expected at least 2"),
        ({"num_samples": 0}, ValueError, "num_samples=0"),
        ({"hidden_layer_sizes": (8, 0)}, ValueError, "hidden_layer_sizes=0"),
        ({"hidden_layer_sizes": (8.5,)}, TypeError, "whole number"),
        ({"hidden_layer_sizes": "wide"}, TypeError, "hidden_layer_sizes='wide'"),
        ({"batch_size": "all"}, TypeError, "batch_size='all'"),
        ({"start_updates": 1.5}, TypeError, "start_updates=1.5"),
    ],
)
@pytest.mark.parametrize("kind", [BayesianMLPRegressor, BayesianMLPClassifier])
def test_settings_out_of_range_are_one_sentence(kind, settings, error, words):
    with pytest.raises(error, match=words):
        kind(**settings).fit([[0.0], [1.0]], [0, 1])


def test_data_that_cannot_be_learned_from_are_one_sentence():
    with pytest.raises(ValueError, match="one class"):
        BayesianMLPClassifier(**SMALL).fit([[0.0], [1.0]], [1, 1])
    with pytest.raises(ValueError, match="NaN"):
        BayesianMLPRegressor(**SMALL).fit([[0.0], [np.nan]], [1.0, 1.0])
    with pytest.raises(ValueError, match="1 sample"):
        BayesianMLPRegressor(**SMALL).fit([[0.0]], [1.0])


def checks():
    """All of them for one estimator; of the other what is about classes, in CI."""
    for kind in (BayesianMLPRegressor, BayesianMLPClassifier):
        for i, (estimator, check) in enumerate(
            estimator_checks_generator(kind(**SMALL))
        ):
            marks = [pytest.mark.slow]
            if kind is BayesianMLPClassifier and "classif" not in str(check):
                marks += [pytest.mark.exhaustive]
            name = f"{kind.__name__}-{i}"
            yield pytest.param(estimator, check, marks=marks, id=name)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("estimator, check", list(checks()))
def test_scikit_learns_own_checks(estimator, check):
    """With a small budget. Array-API input is skipped by scikit-learn itself."""
    if "SCIPY_ARRAY_API" not in os.environ and "array_api" in str(check):
        pytest.skip("SCIPY_ARRAY_API is not set")
    check(estimator)
