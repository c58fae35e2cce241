"""The covariance where a kernel settles on a Gaussian, with the noise of its batches.

In coordinates in which G is I and the Hessian diagonal, U = Σ λᵢ zᵢ²/2, every direction
is a linear recursion of its position and velocity, s = (z, v):

    s ← Mᵢ s + b ηᵢ + c ξᵢ,   ξ ~ N(0, 2αεT),  η the noise of the gradient

so that the covariance follows exactly, also between directions, which share the noise
of a batch: the covariance of η is V.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

_PHASES = 16  # of an epoch, at most, over which its law is averaged


class Noise(NamedTuple):
    """The noise of minibatch gradients.

    Attributes:
      covariance: V of one batch, `[d, d]`.
      epoch: m, batches after which all rows have been seen, whose noises add up to 0;
        1 where each is drawn anew.
    """

    covariance: np.ndarray
    epoch: int


class Recursion(NamedTuple):
    """A kernel on a Gaussian.

    Attributes:
      step: M, `[d, 2, 2]`.
      from_gradient: b, `[2]`.
      from_kick: c, `[2]`.
    """

    step: np.ndarray
    from_gradient: np.ndarray
    from_kick: np.ndarray


def _sghmc(lam: np.ndarray, eps: float, alpha: float) -> Recursion:
    """V ← (1−α) v − ε (λz + η) + ξ, z ← z + v; with α = 1 it is `sgld`."""
    one, kept = np.ones_like(lam), np.full_like(lam, 1 - alpha)
    M = np.array([[one - eps * lam, kept], [-eps * lam, kept]])
    return Recursion(np.moveaxis(M, 2, 0), np.array([-eps, -eps]), np.ones(2))


def _baoa(lam: np.ndarray, eps: float, alpha: float) -> Recursion:
    """M ← v − h² (λz + η), v ← (1−α) m + ξ, z ← z + (m + v)/2, h² = 2ε/(2−α)."""
    one, h2 = np.ones_like(lam), 2 * eps / (2 - alpha)
    m = np.array([-h2 * lam, one])
    M = np.array([np.array([one, 0 * one]) + (1 - alpha / 2) * m, (1 - alpha) * m])
    b = np.array([-eps, -(1 - alpha) * h2])
    return Recursion(np.moveaxis(M, 2, 0), b, np.array([0.5, 1.0]))


class Settled(NamedTuple):
    """What is known of a kernel.

    Attributes:
      recursion: `(λ, ε, α) -> Recursion`.
      limit: `α -> ` the largest ελ that is tried: stable, or accurate where nothing is
        Gaussian.
      has_friction: whether there is an α; without one it is 1.
    """

    recursion: Callable[[np.ndarray, float, float], Recursion]
    limit: Callable[[float], float]
    has_friction: bool = True


# Without noise `baoa` has no bias on Gaussians at any stable step; elsewhere it has one
# of second order, and a time step h with h²λ = 1 is a quarter of what is stable.
KERNELS = {
    "sgld": Settled(_sghmc, lambda alpha: 2.0, has_friction=False),
    "sghmc": Settled(_sghmc, lambda alpha: 2 * (2 - alpha)),
    "baoa": Settled(_baoa, lambda alpha: (2 - alpha) / 2),
    "leimkuhler_matthews": Settled(_baoa, lambda alpha: 0.5, has_friction=False),
}


def memory(kernel: str, lam: np.ndarray, eps: float, alpha: float) -> float:
    """Updates in which the slowest direction forgets all but 1/e of its start."""
    M = KERNELS[kernel].recursion(lam, eps, alpha).step
    kept = np.abs(np.linalg.eigvals(M)).max()
    return float(-1 / np.log(kept)) if kept < 1 else np.inf


def covariance(
    kernel: str, lam: np.ndarray, eps: float, T: float, alpha: float, noise: Noise
) -> np.ndarray:
    """Of the positions, `[d, d]`, averaged over the batches of an epoch."""
    M, b, c = KERNELS[kernel].recursion(lam, eps, alpha)
    kicks = np.broadcast_to(2 * alpha * eps * T * np.outer(c, c), (len(lam), 2, 2))
    injected = np.diag(_stationary(M, M, kicks)[:, 0, 0])  # kicks
    if not noise.covariance.any():
        return injected
    return injected + noise.covariance * _from_batches(M, b, noise.epoch)


def _from_batches(M: np.ndarray, b: np.ndarray, m: int) -> np.ndarray:
    """What noise of unit covariance leaves in the positions, `[d, d]`.

    The batches of an epoch have the correlation −1/(m − 1): k of them leave
    m/(m−1) Σ uᵢuⱼ − Σuᵢ Σuⱼ/(m−1), with u = Mᵗb for t < k. Epochs are independent.
    """
    u, powers = [np.broadcast_to(b, (len(M), 2))], [np.broadcast_to(np.eye(2), M.shape)]
    for _ in range(m):
        u.append(np.einsum("dab,db->da", M, u[-1]))
        powers.append(M @ powers[-1])
    u = np.array(u)

    def left(k: int) -> np.ndarray:
        """`[d, d, 2, 2]`."""
        all_of_them = np.einsum("tia,tjb->ijab", u[:k], u[:k])
        if m == 1:
            return all_of_them
        total = u[:k].sum(0)
        apart = np.einsum("ia,jb->ijab", total, total)  # cancels
        return (m * all_of_them - apart) / (m - 1)

    whole = powers[m]
    before = _stationary(whole[:, None], whole[None], left(m))
    phases = np.unique(np.linspace(1, m, min(m, _PHASES)).round().astype(int))
    found = [
        left(k)[..., 0, 0]
        + np.einsum("ia,ijab,jb->ij", powers[k][:, 0], before, powers[k][:, 0])
        for k in phases
    ]
    return np.mean(found, axis=0)


def _stationary(A: np.ndarray, B: np.ndarray, Q: np.ndarray) -> np.ndarray:
    """Σ with Σ = A Σ Bᵀ + Q, `[..., 2, 2]`."""
    both = np.einsum("...ab,...cd->...acbd", A, B)
    both = both.reshape(*both.shape[:-4], 4, 4)
    flat = Q.reshape(*Q.shape[:-2], 4, 1)
    return np.linalg.solve(np.eye(4) - both, flat).reshape(Q.shape)


def widest(lam: np.ndarray, found: np.ndarray, T: float) -> tuple[float, np.ndarray]:
    """The largest sd over that of the target T/λ, and the direction, `[d]`."""
    root = np.sqrt(lam / T)
    scaled = root[:, None] * found * root
    if not np.isfinite(scaled).all():
        return np.inf, np.eye(len(lam))[0]
    values, vectors = np.linalg.eigh((scaled + scaled.T) / 2)
    return float(np.sqrt(max(values[-1], 0.0))), vectors[:, -1] * root
