"""The harness that holds a kernel to its exact law. Every kernel's tests use it.

A law is checked against its exact null distribution, never against a tolerance:
each row of a `Law` carries a p-value, and a law is rejected when the smallest one,
times the number of rows, is below `ALPHA`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from sgld_jax import seed

ALPHA = 1e-6  # false alarms of one law with a fresh seed; the suite's seeds are fixed
Z = 4.5  # |z| of a table with many entries: 7e-6 each


class Row(NamedTuple):
    name: str
    statistic: float
    p: float


class Law(NamedTuple):
    rows: tuple[Row, ...]

    @property
    def worst(self) -> Row:
        return min(self.rows, key=lambda row: row.p)

    @property
    def holds(self) -> bool:
        return self.worst.p * len(self.rows) >= ALPHA

    def __str__(self) -> str:
        return "\n".join(
            f"{r.name:<28} {r.statistic:12.4g}  p={r.p:.2g}" for r in self.rows
        )


def gaussian_rows(residuals, name: str) -> list[Row]:
    """Mean, variance and distribution of what should be i.i.d. N(0, 1)."""
    r = np.asarray(residuals, np.float64).ravel()
    z = r.mean() * np.sqrt(r.size)
    chi2 = float(r @ r)
    ks = stats.kstest(r, "norm")
    return [
        Row(f"{name}: mean", z, 2 * stats.norm.sf(abs(z))),
        Row(f"{name}: variance", chi2 / r.size, two_sided_chi2(chi2, r.size)),
        Row(f"{name}: KS distance", ks.statistic, ks.pvalue),
    ]


def two_sided_chi2(chi2: float, dof: int) -> float:
    return min(1.0, 2 * min(stats.chi2.sf(chi2, dof), stats.chi2.cdf(chi2, dof)))


def correlation_row(a, b, name: str, distinct: bool = True) -> Row:
    """The largest correlation of columns `[m, R]` that should be independent.

    By Fisher's z, about the known mean 0, so that equal chains show as such. With
    `distinct=False`, `a` is `b` and only pairs are looked at.
    """
    a, b = (x / np.sqrt(np.mean(x**2, axis=1, keepdims=True)) for x in (a, b))
    r = a @ b.T / a.shape[1]
    pairs = r.ravel() if distinct else r[np.triu_indices(len(r), 1)]
    worst = np.abs(np.arctanh(np.clip(pairs, -1 + 1e-12, 1 - 1e-12))).max()
    z = worst * np.sqrt(a.shape[1] - 2)
    return Row(name, z, min(1.0, pairs.size * 2 * stats.norm.sf(z)))


def step_law(residuals: dict[str, np.ndarray]) -> Law:
    """The law of standardised updates: `[steps, chains, coordinates]` for each leaf."""
    leaves = {name: np.asarray(r, np.float64) for name, r in residuals.items()}
    rows = [row for name, r in leaves.items() for row in gaussian_rows(r, name)]
    for t, block in enumerate(zip(*leaves.values())):
        rows += gaussian_rows(np.concatenate(block, axis=1), f"step {t}")
    every = np.concatenate(list(leaves.values()), axis=2)  # [steps, chains, D]
    steps, chains, dim = every.shape
    columns = every.transpose(0, 2, 1).reshape(steps * dim, chains)
    rows.append(
        correlation_row(columns, columns, "leaf-leaf and step-step", distinct=False)
    )
    for shift in (
        1,
        2,
        3,
        64,
    ):  # chain i against chain i + shift, at equal and other steps
        pair = columns[:, shift:], columns[:, :-shift]
        rows.append(correlation_row(*pair, f"chain-chain, {shift} apart"))
    return Law(tuple(rows))


def variance_z(draws, variance, mean=0.0) -> np.ndarray:
    """z of the variance over axis 0 about a known mean, exact for Gaussian draws."""
    d = np.asarray(draws, np.float64) - mean
    return (np.mean(d**2, axis=0) / variance - 1) / np.sqrt(2 / len(d))


def mean_z(draws, mean, variance) -> np.ndarray:
    d = np.asarray(draws, np.float64)
    return (d.mean(axis=0) - mean) / np.sqrt(np.asarray(variance) / len(d))


def two_updates(make_sampler, params, grads, chains: int):
    """Two consecutive updates `[2, chains, ...]` of vmapped copies from one start."""
    sampler = make_sampler()
    update = jax.jit(jax.vmap(sampler.update, (None, 0, None)))
    starts = jax.tree.map(lambda x: jnp.broadcast_to(x, (chains, *x.shape)), params)
    state = jax.jit(jax.vmap(sampler.init))(starts)
    first, state = update(grads, state, params)
    second, _ = update(grads, state, params)
    return first, second


def gaussian_chains(sampler, sampler_key, noise_key, theta, precision, noise, updates):
    """Positions `[chains, d]` and states after some updates on U = Σ λθ²/2.

    Gradients have noise of variance `noise`. For use inside a `jit`.
    """
    state = jax.vmap(lambda p: seed(sampler.init(p), sampler_key))(theta)

    def update(carry, key):
        theta, state = carry
        grads = precision * theta
        grads += jnp.sqrt(noise) * jax.random.normal(key, theta.shape)
        updates, state = jax.vmap(sampler.update)(grads, state, theta)
        return (theta + updates, state), None

    keys = jax.random.split(noise_key, updates)
    return jax.lax.scan(update, (theta, state), keys)[0]
