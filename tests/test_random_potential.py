"""Potentials with a key: what their noise does to the law, and where they are refused."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sgld_jax
from sgld_jax.engine import update as engine_update
from tests.law import Z, mean_z, variance_z
from tests.mutants import mutated

EPS, V, CHAINS = 0.5, 6.0, 20_000


def random(x, batch, *, key):
    """U = x²/2, with a gradient noise of variance V."""
    return 0.5 * x**2 + jnp.sqrt(V) * x * jax.random.normal(key)


def run(sampler, potential=random, num_samples=1, burn_in=40, num_chains=CHAINS, **kw):
    plan = {"num_samples": num_samples, "burn_in": burn_in, "num_chains": num_chains}
    return sgld_jax.sample(
        3, sampler, potential, lambda key: jnp.zeros(()), **plan | kw
    )


def assert_law(draws):
    """laws.md 2: (T + εV/2)/(λ(1 − ελ/2)), and chains that are independent."""
    variance = (1 + EPS * V / 2) / (1 - EPS / 2)
    assert abs(mean_z(draws, 0.0, variance)).max() < Z
    assert abs(variance_z(draws, variance)).max() < Z


def test_every_chain_and_update_has_a_noise_of_its_own():
    draws = np.asarray(run(sgld_jax.sgld(EPS)).params)
    assert_law(draws)


@pytest.mark.key_reuse_off("the mutants use a key again, and JAX would say so first")
@pytest.mark.parametrize(
    "line",
    [
        "return functools.partial(potential, key=jax.random.key(0))",  # all the same
        "return functools.partial(potential, key=keys[0])",  # in every update
    ],
)
def test_a_key_that_is_shared_is_seen(line, monkeypatch):
    mutant = mutated(engine_update, "random", line)
    monkeypatch.setattr("sgld_jax.engine.sample.advance", mutant.advance, raising=True)
    with pytest.raises(AssertionError):
        assert_law(np.asarray(run(sgld_jax.sgld(EPS)).params))


def test_one_of_a_hundred_terms_at_random_is_unbiased():
    """A sum over many terms by one of them; the posterior mean stays."""
    centers = jnp.linspace(-1.0, 3.0, 100)

    def one_term(x, batch, *, key):
        i = jax.random.randint(key, (), 0, 100)
        return 0.5 * (x - centers[i]) ** 2

    samples = run(sgld_jax.sgld(0.1), one_term)
    noise = float(np.var(centers))
    variance = (1 + 0.1 * noise / 2) / (1 - 0.1 / 2)
    assert abs(mean_z(np.asarray(samples.params) - 1.0, 0.0, variance)).max() < Z


def test_likelihoods_with_a_key_and_step():
    x = jnp.arange(6.0)
    potential = sgld_jax.minibatch_potential(
        lambda m: -0.5 * m**2,
        lambda m, x, *, key: -0.5 * (x - m) ** 2 + jax.random.normal(key, x.shape),
        6,
    )
    one, two = (potential(1.0, x, key=jax.random.key(k)) for k in range(2))
    assert one != two
    chain = sgld_jax.start(
        0, sgld_jax.sgld(0.1), lambda key: jnp.zeros(()), num_chains=3, data=x
    )
    values = [
        sgld_jax.step(chain, sgld_jax.sgld(0.1), potential, data=x)[1] for _ in "ab"
    ]
    np.testing.assert_array_equal(*values)  # a function of the chain
    assert len(set(np.asarray(values[0]).tolist())) == 3


def test_m_and_then_k_draws_are_m_plus_k():
    whole = run(sgld_jax.sghmc(0.1), num_samples=9, num_chains=4)
    first = run(sgld_jax.sghmc(0.1), num_samples=5, num_chains=4)
    rest = sgld_jax.resume(first.final, sgld_jax.sghmc(0.1), random, num_samples=4)
    np.testing.assert_array_equal(first.concatenate(rest).params, whole.params)


def test_the_bias_check_draws_its_own_numbers():
    sampler = sgld_jax.sgld(0.2)
    samples = run(sampler, num_samples=100, burn_in=100, num_chains=256)
    report = sgld_jax.bias_check(samples, sampler, random, key=9)
    exact = (1 + 0.2 * V / 2) / (1 - 0.2 / 2)
    assert report.explained
    assert abs(report.measured - exact) < Z * report.measured_error
    # Of the draws 100 means of 256 chains: their spread says how well ε V/2 is known.
    ratio = report.noise_ratio
    assert ratio.shape == (100,)
    assert abs(ratio.mean() - 0.2 * V / 2) < Z * ratio.std(ddof=1) / 10
    with pytest.raises(ValueError, match="expected key="):
        sgld_jax.bias_check(samples, sampler, random)


@pytest.mark.parametrize(
    "call, error, words",
    [
        (lambda: run(sgld_jax.mala(0.1), num_chains=2), ValueError, "must be U itself"),
        (lambda: run(optax.sgd(0.1), num_chains=2), ValueError, "has no key for it"),
        (
            lambda: sgld_jax.warm_up(
                0, random, lambda key: jnp.zeros(()), num_chains=8
            ),
            ValueError,
            "compares values of U",
        ),
        (
            lambda: sgld_jax.auto_step_size(random, jnp.zeros(())),
            ValueError,
            "knows the noise of batches alone",
        ),
        (
            lambda: sgld_jax.check_potential(random, jnp.zeros(())),
            ValueError,
            "Check it with a key held",
        ),
        (
            lambda: run(sgld_jax.sgld(0.1), lambda x, key: x**2, num_chains=2),
            TypeError,
            "cannot be called",
        ),
    ],
)
def test_where_it_is_refused(call, error, words):
    with pytest.raises(error, match=words):
        call()
