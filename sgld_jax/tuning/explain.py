"""What an audit says in words."""

import numpy as np

from sgld_jax.tuning.gaussians import Problem
from sgld_jax.tuning.measure import Evidence


def passed(problem: Problem, seen: Evidence) -> str:
    """What a sampler was compared with, and what was left out."""
    words = f"Chains have the law of {problem.law.name}."
    if not seen.variances:
        why = "would take too many updates to see: take a larger step size"
        if problem.law.stationary is None:
            why = "nobody knows in closed form"
        words = (
            f"One update has the law of {problem.law.name}. Where chains settle {why}; "
            f"it was not looked at."
        )
    if not seen.sampled.all():
        still = f"{int((~seen.sampled).sum())} of {len(seen.sampled)}"
        words += f" {still} coordinates have no noise, and are not sampled."
    return words


def failed(problem: Problem, seen: Evidence) -> str:
    """What is most likely wrong, and what to type."""
    if not seen.sampled.any():
        return (
            "An update has no noise: this is an optimizer. Put a sampler at the end, "
            "as in optax.chain(..., sgld_jax.sgld(step_size))."
        )
    if not np.all(seen.response[seen.sampled] > 0):
        return (
            "Updates do not go against the gradient. Hand over gradients of the "
            "potential, −log p, and look for a sign that is changed twice."
        )
    found = [
        *_dependence(seen),
        *_prior(problem, seen),
        *(_proportion(seen) or _noise(problem, seen)),
    ]
    return " ".join(found or [_settling(problem, seen)])


def _dependence(seen: Evidence) -> list[str]:
    if abs(seen.apart) > 0.2:
        return [
            "Chains share their noise. Give each a key of its own: sgld_jax.sample "
            "does, and jax.vmap(sgld_jax.seed)(states, keys)."
        ]
    if abs(seen.together) > 0.2:
        return ["Coordinates share their noise."]
    return []


def _prior(problem: Problem, seen: Evidence) -> list[str]:
    found, said = seen.own_prior, problem.prior_precision
    step_size = float(np.mean(seen.response[seen.sampled])) * problem.gradient_scale
    if abs(found - said) < 1e-3 / step_size + 0.02 * abs(said):
        return []
    return [
        f"An update depends on the position itself, as a prior of precision "
        f"{found:.3g} would make it, and {said:.3g} was said. If that is weight decay "
        f"before the kernel, pass prior_precision={found:.3g}; weight decay after a "
        f"kernel, and what keeps positions of its own, as schedule_free does, sample "
        f"something else."
    ]


def _proportion(seen: Evidence) -> list[str]:
    if abs(seen.proportion - 1) < 0.02 or seen.adapting:
        return []
    return [
        f"A gradient three times as large has {seen.proportion:.2g} of the effect that "
        f"it should have: something before the sampler clips or normalises gradients, "
        f"as clip and scale_by_adam do. That is another target. For steps that differ "
        f"between coordinates, give the kernel a preconditioner."
    ]


def _noise(problem: Problem, seen: Evidence) -> list[str]:
    if abs(seen.noise - 1) < 0.02:
        return []
    words = (
        f"The noise of an update has {seen.noise:.3g} times the variance that goes "
        f"with its drift at T = {problem.temperature:g}."
    )
    own = seen.temperature / problem.gradient_scale
    if not np.isfinite(own):
        return [f"{words} So it samples at a temperature {seen.noise:.3g} times that."]
    if abs(own / problem.temperature - 1) > 0.01:
        return [
            f"{words} The kernel was built for T = {own:.3g}: pass "
            f"temperature={own:.3g} to the audit if that is what you sample, or "
            f"gradient_scale= if gradients are those of a mean."
        ]
    return [
        f"{words} Something scales gradients before the kernel (say gradient_scale= if "
        f"that is a mean loss), or updates after its noise was scaled. Scale the step "
        f"size instead."
    ]


def _settling(problem: Problem, seen: Evidence) -> str:
    if not seen.variances:
        return f"One update has not the law of {problem.law.name}."
    shown = ", ".join(f"{x:.3g}" for x in seen.variances)
    words = f"Chains settle at {shown} times the variance of {problem.law.name}"
    change = seen.settled_response / float(np.mean(seen.response[seen.sampled]))
    if seen.adapting:
        return (
            f"{words}: the metric keeps adapting, and what its change would have to "
            f"add is left out. Freeze it: freeze(rmsprop(...), after=...), or "
            f"freeze_after=."
        )
    if abs(change - 1) > 0.02:
        return (
            f"{words}: the step size changes along the run, by a factor of "
            f"{change:.3g}. Audit it constant; a plateau or a schedule around a kernel "
            f"rescales its noise, too."
        )
    return (
        f"{words}, although one update is right: something remembers gradients or "
        f"updates (trace, ema, schedule_free around the kernel). For momentum that is "
        f"a sampler: sghmc, baoa."
    )
