"""Control variates, SVRG and SAGA: exact laws, unbiasedness, memory that is kept.

The regression of `laws.md` 4: one coefficient, four rows, unit noise, prior N(0, 1), so
that every second moment is a finite sum over the 16 batches of two rows.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sgld_jax
from sgld_jax.potentials import estimators
from tests.law import Z, variance_z
from tests.marks import briefly
from tests.mutants import mutated
from tests.runs import assert_equal_bits

X, Y, EPS, N = np.array([0.5, 1, 1.5, 2]), np.array([1.0, 1, 2, 2]), 0.05, 4
DATA = {"x": jnp.asarray(X, jnp.float32), "y": jnp.asarray(Y, jnp.float32)}
PRECISION = 1 + X @ X
MEAN = X @ Y / PRECISION
CHAINS = 20_000
POTENTIAL = sgld_jax.minibatch_potential(
    sgld_jax.gaussian_prior(1.0),
    lambda theta, batch: -0.5 * (batch["y"] - batch["x"] * theta) ** 2,
    N,
)


def rows_of(rows):
    return {name: x[np.array(rows)] for name, x in DATA.items()}


def draws(potential, counts=1, updates=60, batches=None, start=MEAN):
    """θ `[CHAINS, counts]` after so many updates and some more, each one."""
    samples = sgld_jax.sample(
        5,
        sgld_jax.sgld(EPS),
        potential,
        lambda key: jnp.float32(start),
        num_samples=counts,
        burn_in=updates - 1,
        num_chains=CHAINS,
        data=DATA,
        batches=batches or sgld_jax.with_replacement(2),
    )
    return np.asarray(samples.params, np.float64)


@pytest.mark.parametrize("away, golden", [(0.0, 0.1589667), (0.5, 0.1749876)])
def test_the_law_with_a_control_variate(away, golden):
    """Var = [2ε + ε² (m − θ̂)² Var H]/[1 − (1 − ελ)² − ε² Var H]; z < 4.5, 7e-6 each."""
    curvature = N * np.var(N * X**2) / N / 2  # of batches of two rows
    found = 2 * EPS + EPS**2 * away**2 * curvature
    found /= 1 - (1 - EPS * PRECISION) ** 2 - EPS**2 * curvature
    np.testing.assert_allclose(found, golden, rtol=1e-6)
    potential = sgld_jax.control_variate(POTENTIAL, jnp.float32(MEAN + away), DATA)
    assert abs(variance_z(draws(potential)[:, 0], found, MEAN)) < Z


def test_at_its_centre_a_control_variate_gives_the_full_gradient():
    center = jnp.float32(0.7)
    potential = sgld_jax.control_variate(POTENTIAL, center, DATA)
    whole, full = jax.value_and_grad(POTENTIAL)(center, DATA)
    for rows in itertools.product(range(N), repeat=2):
        value, grad = jax.value_and_grad(potential)(center, rows_of(rows))
        np.testing.assert_allclose([value, grad], [whole, full], rtol=1e-6)


def over_batches(gradient):
    """Mean over all 16 batches of two rows."""
    found = [
        gradient(rows_of(rows), jnp.asarray(rows))
        for rows in itertools.product(range(N), repeat=2)
    ]
    return np.mean([np.asarray(x, np.float64) for x in found], 0)


ESTIMATORS = {
    "svrg": sgld_jax.svrg(POTENTIAL, 5),
    "saga": sgld_jax.saga(POTENTIAL),
}


@pytest.mark.parametrize("name", ["control variate", *ESTIMATORS])
def test_values_and_gradients_are_unbiased(name):
    there, here = jnp.float32(-0.4), jnp.float32(1.3)
    expected = jax.value_and_grad(POTENTIAL)(here, DATA)
    if name == "control variate":
        potential = sgld_jax.control_variate(POTENTIAL, there, DATA)

        def estimate(batch, rows):
            return jax.value_and_grad(potential)(here, batch)
    else:
        estimator = ESTIMATORS[name]
        memory = estimator.init(there, DATA)

        def estimate(batch, rows):
            return estimator.value_and_grad(here, batch, rows, memory)[0]

    np.testing.assert_allclose(over_batches(estimate), expected, rtol=1e-5)


SVRG = [0.1659132, 0.1548551, 0.1564383, 0.1602945, 0.1636046]  # `laws.md` 12


def svrg_law(refresh_every=5):
    """Var of θ before updates 0 … M − 1 of an epoch (`laws.md` 4)."""
    noise = np.var(N * X**2) / 2  # Var H, batches of two rows
    rho = 1 - EPS * PRECISION
    kappa, k = rho**2 + EPS**2 * noise, np.arange(refresh_every)
    fed = kappa ** (refresh_every - 1 - k) * (1 - 2 * rho**k)
    top = 2 * EPS * (1 - kappa**refresh_every) / (1 - kappa)
    at = [top / (1 - kappa**refresh_every - EPS**2 * noise * fed.sum())]
    for j in range(refresh_every - 1):
        extra = EPS**2 * noise * at[0] * (1 - 2 * rho**j)
        at.append(kappa * at[-1] + extra + 2 * EPS)
    return np.array(at)


def svrg_z(estimator, start=MEAN):
    # Draws after 60 to 64 updates; a refresh is due at 60.
    return variance_z(draws(estimator, 5, start=start), svrg_law(), MEAN)


def test_the_law_of_svrg():
    np.testing.assert_allclose(svrg_law(), SVRG, rtol=1e-6)
    assert np.abs(svrg_z(ESTIMATORS["svrg"])).max() < Z


def saga_law():
    """Var θ: the fixed point of the second moments of θ and what the rows remember.

    With φᵢ where row i was last seen, all from the mean, a batch B does
    θ' = θ − ε[λθ-part of prior + 2 Σ_B xᵢ²(θ − φᵢ) + Σ xᵢ² φᵢ] and φᵢ' = θ for i in B.
    """
    total, size = np.zeros(((N + 1) ** 2,) * 2), N + 1
    for rows in itertools.product(range(N), repeat=2):
        A = np.eye(size)
        A[0, 0] -= EPS
        A[0, 1:] -= EPS * X**2
        for i in rows:
            A[0, 0] -= EPS * N / 2 * X[i] ** 2
            A[0, 1 + i] += EPS * N / 2 * X[i] ** 2
            A[1 + i] = np.eye(size)[0]
        total += np.kron(A, A) / N**2
    noise = np.zeros((size, size))
    noise[0, 0] = 2 * EPS
    return np.linalg.solve(np.eye(size**2) - total, noise.ravel())[0]


def saga_z(estimator):
    return abs(variance_z(draws(estimator)[:, 0], saga_law(), MEAN))


def test_the_law_of_saga():
    assert saga_law() == pytest.approx(0.1754, abs=5e-5)
    assert saga_z(ESTIMATORS["saga"]) < Z
    plain = draws(POTENTIAL)[:, 0]  # at so long a step less than SAGA's
    assert abs(variance_z(plain, 0.1619473, MEAN)) < Z
    assert abs(variance_z(plain, saga_law(), MEAN)) > Z


MUTANTS = {
    "of the batch": (
        "missing = jax.tree.map(jnp.subtract, slope, self.gradient)",
        lambda broken: abs(svrg_z(broken.svrg(POTENTIAL, 5))).max(),
    ),
    "as it was": (
        "grad = slope + num_data * change.sum(0) + total",
        lambda broken: saga_z(broken.saga(POTENTIAL)),
    ),
    "sum": (
        "return grad, table.at[indices].set(seen), total + change.sum(0)",
        lambda broken: saga_z(broken.saga(POTENTIAL)),
    ),
}


@pytest.mark.parametrize("mark", briefly(MUTANTS, "of the batch", "as it was"))
def test_the_laws_see_an_estimator_that_is_broken(mark, monkeypatch):
    line, z = MUTANTS[mark]
    broken = mutated(estimators, mark, line)
    broken.Estimator = sgld_jax.Estimator  # which the engine knows
    assert not z(broken) < 2 * Z  # large, or NaN


def test_a_refresh_that_never_comes_is_seen():
    late = ESTIMATORS["svrg"]._replace(refresh_every=10**6)
    assert np.abs(svrg_z(late, start=4.0)).max() > 2 * Z


def run(estimator, num_samples, scheme="shuffled", **given):
    batches = getattr(sgld_jax, scheme)(2)
    given = {"num_chains": 4, "data": DATA, "batches": batches, **given}
    return sgld_jax.sample(
        0,
        sgld_jax.sgld(EPS),
        estimator,
        jax.random.normal,
        **given,
        num_samples=num_samples,
    )


@pytest.mark.parametrize(
    "scheme", briefly(["with_replacement", "shuffled", "blocks"], "shuffled")
)
@pytest.mark.parametrize("name", list(ESTIMATORS))
def test_a_run_that_was_saved_goes_on_bit_for_bit(name, scheme, tmp_path):
    estimator = ESTIMATORS[name]
    whole, first = (run(estimator, n, scheme) for n in (20, 7))
    first.save(tmp_path / "run")
    chain = sgld_jax.load(tmp_path / "run").final
    rest = sgld_jax.resume(
        chain,
        sgld_jax.sgld(EPS),
        estimator,
        num_samples=13,
        data=DATA,
        batches=getattr(sgld_jax, scheme)(2),
    )
    assert_equal_bits(first.concatenate(rest).params, whole.params)
    assert_equal_bits(rest.final.memory, whole.final.memory)


@pytest.mark.parametrize("name", list(ESTIMATORS))
@pytest.mark.parametrize(
    "scheme",
    ["with_replacement", "shuffled", "blocks", "shared", "groups", "one by one"],
)
def test_memories_are_what_they_should_be(name, scheme):
    """SAGA's sum is that of its table; SVRG's gradient is that at its centre."""
    estimator, data = ESTIMATORS[name], DATA
    if scheme == "one by one":
        batches, sampler = sgld_jax.shuffled(2), sgld_jax.sgld(EPS)
        chain = sgld_jax.start(
            0, sampler, jax.random.normal, num_chains=4, data=data, batches=batches
        )
        step = jax.jit(
            lambda chain, data: sgld_jax.step(
                chain, sampler, estimator, data=data, batches=batches
            )
        )
        for _ in range(7):
            chain, _ = step(chain, data)
        params = run(estimator, 7).params[:, -1]
        np.testing.assert_allclose(chain.params, params, rtol=1e-5)
    elif scheme == "shared":
        batches = sgld_jax.shuffled(2, shared_by=2)
        chain = run(estimator, 7, batches=batches).final
    elif scheme == "groups":
        chain = run(estimator, 7, groups=2).final
    else:
        chain = run(estimator, 7, scheme).final
    memory = chain.memory
    if name == "saga":
        total = np.asarray(memory["table"], np.float64).sum(1)
        np.testing.assert_allclose(memory["total"], total, rtol=1e-5, atol=1e-6)
        return
    gradient = jax.vmap(jax.grad(POTENTIAL), (0, None))(memory["center"], data)
    np.testing.assert_allclose(memory["gradient"], gradient, rtol=1e-5, atol=1e-6)
    assert not np.allclose(memory["center"], chain.params)  # of update 5, not 7


def test_a_chain_may_change_its_estimator_but_not_its_memory():
    plain, first, other = (
        run(x, 3) for x in (POTENTIAL, ESTIMATORS["svrg"], ESTIMATORS["svrg"])
    )
    given = {"num_samples": 2, "data": DATA, "batches": sgld_jax.shuffled(2)}
    sampler = sgld_jax.sgld(EPS)
    saga, svrg = ESTIMATORS["saga"], ESTIMATORS["svrg"]
    assert sgld_jax.resume(plain.final, sampler, svrg, **given).final.memory
    assert sgld_jax.resume(first.final, sampler, POTENTIAL, **given).final.memory == ()
    with pytest.raises(ValueError, match="chains remember .* estimator wants"):
        sgld_jax.resume(other.final, sampler, saga, **given)


def random_potential(theta, batch, *, key):
    return theta**2


BAD = {
    "random, control variate": lambda: sgld_jax.control_variate(
        random_potential, 0.0, DATA
    ),
    "random, svrg": lambda: sgld_jax.svrg(random_potential, 5),
    "no rows": lambda: sgld_jax.saga(lambda theta, batch: theta**2),
    "never": lambda: sgld_jax.svrg(POTENTIAL, 0),
    "table": lambda: run(sgld_jax.saga(POTENTIAL, most_bytes=15), 1),
    "all rows": lambda: run(ESTIMATORS["saga"], 1, batches=sgld_jax.full_batch()),
    "no data": lambda: run(
        ESTIMATORS["svrg"], 1, data=None, batches=sgld_jax.full_batch()
    ),
    "other data": lambda: sgld_jax.control_variate(
        POTENTIAL, 0.0, {"x": DATA["x"][:3], "y": DATA["y"][:3]}
    ),
    "no centre": lambda: sgld_jax.control_variate(POTENTIAL, jnp.inf, DATA),
    "mala": lambda: sgld_jax.sample(
        0,
        sgld_jax.mala(0.1),
        ESTIMATORS["svrg"],
        jax.random.normal,
        num_samples=1,
        data=DATA,
    ),
    "own batch": lambda: sgld_jax.step(
        sgld_jax.start(0, sgld_jax.sgld(0.1), jax.random.normal, num_chains=2),
        sgld_jax.sgld(0.1),
        ESTIMATORS["svrg"],
        batch=DATA,
    ),
}
MESSAGES = {
    "random, control variate": "A control variate is of a function of its batch",
    "random, svrg": "svrg is of a function of its batch",
    "no rows": "expected one of minibatch_potential",
    "never": "refresh_every=0",
    "table": "4 gradients of 4 bytes",
    "all rows": "saga is for batches",
    "no data": "there are no data|looks at all data",
    "other data": "has 3 rows",
    "no centre": "expected a center near the mode",
    "mala": "accepts or rejects",
    "own batch": "looks at all data",
}


@pytest.mark.parametrize("name", list(BAD))
def test_what_cannot_be_estimated_is_said(name):
    with pytest.raises((TypeError, ValueError), match=MESSAGES[name]):
        BAD[name]()
