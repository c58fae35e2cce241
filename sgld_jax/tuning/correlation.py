"""How many updates a chain needs to forget where it was."""

import numpy as np


def autocorrelation_time(draws: np.ndarray) -> np.ndarray:
    """1 + 2 Σ ρ_t of each coordinate, `[d]`: so many draws are worth one independent.

    Of chains together, about their common mean. The sum ends where the correlations of
    two neighbouring lags add up to less than 0 (Geyer 1992, the initial positive
    sequence).

    Args:
      draws: `[C, S, d]`.
    """
    away = draws - draws.mean((0, 1))
    steps = draws.shape[1]
    wide = np.fft.rfft(away, 2 * steps, axis=1)
    products = np.fft.irfft(np.abs(wide) ** 2, axis=1)[:, :steps].mean(0)
    products /= np.arange(steps, 0, -1)[:, None]  # [S, d]
    rho = products / np.maximum(products[0], np.finfo(float).tiny)
    pairs = rho[: steps // 2 * 2].reshape(-1, 2, draws.shape[2]).sum(1)
    going = np.cumprod(pairs > 0, axis=0)
    return np.maximum(2 * (pairs * going).sum(0) - 1, 1.0)
