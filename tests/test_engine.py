"""`sample`, `start`, `step`, `resume`: counting, bits, data, interruption."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sgld_jax
from sgld_jax.engine import draws, loop, plan
from tests.mutants import mutated
from tests.runs import (
    DATA,
    MEAN,
    QUADRATIC,
    SAMPLER,
    SCHEMES,
    SMALL_STEPS,
    arrays,
    assert_equal_bits,
    normal,
    on_data,
    run,
)

# --- counting ------------------------------------------------------------------------


def decay(samples_kwargs):
    """At T = 0 on θ²/2 the position after t updates is (1 − ε)^t: draws tell t."""
    sampler = sgld_jax.sgld(0.01, temperature=0.0)
    return run(sampler=sampler, init=lambda key: jnp.ones(()), **samples_kwargs)


@pytest.mark.parametrize("burn_in", [0, 1, 7, 1024, 1500])
@pytest.mark.parametrize("thinning", [1, 3])
def test_draw_k_is_the_position_after_burn_in_plus_k_plus_1_times_thinning(
    burn_in, thinning
):
    samples = decay({"num_samples": 5, "burn_in": burn_in, "thinning": thinning})
    updates = burn_in + (np.arange(5) + 1) * thinning
    np.testing.assert_array_equal(samples.counts, np.tile(updates, (4, 1)))
    np.testing.assert_allclose(samples.params[0], 0.99**updates, rtol=1e-4)
    # The potential is the one the update saw: of the position before it.
    np.testing.assert_allclose(
        samples.potential[0], 0.5 * 0.99 ** (2 * updates - 2), rtol=2e-4
    )
    assert samples.report.updates == updates[-1]


@pytest.mark.parametrize(
    "mark, line",
    [
        ("next draw", "first = self.burn_in + self.drawn(done) * self.thinning + 1"),
        ("draws made", "return max(done - self.burn_in - 1, 0) // self.thinning"),
        (
            "updates before a stop",
            "updates[: len(stops)] = np.diff(stops, prepend=done) + 1",
        ),
    ],
)
def test_mutants_of_the_counting_are_killed(mark, line, monkeypatch):
    mutant = mutated(plan, mark, line)
    monkeypatch.setattr(sgld_jax.engine.sample, "Plan", mutant.Plan)
    with pytest.raises(AssertionError):
        test_draw_k_is_the_position_after_burn_in_plus_k_plus_1_times_thinning(1500, 3)


def long_draws(wide=False):
    collect = (lambda x: jnp.zeros(2**20) + x.sum()) if wide else None
    return arrays(on_data(6, burn_in=70, thinning=40, collect=collect))


@pytest.mark.parametrize("wide", [False, True])
def test_what_is_done_for_gpus_changes_no_bit(wide, monkeypatch):
    """Loops of constant length, and parts of blocks that are fetched."""
    on_cpu = long_draws(wide)
    for module in (loop, draws):
        monkeypatch.setattr(module, "on_cpu", lambda: False)
    assert_equal_bits(on_cpu, long_draws(wide))


@pytest.mark.parametrize(
    "module, name, mark, line",
    [
        (loop, "_repeated", "rest", "times = times // _TURNS"),
        (draws, "_on_host", "piece", "for begin in range(size, num_rows + 2, size)"),
    ],
)
def test_mutants_of_what_is_done_for_gpus_are_killed(
    module, name, mark, line, monkeypatch
):
    mutant = mutated(module, mark, line)
    monkeypatch.setattr(mutant, "on_cpu", lambda: False)
    on_cpu = long_draws()
    monkeypatch.setattr(module, name, getattr(mutant, name))
    with pytest.raises((AssertionError, TypeError)):
        assert_equal_bits(on_cpu, long_draws())


def test_shapes_and_collect():
    samples = on_data(6, collect=lambda theta: {"sum": theta.sum(), "twice": 2 * theta})
    assert samples.params["sum"].shape == (4, 6)
    assert samples.params["twice"].shape == (4, 6, 2)
    np.testing.assert_allclose(
        samples.params["twice"].sum(-1), 2 * samples.params["sum"], rtol=1e-5
    )
    np.testing.assert_array_equal(
        samples.final.params * 2, samples.params["twice"][:, -1]
    )
    assert (
        samples.potential.shape
        == samples.weights.shape
        == samples.counts.shape
        == (4, 6)
    )
    assert (samples.num_chains, samples.num_samples) == (4, 6)


def two_kernels(first, second):
    """Two samplers, each on one of the coordinates."""
    labels = {"a": "first", "b": "second"}
    sampler = optax.partition({"first": first, "second": second}, labels)
    density = sgld_jax.from_log_density(lambda p: -0.5 * (p["a"] ** 2 + p["b"] ** 2))
    init = lambda key: {"a": jnp.zeros(()), "b": jnp.zeros(())}  # noqa: E731
    return run(4, sampler, density, init).weights


def test_weights_are_unknown_without_a_kernel():
    assert np.isnan(run(3, optax.sgd(0.1)).weights).all()


def test_two_kernels_have_one_weight_if_their_steps_shrink_alike():
    decay = optax.polynomial_schedule(0.1, 0.01, 1, 3)
    tenth = lambda count: 0.1 * decay(count)  # noqa: E731
    weights = two_kernels(sgld_jax.sgld(decay), sgld_jax.sgld(tenth))
    np.testing.assert_allclose(weights[0], [decay(k) for k in range(4)], rtol=1e-6)
    constant = two_kernels(sgld_jax.sgld(0.1), sgld_jax.sgld(0.02))
    np.testing.assert_array_equal(constant, np.float32(0.1))


def test_two_kernels_whose_steps_shrink_differently_have_no_weight():
    decay = optax.polynomial_schedule(0.1, 0.01, 1, 3)
    assert np.isnan(two_kernels(sgld_jax.sgld(decay), sgld_jax.sgld(0.1))).all()
    slower = optax.polynomial_schedule(0.1, 0.01, 1, 9)
    assert np.isnan(two_kernels(sgld_jax.sgld(decay), sgld_jax.sgld(slower))).all()


# --- bits ----------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES)
def test_m_then_k_draws_equal_m_plus_k_bit_for_bit(scheme):
    whole = on_data(700, scheme, burn_in=10, thinning=3)
    first = on_data(123, scheme, burn_in=10, thinning=3)
    rest = sgld_jax.resume(
        first.final,
        sgld_jax.sgld(1e-3),  # built and compiled anew, as after a restart
        MEAN,
        num_samples=577,
        thinning=3,
        data=DATA,
        batches=SCHEMES[scheme],
    )
    assert_equal_bits(arrays(first.concatenate(rest)), arrays(whole))


def test_same_key_same_draws_other_key_other_draws():
    assert_equal_bits(arrays(on_data(20)), arrays(on_data(20)))
    other = sgld_jax.sample(4, SAMPLER, QUADRATIC, normal, num_samples=20, num_chains=4)
    assert not np.intersect1d(other.params, run(20).params).size


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_chain_does_not_depend_on_its_company(scheme):
    """Elementwise potentials: also the path is equal, bit for bit, with 1 and with 64."""
    few, many = on_data(30, scheme, num_chains=1), on_data(30, scheme, num_chains=64)
    np.testing.assert_array_equal(few.params[0], many.params[0])


def test_step_in_a_loop_is_sample():
    """The same updates, another program: equal to rounding."""
    samples = on_data(8)
    chain = sgld_jax.start(
        3,
        SMALL_STEPS,
        normal,
        num_chains=4,
        data=DATA,
        batches=SCHEMES["shuffled"],
    )
    step = jax.jit(
        lambda chain: sgld_jax.step(
            chain, SMALL_STEPS, MEAN, data=DATA, batches=SCHEMES["shuffled"]
        )
    )
    for k in range(8):
        chain, value = step(chain)
        np.testing.assert_allclose(
            chain.params, samples.params[:, k], rtol=1e-5, atol=1e-6
        )
        np.testing.assert_allclose(value, samples.potential[:, k], rtol=1e-5)


def test_the_samplers_own_key_does_not_matter():
    assert_equal_bits(run(5).params, run(5, sgld_jax.sgld(0.1, key=99)).params)


def test_starting_points_are_stacked_or_drawn_per_chain():
    start = jnp.arange(8.0).reshape(4, 2)
    chain = sgld_jax.start(0, SAMPLER, sgld_jax.stacked(start), num_chains=4)
    np.testing.assert_array_equal(chain.params, start)
    drawn = sgld_jax.start(0, SAMPLER, normal, num_chains=4).params
    assert len(np.unique(drawn)) == 8
    more = sgld_jax.start(0, SAMPLER, normal, num_chains=9).params
    np.testing.assert_array_equal(drawn, more[:4])


def test_python_numbers_and_weak_types_are_starting_points():
    samples = run(
        3,
        init=lambda key: {"a": 0.0, "b": jnp.zeros(2)},
        potential=lambda p, _: p["a"] ** 2,
    )
    assert samples.params["a"].shape == (4, 3)


# --- after the run -------------------------------------------------------------------


def test_samples_are_sliced_and_rid_of_chains():
    samples = on_data(10)
    part = samples[1:3, 4:]
    np.testing.assert_array_equal(part.params, samples.params[1:3, 4:])
    assert part.counts.shape == (2, 6) and part.final.params.shape == (2, 2)
    assert samples[2].num_chains == 1 and samples[:, 5].num_samples == 1
    picked = samples[np.array([True, False, True, False])]
    np.testing.assert_array_equal(picked.params, samples.params[[0, 2]])
    again = sgld_jax.resume(
        part.final,
        SMALL_STEPS,
        MEAN,
        num_samples=2,
        data=DATA,
        batches=SCHEMES["shuffled"],
    )
    assert again.num_chains == 2
    with pytest.raises(ValueError, match="Cannot append"):
        samples.concatenate(again)


def test_one_draw_is_one_position():
    samples = run(3, collect=lambda x: {"x": x, "sum": x.sum()})
    one = samples.draw(1, 2)
    np.testing.assert_array_equal(one["x"], samples.params["x"][1, 2])
    assert one["sum"].shape == ()
    with pytest.raises(IndexError):
        samples.draw(4, 0)


@pytest.mark.filterwarnings("ignore:.*chains have failed:UserWarning")
def test_a_repr_is_one_screen():
    many = run(2, collect=lambda x: {f"leaf {i}": x for i in range(50)})
    text = repr(many)
    assert text.startswith(
        "Samples: 4 chains of 2 draws\n  params['leaf 0']: float32[4, 2, 2]"
    )
    assert "and 38 more leaves" in text and "2 updates in" in text
    failed = repr(run(300, sgld_jax.sgld(2.5), num_chains=40))
    assert "params: float32[40, 300, 2]" in failed and "more lines" in failed
    assert max(len(text.splitlines()), len(failed.splitlines())) < 30


def test_a_state_whose_chains_share_a_key_is_refused():
    chain = run(2).final
    keys = jnp.stack([jax.random.key(0)] * 4)
    same = chain._replace(state=chain.state._replace(rng_key=keys))
    with pytest.raises(ValueError, match="only 1 different keys.*sgld_jax.seed"):
        sgld_jax.resume(same, SAMPLER, QUADRATIC, num_samples=2)


def test_resume_refuses_another_sampler():
    chain = on_data(2).final
    kwargs = {"num_samples": 2, "data": DATA, "batches": SCHEMES["shuffled"]}
    with pytest.raises(ValueError, match="Pass the sampler they were started with"):
        sgld_jax.resume(chain, optax.adam(1e-3), MEAN, **kwargs)
    # A filled slot or an empty one: the same sampler.
    sgld_jax.resume(chain, sgld_jax.sgld(1e-3, key=0), MEAN, **kwargs)


def test_step_makes_the_checks_that_sample_makes():
    sampler = SMALL_STEPS
    chain = sgld_jax.start(
        0, sampler, normal, num_chains=2, data=DATA, batches=SCHEMES["shuffled"]
    )
    numpy_data = jax.tree.map(np.asarray, DATA)
    sgld_jax.step(chain, sampler, MEAN, data=numpy_data, batches=SCHEMES["shuffled"])
    fewer = jax.tree.map(lambda x: x[:10], DATA)
    for data, words in [
        (fewer, "num_data=20, but data has 10 rows"),
        (None, "no data"),
    ]:
        with pytest.raises(ValueError, match=words):
            sgld_jax.step(chain, sampler, MEAN, data=data, batches=SCHEMES["shuffled"])
    few = jax.tree.map(lambda x: x[:3], DATA)
    with pytest.raises(ValueError, match="batch_size=6 is more than the 3 rows"):
        sgld_jax.step(chain, sampler, MEAN, data=few, batches=SCHEMES["shuffled"])
    with pytest.raises(ValueError, match="there are no data"):
        run(2, sampler, MEAN)


@pytest.mark.filterwarnings("ignore:.*chains have failed:UserWarning")
def test_progress_shows_updates_and_failures(capsys, monkeypatch):
    run(2000, progress=True)
    assert "2000/2000" in capsys.readouterr().err
    monkeypatch.setitem(__import__("sys").modules, "tqdm.auto", None)
    run(2000, sgld_jax.sgld(2.5), progress=True)
    shown = capsys.readouterr().err
    assert "2000/2000 updates" in shown and "4 non-finite" in shown


@pytest.mark.parametrize(
    "kwargs, error, words",
    [
        ({"num_samples": 0}, ValueError, "num_samples=0: expected at least 1"),
        ({"num_samples": 1.5}, TypeError, "num_samples=1.5: expected a whole number"),
        ({"num_chains": 0}, ValueError, "num_chains=0"),
        ({"burn_in": -1}, ValueError, "burn_in=-1"),
        ({"thinning": 0}, ValueError, "thinning=0"),
        ({"init": jnp.zeros(2)}, TypeError, "expected a function key -> params"),
        ({"init": sgld_jax.stacked(jnp.zeros((3, 2)))}, ValueError, "num_chains=4"),
        ({"sampler": 0.1}, TypeError, "expected an optax.GradientTransformation"),
        ({"potential": 1.0}, TypeError, "expected a function"),
        ({"init": lambda key: jnp.zeros(2, int)}, TypeError, "real floating"),
    ],
)
def test_bad_arguments_are_refused_before_any_work(kwargs, error, words):
    with pytest.raises(error, match=words):
        run(**{"num_samples": 2, **kwargs})


@pytest.mark.parametrize("key", [None, True, -1, 2**32, "key"])
def test_sample_needs_a_key(key):
    with pytest.raises((TypeError, ValueError), match="key="):
        sgld_jax.sample(key, SAMPLER, QUADRATIC, normal, num_samples=1)
