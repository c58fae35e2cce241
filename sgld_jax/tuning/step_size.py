"""A step size from the curvature, the noise of the batches and a tolerance."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from sgld_jax.arguments import shown
from sgld_jax.keys import as_key
from sgld_jax.leaves import check_positive
from sgld_jax.potentials.batches import Batches, check_batches, full_batch
from sgld_jax.potentials.data import num_rows
from sgld_jax.potentials.potential import Potential, check_is_potential, check_num_data
from sgld_jax.preconditioners import Preconditioner, check_preconditioner, identity
from sgld_jax.tuning.gaussian_laws import (
    KERNELS,
    Noise,
    covariance,
    memory,
    widest,
)
from sgld_jax.tuning.gradient_noise import noise_along
from sgld_jax.tuning.landscape import Landscape, landscape

PyTree = Any

_LARGEST = 400  # coordinates, whose matrices are taken whole
_FLAT = 1e-6  # of the largest curvature: less is taken for as much
_HALVINGS = 30
_FRICTIONS = 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0


class StepSize(NamedTuple):
    """A step size, and what it rests on.

    Attributes:
      step_size: ε.
      friction: α; 1 for kernels without one.
      predicted_bias: of the standard deviation in the direction where it is largest,
        as a share of the posterior's, by the law of the kernel on the Gaussian of this
        curvature.
      noise_ratio: εV/(2T), or εV/(2αT) with a friction, in the direction of the largest
        noise: the share by which batches drawn anew widen the variance.
      largest_curvature: the largest eigenvalue of G^½HG^½.
      memory: updates in which the slowest direction forgets all but 1/e of its start.
      direction: where the bias is largest, a tree like the parameters, of length 1.
      explanation: in words, what limits the step, and what would allow a larger one.
    """

    step_size: float
    friction: float
    predicted_bias: float
    noise_ratio: float
    largest_curvature: float
    memory: float
    direction: PyTree
    explanation: str


def auto_step_size(
    potential: Potential,
    params: PyTree,
    *,
    kernel: str = "sgld",
    friction: float | None = None,
    data: PyTree = None,
    batches: Batches = full_batch(),
    preconditioner: Preconditioner = identity(),
    temperature: float = 1.0,
    tolerance: float = 0.05,
    key: Any = 0,
) -> StepSize:
    """The largest step whose bias is within a tolerance, by the kernel's own law.

    At `params`, best an optimum or a mean of draws, U is taken for a Gaussian: its
    Hessian, and the covariance of the gradients of single rows, from which follows that
    of any batch. The law of the kernel says where it would settle with a step ε; the
    largest ε that widens no direction by more than the tolerance is returned. For up
    to 400 coordinates.

    Where the posterior is no Gaussian the bias is another: the scale of a hierarchy had
    a standard deviation 20 % too small with a tolerance of 3 %, since chains shun
    places with more noise. Compare with a fifth of the tolerance.

    Args:
      potential: `(params, batch) -> scalar`, such as `minibatch_potential` makes.
      params: where to look.
      kernel: "sgld", "sghmc", "baoa" or "leimkuhler_matthews". For `mala` the step
        follows from what is accepted: `warm_up`.
      friction: α of "sghmc" and "baoa"; None takes the one of nine with which, at the
        step that goes with it, the slowest direction forgets fastest.
      data: arrays `[N, ...]`, or None.
      batches: which rows an update sees. `blocks` are taken for `shuffled`.
      preconditioner: the matrix G, fixed.
      temperature: T > 0.
      tolerance: of the standard deviation, as a share of the posterior's.
      key: a seed or key, of the rows that are looked at where there are over 4,096.

    Returns:
      A `StepSize`.

    Raises:
      TypeError, ValueError: for arguments out of range or that do not fit together; if
        the potential is not finite at `params`, or no mean over the rows of a batch.

    Example:
      >>> import jax.numpy as jnp, sgld_jax
      >>> potential = sgld_jax.from_log_density(lambda x: -0.5 * jnp.sum(x**2))
      >>> chosen = sgld_jax.auto_step_size(potential, jnp.zeros(2), tolerance=0.05)
      >>> f"{chosen.step_size:.3f}"  # 1/(1 − ε/2) = 1.05²
      '0.186'
    """
    _check(potential, kernel, batches, data, preconditioner, temperature, tolerance)
    T = float(temperature)
    land = landscape(potential, params)
    if land.dim > _LARGEST:
        raise ValueError(
            f"{land.dim} coordinates: auto_step_size takes their Hessian whole, and is "
            f"for up to {_LARGEST}."
        )
    x = jnp.asarray(ravel_pytree(params)[0])
    root = _root(preconditioner, params, land)
    lam, vectors = _curvature(land, x, root, data)
    axes = root @ vectors  # columns: the directions in which all is diagonal
    noise = noise_along(axes, land, x, data, batches, as_key(key))

    target = _Target(kernel, lam, T, noise)
    tried = [
        (target.step_size(alpha, tolerance), alpha)
        for alpha in _frictions(kernel, friction, land.dim)
    ]
    eps, alpha = min(tried, key=lambda way: memory(kernel, lam, *way))
    width, way = target.widest(eps, alpha)
    ratio = eps * float(np.linalg.eigvalsh(noise.covariance)[-1]) / (2 * alpha * T)
    # A direction is a functional, wᵀz of the whitened z; its tree is that of θ.
    functional = np.linalg.solve(axes.T, way)
    bias = max(0.0, width - 1)
    limit = target.limit(alpha)
    words = _explained(kernel, eps, limit, tolerance, bias, ratio, batches, data)
    tree = land.unravel(jnp.asarray(functional / np.linalg.norm(functional), x.dtype))
    largest, lasting = float(lam.max()), memory(kernel, lam, eps, alpha)
    return StepSize(eps, alpha, bias, ratio, largest, lasting, tree, words)


class _Target(NamedTuple):
    """A kernel on a Gaussian: eigenvalues λ `[d]`, T, and the noise along the axes."""

    kernel: str
    lam: np.ndarray
    T: float
    noise: Noise

    def limit(self, alpha: float) -> float:
        """The largest ε that is tried."""
        return float(0.999 * KERNELS[self.kernel].limit(alpha) / self.lam.max())

    def widest(self, eps: float, alpha: float) -> tuple[float, np.ndarray]:
        """The largest sd over that of the target, and where."""
        found = covariance(self.kernel, self.lam, eps, self.T, alpha, self.noise)
        return widest(self.lam, found, self.T)

    def step_size(self, alpha: float, tolerance: float) -> float:
        """The largest ε that widens nothing by more than the tolerance; bisection."""
        limit = self.limit(alpha)
        if self.widest(limit, alpha)[0] - 1 <= tolerance:
            return limit
        low, high = 0.0, limit
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            fits = self.widest(middle, alpha)[0] - 1 <= tolerance
            low, high = (middle, high) if fits else (low, middle)
        return low


def _frictions(kernel: str, friction: float | None, dim: int) -> tuple[float, ...]:
    """Those that are tried; a few where each takes long."""
    if not KERNELS[kernel].has_friction:
        return (1.0,)
    if friction is not None:
        return (float(friction),)
    return _FRICTIONS if dim <= 64 else _FRICTIONS[1::3]


def _root(G: Preconditioner, params: PyTree, land: Landscape) -> np.ndarray:
    """S `[d, d]` with S Sᵀ = G."""
    state = G.init(params)

    def column(v: jax.Array) -> jax.Array:
        return ravel_pytree(G.multiply_sqrt(state, land.unravel(v)))[0]

    columns = jax.vmap(column)(jnp.eye(land.dim, dtype=ravel_pytree(params)[0].dtype))
    return np.asarray(columns, np.float64).T


def _curvature(
    land: Landscape, x: jax.Array, root: np.ndarray, data: PyTree
) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues of SᵀHS, none of them 0 or below, and its eigenvectors."""
    H = np.asarray(jax.jit(jax.hessian(land.value))(x, data), np.float64)
    if not np.isfinite(H).all():
        raise ValueError("The potential has no finite second derivatives at params.")
    values, vectors = np.linalg.eigh(root.T @ ((H + H.T) / 2) @ root)
    if values[-1] <= 0:
        raise ValueError(
            "U curves upwards in no direction at params: expected an optimum, or a "
            "mean of draws, as warm_up or an optimizer finds it."
        )
    return np.maximum(np.abs(values), _FLAT * values[-1]), vectors


def _explained(
    kernel: str,
    eps: float,
    limit: float,
    tolerance: float,
    bias: float,
    ratio: float,
    batches: Batches,
    data: PyTree,
) -> str:
    if eps == limit:
        return (
            f"The step is the largest that {kernel} is used with here, and widens no "
            f"direction by more than {100 * bias:.2g} %. Halve it and compare, or ask "
            f"bias_check, where the posterior is not Gaussian."
        )
    words = f"A bias of {100 * tolerance:.3g} % of a standard deviation limits the step"
    if batches.batch_size is None or ratio < tolerance / 10:
        return f"{words}, by its own size: mala or baoa would take a larger one."
    n, N = batches.batch_size, num_rows(data)
    wanted = min(N, int(np.ceil(n * max(2.0, 4 * ratio / tolerance))))
    return (
        f"{words}: the noise of single batches of {n} widens the variance by "
        f"{ratio:.2g} where it is largest. With batches of {wanted} of {N} rows, or "
        f"a control variate, it could be several times as large."
    )


def _check(
    potential: Any,
    kernel: Any,
    batches: Any,
    data: Any,
    preconditioner: Any,
    temperature: Any,
    tolerance: Any,
) -> None:
    check_is_potential(
        potential,
        "auto_step_size knows the noise of batches alone: give one without key=.",
    )
    check_batches(batches, data)
    check_num_data(potential, data)
    check_preconditioner(preconditioner)
    check_positive(temperature, "temperature")
    check_positive(tolerance, "tolerance")
    if kernel not in KERNELS:
        raise ValueError(
            f"kernel={shown(kernel)}: expected one of {sorted(KERNELS)}. The step of "
            f"mala follows from what is accepted: warm_up."
        )
    if not preconditioner.is_fixed:
        raise ValueError("The law is known for a preconditioner that never changes.")
