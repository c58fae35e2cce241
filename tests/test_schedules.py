"""Schedules: their formulas, the law of a chain in cycles, and which draws are kept."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sgld_jax
from sgld_jax import schedules
from tests.law import Z
from tests.mutants import mutated

LAMBDA, PEAK, C, EXPLORE = 1.0, 0.5, 20, 0.25
CYCLE = sgld_jax.cyclical(PEAK, C, EXPLORE)


def of_sgld(cycle):
    return sgld_jax.sgld(cycle.step_size, cycle.temperature)


def test_steps_of_welling_and_teh_are_their_formula():
    steps = sgld_jax.welling_teh_schedule(0.3, offset=5, power=0.6)
    counts = np.arange(50)
    np.testing.assert_allclose(steps(counts), 0.3 * (5 + counts) ** -0.6, rtol=1e-6)


def test_a_cycle_begins_at_its_peak_and_all_of_it_follows_one_count():
    counts = np.arange(3 * C)
    eps, T = np.asarray(CYCLE.step_size(counts)), CYCLE.temperature(counts)
    last = PEAK / 2 * (1 + np.cos(np.pi * (C - 1) / C))
    np.testing.assert_allclose(eps[[0, C - 1, C]], [PEAK, last, PEAK], rtol=1e-4)
    np.testing.assert_array_equal(T, 1.0 * CYCLE.keep(counts))
    np.testing.assert_array_equal(np.flatnonzero(~CYCLE.keep(counts[:C])), range(5))


def test_exploration_is_rounded_up_and_not_by_rounding_errors():
    tenth = sgld_jax.cyclical(1.0, 10, 0.7)  # 0.7 * 10 is 7 as floats have it, or above
    assert tenth.keep(np.arange(10)).sum() == 3
    assert sgld_jax.cyclical(1.0, 10, 0.75).keep(np.arange(10)).sum() == 2
    assert sgld_jax.cyclical(1.0, 10, 0.0).keep(np.arange(10)).all()


def variances(V, updates):
    """Var of θ after each update, from 0: `laws.md`, by the recursion of one update."""
    found, var = [], 0.0
    for k in range(updates):
        eps = PEAK / 2 * (1 + np.cos(np.pi * (k % C) / C))
        T = float(k % C >= EXPLORE * C)
        var = (1 - eps * LAMBDA) ** 2 * var + 2 * eps * T + eps**2 * V
        found.append(var)
    return np.array(found)


def errors(cycle, V):
    """By how many standard errors 30 variances of two cycles are not the law's."""

    def potential(x, batch, *, key):
        noise = jnp.sqrt(V) * jax.random.normal(key, x.shape)
        return jnp.sum(LAMBDA * x**2 / 2 + noise * x)

    dim = 20_000
    samples = sgld_jax.sample(
        1,
        of_sgld(cycle),
        potential,
        lambda key: jnp.zeros(dim),
        num_samples=30,
        keep=CYCLE.keep,
    )
    counts = samples.counts[0]
    np.testing.assert_array_equal(counts, [*range(6, 21), *range(26, 41)])
    expected = variances(V, 40)[counts - 1]
    found = np.mean(np.asarray(samples.params[0], np.float64) ** 2, 1)
    return (found - expected) / (expected * np.sqrt(2 / dim))


@pytest.mark.parametrize("V", [0.0, 3.0])
def test_the_law_of_every_draw_of_a_cycle(V):
    """60 variances of 20,000 coordinates; false alarm below 1e-3 at 4.5 errors."""
    z = errors(CYCLE, V)
    assert np.abs(z).max() < Z, z
    # As the same numbers were found elsewhere, at the end of a cycle.
    golden = {0.0: 1.0812423, 3.0: 1.3293962}[V]
    np.testing.assert_allclose(variances(V, 50 * C)[-1], golden, rtol=1e-6)


MUTANTS = {
    "noise while sampling": "return T",
    "phase": "phase = jnp.asarray((count + 1) % cycle_steps, float) / cycle_steps",
}


@pytest.mark.parametrize("mark", list(MUTANTS))
def test_the_law_sees_a_cycle_that_is_broken(mark):
    broken = mutated(schedules, mark, MUTANTS[mark])
    assert np.abs(errors(broken.cyclical(PEAK, C, EXPLORE), 0.0)).max() > 2 * Z


def run(num_samples, thinning=1, keep=CYCLE.keep, **given):
    return sgld_jax.sample(
        3,
        of_sgld(CYCLE),
        sgld_jax.from_log_density(lambda x: -0.5 * jnp.sum(x**2)),
        lambda key: jnp.zeros(2),
        num_samples=num_samples,
        num_chains=2,
        thinning=thinning,
        keep=keep,
        **given,
    )


def go_on(samples, num_samples, **given):
    potential = sgld_jax.from_log_density(lambda x: -0.5 * jnp.sum(x**2))
    return sgld_jax.resume(
        samples.final,
        of_sgld(CYCLE),
        potential,
        num_samples=num_samples,
        keep=CYCLE.keep,
        **given,
    )


def test_kept_draws_are_the_same_path_thinned_and_resumed():
    every = run(100, keep=None)
    kept = run(12, thinning=4, burn_in=3)
    counts = np.flatnonzero(CYCLE.keep(np.arange(100)))[3::4][:12] + 1
    np.testing.assert_array_equal(kept.counts[0], counts)
    np.testing.assert_array_equal(kept.params, every.params[:, counts - 1])
    np.testing.assert_array_equal(kept.weights, every.weights[:, counts - 1])
    first = run(5, thinning=4, burn_in=3)
    whole = first.concatenate(go_on(first, 7, thinning=4))
    np.testing.assert_array_equal(whole.params, kept.params)
    np.testing.assert_array_equal(whole.counts, kept.counts)


def test_burn_in_counts_all_updates_and_keep_those_after_it():
    samples = run(3, burn_in=18)
    assert samples.counts[0].tolist() == [19, 20, 26]


def test_a_run_that_was_stopped_in_a_draw_goes_on_as_its_report_says():
    whole = run(4_000, thinning=3)

    def until(samples):
        return samples.num_samples > 40

    first = run(4_000, thinning=3, until=until)
    told = first.report.interrupted
    assert "keep=..." in told and 40 < first.num_samples < 4_000
    numbers = dict(
        part.split("=") for part in told.split("final, ..., ")[1][:-2].split(", ")
    )
    rest = go_on(
        first, int(numbers["num_samples"]), thinning=3, burn_in=int(numbers["burn_in"])
    )
    both = first.concatenate(rest)
    np.testing.assert_array_equal(both.params, whole.params)
    np.testing.assert_array_equal(both.counts, whole.counts)


def test_a_keep_that_keeps_nothing_or_says_nothing_of_arrays():
    with pytest.raises(ValueError, match="accepts 0 updates up to number"):
        run(1, keep=lambda count: count < 0)
    with pytest.raises(ValueError, match="accepts 7 updates .* expected 8"):
        run(8, keep=lambda count: count < 7)
    with pytest.raises(TypeError, match="a truth value for each"):
        run(1, keep=lambda count: count)
    with pytest.raises(TypeError, match="truth value for each"):
        run(1, keep=lambda count: True)
    with pytest.raises(TypeError, match="cannot be called with an array"):
        run(1, keep=lambda count: count > 1 and count < 9)


BAD = {
    "scale": (lambda: sgld_jax.welling_teh_schedule(0.0, 1.0, 0.6), "scale=0.0"),
    "offset": (lambda: sgld_jax.welling_teh_schedule(1.0, -1.0, 0.6), "offset=-1.0"),
    "power": (lambda: sgld_jax.welling_teh_schedule(1.0, 1.0, 0.5), "above 1/2"),
    "peak": (lambda: sgld_jax.cyclical(0.0, 10), "peak=0.0"),
    "cycle": (lambda: sgld_jax.cyclical(0.1, 1), "cycle_steps=1"),
    "exploration": (lambda: sgld_jax.cyclical(0.1, 10, 1.0), "exploration=1.0"),
    "no draw": (lambda: sgld_jax.cyclical(0.1, 10, 0.95), "at most 0.9"),
    "temperature": (lambda: sgld_jax.cyclical(0.1, 10, 0.5, -1.0), "temperature=-1"),
}


@pytest.mark.parametrize("name", list(BAD))
def test_numbers_out_of_range(name):
    make, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        make()


def test_draws_of_shrinking_steps_count_by_their_steps_up_to_a_prediction():
    steps = sgld_jax.welling_teh_schedule(0.5, offset=1.0, power=0.6)
    samples = sgld_jax.sample(
        0,
        sgld_jax.sgld(steps),
        sgld_jax.from_log_density(lambda x: -0.5 * jnp.sum(x**2)),
        lambda key: jnp.zeros((3, 2)),
        num_samples=20,
        num_chains=2,
    )
    eps = np.asarray(steps(np.arange(20)))
    np.testing.assert_allclose(samples.weights, [eps, eps], rtol=1e-6)
    inputs = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)

    def network(w, x):
        return x @ w

    found = sgld_jax.predict(
        network,
        samples,
        inputs,
        batch_size=3,
        reduce=sgld_jax.predictive_probs,
        weighted=True,
    )
    logits = np.einsum("ni,csik->csnk", inputs, samples.params)
    probs = np.asarray(jax.nn.softmax(logits, -1), np.float64)
    expected = np.einsum("cs,csnk->nk", samples.weights / samples.weights.sum(), probs)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    with pytest.warns(UserWarning, match="weights change over the draws"):
        alike = sgld_jax.predict(
            network, samples, inputs, reduce=sgld_jax.predictive_probs
        )
    assert np.abs(alike - expected).max() > 1e-3
    with pytest.raises(ValueError, match="without reduce"):
        sgld_jax.predict(network, samples, inputs, weighted=True)
    with pytest.raises(ValueError, match="weights are of arrays"):
        sgld_jax.predictive_probs(samples, weights=samples.weights)
    with pytest.raises(ValueError, match="weights are negative"):
        sgld_jax.predictive_probs(logits, weights=-samples.weights)
