"""Replica exchange: its rule on fixed energies, the law of each rung, and the modes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

import sgld_jax
from sgld_jax.engine import exchange, ladder
from sgld_jax.tuning.laws import LAWS
from tests.law import Z, variance_z
from tests.marks import briefly
from tests.mutants import mutated

LAMBDA = 1.3
QUADRATIC = sgld_jax.from_log_density(lambda x: -LAMBDA / 2 * jnp.sum(x**2))


def rule(T, variance=0.0):
    return ladder.Ladder.of(T, [0.1] * len(T), 1, variance)


def chance(T, here, above, rung=0, variance=0.0):
    """The probability of swapping energies."""
    log_p = rule(T, variance).log_probability(here, above, jnp.int32(rung))
    return np.exp(np.minimum(np.asarray(log_p, np.float64), 0))


def test_a_cold_chain_that_is_higher_always_swaps_and_the_other_way_never():
    assert chance([1.0, 4.0], 50.0, 0.0) == 1
    assert chance([1.0, 4.0], 0.0, 50.0) < 1e-15
    np.testing.assert_allclose(chance([1.0, 2.0, 4.0], 1.0, 3.0, 1), np.exp(-0.5), 1e-6)


@pytest.mark.parametrize(
    "T, d, golden", [((1, 4), 1, 0.5903345), ((1, 2), 10, 0.2896916)]
)
def test_how_often_gaussians_swap(T, d, golden):
    """2 I(T₁/(T₁ + T₂); d/2, d/2), of exact draws."""
    expected = 2 * special.betainc(d / 2, d / 2, T[0] / sum(T))
    np.testing.assert_allclose(expected, golden, rtol=1e-6)
    U = np.random.default_rng(0).gamma(d / 2, size=(2, 400_000)) * np.array(T)[:, None]
    found = chance(T, *U)
    assert abs(found.mean() - golden) < Z * found.std() / np.sqrt(len(found))


def test_the_penalty_of_noise():
    """D = .7 and σ²_D = .72, `laws.md` 12."""
    T, between = [1.0, 2.0], 0.5
    variance = 0.72 / (2 * between**2)
    noise = np.random.default_rng(0).normal(size=(2, 400_000)) * np.sqrt(variance)
    found = chance(T, 0.7 / between + noise[0], noise[1], variance=variance)
    assert abs(found.mean() - 0.8687160) < Z * found.std() / np.sqrt(len(found))


# --- whole runs ----------------------------------------------------------------------

T, EPS, LADDERS, DIM = [1.0, 2.0, 4.0], [0.3, 0.4, 0.5], 3_000, 2
ROWS = jax.random.normal(jax.random.key(0), (2_000,))


def noisy(x, batch):
    """U with an estimate of variance 16, whose gradient has no noise."""
    return QUADRATIC(x, None) + 4 * jnp.mean(batch)


def run(
    module=exchange, make=sgld_jax.leimkuhler_matthews, potential=QUADRATIC, **given
):
    given = {"num_ladders": LADDERS, "swap_every": 2, "num_samples": 1} | given
    given = {"temperatures": T, "step_sizes": EPS, "thinning": 61} | given
    return module.replica_exchange(
        4, make, potential, lambda key: jax.random.normal(key, (DIM,)), **given
    )


def rung_z(found):
    """z of the variance at each temperature, T/λ; 61 updates after any start."""
    theta = np.asarray(found.samples.params[:, -1]).reshape(LADDERS, len(T), DIM)
    by_rung = theta.transpose(0, 2, 1).reshape(-1, len(T))
    return np.abs(variance_z(by_rung, np.array(T) / LAMBDA)).max()


def with_friction(eps, T):
    return sgld_jax.baoa(eps, 0.3, T)


KERNELS = {"leimkuhler_matthews": sgld_jax.leimkuhler_matthews, "baoa": with_friction}


@pytest.mark.parametrize("name", list(KERNELS))
def test_each_rung_keeps_its_law(name):
    found = run(make=KERNELS[name])
    assert rung_z(found) < Z
    assert found.cold.params.shape == (LADDERS, 1, DIM)
    expected = [2 * special.betainc(DIM / 2, DIM / 2, T[0] / (T[0] + T[1]))] * 2
    # 15 attempts of each pair; those of one ladder are correlated.
    assert np.abs(found.acceptance - expected).max() < 0.02


NOISY = {
    "potential": noisy,
    "data": ROWS,
    "batches": sgld_jax.with_replacement(1),
    "energy_variance": 16 * float(np.var(ROWS)),
    "swap_every": 1,  # and small steps, so that swaps weigh more
    "step_sizes": [0.03, 0.04, 0.05],
    "thinning": 301,
}


def test_noise_of_the_energy_changes_no_law():
    assert rung_z(run(**NOISY)) < Z
    assert rung_z(run(**NOISY | {"energy_variance": 0.0})) > 2 * Z


MUTANTS = {
    "exponent": ("D = between * (above - here)", {}),
    "penalty": ("return D - between**2 * self.energy_variance / 4", NOISY),
    "units": ("factor = jnp.ones(len(rung))", {"make": with_friction}),
    "swaps": ("swaps = tries", {}),
}


@pytest.mark.parametrize("mark", briefly(MUTANTS, "exponent", "units"))
def test_the_law_sees_a_rule_that_is_broken(mark, monkeypatch):
    line, given = MUTANTS[mark]
    broken = mutated(ladder, mark, line)
    monkeypatch.setattr(exchange, "Ladder", broken.Ladder)
    assert not rung_z(run(**given)) < 2 * Z


def test_positions_of_almost_one_temperature_go_up_and_down_all_the_time():
    found = run(
        temperatures=[1.0, 1.0 + 1e-6],
        step_sizes=[0.1, 0.1],
        swap_every=1,
        num_ladders=5,
        thinning=41,
    )
    # Every other attempt is for the pair: 20 swaps, and each after the first is a trip.
    assert found.round_trips.tolist() == [19] * 5
    np.testing.assert_array_equal(found.acceptance, [1.0])


@pytest.mark.slow
def test_masses_of_two_modes_that_cold_chains_never_cross():
    """Masses of .8 and .2, U 18 higher in between; all start in the small one."""

    def log_density(x):
        left = jnp.log(0.8) - (x + 3) ** 2 / (2 * 0.5**2)
        return jnp.logaddexp(left, jnp.log(0.2) - (x - 3) ** 2 / (2 * 0.5**2))

    given = {
        "temperatures": [1.0, 3.0, 9.0, 27.0],
        "step_sizes": [0.02, 0.05, 0.1, 0.2],
        "num_ladders": 1_000,
        "swap_every": 5,
        "num_samples": 1,
        "thinning": 4_000,
    }
    potential = sgld_jax.from_log_density(log_density)
    make, right = sgld_jax.leimkuhler_matthews, lambda key: jnp.array(3.0)
    found = sgld_jax.replica_exchange(0, make, potential, right, **given)
    left = np.mean(found.cold.params < 0)
    assert abs(left - 0.8) < Z * np.sqrt(0.8 * 0.2 / 1_000)
    alone = sgld_jax.sample(
        0, make(0.02), potential, right, num_samples=1, num_chains=200, thinning=4_000
    )
    assert np.mean(alone.params < 0) == 0


@pytest.mark.filterwarnings("ignore:.*chains have failed")
def test_a_chain_that_fails_takes_no_other_with_it():
    """The hottest is not stable; the others keep their law among themselves."""
    found = run(step_sizes=[0.3, 0.4, 2.5], thinning=201)
    failed = found.samples.failed.reshape(LADDERS, len(T))
    assert failed[:, 2].all() and not failed[:, :2].any()
    theta = np.asarray(found.samples.params[:, -1]).reshape(LADDERS, len(T), DIM)
    by_rung = theta[:, :2].transpose(0, 2, 1).reshape(-1, 2)
    assert np.abs(variance_z(by_rung, np.array(T[:2]) / LAMBDA)).max() < Z


@pytest.mark.parametrize("why", ["failed", "no energy", ""])
def test_a_chain_that_has_failed_keeps_its_place(why):
    """Two ladders whose cold chains are higher, and so always swap; if both may."""
    pair = rule([1.0, 2.0])
    sampler = pair.sampler(sgld_jax.sgld)
    chain = sgld_jax.start(0, sampler, jax.random.normal, num_chains=4)
    rungs = jnp.array([0, 1, 0, 1], jnp.int32)
    chain = chain._replace(state=chain.state._replace(rung=rungs))
    energies = jnp.array([9.0, 0.0, 9.0, 0.0])
    if why == "failed":
        step = chain.failure.step.at[1].set(3)
        chain = chain._replace(failure=chain.failure._replace(step=step))
    if why == "no energy":
        energies = energies.at[0].set(jnp.inf)
    order = [0, 1, 3, 2] if why else [1, 0, 3, 2]
    expected = np.asarray(chain.params)[order]
    np.testing.assert_array_equal(pair.swapped(chain, energies).params, expected)


def test_what_moves_with_a_position_is_known_of_every_kernel():
    """A new field of a kernel's state stays with its rung, moves, or is refused."""
    kinds = [*LAWS, type(sgld_jax.sgrld(0.1, key=0).init(jnp.zeros(1)))]
    stay = {"count", "rng_key", "metric", "trace", "thermostat"}
    for kind in kinds:
        assert set(kind._fields) <= stay | set(ladder._MOVES), kind


def test_draws_come_as_they_were_asked_for():
    found = run(num_ladders=2, num_samples=7, thinning=3, burn_in=5, collect=jnp.sum)
    assert found.samples.params.shape == (6, 7) and found.cold.params.shape == (2, 7)
    assert found.samples.counts[0].tolist() == [8, 11, 14, 17, 20, 23, 26]
    again = run(num_ladders=2, num_samples=7, thinning=3, burn_in=5, collect=jnp.sum)
    np.testing.assert_array_equal(again.samples.params, found.samples.params)
    assert len(np.unique(found.samples.params)) == 42


def test_blocks_of_rows_are_taken_where_they_are():
    given = {"potential": noisy, "data": ROWS, "num_ladders": 2}
    assert run(**given, batches=sgld_jax.blocks(100)).cold.params.shape == (2, 1, DIM)


BAD = {
    "one temperature": ({"temperatures": [1.0], "step_sizes": [0.1]}, "at least two"),
    "falling": ({"temperatures": [2.0, 1.0, 3.0]}, "that rise"),
    "steps": ({"step_sizes": [0.1, 0.1]}, "for each of 3"),
    "never": ({"swap_every": 0}, "swap_every=0"),
    "variance": ({"energy_variance": -1.0}, "energy_variance=-1"),
    "mala": ({"make": sgld_jax.mala}, "mala keeps a proposal"),
    "thermostat": (
        {"make": lambda eps, T: sgld_jax.sgnht(eps, 0.1, T)},
        "keeps a thermostat",
    ),
    "no ladder": ({"num_ladders": 0}, "num_ladders=0"),
    "random": ({"potential": lambda x, batch, *, key: x.sum()}, "declares key="),
    "shared": (
        NOISY | {"batches": sgld_jax.with_replacement(1, shared_by=3)},
        "batches of its own",
    ),
}


@pytest.mark.parametrize("name", list(BAD))
def test_what_cannot_be_swapped_is_said(name):
    given, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        run(**given)
