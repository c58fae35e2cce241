"""Are the noise's numbers normal and independent? Moments, cells, tails, neighbours.

Every row is a statistic with its p-value under exact normality and independence. The
tests ask 2²⁶ numbers; `python -m benchmarks quality` asks 2³⁰ and keeps the answer.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special, stats

from sgld_jax.generator import normal

CELLS = 2**11  # of equal probability, for chi-square
FINE = 2**5 * CELLS  # for the Kolmogorov-Smirnov distance, on a grid
TAILS = (4.0, 5.0, 5.5)
CHUNK = 2**21


class Row(NamedTuple):
    """A statistic and its p-value under exact normality and independence."""

    name: str
    statistic: float
    p: float


def battery(exponent: int, seed: int = 0) -> list[Row]:
    """All rows for 2 to the `exponent` numbers of one key, at least 2²¹ of them."""
    total = 2**exponent
    sums, lags, tails = np.zeros(7), np.zeros((2, 3)), np.zeros((2, len(TAILS)))
    cells, largest = np.zeros(FINE, np.int64), 0.0
    for count in range(total // CHUNK):
        z = numbers(seed, count)
        sums += [np.sum(z**k) for k in range(7)]
        lags += [[f(z, lag) for lag in (1, 2, 3)] for f in (_products, _squares)]
        tails += [[np.sum(s * z > t) for t in TAILS] for s in (1, -1)]
        where = np.minimum(special.ndtr(z) * FINE, FINE - 1).astype(np.int64)
        cells += np.bincount(where, minlength=FINE)
        largest = max(largest, np.abs(z).max())
    return [
        *_moments(sums / total, total),
        *_neighbours(lags, total),
        *_tails(tails, total),
        *_distribution(cells, total),
        Row(f"largest |z| {largest:.3f}", largest, _p_of_largest(largest, total)),
        *streams(seed),
    ]


def numbers(seed: int, count: int, first: int = 0, size: int = CHUNK) -> np.ndarray:
    """Numbers of one key and count, float64 `[size]`, from a position on."""
    drawn = _draw(jax.random.key(seed), jnp.int32(count), jnp.uint32(first), size)
    return np.asarray(drawn).astype(np.float64)


@functools.partial(jax.jit, static_argnums=3)
def _draw(key, count, first, size):
    return normal(key, count, first + jax.lax.iota(jnp.uint32, size))


def _products(z: np.ndarray, lag: int) -> float:
    return float(z[:-lag] @ z[lag:])


def _squares(z: np.ndarray, lag: int) -> float:
    return _products((z * z - 1) / math.sqrt(2), lag)


def _moments(means: np.ndarray, total: int) -> list[Row]:
    exact = [1, 0, 1, 0, 3, 0, 15, 0, 105, 0, 945, 0, 10395]
    rows = []
    for k in range(1, 7):
        z = (means[k] - exact[k]) / math.sqrt((exact[2 * k] - exact[k] ** 2) / total)
        rows.append(_normal_row(f"moment {k}", z))
    return rows


def _neighbours(lags: np.ndarray, total: int) -> list[Row]:
    pairs = total - total // CHUNK * np.array([1, 2, 3])
    return [
        _normal_row(f"{what}, {lag} apart", sums[i] / math.sqrt(pairs[i]))
        for what, sums in zip(("numbers", "squares"), lags)
        for i, lag in enumerate((1, 2, 3))
    ]


def _tails(seen: np.ndarray, total: int) -> list[Row]:
    rows = []
    for sign, counts in zip(("above", "below −"), seen):
        for t, count in zip(TAILS, counts):
            p = stats.binomtest(int(count), total, stats.norm.sf(t)).pvalue
            name = f"{sign} {t}: {count:.0f} of {total * stats.norm.sf(t):.1f}"
            rows.append(Row(name, count, p))
    return rows


def _distribution(cells: np.ndarray, total: int) -> list[Row]:
    chi = stats.chisquare(cells.reshape(CELLS, -1).sum(axis=1))
    distance = np.abs(np.cumsum(cells) / total - np.arange(1, FINE + 1) / FINE).max()
    ks = stats.kstwobign.sf(distance * math.sqrt(total))
    return [
        Row(f"chi-square on {CELLS:,} cells", chi.statistic, chi.pvalue),
        Row("Kolmogorov-Smirnov distance", distance, ks),
    ]


def _p_of_largest(largest: float, total: int) -> float:
    below = -math.expm1(total * math.log1p(-2 * stats.norm.sf(largest)))
    return float(min(1.0, 2 * min(below, 1 - below)))


def streams(seed: int) -> list[Row]:
    """Correlation of the numbers of neighbouring keys, counts, chains and leaves."""
    size = 2**18
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(seed), i))(
        jnp.arange(8, dtype=jnp.uint32)
    )
    draw = jax.jit(jax.vmap(lambda k: _draw(k, jnp.int32(0), jnp.uint32(0), size)))
    groups = {
        "neighbouring keys": [numbers(seed + i, 0, size=size) for i in range(8)],
        "neighbouring counts": [numbers(seed, i, size=size) for i in range(8)],
        "neighbouring chains": list(np.asarray(draw(keys), np.float64)),
        "neighbouring leaves": [
            numbers(seed, 0, i * size, size=size) for i in range(8)
        ],
        "counts far apart": [
            numbers(seed, i, size=size) for i in (0, 1, 2**16, 2**24, 2**30, 2**31 - 2)
        ],
    }
    rows = []
    for name, group in groups.items():
        z = np.stack(group)
        for what, x in ((name, z), (f"{name}, squares", (z * z - 1) / math.sqrt(2))):
            pairs = np.triu_indices(len(x), 1)
            worst = np.abs((x @ x.T)[pairs]).max() / math.sqrt(size)
            p = -math.expm1(len(pairs[0]) * math.log1p(-2 * stats.norm.sf(worst)))
            rows.append(Row(what, worst, p))
    return rows


def _normal_row(name: str, z: float) -> Row:
    return Row(name, z, 2 * stats.norm.sf(abs(z)))
