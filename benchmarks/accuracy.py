# python -m benchmarks accuracy [METHOD ...]
"""Less noise for the same gradients: a9a by batches, corrected or not, and NUTS.

A logistic regression with 32,561 rows and 124 coefficients. All batch methods have the
covariance at the mode as their metric, and start at the mode; Newton's steps to it are
in their time. Two questions, two tables:

1. At equal gradients of rows and equal steps: how noisy is the gradient, and how much
   too wide are the draws?
2. At a step by which noise leaves standard deviations 2 % too wide, by `sgld`'s law and
   with the noise that table 1 found: how near are means and deviations after so many
   seconds?
"""

import json
import os
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import sgld_jax
from benchmarks import restart

ROWS = 100  # gradients of rows an update
CHAINS = 8
STEP = 3e-3  # of table 1, in units of the metric: ελ = 3e-3
TOLERANCE = 0.02  # of a standard deviation, for the noise or, if more, for the step
SECONDS = (5, 15, 45, 135)
PyTree = Any


class Problem(NamedTuple):
    """The posterior, its mode, and the covariance there."""

    data: tuple[jax.Array, jax.Array]
    mode: jax.Array
    covariance: np.ndarray
    seconds: float

    @property
    def num_data(self) -> int:
        """N."""
        return len(self.data[1])

    @property
    def potential(self) -> Callable:
        """U, with the prior N(0, 1) for each coefficient."""
        return sgld_jax.minibatch_potential(
            sgld_jax.gaussian_prior(1.0), log_likelihood, self.num_data
        )


def log_likelihood(w: jax.Array, batch: tuple) -> jax.Array:
    """One number for each row."""
    x, y = batch
    return sgld_jax.likelihoods.bernoulli(x @ w, y)


def load() -> Problem:
    """a9a with a column of ones, and its mode by Newton's method."""
    if "SGLD_JAX_DATA" not in os.environ:
        raise SystemExit("Set SGLD_JAX_DATA to the folder of the data sets.")
    path = pathlib.Path(os.environ["SGLD_JAX_DATA"], "classification", "a9a.npz")
    with np.load(path) as file:
        bits = np.unpackbits(file["x_train"], axis=1)[:, :123]
        y = file["y_train"].astype(np.float64)
    X = np.hstack([bits, np.ones((len(bits), 1))])
    began = time.perf_counter()
    w = np.zeros(X.shape[1])
    for _ in range(12):
        p = 1 / (1 + np.exp(-X @ w))
        hessian = (X * (p * (1 - p))[:, None]).T @ X + np.eye(len(w))
        w -= np.linalg.solve(hessian, X.T @ (p - y) + w)
    seconds = time.perf_counter() - began
    data = jnp.asarray(X, jnp.float32), jnp.asarray(y, jnp.float32)
    covariance = np.linalg.inv(hessian)
    return Problem(data, jnp.asarray(w, jnp.float32), covariance, seconds)


class Method(NamedTuple):
    """A way to take gradients.

    Attributes:
      make: `problem -> potential or Estimator`.
      rows: of a batch, so that an update costs `ROWS` gradients of rows.
      every: updates between passes over all data, 0 for none; they cost, too.
      shuffled: whether batches are of epochs, or drawn with replacement.
    """

    make: Callable[[Problem], Any]
    rows: int = ROWS
    every: int = 0
    shuffled: bool = False

    def batches(self) -> Any:
        """The scheme."""
        make = sgld_jax.shuffled if self.shuffled else sgld_jax.with_replacement
        return make(self.rows)


def _centred(problem: Problem) -> Any:
    return sgld_jax.control_variate(problem.potential, problem.mode, problem.data)


_PASS = 1_000  # updates of 2 · 33 rows and one of 32,561: 99 rows each on average
METHODS = {
    "batches": Method(lambda problem: problem.potential),
    "shuffled batches": Method(lambda problem: problem.potential, shuffled=True),
    "control variate": Method(_centred, ROWS // 2),
    "svrg": Method(lambda problem: sgld_jax.svrg(problem.potential, _PASS), 33, _PASS),
    "saga": Method(lambda problem: sgld_jax.saga(problem.potential)),
}


def run(
    problem: Problem, method: Method, eps: float, num_samples: int, until: Any = None
) -> sgld_jax.Samples:
    """Draws after 3/ε updates from the mode, with 0.4/ε updates between two."""
    sampler = sgld_jax.sgld(eps, preconditioner=sgld_jax.dense(problem.covariance))
    return sgld_jax.sample(
        0,
        sampler,
        method.make(problem),
        lambda key: problem.mode,
        num_samples=num_samples,
        num_chains=CHAINS,
        burn_in=round(3 / eps),
        thinning=max(1, round(0.4 / eps)),
        data=problem.data,
        batches=method.batches(),
        until=until,
    )


class Units:
    """Coordinates in which the posterior is about N(0, I)."""

    def __init__(self, problem: Problem):
        self.root = np.linalg.cholesky(problem.covariance)
        self.mode = np.asarray(problem.mode, np.float64)

    def of(self, w: Any) -> np.ndarray:
        """Positions `[..., d]`."""
        away = np.asarray(w, np.float64) - self.mode
        flat = np.linalg.solve(self.root, away.reshape(-1, len(self.mode)).T)
        return flat.T.reshape(away.shape)


# --- table 1 -------------------------------------------------------------------------


def noise(problem: Problem, method: Method, chain: Any, repeats: int = 100) -> float:
    """GV: the variance of the gradient where the chains are, mean over coordinates."""
    potential, root = method.make(problem), np.linalg.cholesky(problem.covariance)
    root = jnp.asarray(root, jnp.float32)
    rows = np.random.default_rng(0).integers(
        problem.num_data, size=(repeats, method.rows)
    )

    def gradient(w: jax.Array, memory: Any, rows: jax.Array, data: tuple) -> jax.Array:
        batch = jax.tree.map(lambda x: x[rows], data)
        if isinstance(potential, sgld_jax.Estimator):
            (_, g), _ = potential.value_and_grad(w, batch, rows, memory)
        else:
            g = jax.grad(potential)(w, batch)
        return root.T @ g

    batches = jax.vmap(gradient, (None, None, 0, None))

    def of_chains(w: jax.Array, memory: Any, rows: jax.Array, data: tuple) -> jax.Array:
        one = lambda chain: batches(*chain, rows, data).var(0, ddof=1).mean()  # noqa: E731
        return jax.lax.map(one, (w, memory))

    found = jax.jit(of_chains)(
        chain.params, chain.memory, jnp.asarray(rows), problem.data
    )
    return float(np.mean(found))


def at_equal_gradients(problem: Problem, method: Method, known: dict) -> dict:
    """Noise of the gradient, and the variance of the draws beside the posterior's."""
    samples = run(problem, method, STEP, 400)
    z = Units(problem).of(samples.params)
    excess = np.mean((z - known["mean"]) ** 2, (0, 1)) / known["sd"] ** 2
    found = noise(problem, method, samples.final)
    law = (1 + STEP * found / 2) / (1 - STEP / 2)
    return {"GV": found, "variance": float(excess.mean()), "by the law": law}


# --- table 2 -------------------------------------------------------------------------


def errors(z: np.ndarray, known: dict) -> dict:
    """Of means and standard deviations, in units of those of the posterior."""
    z = z.reshape(-1, z.shape[-1])
    away = (z.mean(0) - known["mean"]) / known["sd"]
    wide = z.std(0) / known["sd"] - 1
    return {
        "mean": float(np.sqrt(np.mean(away**2))),
        "worst mean": float(np.abs(away).max()),
        "sd": float(np.sqrt(np.mean(wide**2))),
        "worst sd": float(np.abs(wide).max()),
    }


def against_time(method: Method, known: dict, eps: float) -> list[dict]:
    """Errors after so many seconds, with Newton's steps and compilation."""
    problem = load()
    began, units = time.perf_counter() - problem.seconds, Units(problem)
    found: list[dict] = []

    def until(samples: sgld_jax.Samples) -> bool:
        now = time.perf_counter() - began
        if now > SECONDS[len(found)]:
            some = errors(units.of(samples.params), known)
            draws = samples.num_samples * samples.num_chains
            found.append({"seconds": now, "draws": draws, **some})
        return len(found) == len(SECONDS)

    run(problem, method, eps, 100_000, until)
    return found


def row(method: str) -> dict:
    """One method, in this process."""
    if method == "NUTS":
        return nuts()
    known, problem = reference(), load()
    equal = at_equal_gradients(problem, METHODS[method], known)
    eps = 4 * TOLERANCE * min(1.0, 1 / equal["GV"])
    return {**equal, "step": eps, "times": against_time(METHODS[method], known, eps)}


def nuts() -> dict:
    """blackjax: window adaptation with a dense metric, 4 chains, 1,000 draws."""
    import blackjax

    problem, known = load(), reference()
    began = time.perf_counter()
    keys = jax.random.split(jax.random.key(0), (2, 4))

    def one(warm_key: jax.Array, key: jax.Array, data: tuple) -> jax.Array:
        def log_density(w: jax.Array) -> jax.Array:
            return -problem.potential(w, data)

        adapt = blackjax.window_adaptation(
            blackjax.nuts, log_density, is_mass_matrix_diagonal=False
        )
        zero = jnp.zeros_like(problem.mode)
        (state, settings), _ = adapt.run(warm_key, zero, 1_000)  # pyright: ignore
        step = blackjax.nuts(log_density, **settings).step

        def draw(state: Any, key: jax.Array) -> tuple:
            state, _ = step(key, state)
            return state, state.position

        return jax.lax.scan(draw, state, jax.random.split(key, 1_000))[1]

    draws = np.asarray(jax.jit(jax.vmap(one, (0, 0, None)))(*keys, problem.data))
    seconds = time.perf_counter() - began
    found = errors(Units(problem).of(draws), known)
    return {"times": [{"seconds": seconds, "draws": 4_000, **found}]}


# --- the posterior -------------------------------------------------------------------

REFERENCE = pathlib.Path(__file__).parent / "results" / "a9a-posterior.npz"


def reference() -> dict[str, np.ndarray]:
    """Mean and standard deviation in `Units`, `[d]` each, by `make_reference`."""
    with np.load(REFERENCE) as file:
        return dict(file)


def make_reference() -> None:
    """By blackjax's HMC in 64 bits: 16 chains of 1,000 draws, from the mode."""
    import blackjax

    jax.config.update("jax_enable_x64", True)
    problem = load()
    root, mode = Units(problem).root, np.asarray(problem.mode, np.float64)
    data = jax.tree.map(lambda x: x.astype(float), problem.data)

    def one(key: jax.Array, data: tuple) -> tuple:
        def log_density(z: jax.Array) -> jax.Array:
            return -problem.potential(mode + root @ z, data)

        hmc = blackjax.hmc(
            log_density,
            step_size=0.35,
            inverse_mass_matrix=jnp.ones(len(mode)),
            num_integration_steps=5,
        )

        def draw(state: Any, key: jax.Array) -> tuple:
            state, info = hmc.step(key, state)
            return state, (state.position, info.acceptance_rate)

        start = hmc.init(jnp.zeros(len(mode)))  # pyright: ignore
        keys = jax.random.split(key, 1_100)
        z, accepted = jax.lax.scan(draw, start, keys)[1]
        return z[100:], accepted.mean()

    keys = jax.random.split(jax.random.key(1), 16)
    z, accepted = jax.jit(jax.vmap(one, (0, None)))(keys, data)
    z = np.asarray(z)
    error = float(np.max(sgld_jax.mcse({"z": z})["z"]))
    r_hat = float(np.max(sgld_jax.rhat({"z": z})["z"]))
    print(f"accepted {np.mean(accepted):.3f}, R-hat {r_hat:.4f}, error {error:.4f}")
    facts = {"error": np.float64(error), "r_hat": np.float64(r_hat)}
    np.savez(REFERENCE, mean=z.mean((0, 1)), sd=z.std((0, 1)), **facts)


def rows(kept: pathlib.Path, names: list[str]) -> list[dict]:
    """A row for each method, or for those that were named, kept one by one."""
    print("some 4 minutes a method on one core, the reference 2, NUTS 12", flush=True)
    if not REFERENCE.exists():
        restart.apart("accuracy", "reference")
    order = [*METHODS, "NUTS"]
    todo = [{"method": name} for name in names or order]
    found = restart.rows(kept, todo, lambda method: restart.apart("accuracy", method))
    return sorted(found, key=lambda one: order.index(one["method"]))


if __name__ == "__main__":
    if sys.argv[1] == "reference":
        make_reference()
    print(json.dumps({} if sys.argv[1] == "reference" else row(sys.argv[1])))
