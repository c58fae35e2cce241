"""How far from the target a run has settled, and whether the step explains it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sgld_jax.arguments import declares_key
from sgld_jax.engine.samples import Samples
from sgld_jax.engine.update import RANDOM
from sgld_jax.kernels.sgld import SGLDState
from sgld_jax.keys import as_key
from sgld_jax.leaves import instances
from sgld_jax.potentials.batches import Batches, check_batches, full_batch
from sgld_jax.potentials.data import num_rows
from sgld_jax.potentials.potential import Potential, check_num_data
from sgld_jax.states import positions, traces
from sgld_jax.tuning.measure import Z

PyTree = Any

_FEWEST_CHAINS = 8  # of which a standard error can be taken


class BiasReport(NamedTuple):
    """What `bias_check` found. Errors are standard errors, over chains.

    Attributes:
      measured: E[(θ − c)·∇U]/(dT): 1 on the target, above it where draws are too wide.
      measured_error: its error.
      predicted: 1 + ε E[gᵀGg]/(2dT), what it is for SGLD at this step; 1 for `mala`;
        NaN for kernels of another law.
      predicted_error: its error.
      noise_ratio: E[ε tr(GV)/(2dT)] of SGLD along the run, `[S]`: what of the
        prediction is the noise V of batches; 0 without any, NaN for other kernels.
      z: measured less predicted, or less 1 where nothing is predicted, in errors.
      explained: whether that is within 4.5.
      explanation: in words.
    """

    measured: float
    measured_error: float
    predicted: float
    predicted_error: float
    noise_ratio: np.ndarray
    z: float
    explained: bool
    explanation: str

    def __str__(self) -> str:
        lines = [f"measured   {self.measured:8.4f} ± {self.measured_error:.4f}"]
        if np.isfinite(self.predicted):
            noise = np.mean(self.noise_ratio)
            lines += [
                f"predicted  {self.predicted:8.4f} ± {self.predicted_error:.4f}, of "
                f"which {noise:.4f} by the noise of gradients"
            ]
        lines += [f"z          {self.z:8.2f}", self.explanation]
        return "\n".join(lines)


def bias_check(
    samples: Samples,
    sampler: optax.GradientTransformation,
    potential: Potential,
    *,
    key: Any = None,
    data: PyTree = None,
    batches: Batches = full_batch(),
    temperature: float | None = None,
) -> BiasReport:
    """Compares draws with the gradient of U: a bias that R-hat cannot see.

    On the target E[(θ − c)·∇U] = dT for any c (the virial theorem). Chains of SGLD that
    have settled have that times 1 + ε E[gᵀGg]/(2dT), whatever U is, with g the gradient
    that an update saw: exactly so, since |θ − c|² in the metric of G no longer changes
    on average. So the excess over 1 is the bias of step and batches, and a difference
    from the prediction is an error in the sampler, in the gradient, or in the patience.

    It says nothing of modes that no chain has found, and does not hold where the
    density ends at a wall.

    Args:
      samples: of a run of at least 8 chains, with constant settings, that kept whole
        positions; the chains that failed are left out.
      sampler: of that run.
      potential: of that run.
      key: a seed or key of the batches, or of the random potential, that are drawn
        here, another than the run's; else not needed.
      data: of that run.
      batches: `full_batch()`, or `with_replacement(n)` as the run had it.
      temperature: T; only for samplers that are not ours, and have no trace of it.

    Returns:
      A `BiasReport`; print it.

    Raises:
      TypeError, ValueError: for arguments that do not fit together; for other batches,
        whose noise is not independent from update to update.

    Example:
      >>> import jax, sgld_jax
      >>> potential = sgld_jax.from_log_density(lambda x: -0.5 * (x**2).sum())
      >>> sampler = sgld_jax.sgld(0.2)
      >>> samples = sgld_jax.sample(
      ...     0, sampler, potential, lambda key: jax.random.normal(key, (2,)),
      ...     num_chains=64, num_samples=200, burn_in=50)
      >>> report = sgld_jax.bias_check(samples, sampler, potential)
      >>> bool(1.05 < report.measured < 1.2), report.explained  # 1/(1 - 0.1) by its law
      (True, True)
    """
    samples, T = _checked(samples, potential, data, batches, temperature)
    if key is None and (batches.batch_size is not None or declares_key(potential)):
        raise ValueError(
            "Batches or random numbers of the potential are drawn here: expected key=, "
            "not that of the run."
        )
    product, cost, smooth = _products(samples, sampler, potential, key, data, batches)
    d = sum(x[0, 0].size for x in jax.tree.leaves(samples.params))
    streams = samples.streams
    measured, error = _mean(product / (d * T), streams)
    state = samples.final.state
    if positions(state):  # a kernel that accepts or rejects has no bias
        cost = smooth = np.zeros_like(cost)
    ratio = (cost - smooth).mean(0) / (2 * d * T)
    known = instances(state, SGLDState) or positions(state) or not traces(state)
    if not known:
        z = _z((measured - 1) / error, len(np.unique(streams)))
        words = _in_words(measured, error, None, z)
        nan = float("nan")
        ratio = np.full_like(ratio, nan)
        return BiasReport(measured, error, nan, nan, ratio, z, abs(z) < Z, words)
    predicted, predicted_error = _mean(1 + cost / (2 * d * T), streams)
    difference, its_error = _mean((product - cost / 2) / (d * T) - 1, streams)
    z = _z(difference / its_error, len(np.unique(streams)))
    words = _in_words(measured, error, predicted, z)
    both = predicted, predicted_error
    return BiasReport(measured, error, *both, ratio, z, abs(z) < Z, words)


def _products(
    samples: Samples,
    sampler: optax.GradientTransformation,
    potential: Potential,
    key: Any,
    data: PyTree,
    batches: Batches,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(θ − c)·g, ε gᵀGg and ε gᵀGg' of every draw, float64 `[C, S]`.

    g' is a gradient with other batches and random numbers, so that the last is free of
    their noise. εGg is the difference of two updates with the same noise, without and
    with the gradient; so nothing need be known of the sampler's step and metric.
    """
    is_noisy = batches.batch_size is not None or declares_key(potential)
    key = as_key(0 if key is None else key)
    update = optax.with_extra_args_support(sampler).update
    center = jax.tree.map(lambda x: np.float32(x.mean((0, 1))), samples.params)
    num_data = 0 if data is None else num_rows(data)

    def one(params: Any, state: Any, stream: Any, key: Any, data: PyTree) -> tuple:
        def value_and_slope(stream: Any, key: Any) -> tuple:
            indices, stream = batches.next(stream, num_data)
            batch = batches.take(data, indices)
            given = {"key": key} if declares_key(potential) else {}
            return *jax.value_and_grad(potential)(params, batch, **given), stream

        value, g, stream = value_and_slope(stream, key)
        other = g
        if is_noisy:
            _, other, _ = value_and_slope(stream, jax.random.fold_in(key, 1))
        none = jax.tree.map(jnp.zeros_like, g)
        still, moved = (update(x, state, params, value=value)[0] for x in (none, g))
        away = jax.tree.map(jnp.subtract, params, center)
        drift = jax.tree.map(jnp.subtract, still, moved)
        return _dot(away, g), _dot(g, drift), _dot(other, drift)

    def every(draws: PyTree, state: PyTree, data: PyTree) -> tuple:
        def of_draw(k: jax.Array) -> tuple:
            params = jax.tree.map(lambda x: x[:, k], draws)
            keys = jax.random.split(jax.random.fold_in(key, k), samples.num_chains)
            streams = jax.vmap(batches.init)(keys)
            keys = jax.vmap(lambda x: jax.random.fold_in(x, RANDOM))(keys)
            return jax.vmap(one, (0, 0, 0, 0, None))(params, state, streams, keys, data)

        return jax.lax.map(of_draw, jnp.arange(samples.num_samples))

    found = jax.jit(every)(samples.params, samples.final.state, data)
    product, cost, smooth = (np.asarray(x, np.float64).T for x in found)
    return product, cost, smooth


def _dot(a: PyTree, b: PyTree) -> jax.Array:
    parts = jax.tree.map(lambda x, y: jnp.vdot(x, y), a, b)
    return sum(jax.tree.leaves(parts), jnp.zeros([]))


def _mean(x: np.ndarray, streams: np.ndarray) -> tuple[float, float]:
    """Mean and standard error of `[C, S]`, by the means over independent chains."""
    means = np.array([x[streams == s].mean() for s in np.unique(streams)])
    return float(means.mean()), float(means.std(ddof=1) / np.sqrt(len(means)))


def _z(t: float, chains: int) -> float:
    """The normal number that is as far out as Student's t of so many chains."""
    freedom = chains - 1
    return float(t * (1 - 1 / (4 * freedom)) / np.sqrt(1 + t**2 / (2 * freedom)))


def _in_words(measured: float, error: float, predicted: float | None, z: float) -> str:
    size = f"{100 * (measured - 1):.2g} %"
    seen = abs(measured - 1) > 2 * error
    bias = (
        f"Draws are as of a temperature {size} too {'high' if measured > 1 else 'low'}."
        if seen
        else f"No bias can be seen: {size}, with an error of {100 * error:.2g} %."
    )
    if predicted is None:
        return f"{bias} For this kernel nothing is predicted: halve the step, compare."
    if abs(z) < Z:
        return f"{bias} Step and batches explain it." if seen else bias
    return (
        f"{bias} Step and batches explain {100 * (predicted - 1):.2g} %, and not that: "
        f"look for a wrong noise or gradient (audit the sampler, check_potential), or "
        f"for chains that have not settled (R-hat, a longer burn_in)."
    )


def _checked(
    samples: Any, potential: Any, data: Any, batches: Any, given: Any
) -> tuple[Samples, float]:
    """The healthy chains, and their temperature."""
    if not isinstance(samples, Samples):
        raise TypeError(
            f"bias_check was given a {type(samples).__name__}: expected the Samples of "
            f"a run."
        )
    check_batches(batches, data)
    check_num_data(potential, data)
    if batches.kind not in (0, 1):
        raise ValueError(
            f"batches={batches}: their noise is not independent from update to update, "
            f"and nothing is known of the bias. Run with with_replacement(n)."
        )
    samples = samples.healthy()
    wanted = jax.tree.map(np.shape, samples.final.params)
    kept = jax.tree.map(lambda x: (x.shape[0], *x.shape[2:]), samples.params)
    if wanted != kept:
        raise ValueError(
            "These draws are not positions: run without collect=, since the gradient "
            "is taken at every draw."
        )
    if len(np.unique(samples.streams)) < _FEWEST_CHAINS:
        raise ValueError(
            f"{len(np.unique(samples.streams))} independent chains are too few for a "
            f"standard error: expected at least {_FEWEST_CHAINS}."
        )
    temperatures = [np.asarray(t.temperature) for t in traces(samples.final.state)]
    if len(temperatures) > 1 or (not temperatures and given is None):
        raise ValueError(
            f"This sampler holds {len(temperatures)} kernels of ours: expected one, or "
            f"temperature= for a sampler that is not ours."
        )
    check_constant_step(samples)
    return samples, float(temperatures[0][0] if temperatures else given)


def check_constant_step(samples: Samples) -> None:
    """Raises `ValueError` for draws of a run whose step size changed."""
    if np.ptp(np.nan_to_num(samples.weights), axis=1).max(initial=0) > 0:
        raise ValueError("The step size changes along the run: expected one number.")
