"""How the bias of the step grows with it, where nothing is Gaussian; no sampling error.

On the double well U = (θ² − 1)² an update is an operator on functions: the mean of f
after it. As a matrix on a fine grid, its stationary vector gives E θ² to six digits.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import sparse

import sgld_jax

STEPS = (0.01, 0.02, 0.04)
GRID = np.linspace(-3.2, 3.2, 801)
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(24)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


def slope(theta):
    """Of U."""
    return 4 * theta * (theta**2 - 1)


def exact_second_moment():
    theta = np.linspace(-6, 6, 200_001)
    density = np.exp(-((theta**2 - 1) ** 2))
    return (density * theta**2).sum() / density.sum()


def cubic(grid, to):
    """Where f is read to interpolate it at `to`: the first of four places, and weights."""
    place = (to - grid[0]) / (grid[1] - grid[0])
    place = np.clip(place, 1, len(grid) - 3 - 1e-9)
    first, weights = np.floor(place).astype(int) - 1, np.ones((4, *place.shape))
    for j, k in itertools.permutations(range(4), 2):
        weights[j] *= (place - first - k) / (j - k)
    return first, weights


def operator(to):
    """The matrix of f -> Σ w f(to), for `to` `[grid, nodes]`."""
    first, weights = cubic(GRID, to)
    matrix, rows = np.zeros((len(GRID), len(GRID))), np.arange(len(GRID))[:, None]
    for j in range(4):
        np.add.at(matrix, (rows, first + j), weights[j] * WEIGHTS)
    return matrix


def stationary(matrix):
    """What every row comes to when the operator is applied 2¹⁴ times."""
    for _ in range(14):
        matrix = matrix @ matrix
        matrix /= matrix.sum(axis=1, keepdims=True)
    return matrix[len(GRID) // 2]


def sgld(eps):
    """E θ²; an update adds √(2ε) ξ to what our kernel does without noise."""
    silent = sgld_jax.sgld(eps, 0.0)
    drift, _ = silent.update(jnp.asarray(slope(GRID)), silent.init(jnp.asarray(GRID)))
    to = (GRID + np.asarray(drift))[:, None] + np.sqrt(2 * eps) * NODES
    return stationary(operator(to)) @ GRID**2


def leimkuhler_matthews(eps):
    """E θ² of θ = z + r/2, where z = θ − r/2 is a chain of its own: r is fresh in it."""
    sampler = sgld_jax.leimkuhler_matthews(eps, key=0)
    r = np.broadcast_to(np.sqrt(2 * eps) * NODES, (len(GRID), len(NODES)))
    theta = jnp.asarray(GRID[:, None] + r / 2)
    state = sampler.init(theta)._replace(kick=jnp.asarray(r))
    updates, after = sampler.update(slope(theta), state, theta)
    to = np.asarray(theta + updates - after.kick / 2)
    return stationary(operator(to)) @ GRID**2 + 2 * eps / 4


def baoa(eps, friction=0.5):
    """E θ², by the operator on functions of position and velocity."""
    at = np.linspace(-2.9, 2.9, 161)
    speeds = np.sqrt(2 * eps / (2 - friction)) * np.linspace(-5.5, 5.5, 81)
    theta, v = np.meshgrid(at, speeds, indexing="ij")
    silent = sgld_jax.baoa(eps, friction, 0.0)
    state = silent.init(jnp.asarray(theta))._replace(velocity=jnp.asarray(v))
    updates, after = silent.update(slope(theta), state, jnp.asarray(theta))
    nodes, weights = np.polynomial.hermite_e.hermegauss(9)
    kick = np.sqrt(2 * friction * eps) * nodes  # of the velocity; half of it moves θ
    i, of_theta = cubic(at, (theta + np.asarray(updates))[..., None] + kick / 2)
    j, of_v = cubic(speeds, np.asarray(after.velocity)[..., None] + kick)
    rows = np.broadcast_to(np.arange(v.size).reshape(*v.shape, 1), i.shape).ravel()
    matrix = sum(
        sparse.csr_matrix(
            (
                (of_theta[k] * of_v[m] * weights / weights.sum()).ravel(),
                (rows, ((i + k) * len(speeds) + j + m).ravel()),
            ),
            shape=(v.size, v.size),
        )
        for k, m in itertools.product(range(4), range(4))
    )
    f = theta.ravel() ** 2
    for _ in range(400):  # from all over the wells the mean of θ² is then the same
        f = matrix @ f
    inside = (np.abs(theta) < 1.5) & (np.abs(v) < speeds[-1] / 3)
    assert np.ptp(f[inside.ravel()]) < 1e-8
    return f[inside.ravel()].mean()


GOLDEN = {  # laws.md 10, where it has them, and the order of the bias
    sgld: ([0.825814, 0.818253, 0.800069], 1),
    leimkuhler_matthews: ([0.832724, 0.832652, 0.832271], 2),
    baoa: (None, 2),
}


@pytest.mark.parametrize("kernel", GOLDEN, ids=lambda kernel: kernel.__name__)
def test_the_bias_on_a_double_well_and_its_order(kernel):
    golden, order = GOLDEN[kernel]
    with jax.enable_x64(True):
        moments = np.array([kernel(eps) for eps in STEPS])
    if golden is not None:
        np.testing.assert_allclose(moments, golden, atol=2e-6)
    bias = moments - exact_second_moment()
    orders = np.log2(bias[1:] / bias[:-1])
    # What is left of the next order at these steps: a fifth of the exponent.
    assert (np.abs(orders - order) < 0.2 * order).all(), orders


def test_the_exact_moment():
    np.testing.assert_allclose(exact_second_moment(), 0.832745, atol=5e-7)
