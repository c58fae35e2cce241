"""The 24 posteriors of posteriordb that have reference draws, as log densities.

And three logistic regressions, of which long runs of HMC were made. Formulas are those
of the data's own README; names and order of the parameters those of the draws.
"""

import functools
import json
import math
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy import stats

import sgld_jax


class Posterior(NamedTuple):
    """A posterior as one writes it down.

    Attributes:
      log_density: of parameters within their bounds, with the data inside.
      constraints: for `sgld_jax.constrained`.
      like: parameters within their bounds.
      summaries: mean and sd of every scalar, by name.
      named: `params -> params` of the reference, `[...]` for one position.
    """

    log_density: Callable
    constraints: dict
    like: dict
    summaries: Mapping[str, Any]
    named: Callable = lambda params: params

    def model(self) -> sgld_jax.Constrained:
        """What is sampled."""
        return sgld_jax.constrained(self.log_density, self.constraints, self.like)


def folder() -> pathlib.Path:
    """Where the data are, as `SGLD_JAX_DATA` says."""
    return pathlib.Path(os.environ["SGLD_JAX_DATA"])


@functools.cache
def summaries() -> dict:
    """What is known of every posterior."""
    path = folder() / "posteriordb" / "summaries.json"
    return json.loads(path.read_text(encoding="utf-8"))


def posterior(name: str) -> Posterior:
    """One of them, by its name."""
    if name in LOGISTIC:
        return logistic(name)
    about = summaries()[name]
    with np.load(folder() / "posteriordb" / "data" / f"{about['data']}.npz") as file:
        data = {key: np.asarray(file[key], float) for key in file}
    made = MODELS[name](data)
    return Posterior(*made[:3], about["params"], *made[3:])


def scalars(params: dict) -> dict[str, np.ndarray]:
    """Draws `[C, S]` of every scalar, named as in the summaries."""
    found = {}
    for name, x in params.items():
        if x.ndim == 2:
            found[name] = x
        else:
            found |= {f"{name}[{i + 1}]": x[..., i] for i in range(x.shape[2])}
    return found


LOGISTIC = ("wells_dist100ars", "nes_logit", "pima_logit")


def logistic(name: str) -> Posterior:
    """Log p = Σ yᵢ xᵢᵀβ − log(1 + exp xᵢᵀβ) − |β|²/(2 s²)."""
    X, y, prior_sd, beta = logistic_data(name)
    X, y = jnp.asarray(X), jnp.asarray(y)

    def log_density(p):
        logits = X @ p["beta"]
        fit = jnp.sum(y * logits - jax.nn.softplus(logits))
        return fit - 0.5 * jnp.sum(p["beta"] ** 2) / prior_sd**2

    known = {
        f"beta[{j + 1}]": {"mean": x.mean(), "sd": x.std()}
        for j, x in enumerate(np.moveaxis(beta, 2, 0))
    }
    return Posterior(log_density, {}, {"beta": np.zeros(X.shape[1])}, known)


def logistic_data(name: str) -> tuple:
    """X `[N, d]`, y `[N]`, sd of the prior, and draws of β `[10, 1000, d]`."""
    with np.load(folder() / "logistic_reference" / f"{name}.npz") as file:
        y = np.asarray(file["y"], float)
        return file["X"], y, float(file["prior_sd"]), file["beta"]


# --- regressions ---------------------------------------------------------------------


def half_cauchy(x, scale):
    """Log density, up to a constant."""
    return -jnp.log1p((x / scale) ** 2)


def flat(sigma):
    """No prior."""
    return 0.0 * sigma


def regression(y, *columns, prior=flat, intercept=True):
    """Y ~ N(β₁ + β₂x₁ + …, σ)."""
    ones = [np.ones(len(y))] * intercept
    X, y = jnp.asarray(np.stack([*ones, *columns], 1)), jnp.asarray(y)

    def log_density(p):
        fit = stats.norm.logpdf(y, X @ p["beta"], p["sigma"]).sum()
        return fit + prior(p["sigma"])

    like = {"beta": np.zeros(X.shape[1]), "sigma": np.ones(())}
    return log_density, {"sigma": "positive"}, like


def kid(data, *columns):
    """Test scores of children."""
    prior = functools.partial(half_cauchy, scale=2.5)
    return regression(data["kid_score"], *(c(data) for c in columns), prior=prior)


def mother_worked(data):
    """Four groups."""
    groups = [(data["mom_work"] == k) * 1.0 for k in (2, 3, 4)]
    return regression(data["kid_score"], *groups)


def mesquite(data, log):
    """Leaves of mesquite bushes."""
    names = ["diam1", "diam2", "canopy_height", "total_height", "density"]
    columns = [np.log(data[n]) if log else data[n] for n in names]
    y = np.log(data["weight"]) if log else data["weight"]
    return regression(y, *columns, data["group"])


def mesquite_volume(data):
    """By the volume of the canopy."""
    volume = data["diam1"] * data["diam2"] * data["canopy_height"]
    return regression(np.log(data["weight"]), np.log(volume))


def nes(data):
    """Party identification."""
    ages = [(data["age_discrete"] == k) * 1.0 for k in (2, 3, 4)]
    first, last = ["real_ideo", "race_adj"], ["educ1", "gender", "income"]
    columns = [*(data[n] for n in first), *ages, *(data[n] for n in last)]
    return regression(data["partyid7"], *columns)


def normal_prior(beta, scale):
    """Log density of N(0, scale)."""
    return stats.norm.logpdf(beta, 0, scale).sum()


def blr(data):
    """Y ~ N(Xβ, σ), with priors N(0, 10)."""
    X, y = jnp.asarray(data["X"]), jnp.asarray(data["y"])

    def log_density(p):
        fit = stats.norm.logpdf(y, X @ p["beta"], p["sigma"]).sum()
        return fit + normal_prior(p["beta"], 10.0) + normal_prior(p["sigma"], 10.0)

    like = {"beta": np.zeros(X.shape[1]), "sigma": np.ones(())}
    return log_density, {"sigma": "positive"}, like


def kilpisjarvi(data):
    """Temperatures by the year, which is not centred."""
    x, y = jnp.asarray(data["x"]), jnp.asarray(data["y"])

    def log_density(p):
        prior = stats.norm.logpdf(p["alpha"], data["pmualpha"], data["psalpha"])
        prior += stats.norm.logpdf(p["beta"], data["pmubeta"], data["psbeta"])
        mean = p["alpha"] + p["beta"] * x
        return prior + stats.norm.logpdf(y, mean, p["sigma"]).sum()

    like = {"alpha": np.zeros(()), "beta": np.zeros(()), "sigma": np.ones(())}
    return log_density, {"sigma": "positive"}, like


# --- series --------------------------------------------------------------------------


def ark(data):
    """An autoregression of order 5."""
    y = jnp.asarray(data["y"])
    past = jnp.stack([y[5 - k : len(y) - k] for k in range(1, 6)], 1)

    def log_density(p):
        mean = p["alpha"] + past @ p["beta"]
        prior = normal_prior(p["alpha"], 10.0) + normal_prior(p["beta"], 10.0)
        fit = stats.norm.logpdf(y[5:], mean, p["sigma"]).sum()
        return prior + half_cauchy(p["sigma"], 2.5) + fit

    like = {"alpha": np.zeros(()), "beta": np.zeros(5), "sigma": np.ones(())}
    return log_density, {"sigma": "positive"}, like


def garch(data):
    """GARCH(1, 1), whose β₁ is below 1 − α₁: it is the share of that."""
    y, first = jnp.asarray(data["y"]), jnp.asarray(data["sigma1"])

    def natural(p):
        return {**p, "beta1": p["beta1"] * (1 - p["alpha1"])}

    def log_density(p):
        q = natural(p)
        shocks = q["alpha0"] + q["alpha1"] * (y[:-1] - q["mu"]) ** 2

        def next_variance(variance, shock):
            variance = shock + q["beta1"] * variance
            return variance, variance

        _, later = jax.lax.scan(next_variance, first**2, shocks)
        variance = jnp.concatenate([first[None] ** 2, later])
        fit = stats.norm.logpdf(y, q["mu"], jnp.sqrt(variance)).sum()
        return fit + jnp.log1p(-p["alpha1"])  # ∂β₁/∂share

    bounds = {
        "alpha0": "positive",
        "alpha1": "unit_interval",
        "beta1": "unit_interval",
    }
    like = {"mu": 0.0, "alpha0": 1.0, "alpha1": 0.3, "beta1": 0.3}
    like = {name: np.asarray(x) for name, x in like.items()}
    return log_density, bounds, like, natural


def hmm(data):
    """Two hidden states."""
    y = jnp.asarray(data["y"])

    def log_density(p):
        seen = stats.norm.logpdf(y[:, None], p["mu"], 1.0)
        change = jnp.log(jnp.stack([p["theta1"], p["theta2"]]))

        def forward(weights, now):
            return jax.nn.logsumexp(weights[:, None] + change, axis=0) + now, None

        last, _ = jax.lax.scan(forward, seen[0], seen[1:])
        prior = stats.norm.logpdf(p["mu"], jnp.array([3.0, 10.0]), 1.0).sum()
        return prior + jax.nn.logsumexp(last)

    half = np.array([0.5, 0.5])
    like = {"theta1": half, "theta2": half, "mu": np.array([1.0, 2.0])}
    bounds = {"theta1": "simplex", "theta2": "simplex", "mu": "positive_ordered"}
    return log_density, bounds, like


# --- hierarchies, a mixture, a Gaussian process --------------------------------------


def eight_schools(data, centred):
    """The effects of coaching; the draws hold θ."""
    y, sigma = jnp.asarray(data["y"]), jnp.asarray(data["sigma"])

    def natural(p):
        if centred:
            return p
        theta = p["mu"][..., None] + p["tau"][..., None] * p["theta"]
        return {**p, "theta": theta}

    def log_density(p):
        q = natural(p)
        prior = stats.norm.logpdf(p["mu"], 0, 5) + half_cauchy(p["tau"], 5.0)
        if centred:
            prior += stats.norm.logpdf(p["theta"], p["mu"], p["tau"]).sum()
        else:
            prior += stats.norm.logpdf(p["theta"]).sum()
        return prior + stats.norm.logpdf(y, q["theta"], sigma).sum()

    like = {"theta": np.zeros(8), "mu": np.zeros(()), "tau": np.ones(())}
    return log_density, {"tau": "positive"}, like, natural


def mixture(data):
    """Two Gaussians in order."""
    y = jnp.asarray(data["y"])

    def log_density(p):
        shares = jnp.log(jnp.stack([p["theta"], 1 - p["theta"]]))
        parts = shares + stats.norm.logpdf(y[:, None], p["mu"], p["sigma"])
        prior = normal_prior(p["mu"], 2.0) + normal_prior(p["sigma"], 2.0)
        prior += stats.beta.logpdf(p["theta"], 5, 5)
        return prior + jax.nn.logsumexp(parts, axis=1).sum()

    like = {"mu": np.array([0.0, 1.0]), "sigma": np.ones(2), "theta": np.asarray(0.5)}
    bounds = {"mu": "ordered", "sigma": "positive", "theta": "unit_interval"}
    return log_density, bounds, like


def gaussian_process(data):
    """Y ~ N(0, K + σI), K of squared exponentials."""
    x, y = jnp.asarray(data["x"]), jnp.asarray(data["y"])
    apart = (x[:, None] - x) ** 2

    def log_density(p):
        K = p["alpha"] ** 2 * jnp.exp(-apart / (2 * p["rho"] ** 2))
        root = jnp.linalg.cholesky(K + p["sigma"] * jnp.eye(len(x)))
        white = jax.scipy.linalg.solve_triangular(root, y, lower=True)
        fit = -0.5 * white @ white - jnp.log(jnp.diagonal(root)).sum()
        prior = 24 * jnp.log(p["rho"]) - 4 * p["rho"]
        prior += normal_prior(p["alpha"], 2.0) + normal_prior(p["sigma"], 1.0)
        return fit + prior

    bounds = dict.fromkeys(("rho", "alpha", "sigma"), "positive")
    return log_density, bounds, {name: np.ones(()) for name in bounds}


def column(name):
    """A column of the data."""
    return lambda data: data[name]


def both(data):
    """An interaction."""
    return data["mom_hs"] * data["mom_iq"]


def height_and_sex(data):
    """Logarithms of earnings."""
    height, male = data["height"], data["male"]
    return regression(np.log(data["earn"]), height, male, height * male)


MODELS: dict[str, Callable] = {
    "earnings-earn_height": lambda d: regression(d["earn"], d["height"]),
    "earnings-logearn_height": lambda d: regression(np.log(d["earn"]), d["height"]),
    "earnings-log10earn_height": lambda d: regression(
        np.log(d["earn"]) / math.log(10), d["height"]
    ),
    "earnings-logearn_interaction": height_and_sex,
    "kidiq-kidscore_momhs": lambda d: kid(d, column("mom_hs")),
    "kidiq-kidscore_momiq": lambda d: kid(d, column("mom_iq")),
    "kidiq-kidscore_interaction": lambda d: kid(
        d, column("mom_hs"), column("mom_iq"), both
    ),
    "kidiq_with_mom_work-kidscore_mom_work": mother_worked,
    "mesquite-mesquite": lambda d: mesquite(d, log=False),
    "mesquite-logmesquite": lambda d: mesquite(d, log=True),
    "mesquite-logmesquite_logvolume": mesquite_volume,
    "nes1972-nes": nes,
    "nes1980-nes": nes,
    "nes1988-nes": nes,
    "nes1996-nes": nes,
    "sblri-blr": blr,
    "kilpisjarvi_mod-kilpisjarvi": kilpisjarvi,
    "arK-arK": ark,
    "garch-garch11": garch,
    "eight_schools-eight_schools_centered": lambda d: eight_schools(d, True),
    "eight_schools-eight_schools_noncentered": lambda d: eight_schools(d, False),
    "low_dim_gauss_mix-low_dim_gauss_mix": mixture,
    "hmm_example-hmm_example": hmm,
    "gp_pois_regr-gp_regr": gaussian_process,
}
