"""What an audit measures: one move of many chains, and where they settle."""

from typing import Any, NamedTuple

import jax
import numpy as np
from jax.flatten_util import ravel_pytree

from sgld_jax.adaptive import FrozenMetric, RMSPropMetric
from sgld_jax.leaves import instances
from sgld_jax.states import traces
from sgld_jax.tuning.gaussians import Moves, Problem, fresh, moves_of, settled
from sgld_jax.tuning.laws import memory

Z = 4.5  # of a row that fails: by chance one in 150,000
_WIDTHS = (0.1, 0.3, 1.0)  # ελ of the Gaussians, as parts of the law's largest
_SMALL, _ROUNDS = 1e-3, 20  # of the search for these
_LONGEST = 20_000  # updates until chains have settled
_ALL_PAIRS = 64  # coordinates, at most, of which all pairs are looked at


class Row(NamedTuple):
    """One thing that was measured.

    Attributes:
      name: what it is.
      expected: by the law.
      measured: over all chains.
      z: their difference in standard errors.
    """

    name: str
    expected: float
    measured: float
    z: float

    @property
    def passed(self) -> bool:
        """Whether it is within 4.5 standard errors."""
        return bool(abs(self.z) < Z)


class Evidence(NamedTuple):
    """What an explanation is made from.

    Attributes:
      response: of a move to the gradient, over its size: a step size, `[d]`.
      sampled: which coordinates have noise, bool `[d]`.
      proportion: the response to a gradient thrice as large, over `response`.
      own_prior: the precision that the sampler adds by itself, in units of U.
      noise: variance of a move's noise, over that of the law.
      apart: correlation of the noise of neighbouring chains.
      together: the largest correlation of two coordinates.
      variances: where chains settle, over the law, one for each width.
      temperature: that the kernel was built with; NaN without one.
      settled_response: after the run, `response` before it was made.
      adapting: whether a metric still changes at the end.
    """

    response: np.ndarray
    sampled: np.ndarray
    proportion: float = 1.0
    own_prior: float = 0.0
    noise: float = 1.0
    apart: float = 0.0
    together: float = 0.0
    variances: tuple[float, ...] = ()
    temperature: float = float("nan")
    settled_response: float = float("nan")
    adapting: bool = False


def measure(
    problem: Problem, key: jax.Array, chains: int
) -> tuple[tuple[Row, ...], Evidence]:
    """The rows of an audit, and what explains them."""
    keys, moves = jax.random.split(key, 3), moves_of(problem)
    state = fresh(problem, keys[0], chains, reseed=False)
    precision, one = _precisions(problem, moves, state)
    g = _typical(problem, precision)
    response, sampled = _response(problem, one, g).mean(0), np.any(one.still, axis=0)
    evidence = Evidence(response, sampled)
    if not (sampled.any() and np.all(response[sampled] > 0)):
        return (), evidence
    _refuse_mixing(moves, state, g)
    rows, evidence = _one_move(problem, moves, keys[1], state, precision, evidence)
    if problem.law.stationary is not None and _updates(problem, evidence) < _LONGEST:
        more, evidence = _settling(problem, moves, keys[2], chains, precision, evidence)
        rows += more
    return tuple(Row(row.name, *map(float, row[1:])) for row in rows), evidence


# --- one move ------------------------------------------------------------------------


def _precisions(problem: Problem, moves: Any, state: Any) -> tuple[np.ndarray, Moves]:
    """λ `[d]` whose ελ are `_WIDTHS` in turn, and a move with typical gradients.

    The step is that of small gradients; an adaptive metric has one for each size of
    them, so that the size that is typical at the end takes a few rounds.
    """
    d = ravel_pytree(problem.params)[0].size
    wanted, size = problem.law.largest * np.resize(_WIDTHS, d), _SMALL
    precision = np.ones(d)
    rounds = _ROUNDS if instances(state, RMSPropMetric) else 1
    for _ in range(rounds):
        g = size * _typical(problem, precision)
        response = _response(problem, moves(state, g, 0 * g), g).mean(0)
        usable = np.isfinite(response) & (response > 0)
        step_size = problem.gradient_scale * response[usable]
        precision[usable] = wanted[usable] / step_size
        size = 1.0
    g = _typical(problem, precision)
    return precision, moves(state, g, 0 * g)


def _typical(problem: Problem, precision: np.ndarray) -> np.ndarray:
    """One standard deviation of the gradient that is handed over, `[d]`."""
    sd = np.sqrt(problem.temperature / (precision + problem.prior_precision))
    return problem.gradient_scale * precision * sd


def _response(problem: Problem, one: Moves, g: np.ndarray) -> np.ndarray:
    """ε of each chain and coordinate `[C, d]`: drift over gradient, noise cancelled."""
    if problem.law.is_normal:
        return (one.down - one.up) / (2 * g)
    # Moves of ±δ: the drift is in their odds, ε in their size.
    return one.still**2 / (2 * problem.temperature * problem.gradient_scale)


def _noise(problem: Problem, one: Moves) -> np.ndarray:
    """The part of a move that a change of the gradient's sign leaves, `[C, d]`."""
    return (one.up + one.down) / 2 if problem.law.is_normal else one.still


def _refuse_mixing(moves: Any, state: Any, g: np.ndarray) -> None:
    """Raises where the gradient of one coordinate moves another one."""
    signs = np.where(np.arange(len(g)) % 2, 1.0, -1.0)
    few = jax.tree.map(lambda x: x[:64], state)
    a, b = (moves(few, way, 0 * g).up[:, 1::2] for way in (g, signs * g))
    if not np.allclose(a, b, rtol=1e-3, atol=1e-3 * np.abs(a).max(initial=0)):
        raise ValueError(
            "This sampler moves one coordinate by the gradient of another, as "
            "dense(...) does: audit knows no law for that. Audit it without its metric."
        )


def _one_move(
    problem: Problem, moves: Any, key: Any, state: Any, precision: Any, seen: Evidence
) -> tuple[list[Row], Evidence]:
    """The rows of one update; `state` is as a `vmap` of init makes it, `[C, ...]`."""
    chains, g = len(jax.tree.leaves(state)[0]), _typical(problem, precision)
    x = np.sqrt(problem.temperature / precision)
    law, scale, sampled = problem.law, problem.gradient_scale, seen.sampled
    one = moves(fresh(problem, key, 8 * chains, reseed=True), g, x)
    noise = _noise(problem, one)[:, sampled]
    response = _response(problem, one, g).mean(0)[sampled]
    unit = law.first(problem.friction) * problem.temperature * scale * response
    ratio = float(np.mean(noise**2 / unit))
    rows = []
    if law.is_normal:
        rows += [_ratio_row("noise of one update", ratio, noise.size)]
        rows += [_shape_row(noise)]
    else:
        rows += [_odds_row((one.up - one.down)[:, sampled] / 2, response * g[sampled])]
    beside = _noise(problem, moves(state, g, x))[:, sampled]
    apart = float((beside[1:] * beside[:-1]).mean() / (beside**2).mean())
    rows += [Row("chains, correlation", 0, apart, apart * np.sqrt(beside.size))]
    together = _largest_correlation(noise)
    z = together * np.sqrt(len(noise) if noise.shape[1] <= _ALL_PAIRS else noise.size)
    rows += [Row("coordinates, correlation", 0, together, z)]

    larger = moves(state, 3 * g, x)
    thrice = (larger.down - larger.up)[:, sampled].mean() / 6
    once = (one.down - one.up)[:, sampled].mean() / 2
    prior = (one.still - one.away)[:, sampled].mean(0) / (x[sampled] * response * scale)
    return rows, seen._replace(
        noise=ratio,
        apart=apart,
        together=together,
        proportion=float(thrice / once) if once else 1.0,
        own_prior=float(np.median(prior)),
    )


def _ratio_row(name: str, ratio: float, size: int) -> Row:
    """A variance over that of the law, from so many independent Gaussian numbers."""
    return Row(name, 1, ratio, (ratio - 1) / np.sqrt(2 / size))


def _shape_row(noise: np.ndarray) -> Row:
    """The fourth moment of what should be Gaussian, over 3."""
    x = noise / noise.std(0)
    ratio = float(np.mean(x**4) / 3)
    return Row("its fourth moment", 1, ratio, 3 * (ratio - 1) / np.sqrt(24 / x.size))


def _odds_row(drift: np.ndarray, expected: np.ndarray) -> Row:
    """The mean move of a walk by ±δ, over −εg, in the coordinate that is worst."""
    mean = drift.mean(0)
    error = np.maximum(drift.std(0) / np.sqrt(len(drift)), 1e-6 * expected)
    z = (mean + expected) / error
    worst = np.abs(z).argmax()
    return Row("drift of one update", 1, -mean[worst] / expected[worst], z[worst])


def _largest_correlation(noise: np.ndarray) -> float:
    """Of two coordinates, or of all neighbours where there are many."""
    x = noise / np.sqrt(np.mean(noise**2, axis=0))
    if x.shape[1] > _ALL_PAIRS:
        return float(np.mean(x[:, 1:] * x[:, :-1]))
    r = (x.T @ x / len(x))[np.triu_indices(x.shape[1], 1)]
    return float(r[np.abs(r).argmax()]) if r.size else 0.0


# --- where chains settle -------------------------------------------------------------


def _settling(
    problem: Problem, moves: Any, key: Any, chains: int, precision: Any, seen: Evidence
) -> tuple[list[Row], Evidence]:
    """Chains from their law, after the time in which another start is forgotten."""
    start_key, key = jax.random.split(key)
    law = _law(problem, precision, seen.response)
    start = np.sqrt(law) * np.asarray(jax.random.normal(start_key, (chains, len(law))))
    theta, state = settled(problem, key, start, precision, _updates(problem, seen))
    g = _typical(problem, precision)
    later = _response(problem, moves(state, g, 0 * g), g)
    frozen, adapting = (instances(state, x) for x in (FrozenMetric, RMSPropMetric))
    if frozen or adapting:  # every chain has a metric, and so a law, of its own
        law = _law(problem, precision, later)
    x, widths, ratios, rows = theta / np.sqrt(law), len(_WIDTHS), [], []
    for i in range(widths):
        part = np.zeros(len(precision), bool)
        part[i::widths] = True
        part &= seen.sampled
        if not part.any():
            continue
        name = f"at ελ = {problem.law.largest * _WIDTHS[i]:g}"
        z, ratio = x[:, part], float(np.mean(x[:, part] ** 2))
        ratios.append(ratio)
        rows += [
            _ratio_row(f"variance {name}", ratio, z.size),
            Row(f"mean {name}, in sd", 0, z.mean(), z.mean() * np.sqrt(z.size)),
        ]
    found = [float(np.ravel(trace.temperature)[0]) for trace in traces(state)]
    return rows, seen._replace(
        variances=tuple(ratios),
        temperature=found[0] if found else float("nan"),
        settled_response=float(later[:, seen.sampled].mean()),
        adapting=bool(adapting and not frozen),
    )


def _law(problem: Problem, precision: np.ndarray, response: np.ndarray) -> np.ndarray:
    """The stationary variance at the steps that were seen; 1 where there is none."""
    step_size = np.where(response > 0, problem.gradient_scale * response, 0.0)
    given = precision + problem.prior_precision, step_size, problem.temperature
    stationary = problem.law.stationary
    assert stationary is not None, "asked for only where it is known"
    variance = stationary(*given, problem.friction, 0.0)
    return np.where(np.isfinite(variance) & (variance > 0), variance, 1.0)


def _updates(problem: Problem, seen: Evidence) -> int:
    """In how many a start is forgotten: e⁻⁵ of the position is left."""
    left = memory(problem.law.largest * np.array(_WIDTHS), problem.friction)
    step_size = float(seen.response[seen.sampled].mean()) * problem.gradient_scale
    given = step_size, problem.temperature, problem.friction
    return int(np.ceil(-5 / np.log(left) + problem.law.patience(*given)))
