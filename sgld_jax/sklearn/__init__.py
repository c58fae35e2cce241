"""Bayesian networks for tables, as scikit-learn estimators.

    model = BayesianMLPRegressor().fit(X, y)
    mean, sd = model.predict(X_new, return_std=True)
    low, high = model.predict_interval(X_new, coverage=0.9)

    estimator    what both share: fitting, saving, outputs at every draw
    regressor    means, intervals, densities
    classifier   probabilities

scikit-learn is needed: pip install 'sgld-jax[sklearn]'.
"""

from sgld_jax.sklearn.classifier import BayesianMLPClassifier
from sgld_jax.sklearn.regressor import BayesianMLPRegressor

__all__ = ["BayesianMLPClassifier", "BayesianMLPRegressor"]
