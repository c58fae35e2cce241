"""Is this transformation a sampler, and of what? Measured on Gaussians."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from sgld_jax.arguments import check_count, check_takes
from sgld_jax.keys import as_key
from sgld_jax.leaves import check_positive
from sgld_jax.schedules import check_temperature
from sgld_jax.tuning import explain
from sgld_jax.tuning.gaussians import Problem, calls_of_a_move
from sgld_jax.tuning.laws import EULER, known_law
from sgld_jax.tuning.measure import Row, measure

PyTree = Any


class AuditReport(NamedTuple):
    """What an audit found; printed as a table.

    Attributes:
      rows: what was measured.
      passed: whether all of it is as it should be.
      explanation: in words, what is wrong, or what this sampler was compared with.
    """

    rows: tuple[Row, ...]
    passed: bool
    explanation: str

    def __str__(self) -> str:
        width = max((len(row.name) for row in self.rows), default=0)
        lines = [f"{'':{width}}   expected   measured        z"] * bool(self.rows)
        lines += [
            f"{r.name:{width}}{r.expected:>11.4g}{r.measured:>11.4g}{r.z:>9.3g}"
            f"{'' if r.passed else '   wrong'}"
            for r in self.rows
        ]
        verdict = "PASSED" if self.passed else "FAILED"
        return "\n".join([*lines, f"{verdict}. {self.explanation}"])


def audit(
    sampler: optax.GradientTransformation,
    *,
    key: Any,
    temperature: float = 1.0,
    gradient_scale: float = 1.0,
    prior_precision: float = 0.0,
    law: Callable | None = None,
    num_chains: int = 20_000,
    params: PyTree = None,
) -> AuditReport:
    """Runs any optax transformation on Gaussians, and says whether it samples them.

    Chains are compared with the published law of the kernel that is found in the
    sampler's state; where there is none of ours, with that of an Euler step of the
    size that the response to the gradient shows. What is looked at: the noise of one
    update, whether chains and coordinates are independent, and where chains settle.
    R-hat sees nothing of all that.

    Args:
      sampler: a kernel, or a chain with one in it, with constant settings.
      key: a seed or key.
      temperature: T of the target π ∝ exp(−U/T).
      gradient_scale: what gradients of U are multiplied by before they get here: 1/N
        where the loss is a mean over N data.
      prior_precision: what the sampler itself adds to the precision of U, as
        `optax.add_decayed_weights` before a kernel does.
      law: `(precision, step_size, temperature) -> variance`, arrays `[d]`, for a
        sampler that is not ours.
      num_chains: C, at least 100; errors fall with its root.
      params: a tree of float arrays that the sampler fits, where it names leaves, as
        `optax.masked` does. Two leaves of three numbers if not given.

    Returns:
      An `AuditReport`; print it. By chance fails one audit in 5,000 of a sound sampler.

    Raises:
      TypeError, ValueError: for arguments out of range; for a metric that mixes
        coordinates, and for a sampler with kernels of several laws.

    Example:
      >>> import optax, sgld_jax
      >>> sgld_jax.audit(sgld_jax.sgld(0.1), key=0, num_chains=1_000).passed
      True
      >>> clipped = optax.chain(optax.clip(0.1), sgld_jax.sgld(0.01))
      >>> sgld_jax.audit(clipped, key=0, num_chains=1_000).passed
      False
    """
    _check(sampler, law, num_chains, temperature, gradient_scale, prior_precision)
    sampler = optax.with_extra_args_support(sampler)
    some = _default(EULER.coordinates) if params is None else params
    known, friction = known_law(sampler, some)
    if law is not None:
        of_theirs = law
        known = EULER._replace(
            name="the law that was given",
            stationary=lambda lam, eps, T, *_: of_theirs(lam, eps, T),
        )
    if params is None:
        params = _default(known.coordinates)
    keys = jax.random.split(as_key(key))
    calls = calls_of_a_move(sampler, params, keys[0])
    settings = float(temperature), float(gradient_scale), float(prior_precision)
    problem = Problem(sampler, known, friction, params, calls, *settings)
    return judged(problem, num_chains, keys[1])


def _default(size: int) -> PyTree:
    return {"a": jnp.zeros(size // 2), "b": jnp.zeros(size - size // 2)}


def judged(problem: Problem, num_chains: int, key: jax.Array) -> AuditReport:
    """The audit of a sampler whose law is known."""
    d = ravel_pytree(problem.params)[0].size
    rows, evidence = measure(problem, key, max(64, 6 * num_chains // d))
    passed = bool(rows) and all(row.passed for row in rows)
    words = explain.passed if passed else explain.failed
    return AuditReport(rows, passed, words(problem, evidence))


def _check(
    sampler: Any, law: Any, num_chains: Any, temperature: Any, scale: Any, prior: Any
) -> None:
    if not isinstance(sampler, optax.GradientTransformation):
        raise TypeError(
            f"audit was given a {type(sampler).__name__}: expected an optax "
            f"transformation, such as sgld_jax.sgld(1e-3). optax.MultiSteps has its "
            f"own in .gradient_transformation()."
        )
    if law is not None:
        check_takes(law, "precision, step_size, temperature", "law")
    check_count("num_chains", num_chains, 100)
    check_temperature(temperature)
    check_positive(temperature, "temperature")
    check_positive(scale, "gradient_scale")
    check_positive(prior, "prior_precision", zero=True)
