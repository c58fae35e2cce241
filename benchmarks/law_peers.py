"""The samplers of other libraries, and noise of optax, through the loop of `laws.py`.

Each with its own defaults, on U = λθ²/2, against the target's variance T/λ; and, where
it is an Euler step as SGLD is, against the law of that.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import sgld_jax
from sgld_jax.kernels.sgld import SGLDState
from sgld_jax.tuning.laws import LAWS

_EULER = LAWS[SGLDState].stationary


def rows(chains: int = 20_000) -> list[dict]:
    """A row for every sampler and setting: variance over T/λ and over Euler's law."""
    grid = (
        ("blackjax.sgld", _sgld, (0.01, 0.1, 0.5), (0.1, 1.0)),
        ("optax.add_noise", _add_noise, (0.01, 0.1, 0.5), (1.0,)),
        ("optax.noisy_sgd", _noisy_sgd, (0.01, 0.1, 0.5), (1.0,)),
        ("blackjax.sghmc", _sghmc, (0.01, 0.05, 0.2), (0.1, 1.0)),
        ("blackjax.sgnht", _sgnht, (0.05, 0.2), (0.1, 1.0)),
    )
    cases = [
        (name, case, step, T)
        for name, case, steps, temperatures in grid
        for step in steps
        for T in temperatures
    ]
    return [_row(i, *case, chains) for i, case in enumerate(cases)]


def _row(
    seed: int, name: str, case: Callable, step: float, T: float, chains: int
) -> dict:
    """λ is 1; chains start in the target, and run for a time of 10, or longer with a
    thermostat.
    """
    d = 1_000 if name == "blackjax.sgnht" else 1
    chains = max(40, chains // d)
    start_key, key = jax.random.split(jax.random.key(seed))
    start = math.sqrt(T) * jax.random.normal(start_key, (chains, d))
    keys = jax.random.split(key, chains)
    move, init = case(step, T)
    updates = math.ceil((200 if name == "blackjax.sgnht" else 10) / step)

    def one(theta: jax.Array, key: jax.Array) -> jax.Array:
        init_key, key = jax.random.split(key)

        def update(i: Any, carry: Any) -> Any:
            return move(jax.random.fold_in(key, i), carry, i)

        carry = init(init_key, theta)
        return jax.lax.fori_loop(0, updates, update, carry)[0]

    theta = np.asarray(jax.jit(jax.vmap(one))(start, keys), np.float64)
    error, ratio = math.sqrt(2 / theta.size), float(np.mean(theta**2) / T)
    euler = float(np.mean(theta**2) / _EULER(1.0, step, T, 1.0, 0.0))
    is_euler = name in ("blackjax.sgld", "optax.add_noise", "optax.noisy_sgd")
    return {
        "sampler": name,
        "step": step,
        "T": T,
        "over T/λ": ratio,
        "over the law of an Euler step": euler if is_euler else None,
        "z of it": (euler - 1) / error if is_euler else (ratio - 1) / error,
    }


def _grad(position: jax.Array, minibatch: Any) -> jax.Array:
    return -position  # of the log density, as blackjax takes it


def _sgld(step: float, T: float) -> tuple[Callable, Callable]:
    import blackjax

    return _blackjax(blackjax.sgld(_grad), step, T)


def _sghmc(step: float, T: float) -> tuple[Callable, Callable]:
    """Ten steps and friction .01, its defaults; `step` is that of time."""
    import blackjax

    return _blackjax(blackjax.sghmc(_grad), step, T)


def _blackjax(algorithm: Any, step: float, T: float) -> tuple[Callable, Callable]:
    def move(key: jax.Array, carry: Any, i: Any) -> Any:
        return (algorithm.step(key, carry[0], None, step, T),)

    return move, lambda key, theta: (theta,)


def _sgnht(step: float, T: float) -> tuple[Callable, Callable]:
    """Friction 1, and one thermostat for 1,000 coordinates."""
    import blackjax

    algorithm = blackjax.sgnht(_grad, alpha=1.0)

    def move(key: jax.Array, state: Any, i: Any) -> Any:
        return algorithm.step(key, state, None, step, T)

    def init(key: jax.Array, theta: jax.Array) -> Any:
        state = algorithm.init(theta, key)
        return state._replace(xi=jnp.asarray(state.xi, theta.dtype))

    return move, init


def _optax(tx: optax.GradientTransformation) -> tuple[Callable, Callable]:
    """Seeded, a chain at a time: a `vmap` of its init gives all chains one key."""

    def move(key: jax.Array, carry: Any, i: Any) -> Any:
        theta, state = carry
        updates, state = tx.update(theta, state, theta)
        return theta + updates, state

    return move, lambda key, theta: (theta, sgld_jax.seed(tx.init(theta), key))


def _add_noise(step: float, T: float) -> tuple[Callable, Callable]:
    """The parts of SGLD, put together by hand."""
    return _optax(
        optax.chain(optax.scale(-step), optax.add_noise(2 * step * T, 0.0, 0))
    )


def _noisy_sgd(step: float, T: float) -> tuple[Callable, Callable]:
    """With its defaults: noise that fades, for optimisation; there is no T in it."""
    return _optax(optax.noisy_sgd(step, key=0))
