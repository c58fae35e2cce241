"""The rows of the composition table, and the check that holds them to their law.

Sound rows are `ROWS`, the others `UNSOUND`; each is a function of the kernel, by its name
in the registry. What they are run through is in `test_composition.py`.
"""

import functools
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from tests.kernels import KERNELS

STEP, TEMPERATURE, NOISE = 0.25, 1.3, 4.0  # ε, T, and the gradient noise V
PRECISION = {"b": 3.0, "w": 2.0}  # λ of both coordinates of a leaf
CHAINS, DRAWS = 40_000, 12  # ρ¹² < 3e-4: the start is forgotten
ALPHA = 1e-6


def kernel(name="sgld"):
    return KERNELS[name].make(STEP, TEMPERATURE, key=0)


def variance(name="sgld", prior=0.0, noise=0.0, leaves=("b", "w")):
    """The law of every leaf that is sampled, by the formula of the registry.

    NaN where there is none: such a row runs in every mode, and has no test of its law.
    """
    law = KERNELS[name].law or (lambda *args: np.nan)
    return {
        leaf: law(PRECISION[leaf] + prior, STEP, TEMPERATURE, noise) for leaf in leaves
    }


class Row(NamedTuple):
    """A composition: how it is built, and the law it has.

    Attributes:
      build: makes the transformation; the key of every kernel in it is 0.
      law: variance of every sampled leaf before the first draw, and, if it is
        stationary, after the last.
      calls: calls of update per draw.
      noise: variance of the noise on gradients.
      bad: every how many calls the gradient is NaN; 0 for never.
      is_complex: leaves `[1]` of complex numbers in place of `[2]` real ones.
      end: variance after the last draw, where it is not stationary.
      init: `(tx, params, i) -> state` of chain i.
    """

    build: Any
    law: dict
    calls: int = 1
    noise: float = 0.0
    bad: int = 0
    is_complex: bool = False
    end: dict | None = None
    init: Any = lambda tx, params, i: tx.init(params)


def decayed(name):
    return optax.chain(optax.add_decayed_weights(0.5), kernel(name))


def named(name):
    prior = ("prior", optax.add_decayed_weights(0.5))
    return optax.named_chain(prior, ("x", kernel(name)))


def masked(name):
    rest = optax.masked(optax.set_to_zero(), {"b": True, "w": False})
    return optax.chain(optax.masked(kernel(name), {"b": False, "w": True}), rest)


def last_layer(name="sgld"):
    groups = {"sampled": kernel(name), "optimised": optax.adam(0.01)}
    return optax.partition(groups, {"b": "optimised", "w": "sampled"})


def two_groups(name="sgld"):
    return optax.partition({"b": kernel(name), "w": kernel(name)}, {"b": "b", "w": "w"})


def frozen(name):
    return optax.selective_transform(kernel(name), freeze_mask={"b": True, "w": False})


def accumulated(name="sgld", **kwargs):
    return optax.MultiSteps(kernel(name), 3, **kwargs).gradient_transformation()


def injected(name="sgld", **kwargs):
    hyperparams = {"step_size": STEP, "temperature": TEMPERATURE, **kwargs}
    return optax.inject_hyperparams(KERNELS[name].make)(**hyperparams, key=0)


def cooling(count):
    return TEMPERATURE / (1 + count)


def cooled():
    """The transient law of SGLD under `cooling`."""
    law = variance()
    for count in range(DRAWS):
        for leaf, lam in PRECISION.items():
            law[leaf] = (1 - STEP * lam) ** 2 * law[leaf] + 2 * STEP * cooling(count)
    return law


ROWS = {  # name of the row -> (name of the kernel -> Row)
    "alone": lambda k: Row(lambda: kernel(k), variance(k)),
    "chain, weight decay before": lambda k: Row(
        lambda: decayed(k), variance(k, prior=0.5)
    ),
    "named_chain": lambda k: Row(lambda: named(k), variance(k, prior=0.5)),
    "masked": lambda k: Row(lambda: masked(k), variance(k, leaves=["w"])),
    "partition, Adam elsewhere": lambda k: Row(
        lambda: last_layer(k), variance(k, leaves=["w"])
    ),
    "partition, two groups, one seed": lambda k: Row(
        lambda: two_groups(k), variance(k)
    ),
    "selective_transform": lambda k: Row(lambda: frozen(k), variance(k, leaves=["w"])),
    "MultiSteps": lambda k: Row(
        lambda: accumulated(k), variance(k, noise=NOISE / 3), calls=3, noise=NOISE
    ),
    "MultiSteps, skip_not_finite": lambda k: Row(
        lambda: accumulated(k, should_skip_update_fn=optax.skip_not_finite),
        variance(k, noise=NOISE / 3),
        calls=4,
        noise=NOISE,
        bad=4,
    ),
    "inject_hyperparams": lambda k: Row(
        lambda: injected(k), variance(k, noise=NOISE), noise=NOISE
    ),
    "apply_if_finite": lambda k: Row(
        lambda: optax.apply_if_finite(kernel(k), 3), variance(k), calls=3, bad=3
    ),
    "with_extra_args_support": lambda k: Row(
        lambda: optax.with_extra_args_support(kernel(k)), variance(k)
    ),
    "conditionally_mask": lambda k: Row(
        lambda: optax.conditionally_mask(kernel(k), lambda count: count % 3 != 1),
        variance(k),
        calls=3,
    ),
    "flatten": lambda k: Row(lambda: optax.flatten(kernel(k)), variance(k)),
    "split_real_and_imaginary": lambda k: Row(
        lambda: optax.contrib.split_real_and_imaginary(kernel(k)),
        variance(k),
        is_complex=True,
    ),
}
# What a kernel itself could get wrong: its memory under a mask, and where optax holds
# a state back. Other kernels than the first are run through these, in the slow run.
ABOUT_MEMORY = {"alone", "masked", "MultiSteps", "apply_if_finite"}
PAIRS = [
    (name, row)
    for name, row in itertools.product(KERNELS, ROWS)
    if row in ABOUT_MEMORY or not KERNELS[name].is_another
]
ROWS["inject_hyperparams, schedule"] = lambda k: Row(
    lambda: injected(k, temperature=cooling), variance(k), end=cooled()
)
PAIRS.append(("sgld", "inject_hyperparams, schedule"))  # its law is not stationary

# optax chooses here between two states, keys included, by `where` or by `cond` under a
# `vmap`, and JAX's checker takes both for used.
SELECTS_KEYS = {
    "MultiSteps",
    "MultiSteps, skip_not_finite",
    "apply_if_finite",
    "conditionally_mask",
}


def checker_off_where_optax_selects(cases):
    """Parameters for pytest; a case is a tuple that holds the name of a row."""
    off = pytest.mark.key_reuse_off("optax selects between states")
    return [
        pytest.param(*case, marks=[off] if SELECTS_KEYS & set(case) else [])
        for case in cases
    ]


def compositions(cases):
    """Parameters for pytest; a case is a tuple: kernel, row, and what else there is."""
    params, (first, *_) = checker_off_where_optax_selects(cases), KERNELS
    for i, (kernel, *_) in enumerate(cases):
        if kernel != first:
            marks = [*params[i].marks, pytest.mark.slow]
            params[i] = pytest.param(*cases[i], marks=marks)
    return params


@functools.cache
def row_of(name, row):
    return ROWS[row](name)


def lyapunov(transition, noise):
    """Stationary variance of the first coordinate of x' = A x + N(0, noise)."""
    size = len(transition)
    system = np.eye(size**2) - np.kron(transition, transition)
    return np.linalg.solve(system, np.ravel(noise)).reshape(size, size)[0, 0]


def filtered(decay, gain, lam):
    """SGLD whose drift is the filter m' = decay·m + gain·g: θ' = θ − ε m' + noise."""
    transition = [[1 - STEP * gain * lam, -STEP * decay], [gain * lam, decay]]
    return lyapunov(np.array(transition), [[2 * STEP * TEMPERATURE, 0], [0, 0]])


def smoothed(lam, decay=0.9):
    """SGLD whose *update* is smoothed: m' = decay m + (1 − decay) u, θ' = θ + m'."""
    gain = (1 - decay) * STEP * lam
    transition = np.array([[1 - gain, decay], [-gain, decay]])
    noise = 2 * STEP * TEMPERATURE * (1 - decay) ** 2
    return lyapunov(transition, np.full((2, 2), noise))


def add_noise():
    return optax.chain(optax.add_noise(2 * TEMPERATURE, 0.0, 0), optax.scale(-STEP))


def each(law):
    return {leaf: law(lam) for leaf, lam in PRECISION.items()}


def scaled_after(lam, factor=0.5):
    """laws.md 11: drift ε·factor, noise variance 2εT·factor²."""
    noise = 2 * STEP * TEMPERATURE * factor**2
    return noise / (1 - (1 - STEP * factor * lam) ** 2)


def noise_before_the_rate(lam):
    """laws.md 11: noise of variance η on the gradient has T_eff = lr·η/2."""
    return STEP * TEMPERATURE / (lam * (1 - STEP * lam / 2))


def decay_after(lam, decay=0.1):
    return 2 * STEP * TEMPERATURE / (1 - (1 - STEP * lam + decay) ** 2)


def before(other):
    return lambda: optax.chain(other, kernel())


def after(other):
    return lambda: optax.chain(kernel(), other)


UNSOUND = {  # how it is built, and the variance it has instead, where one knows it
    "clip before, binding": (before(optax.clip(1.0)), None),
    "clip_by_global_norm before, binding": (
        before(optax.clip_by_global_norm(1.0)),
        None,
    ),
    "scale_by_adam before": (before(optax.scale_by_adam()), None),
    "trace before": (before(optax.trace(0.3)), each(lambda x: filtered(0.3, 1.0, x))),
    "ema before": (
        before(optax.ema(0.9, debias=False)),
        each(lambda x: filtered(0.9, 0.1, x)),
    ),
    "scale before": (
        before(optax.scale(0.5)),
        each(lambda x: TEMPERATURE / (x / 2 * (1 - STEP * x / 4))),
    ),
    "ema after": (after(optax.ema(0.9, debias=False)), each(smoothed)),
    "schedule_free around": (
        lambda: optax.contrib.schedule_free(kernel(), STEP, b1=0.9),
        None,
    ),
    "reduce_on_plateau after": (
        after(optax.contrib.reduce_on_plateau(patience=5)),
        None,
    ),
    "scale after": (after(optax.scale(0.5)), each(scaled_after)),
    "weight decay after": (after(optax.add_decayed_weights(0.1)), each(decay_after)),
    "add_noise as a sampler": (add_noise, each(noise_before_the_rate)),
}


def as_params(row, x):
    if not row.is_complex:
        return x
    return jax.tree.map(lambda leaf: jax.lax.complex(leaf[:1], leaf[1:]), x)


def as_real(row, params):
    if not row.is_complex:
        return params
    return jax.tree.map(lambda leaf: jnp.concatenate([leaf.real, leaf.imag]), params)


def gradient(row, params, noise, count):
    """λθ plus noise, NaN now and then."""
    bad = row.bad and count % row.bad == 1
    noise = as_params(row, dict(zip(params, noise)))
    return {
        leaf: jnp.where(bad, jnp.nan, PRECISION[leaf] * x + noise[leaf])
        for leaf, x in params.items()
    }


def one_call(row, tx, params, state, noise, count):
    grads = gradient(row, params, noise, count)
    update = optax.with_extra_args_support(tx).update
    updates, state = update(grads, state, params, value=jnp.zeros([]))
    return optax.apply_updates(params, updates), state


def scanned(row, tx, params, state, noise, first=0):
    """As many calls as there is noise, `[calls, 2, 2]`: one for each leaf."""

    def body(carry, now):
        return one_call(row, tx, *carry, *now), None

    counts = first + jnp.arange(len(noise))
    return jax.lax.scan(body, (params, state), (noise, counts))[0]


def keys_of(state):
    """What is in the key slots of a state, `[..., 2]` each."""
    slots = optax.tree.get_all_with_path(state, "rng_key")
    return [jax.random.key_data(key) for _, key in slots]


def simulate(row, draws, chains=CHAINS):
    """First and last position of chains that start in the law, leaves `[chains, 2]`."""
    tx, rng = row.build(), np.random.default_rng(3)
    sd = [[np.sqrt(row.law.get(leaf, 1.0))] for leaf in PRECISION]
    start = rng.normal(size=(chains, 2, 2)) * sd
    noise = np.zeros((chains, draws * row.calls, 2, 2), np.float32)
    if row.noise:
        noise = np.sqrt(row.noise) * rng.normal(size=noise.shape).astype(np.float32)

    def one(i, start, noise):
        params = as_params(row, dict(zip(PRECISION, start)))
        end, state = scanned(row, tx, params, row.init(tx, params, i), noise)
        return as_real(row, end), keys_of(state)

    numbers = jnp.arange(chains)
    end, keys = jax.jit(jax.vmap(one))(numbers, start.astype(np.float32), noise)
    for key in keys:
        assert len(np.unique(key, axis=0)) == chains
    return dict(zip(PRECISION, start.swapaxes(0, 1))), jax.tree.map(np.asarray, end)


def law_p_value(draws, variance):
    """Exact for Gaussian draws: variance of each leaf, correlation of any two columns.

    Columns are coordinates, and the same coordinates of the next chain.
    """
    p = []
    for leaf, v in variance.items():
        x = draws[leaf].astype(np.float64)
        chi2, dof = (x**2).sum() / v, x.size
        p.append(2 * min(stats.chi2.cdf(chi2, dof), stats.chi2.sf(chi2, dof)))
    x = np.concatenate([draws[leaf] for leaf in variance], axis=1)
    columns = np.concatenate([x[1:], x[:-1]], axis=1)
    r = np.corrcoef(columns, rowvar=False)[np.triu_indices(columns.shape[1], 1)]
    z = np.abs(np.arctanh(r)).max() * np.sqrt(len(columns) - 3)
    p.append(len(r) * 2 * stats.norm.sf(z))
    return min(1.0, len(p) * min(p))
