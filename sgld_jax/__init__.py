"""Stochastic gradient Langevin dynamics for JAX.

Every sampler is an `optax.GradientTransformation` with its key in its state. Where
to start reading: `sgld_jax/kernels/sgld.py`, whose first screen is the equation.
"""

from sgld_jax.adaptive import freeze, position_dependent, rmsprop
from sgld_jax.analysis import plots
from sgld_jax.analysis.arviz import to_arviz
from sgld_jax.analysis.diagnostics import ess, mcse, rhat, summary
from sgld_jax.analysis.predict import predict
from sgld_jax.analysis.predictive import entropy_split, predictive_probs
from sgld_jax.analysis.regression import (
    crps,
    predictive_interval,
    predictive_log_density,
    variance_split,
)
from sgld_jax.analysis.scores import (
    auroc,
    brier,
    error_at_coverage,
    expected_calibration_error,
    nll,
)
from sgld_jax.analysis.stopping import stop_when
from sgld_jax.engine.chain import Chain, stacked, start
from sgld_jax.engine.exchange import Exchange, replica_exchange
from sgld_jax.engine.files import load
from sgld_jax.engine.own_draws import samples_from_draws
from sgld_jax.engine.sample import resume, sample
from sgld_jax.engine.samples import Samples
from sgld_jax.engine.update import step
from sgld_jax.kernels.baoa import baoa
from sgld_jax.kernels.csgld import csgld
from sgld_jax.kernels.leimkuhler_matthews import leimkuhler_matthews
from sgld_jax.kernels.mala import mala
from sgld_jax.kernels.psgld import psgld
from sgld_jax.kernels.sghmc import sghmc
from sgld_jax.kernels.sgld import sgld
from sgld_jax.kernels.sglrw import sglrw
from sgld_jax.kernels.sgnht import sgnht
from sgld_jax.kernels.sgrld import sgrld
from sgld_jax.keys import Unseeded
from sgld_jax.potentials import likelihoods
from sgld_jax.potentials.batches import (
    full_batch,
    shuffled,
    with_replacement,
)
from sgld_jax.potentials.blocks import blocks
from sgld_jax.potentials.check import check_potential
from sgld_jax.potentials.constraints import Constrained, constrained
from sgld_jax.potentials.estimators import Estimator, control_variate, saga, svrg
from sgld_jax.potentials.hierarchical import hierarchical
from sgld_jax.potentials.networks import Network, from_linen, from_nnx
from sgld_jax.potentials.numpyro_models import from_numpyro
from sgld_jax.potentials.potential import from_log_density, minibatch_potential
from sgld_jax.potentials.priors import fan_in_prior, gaussian_prior, log_gamma_prior
from sgld_jax.potentials.tabular import tabular_classification, tabular_regression
from sgld_jax.preconditioners import (
    Preconditioner,
    dense,
    diagonal,
    identity,
    own_diagonal,
)
from sgld_jax.schedules import Cyclical, cyclical, welling_teh_schedule
from sgld_jax.seeding import seed
from sgld_jax.tuning.audit import audit
from sgld_jax.tuning.bias import bias_check
from sgld_jax.tuning.early_stopping import early_stopped
from sgld_jax.tuning.halved_step import compare_steps
from sgld_jax.tuning.step_size import StepSize, auto_step_size
from sgld_jax.tuning.warm_up import warm_up
from sgld_jax.tuning.warm_up_report import WarmUp

__version__ = "0.1.0"

__all__ = [
    "Chain",
    "Constrained",
    "Cyclical",
    "Estimator",
    "Exchange",
    "Network",
    "Preconditioner",
    "Samples",
    "StepSize",
    "Unseeded",
    "WarmUp",
    "audit",
    "auroc",
    "auto_step_size",
    "baoa",
    "bias_check",
    "blocks",
    "brier",
    "check_potential",
    "compare_steps",
    "constrained",
    "control_variate",
    "crps",
    "csgld",
    "cyclical",
    "dense",
    "diagonal",
    "early_stopped",
    "entropy_split",
    "error_at_coverage",
    "ess",
    "expected_calibration_error",
    "fan_in_prior",
    "freeze",
    "from_linen",
    "from_log_density",
    "from_nnx",
    "from_numpyro",
    "full_batch",
    "gaussian_prior",
    "hierarchical",
    "identity",
    "leimkuhler_matthews",
    "likelihoods",
    "load",
    "log_gamma_prior",
    "mala",
    "mcse",
    "minibatch_potential",
    "nll",
    "own_diagonal",
    "plots",
    "position_dependent",
    "predict",
    "predictive_interval",
    "predictive_log_density",
    "predictive_probs",
    "psgld",
    "replica_exchange",
    "resume",
    "rhat",
    "rmsprop",
    "saga",
    "sample",
    "samples_from_draws",
    "seed",
    "sghmc",
    "sgld",
    "sglrw",
    "sgnht",
    "sgrld",
    "shuffled",
    "stacked",
    "start",
    "step",
    "stop_when",
    "summary",
    "svrg",
    "tabular_classification",
    "tabular_regression",
    "to_arviz",
    "variance_split",
    "warm_up",
    "welling_teh_schedule",
    "with_replacement",
]
