"""Step sizes and temperatures: numbers, or functions of the update count.

Every kernel checks its hyperparameters when it is built, and reads them through
`at` in each update. Two schedules that samplers want and optax lacks:

    welling_teh_schedule   ε_k = a (b + k)^(−p)
    cyclical               steps that fall from a peak in every cycle, a temperature
                           that is 0 while they are large, and which updates to keep
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer

from sgld_jax.arguments import check_count, check_takes, shown
from sgld_jax.leaves import is_numeric

# A schedule that ends at zero misses it by rounding: by less than this part of its
# first value or, where only the present value is known, by less than this.
_ROUNDING = 1e-5
_TINY = 1e-6


def at(value: optax.ScalarOrSchedule, count: jax.Array, name: str) -> Any:
    """The value of a number or schedule at an update count, at least 0.

    A negative number of rounding size, as `optax.linear_schedule(1e-2, 0.0, n)` ends
    with, is zero. One that is truly negative becomes NaN, which fails the chain in this
    very update, and the trace in its state tells why.

    Args:
      value: what the kernel was given.
      count: the update count, int32 `[]`.
      name: of the hyperparameter, for errors.

    Returns:
      A Python number as it was, so that it fits leaves of any dtype exactly; arrays,
      also integer ones, as floats of JAX's default width.

    Raises:
      ValueError, TypeError: while tracing, for a schedule that returns an array with
        axes, a Python number below 0, or no real number.
    """
    now = value(count) if callable(value) else value
    if np.ndim(now) != 0:
        raise ValueError(
            f"The schedule of {name} returned shape {np.shape(now)}: expected one "
            f"number for each update count."
        )
    if not is_numeric(now) or jnp.iscomplexobj(now):
        raise TypeError(
            f"The schedule of {name} returned {shown(now)}: expected one real number "
            f"for each update count."
        )
    if isinstance(now, (int, float)):
        if now < 0:
            raise ValueError(
                f"The schedule of {name} returned {now}: expected at least 0."
            )
        return now
    now = jnp.asarray(now, float)
    first = value(jnp.zeros_like(count)) if callable(value) else None
    tolerance = (
        _TINY if first is None else _ROUNDING * jnp.abs(jnp.asarray(first, float))
    )
    return jnp.where(now >= 0, now, jnp.where(now >= -tolerance, 0.0, jnp.nan))


def is_zero(value: optax.ScalarOrSchedule) -> bool:
    """Whether a hyperparameter is the literal 0, known before tracing."""
    return isinstance(value, (int, float)) and value == 0


def check_step_size(value: optax.ScalarOrSchedule, name: str = "step_size") -> None:
    """Raises unless `value` is a schedule, a traced scalar, or a number > 0."""
    number = _known_number(value, name)
    if number is not None and not (number > 0 and np.isfinite(number)):
        raise ValueError(
            f"{name}={value}: expected a finite number above 0, or a function of the "
            f"update count that returns one, such as optax.constant_schedule(1e-3)."
        )


def check_temperature(value: optax.ScalarOrSchedule, name: str = "temperature") -> None:
    """Raises unless `value` is a schedule, a traced scalar, or a number >= 0."""
    number = _known_number(value, name)
    if number is not None and not (number >= 0 and np.isfinite(number)):
        raise ValueError(
            f"{name}={value}: expected a finite number of at least 0. 1 samples the "
            f"posterior, 1 / num_data goes with a mean loss, 0 is gradient descent."
        )


def check_friction(value: optax.ScalarOrSchedule, name: str = "friction") -> None:
    """Raises unless `value` is a schedule, a traced scalar, or a number in (0, 1]."""
    number = _known_number(value, name)
    if number is not None and not 0 < number <= 1:
        raise ValueError(
            f"{name}={value}: expected a number above 0 and at most 1, the part of its "
            f"velocity that a chain loses in an update. optax.sgd(momentum=0.9) has "
            f"friction=0.1."
        )


def _known_number(value: Any, name: str) -> float | None:
    """The number behind `value`, or None where only a run can tell."""
    if callable(value):
        check_takes(value, "count", name)
        return None
    if isinstance(value, (bool, np.bool_, str, bytes)) or value is None:
        raise TypeError(
            f"{name}={shown(value)}: expected a number or a function of the update "
            f"count."
        )
    if np.ndim(value) != 0:
        raise ValueError(
            f"{name} has shape {np.shape(value)}: expected one number. For a step "
            f"per coordinate, pass preconditioner=sgld_jax.diagonal(...); for one per "
            f"chain, build the sampler inside jax.vmap."
        )
    if isinstance(value, Tracer):
        return None
    try:
        return float(value)
    except TypeError:
        raise TypeError(
            f"{name}={shown(value)}: expected a number or a function of the update "
            f"count."
        ) from None


def welling_teh_schedule(
    scale: float, offset: float, power: float
) -> Callable[[jax.Array], jax.Array]:
    """Steps that shrink so slowly that a chain still gets everywhere.

    ε_k = scale (offset + k)^(−power). Draws count by their steps: `weighted=True` in
    `summary`, `predict` and `predictive_probs`. How large the first steps may be is
    still the user's to know, as it is for a constant step; see `auto_step_size`.

    Args:
      scale: a > 0, in units of ε. Half of what Welling and Teh write, whose step is 2ε.
      offset: b > 0, updates until the step has fallen by a factor 2^(−power).
      power: between 1/2, which is left out, and 1: with these Σε = ∞ and Σε² < ∞.

    Returns:
      A schedule `count -> ε`, for the `step_size` of any kernel.

    Raises:
      ValueError: for numbers out of range.

    Example:
      >>> import sgld_jax
      >>> steps = sgld_jax.welling_teh_schedule(0.1, offset=10.0, power=0.55)
      >>> sampler = sgld_jax.sgld(steps)
      >>> [round(float(steps(k)), 4) for k in (0, 10, 1000)]
      [0.0282, 0.0193, 0.0022]

    Source: Welling and Teh 2011, section 3.
    """
    for name, value in (("scale", scale), ("offset", offset)):
        number = _known_number(value, name)
        if number is None or not (number > 0 and np.isfinite(number)):
            raise ValueError(f"{name}={value}: expected a finite number above 0.")
    number = _known_number(power, "power")
    if number is None or not 0.5 < number <= 1:
        raise ValueError(
            f"power={power}: expected a number above 1/2 and at most 1, such as 0.55. "
            f"Above 1 a chain stops before it has been everywhere; up to 1/2 its steps "
            f"do not shrink fast enough for averages to lose their bias."
        )

    def step_size(count: jax.Array) -> jax.Array:
        return scale * (offset + jnp.asarray(count, float)) ** -power

    return step_size


class Cyclical(NamedTuple):
    """What a cycle says, as functions of the update count; made by `cyclical`.

    Attributes:
      step_size: `count -> ε`.
      temperature: `count -> T`, 0 while a cycle explores.
      keep: `count -> bool`, whether the update samples; for `sample(keep=...)`.
    """

    step_size: Callable[[jax.Array], jax.Array]
    temperature: Callable[[jax.Array], jax.Array]
    keep: Callable[[jax.Array], jax.Array]


def cyclical(
    peak: float,
    cycle_steps: int,
    exploration: float = 0.5,
    temperature: optax.ScalarOrSchedule = 1.0,
) -> Cyclical:
    """Cycles of large steps that look for another mode, and small ones that sample it.

        ε_k = (peak/2) (1 + cos(π r)),   r = (k mod cycle_steps)/cycle_steps
        T_k = 0 while r < exploration, then the temperature

    Steps, temperature and what is kept follow one count, that of the kernel. Within a
    cycle a chain cannot forget how it began, at T = 0 with large steps: its draws have
    the law of a chain of finite length, which on a Gaussian is known
    (Var ← (1 − ελ)² Var + 2εT + ε²V, update by update), and modes are visited as often
    as descent finds them, not by their mass. As under any schedule a draw has its step
    as its weight; `weighted=True` counts draws by the time that they stand for.

    Args:
      peak: the first and largest step of each cycle, as the `step_size` of the kernel.
      cycle_steps: updates of a cycle.
      exploration: the share of a cycle that explores, between 0 and 1 (left out).
      temperature: T of the rest.

    Returns:
      `Cyclical`, three functions for kernel and `sample`.

    Raises:
      ValueError, TypeError: for numbers out of range.

    Example:
      >>> import jax, jax.numpy as jnp, sgld_jax
      >>> cycle = sgld_jax.cyclical(0.5, cycle_steps=50, exploration=0.6)
      >>> sampler = sgld_jax.sgld(cycle.step_size, cycle.temperature)
      >>> two_modes = sgld_jax.from_log_density(
      ...     lambda x: jnp.logaddexp(-((x - 2) ** 2) / 2, -((x + 2) ** 2) / 2))
      >>> samples = sgld_jax.sample(
      ...     0, sampler, two_modes, jax.random.normal, num_chains=4,
      ...     num_samples=40, keep=cycle.keep)
      >>> samples.counts[0, [0, 19, 20]].tolist()          # of updates 31 to 50, 81 ...
      [31, 50, 81]

    Source: R. Zhang, C. Li, J. Zhang, C. Chen and A. G. Wilson, Cyclical stochastic
    gradient MCMC for Bayesian deep learning, ICLR 2020, equation 1 and algorithm 1.
    """
    check_step_size(peak, "peak")
    check_count("cycle_steps", cycle_steps, 2)
    check_temperature(temperature)
    share = _known_number(exploration, "exploration")
    if share is None or not 0 <= share < 1:
        raise ValueError(
            f"exploration={exploration}: expected a share of each cycle of at least 0 "
            f"and below 1; 1 would keep no draw."
        )
    # Whole numbers, so that host and device never differ by a rounding.
    first_kept = int(np.ceil(share * cycle_steps - 1e-9))
    if first_kept == cycle_steps:
        raise ValueError(
            f"exploration={exploration} leaves no update of {cycle_steps} to sample: "
            f"expected at most {1 - 1 / cycle_steps:g}."
        )

    def step_size(count: jax.Array) -> jax.Array:
        phase = jnp.asarray(count % cycle_steps, float) / cycle_steps  # phase
        return peak / 2 * (1 + jnp.cos(np.pi * phase))

    def keep(count: jax.Array) -> jax.Array:
        return count % cycle_steps >= first_kept

    def of_cycle(count: jax.Array) -> jax.Array:
        T = jnp.asarray(at(temperature, count, "temperature"), float)
        return jnp.where(keep(count), T, 0.0)  # noise while sampling

    return Cyclical(step_size, of_cycle, keep)
