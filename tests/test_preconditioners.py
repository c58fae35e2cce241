"""Matrices over the whole tree, and preconditioners that stop adapting."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sgld_jax
from sgld_jax.preconditioners import FixedMetric, Preconditioner
from tests.law import Z, mean_z, variance_z
from tests.marks import briefly

PRECISION = np.array([[2.0, 0.8], [0.8, 1.0]])
MATRIX = np.array([[0.5, 0.1], [0.1, 0.3]])
CHAINS = 20_000


def stationary(precision, G, step_size, temperature):
    """laws.md 3.2: Σ = T [Λ − (ε/2) ΛGΛ]⁻¹."""
    return temperature * np.linalg.inv(
        precision - step_size / 2 * precision @ G @ precision
    )


def draws_of(sampler, num_updates=80):
    """Positions `[chains, 2]` on U = θᵀΛθ/2, in two leaves."""
    potential = sgld_jax.from_log_density(
        lambda p: (
            -0.5
            * jnp.array([p["a"], p["b"]])
            @ jnp.float32(PRECISION)
            @ jnp.array([p["a"], p["b"]])
        )
    )
    run = sgld_jax.sample(
        11,
        sampler,
        potential,
        lambda key: {"a": jnp.zeros(()), "b": jnp.zeros(())},
        num_samples=1,
        burn_in=num_updates,
        num_chains=CHAINS,
    )
    return np.stack([run.params["a"][:, 0], run.params["b"][:, 0]], axis=-1)


def assert_covariance(draws, covariance):
    """In the eigenbasis, where coordinates are independent and their law is exact."""
    values, vectors = np.linalg.eigh(covariance)
    z = draws @ vectors
    assert np.abs(variance_z(z, values)).max() < Z
    assert np.abs(mean_z(z[:, :1] * z[:, 1:], 0.0, values.prod())).max() < Z


def test_the_golden_law_of_sgld_with_a_matrix():
    covariance = stationary(PRECISION, MATRIX, 0.4, 1.0)
    golden = [[0.8672084, -0.5540270], [-0.5540270, 1.5387812]]
    np.testing.assert_allclose(covariance, golden, atol=1e-7)  # laws.md 12
    draws = draws_of(sgld_jax.sgld(0.4, preconditioner=sgld_jax.dense(MATRIX)))
    assert_covariance(draws, covariance)


@pytest.mark.parametrize("kernel", ["baoa", "leimkuhler_matthews"])
def test_kernels_that_are_exact_stay_so_under_a_matrix(kernel):
    make = {
        "baoa": lambda **kwargs: sgld_jax.baoa(0.8, 0.5, **kwargs),
        "leimkuhler_matthews": lambda **kwargs: sgld_jax.leimkuhler_matthews(
            0.8, **kwargs
        ),
    }[kernel]
    draws = draws_of(make(preconditioner=sgld_jax.dense(jnp.float32(MATRIX))))
    assert_covariance(draws, np.linalg.inv(PRECISION))


def test_a_wrong_root_is_seen():
    """The transposed Cholesky factor has another product: the harness must tell."""
    root = np.linalg.cholesky(MATRIX).T
    right = sgld_jax.dense(MATRIX)
    wrong = right._replace(
        multiply_sqrt=lambda state, v: dict(
            zip("ab", jnp.float32(root) @ jnp.array([v["a"], v["b"]]))
        )
    )
    with pytest.raises(AssertionError):
        assert_covariance(
            draws_of(sgld_jax.sgld(0.4, preconditioner=wrong)),
            stationary(PRECISION, MATRIX, 0.4, 1.0),
        )


def test_a_diagonal_matrix_is_diagonal():
    scale = {"a": jnp.array([0.5, 2.0]), "b": jnp.array(3.0)}
    params = {"a": jnp.array([1.0, -2.0]), "b": jnp.array(0.5)}
    one, other = (
        sgld_jax.sgld(0.1, preconditioner=G, key=4)
        for G in (sgld_jax.diagonal(scale), sgld_jax.dense(np.diag([0.5, 2.0, 3.0])))
    )
    updates = [tx.update(params, tx.init(params), params)[0] for tx in (one, other)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), *updates)


def test_with_the_covariance_as_g_every_direction_relaxes_alike():
    """At T = 0 and G = Λ⁻¹ each update takes the same share of every direction."""
    tx = sgld_jax.sgld(
        0.25, 0.0, preconditioner=sgld_jax.dense(np.linalg.inv(PRECISION))
    )
    theta = jnp.array([3.0, -1.0])
    updates, _ = tx.update(jnp.float32(PRECISION) @ theta, tx.init(theta), theta)
    np.testing.assert_allclose(updates, -0.25 * theta, rtol=1e-5)


@pytest.mark.parametrize(
    "matrix, words",
    [
        (np.ones(3), r"shape \(3,\): expected \[d, d\]"),
        (np.ones((2, 3)), r"shape \(2, 3\)"),
        ([[1.0, 0.0], [0.0, 1.0]], "expected an array"),
        ("covariance", "expected an array"),
        (np.array([[1.0, 0.5], [0.4, 1.0]]), "not symmetric"),
        (np.array([[1.0, np.nan], [np.nan, 1.0]]), "not finite"),
        (np.array([[1.0, 2.0], [2.0, 1.0]]), "with an eigenvalue of -1"),
        (np.zeros((2, 2)), "eigenvalue of"),
    ],
)
def test_matrices_that_are_no_metric_are_refused(matrix, words):
    with pytest.raises((ValueError, TypeError), match=words):
        sgld_jax.dense(matrix)


def test_a_matrix_of_another_size_is_refused_with_both_sizes():
    tx = sgld_jax.sgld(0.1, preconditioner=sgld_jax.dense(MATRIX), key=0)
    with pytest.raises(ValueError, match="2 × 2.*3 coordinates"):
        tx.init({"a": jnp.zeros(3)})


def test_known_gradient_noise_is_refused_with_a_matrix():
    for G in (sgld_jax.dense(MATRIX), sgld_jax.freeze(sgld_jax.dense(MATRIX), 3)):
        with pytest.raises(ValueError, match="mixes nothing"):
            sgld_jax.sghmc(0.1, gradient_noise=1.0, preconditioner=G)


def test_another_matrix_is_refused_on_resume():
    potential = sgld_jax.from_log_density(lambda x: -0.5 * jnp.sum(x**2))
    tx = lambda m: sgld_jax.sgld(0.1, preconditioner=sgld_jax.dense(m))  # noqa: E731
    first = sgld_jax.sample(
        0, tx(MATRIX), potential, lambda key: jnp.zeros(2), num_samples=2
    )
    sgld_jax.resume(first.final, tx(MATRIX.copy()), potential, num_samples=2)
    with pytest.raises(ValueError, match="preconditioner has other numbers"):
        sgld_jax.resume(first.final, tx(2 * MATRIX), potential, num_samples=2)


# --- freeze ---------------------------------------------------------------------------


def counting():
    """G = 1 + the number of updates it has seen."""
    return Preconditioner(
        init=lambda params: jnp.zeros(()),
        update=lambda grads, state, params: state + 1,
        multiply=lambda state, v: jax.tree.map(lambda x: (1 + state) * x, v),
        multiply_sqrt=lambda state, v: jax.tree.map(
            lambda x: jnp.sqrt(1 + state) * x, v
        ),
    )


def drifts(preconditioner, updates):
    tx = sgld_jax.sgld(1.0, 0.0, preconditioner=preconditioner)
    state, seen = tx.init(jnp.ones(())), []
    for _ in range(updates):
        update, state = tx.update(jnp.ones(()), state)
        seen.append(-float(update))
    return seen


def test_a_frozen_preconditioner_adapts_so_often_and_no_more():
    assert drifts(counting(), 5) == [2, 3, 4, 5, 6]
    assert drifts(sgld_jax.freeze(counting(), 3), 6) == [2, 3, 4, 4, 4, 4]
    assert drifts(sgld_jax.freeze(counting(), 1), 3) == [2, 2, 2]


def test_frozen_chains_under_vmap_and_scan_keep_their_own_count():
    tx = sgld_jax.sgld(0.1, preconditioner=sgld_jax.freeze(counting(), 2), key=0)
    state = jax.vmap(tx.init)(jnp.zeros((3, 2)))
    update = jax.jit(jax.vmap(tx.update))
    for _ in range(4):
        _, state = update(jnp.ones((3, 2)), state, jnp.zeros((3, 2)))
    np.testing.assert_array_equal(state.metric.count, [2, 2, 2])
    np.testing.assert_array_equal(state.metric.metric, [2, 2, 2])


@pytest.mark.parametrize("after", [0, -1, 2.5, True, None])
def test_lengths_that_are_none_are_refused(after):
    with pytest.raises((ValueError, TypeError), match="after"):
        sgld_jax.freeze(sgld_jax.identity(), after)


def test_what_is_no_preconditioner_is_refused():
    with pytest.raises(TypeError, match="expected a Preconditioner"):
        sgld_jax.freeze(optax.adam(0.1), 3)


def test_a_frozen_fixed_metric_still_guards_resume():
    tx = sgld_jax.sgld(
        0.1, preconditioner=sgld_jax.freeze(sgld_jax.diagonal(2.0), 3), key=0
    )
    state = tx.init(jnp.zeros(2))
    metric = functools.reduce(lambda x, _: x.metric, range(2), state)
    assert isinstance(metric, FixedMetric) and metric.fingerprint != 0


# --- a metric for every chain ---------------------------------------------------------

OWN = {"a": np.float32([0.2, 1.0, 3.0]), "b": np.float32([2.0, 0.5, 1.0])}
STARTS = {"a": jnp.ones(3), "b": -jnp.ones(3)}


def bowl(p, batch):
    return p["a"] ** 2 + p["b"] ** 2 / 2 + p["a"] * p["b"]


def run_with(sampler, scale=None, potential=bowl, **kwargs):
    plan = {"num_chains": 3, "num_samples": 20} | kwargs
    return sgld_jax.sample(
        5, sampler, potential, sgld_jax.stacked(STARTS, scale), **plan
    )


@pytest.mark.parametrize(
    "kernel", briefly(["sgld", "baoa", "sghmc", "leimkuhler_matthews"], "baoa")
)
def test_every_chain_goes_as_it_would_with_its_scale_alone(kernel):
    make = getattr(sgld_jax, kernel)
    own = run_with(make(0.1, preconditioner=sgld_jax.own_diagonal()), OWN)
    for c in range(3):
        scale = {name: float(x[c]) for name, x in OWN.items()}
        alone = run_with(make(0.1, preconditioner=sgld_jax.diagonal(scale)))
        for name in OWN:
            np.testing.assert_allclose(
                own.params[name][c], alone.params[name][c], rtol=1e-5, atol=1e-6
            )


def test_own_scales_under_masked_and_where_a_number_stands_for_all():
    own = optax.masked(
        sgld_jax.sgld(0.1, preconditioner=sgld_jax.own_diagonal()),
        {"a": True, "b": False},
    )
    rest = optax.masked(optax.scale(-0.1), {"a": False, "b": True})
    samples = run_with(optax.chain(own, rest), OWN)
    fixed = optax.masked(
        sgld_jax.sgld(0.1, preconditioner=sgld_jax.diagonal(3.0)),
        {"a": True, "b": False},
    )
    alone = run_with(optax.chain(fixed, rest))
    np.testing.assert_allclose(
        samples.params["a"][2], alone.params["a"][2], rtol=1e-5, atol=1e-6
    )
    sampler = sgld_jax.sgld(0.1, preconditioner=sgld_jax.own_diagonal())
    a, b = run_with(sampler, 1.0), run_with(sgld_jax.sgld(0.1))
    np.testing.assert_array_equal(a.params["a"], b.params["a"])


def test_own_scales_go_on_and_come_back_from_a_folder(tmp_path):
    sampler = sgld_jax.baoa(0.1, preconditioner=sgld_jax.own_diagonal())
    whole = run_with(sampler, OWN)
    run_with(sampler, OWN, num_samples=8).save(tmp_path / "run")
    loaded = sgld_jax.load(tmp_path / "run")
    rest = sgld_jax.resume(loaded.final, sampler, bowl, num_samples=12)
    np.testing.assert_array_equal(
        loaded.concatenate(rest).params["a"], whole.params["a"]
    )


def test_scales_without_a_place_and_places_without_a_scale_are_refused():
    own = sgld_jax.sgld(0.1, preconditioner=sgld_jax.own_diagonal())
    with pytest.raises(ValueError, match="no chain has a scale"):
        run_with(own)
    with pytest.raises(ValueError, match="no place for them"):
        run_with(sgld_jax.sgld(0.1), OWN)
    with pytest.raises(ValueError, match="above 0"):
        run_with(own, {"a": np.zeros(3), "b": np.ones(3)})
    with pytest.raises(ValueError, match=r"has shape \(2,\)"):
        run_with(own, {"a": np.ones(2), "b": np.ones(3)})
