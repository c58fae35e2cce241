"""The law of every kernel on a Gaussian: what `audit` expects to see.

On U = λθ²/2 with gradient noise of variance V. One row a kernel; the formulas are those
in the kernels' own files.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sgld_jax.kernels.baoa import BAOAState
from sgld_jax.kernels.csgld import CSGLDState
from sgld_jax.kernels.leimkuhler_matthews import LeimkuhlerMatthewsState
from sgld_jax.kernels.sghmc import SGHMCState
from sgld_jax.kernels.sgld import SGLDState
from sgld_jax.kernels.sglrw import SGLRWState
from sgld_jax.kernels.sgnht import SGNHTState
from sgld_jax.kernels.sgrld import SGRLDState
from sgld_jax.leaves import instances
from sgld_jax.seeding import has_slot, seed
from sgld_jax.states import positions


class Law(NamedTuple):
    """What is known of a kernel.

    Attributes:
      name: for the report.
      stationary: `(λ, ε, T, α, V) -> variance`, arrays `[d]`; None if nobody knows it.
      first: `α -> variance` of the noise in a first update, in units of εT.
      largest: ελ of the steepest Gaussian it is tried on, well within its limit.
      is_normal: whether that noise is Gaussian; else it is ±δ.
      coordinates: of the problem it is tried on, for laws of many coordinates.
      patience: `(ε, T, α) -> ` updates that it takes beside those of the velocity.
    """

    name: str
    stationary: Callable | None
    first: Callable
    largest: float = 1.0
    is_normal: bool = True
    coordinates: int = 6
    patience: Callable = lambda eps, T, alpha: 0.0


# In the letters of the kernels: λ, ε, T, α, V.


def _sgld(lam, eps, T, alpha, V):
    return (T + eps * V / 2) / (lam * (1 - eps * lam / 2))


def _sghmc(lam, eps, T, alpha, V):
    return (T + eps * V / (2 * alpha)) / (lam * (1 - eps * lam / (2 * (2 - alpha))))


def _baoa(lam, eps, T, alpha, V):
    return T / lam + eps * V / (2 * alpha * lam) / (1 - eps * lam / (2 * (2 - alpha)))


def _leimkuhler_matthews(lam, eps, T, alpha, V):
    return T / lam + eps * V / (lam * (2 - eps * lam))


def _sglrw(lam, eps, T, alpha, V):
    return T / lam + 0 * eps


def _sgnht(lam, eps, T, alpha, V):
    """One thermostat for many coordinates: its ξ balances the heat of all of them."""
    A = alpha + eps * V / (2 * T)

    def heat(xi):
        return 4 * A / (xi * (4 - 2 * xi - eps * lam))

    low, high = 1e-9, 1.0
    for _ in range(60):
        xi = (low + high) / 2
        low, high = (xi, high) if np.mean(heat(xi)) > 1 else (low, xi)
    return (2 - low) * T / (2 * lam) * heat(low)


EULER = Law("an Euler step of this size", _sgld, lambda alpha: 2.0)

LAWS = {
    SGLDState: Law("sgld", _sgld, lambda alpha: 2.0),
    LeimkuhlerMatthewsState: Law(
        "leimkuhler_matthews", _leimkuhler_matthews, lambda alpha: 0.5
    ),
    BAOAState: Law("baoa", _baoa, lambda alpha: alpha / 2),
    SGHMCState: Law("sghmc", _sghmc, lambda alpha: 2 * alpha),
    SGNHTState: Law(
        "sgnht",
        _sgnht,
        lambda alpha: 1 + alpha**2,
        largest=0.3,
        coordinates=1_000,
        patience=lambda eps, T, alpha: 200 + 8 * alpha / (eps * T),
    ),
    SGLRWState: Law("sglrw", _sglrw, lambda alpha: 2.0, largest=0.05, is_normal=False),
}


def memory(u: Any, friction: float) -> float:
    """The share of a start that an update leaves, in the slowest of some ελ, `u`.

    The largest root of x² − (2 − α − u) x + 1 − α, by which position and velocity move.
    """
    kept = 1 - friction
    return max(np.abs(np.roots([1, -(1 + kept - x), kept])).max() for x in u)


def known_law(sampler: Any, params: Any) -> tuple[Law, float]:
    """The law of the kernel in a sampler's state, and its friction.

    `EULER` and 1 where there is no kernel of ours.

    Raises:
      ValueError: for several kernels of different laws or frictions, and for kernels
        that no Gaussian says anything of.
    """

    def after_one_update() -> Any:
        state = sampler.init(params)
        state = seed(state, 0) if has_slot(state) else state
        still = jax.tree.map(jnp.zeros_like, params)
        return sampler.update(still, state, params, value=jnp.zeros([]))[1]

    state = jax.jit(after_one_update)()
    if positions(state):
        raise ValueError(
            "audit looks at moves, and the parameters of a kernel that accepts or "
            "rejects are proposals: look at its draws instead, by bias_check(samples, "
            "sampler, potential)."
        )
    if instances(state, SGRLDState) or instances(state, CSGLDState):
        raise ValueError(
            "audit looks at moves on Gaussians, and the moves of sgrld and csgld have "
            "another law, by where they are. They are held to theirs in "
            "tests/test_sgrld.py and tests/test_csgld.py."
        )
    kernels = [x for kind in LAWS for x in instances(state, kind)]
    found = {(type(x), float(x.trace.friction)) for x in kernels}
    if len(found) > 1:
        names = sorted(LAWS[kind].name for kind, _ in found)
        raise ValueError(
            f"This sampler holds kernels of several laws ({', '.join(names)}): audit "
            f"one of them at a time."
        )
    if not found:
        return EULER, 1.0
    ((kind, friction),) = found
    law = LAWS[kind]
    thermostats = jax.tree.leaves([getattr(x, "thermostat", ()) for x in kernels])
    if any(map(np.ndim, thermostats)):
        of_one = {"name": "sgnht, of one coordinate", "stationary": None}
        law = law._replace(**of_one, coordinates=EULER.coordinates)
    return law, friction or 1.0
