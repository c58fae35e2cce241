"""Every kernel on Gaussians, by its published law: the page `docs/laws.md`.

U = λθ²/2 with gradient noise of variance V. Chains start in the law, run until another
start would be forgotten, and their variance is compared with the formula.
"""

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import sgld_jax
from sgld_jax.tuning.laws import LAWS, memory

CHAINS = 20_000
PARTS = (0.1, 0.3, 0.6, 0.9)  # of the largest stable ελ, one coordinate each


class Entry(NamedTuple):
    """A kernel as this page runs it.

    Attributes:
      make: `(ε, T, α) -> sampler`, with traced numbers.
      limit: `α -> ` the largest ελ that is tried, over 0.9.
      frictions: α; 1 where there is none.
      noises: V, in units of T.
      step_size: `T -> ε`; the pace of a thermostat is εT, and its law wants it small.
      coordinates: for each λ, 1, or many where they share a thermostat.
      metric: `state -> G` of each chain, where it has one of its own.
    """

    make: Callable
    limit: Callable = lambda alpha: 2.0
    frictions: tuple[float, ...] = (1.0,)
    noises: tuple[float, ...] = (0.0, 10.0)
    step_size: Callable = lambda T: 0.1
    coordinates: int = 1
    metric: Callable | None = None


_METRIC = sgld_jax.freeze(sgld_jax.rmsprop(num_data=10, decay=0.9, eps=0.5), 60)

ENTRIES = {
    "sgld": Entry(lambda eps, T, alpha: sgld_jax.sgld(eps, T)),
    "psgld": Entry(
        lambda eps, T, alpha: sgld_jax.psgld(
            eps, T, num_data=10, decay=0.9, eps=0.5, freeze_after=60
        ),
        limit=lambda alpha: 0.5,  # G is at most 2
        metric=lambda state: _METRIC.multiply(state.metric, jnp.ones(len(PARTS))),
    ),
    "leimkuhler_matthews": Entry(
        lambda eps, T, alpha: sgld_jax.leimkuhler_matthews(eps, T)
    ),
    "baoa": Entry(
        lambda eps, T, alpha: sgld_jax.baoa(eps, alpha, T),
        limit=lambda alpha: 2 * (2 - alpha),
        frictions=(0.05, 0.3, 1.0),
    ),
    "sghmc": Entry(
        lambda eps, T, alpha: sgld_jax.sghmc(eps, alpha, T),
        limit=lambda alpha: 2 * (2 - alpha),
        frictions=(0.05, 0.3, 1.0),
    ),
    "sgnht": Entry(
        lambda eps, T, alpha: sgld_jax.sgnht(eps, alpha, T),
        limit=lambda alpha: 0.5,
        frictions=(0.05, 0.2),
        noises=(0.0, 2.0),
        step_size=lambda T: 0.01 / T,
        coordinates=1_000,
    ),
    "sglrw": Entry(
        lambda eps, T, alpha: sgld_jax.sglrw(eps, T),
        limit=lambda alpha: 0.05,  # beyond, gradients are clipped
        noises=(0.0, 0.05),
    ),
}
TEMPERATURES = (0.1, 1.0, 10.0)


def rows(chains: int = CHAINS, temperatures: tuple = TEMPERATURES) -> list[dict]:
    """A row for every kernel, ελ, T, α and V: law, measured, z."""
    return [row for name in ENTRIES for row in of_kernel(name, chains, temperatures)]


def of_kernel(name: str, chains: int, temperatures: tuple) -> list[dict]:
    """The rows of one kernel; one compiled program for all of them."""
    entry, table = ENTRIES[name], []
    settings = itertools.product(entry.frictions, temperatures, entry.noises)
    for seed, (alpha, T, noise) in enumerate(settings):
        lam = np.array(PARTS) * entry.limit(alpha) / entry.step_size(T)
        for these in [lam] if entry.coordinates == 1 else lam[:, None]:
            table += _measured(name, chains, seed, these, T, alpha, noise * T)
    return table


def _measured(
    name: str, chains: int, seed: int, lam: np.ndarray, T: float, alpha: float, V: float
) -> list[dict]:
    entry, law = ENTRIES[name], LAWS[_kind(name)].stationary
    assert law is not None
    eps, wide = entry.step_size(T), np.repeat(lam, entry.coordinates)
    variance = law(wide, eps, T, alpha, V)
    # A coordinate of chains that share next to nothing is as good as a chain.
    chains = max(chains // entry.coordinates, 40)
    given = jax.random.key(seed), eps, wide, np.sqrt(variance), T, alpha, V
    theta, G = _run(name, chains, *given, _updates(lam * eps, alpha, name))
    if entry.metric is not None:
        variance = law(wide, np.asarray(G, np.float64) * eps, T, alpha, V)
    squares = np.asarray(theta, np.float64) ** 2 / variance
    squares = squares.reshape(chains, len(lam), -1)
    expected = np.broadcast_to(variance, theta.shape).reshape(squares.shape)
    expected, ratio = expected.mean((0, 2)), squares.mean((0, 2))
    return [
        {
            "kernel": name,
            "ελ": float(eps * lam[i]),
            "T": T,
            "α": alpha,
            "V": V,
            "law": float(expected[i]),
            "measured": float(expected[i] * ratio[i]),
            "z": float((ratio[i] - 1) / math.sqrt(2 / squares[:, i].size)),
        }
        for i in range(len(lam))
    ]


@functools.partial(jax.jit, static_argnames=("name", "chains"))
def _run(name, chains, key, eps, lam, sd, T, alpha, V, updates):
    """Positions `[chains, d]` and metrics after some updates."""
    entry = ENTRIES[name]
    sampler = entry.make(eps, T, alpha)
    start_key, key, noise_key = jax.random.split(key, 3)
    theta = sd * jax.random.normal(start_key, (chains, len(sd)))
    state = jax.vmap(sampler.init)(theta)
    state = jax.vmap(sgld_jax.seed)(state, jax.random.split(key, chains))

    def update(i: Any, carry: tuple) -> tuple:
        theta, state = carry
        noise = jax.random.normal(jax.random.fold_in(noise_key, i), theta.shape)
        grads = lam * theta + jnp.sqrt(V) * noise
        updates, state = jax.vmap(sampler.update)(grads, state, theta)
        return theta + updates, state

    theta, state = jax.lax.fori_loop(0, updates, update, (theta, state))
    return theta, jax.vmap(entry.metric)(state) if entry.metric else jnp.ones(())


def _kind(name: str) -> type:
    sampler = ENTRIES[name].make(0.1, 1.0, 0.5)
    return type(sampler.init(jnp.zeros(1)))


def _updates(u: np.ndarray, alpha: float, name: str) -> int:
    """In how many a start is forgotten: e⁻⁶ is left of it."""
    once = math.ceil(-6 / math.log(memory(u, alpha)))
    return {"sgnht": 8 * once, "psgld": 60 + once}.get(name, once)
