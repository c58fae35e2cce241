"""What may change when a run goes on, and what joins to what."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sgld_jax
from tests.marks import briefly
from tests.runs import (
    DATA,
    MEAN,
    QUADRATIC,
    SAMPLER,
    SCHEMES,
    SMALL_STEPS,
    normal,
    on_data,
    run,
)

FEWER = jax.tree.map(lambda x: x[:10], DATA)
OTHER = {**DATA, "x": DATA["x"].at[-1].add(1.0)}
WIDER = {**DATA, "y": DATA["y"].astype(jnp.int32)}
FREE = lambda theta, batch: jnp.sum((batch["x"][:, None] - theta) ** 2)  # noqa: E731


def resumed(chain, sampler=SMALL_STEPS, potential=MEAN, scheme="shuffled", data=DATA):
    return sgld_jax.resume(
        chain, sampler, potential, num_samples=3, data=data, batches=SCHEMES[scheme]
    )


@pytest.mark.parametrize(
    "changed, words",
    [
        (
            {"scheme": "with replacement"},
            r"with shuffled\(6\), but batches is with_repl",
        ),
        ({"scheme": "full"}, r"with shuffled\(6\), but batches is full_batch\(\)"),
        ({"data": FEWER, "potential": FREE}, "data of 20 rows, but data has 10"),
        ({"data": OTHER}, r"as many rows \(20\), other numbers"),
        ({"data": WIDER}, r"as many rows \(20\), other numbers or types"),
    ],
)
def test_another_scheme_and_other_data_are_refused(changed, words):
    """Fewer rows would be gathered out of range, by three posterior sds (old code)."""
    with pytest.raises(ValueError, match=words):
        resumed(on_data(2).final, **changed)


def test_another_batch_size_is_refused():
    chain = on_data(2).final
    with pytest.raises(
        ValueError, match=r"shuffled\(6\), but batches is shuffled\(5\)"
    ):
        sgld_jax.resume(
            chain,
            SMALL_STEPS,
            MEAN,
            num_samples=2,
            data=DATA,
            batches=sgld_jax.shuffled(5),
        )


def test_equal_data_in_other_arrays_pass():
    chain = on_data(2).final
    for copy in (jax.tree.map(np.array, DATA), jax.tree.map(jnp.copy, DATA)):
        assert resumed(chain, data=copy).num_samples == 3


def diagonal(scale):
    return sgld_jax.sgld(0.1, preconditioner=sgld_jax.diagonal(scale))


@pytest.mark.parametrize("wrap", [lambda tx: tx, lambda tx: optax.chain(tx)])
def test_another_metric_is_refused(wrap):
    chain = run(2, wrap(diagonal(jnp.array([1.0, 2.0])))).final
    more = {"num_samples": 2}
    sgld_jax.resume(
        chain, wrap(diagonal(np.array([1.0, 2.0], "f4"))), QUADRATIC, **more
    )
    for other in (jnp.array([1.0, 2.5]), 1.0):
        with pytest.raises(ValueError, match="preconditioner has other numbers"):
            sgld_jax.resume(chain, wrap(diagonal(other)), QUADRATIC, **more)
    with pytest.raises(ValueError, match="not one of this sampler"):
        sgld_jax.resume(chain, wrap(SAMPLER), QUADRATIC, **more)


DECAY = optax.exponential_decay(0.1, 3, 0.9)
WRAPPERS = {
    "alone": lambda *args: sgld_jax.sgld(*args),
    "chain": lambda *args: optax.chain(
        optax.add_decayed_weights(0.1), sgld_jax.sgld(*args)
    ),
    "inject": lambda *args: optax.inject_hyperparams(sgld_jax.sgld)(*args),
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize(
    "settings", briefly([(0.1, 1.0), (DECAY, 1.0), (0.1, DECAY)], (DECAY, 1.0))
)
def test_equal_settings_go_on_without_a_word(wrapper, settings):
    chain = run(5, WRAPPERS[wrapper](*settings)).final
    with warnings.catch_warnings(record=True) as seen:
        sgld_jax.resume(chain, WRAPPERS[wrapper](*settings), QUADRATIC, num_samples=2)
    assert not seen


@pytest.mark.parametrize("wrapper", ["alone", "chain"])
@pytest.mark.parametrize(
    "settings, words",
    [
        ((0.2, 1.0), "the step size was 0.1 and is 0.2"),
        ((0.1, 0.5), "the temperature was 1 and is 0.5"),
        ((DECAY, 1.0), "the step size was 0.1 and is 0.0"),
    ],
)
def test_other_settings_go_on_with_a_warning_that_names_them(wrapper, settings, words):
    chain = run(5, WRAPPERS[wrapper](0.1, 1.0)).final
    with pytest.warns(UserWarning, match=words):
        sgld_jax.resume(chain, WRAPPERS[wrapper](*settings), QUADRATIC, num_samples=2)


def test_another_friction_is_named():
    chain = run(5, sgld_jax.baoa(0.1, friction=0.25)).final
    with pytest.warns(UserWarning, match="the friction was 0.25 and is 0.5"):
        sgld_jax.resume(chain, sgld_jax.baoa(0.1, 0.5), QUADRATIC, num_samples=2)


# --- concatenate ---------------------------------------------------------------------


def test_only_what_goes_on_is_appended():
    first = run(10)
    chain = first.final
    later = sgld_jax.resume(chain, SAMPLER, QUADRATIC, num_samples=5, burn_in=3)
    other = sgld_jax.sample(4, SAMPLER, QUADRATIC, normal, num_samples=5, num_chains=4)
    last = sgld_jax.resume(later.final, SAMPLER, QUADRATIC, num_samples=5)
    joined = first.concatenate(later)
    assert joined.num_samples == 15
    assert joined.concatenate(last)[:, 3:].num_samples == 17
    assert first[:, 5:].concatenate(later).num_samples == 10
    assert first[1:3].concatenate(later[1:3]).num_samples == 15
    for before, after, words in [
        (first, first, "begins before the first draws end"),
        (later, first, "begins before"),
        (first, run(10), "begins before"),
        (first, other, "other keys"),
        (first, last, "updates between the two"),
        (first[:, :5], later, "sliced off"),
        (first[:, ::2], later, "sliced off"),
        (first[:2], later, "4 chains after 2"),
        (first[[0, 1, 2, 2]], later, "other keys"),
    ]:
        with pytest.raises(ValueError, match=f"Cannot append: .*{words}"):
            before.concatenate(after)


# --- long runs -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "counts",
    [
        {"thinning": 2**31},
        {"burn_in": 2**31},
        {"thinning": 2**20, "num_samples": 2**12},
    ],
)
def test_more_updates_than_the_counter_holds_are_refused(counts):
    """They returned zeros, or noise that repeats for ever (old code)."""
    with pytest.raises(ValueError, match=r"fewer than 2\*\*31.*another key"):
        run(**{"num_samples": 2, **counts})


def test_a_chain_near_the_end_of_its_counter_is_refused():
    chain = run(2).final
    chain = chain._replace(count=chain.count + (2**31 - 5))
    with pytest.raises(ValueError, match="3 updates after 2,147,483,645"):
        sgld_jax.resume(chain, SAMPLER, QUADRATIC, num_samples=3)


def test_a_kernel_at_the_end_of_its_counter_fails_loudly(make):
    sampler = make(0.1, key=0)
    state = sampler.init(jnp.ones(2))
    for count, finite in [(2**31 - 2, True), (2**31 - 1, False)]:
        at = state._replace(count=jnp.array(count, jnp.int32))
        updates, _ = sampler.update(jnp.ones(2), at, jnp.ones(2))
        assert np.isfinite(updates).all() == finite


# --- a loop of one's own -------------------------------------------------------------


def test_a_batch_of_ones_own_has_the_scale_of_all_data():
    """Rows from a loader: the gradient is that of N rows, whatever the batch."""
    still = sgld_jax.sgld(1e-3, temperature=0.0)
    chain = sgld_jax.start(0, still, normal, num_chains=3)
    rows = jax.tree.map(lambda x: x[4:8], DATA)
    after, value = sgld_jax.step(chain, still, MEAN, batch=rows)
    u, g = jax.vmap(jax.value_and_grad(MEAN), (0, None))(chain.params, rows)
    np.testing.assert_allclose(value, u, rtol=1e-6)
    np.testing.assert_allclose(after.params, chain.params - 1e-3 * g, rtol=1e-5)
    np.testing.assert_array_equal(after.count, 1)


def test_a_batch_in_place_of_the_data_is_refused_with_the_right_advice():
    """Who rebuilt the potential for 4 rows, as was said, got a far too wide posterior."""
    chain = sgld_jax.start(0, SMALL_STEPS, normal, num_chains=3)
    rows = jax.tree.map(lambda x: x[:4], DATA)
    with pytest.raises(ValueError, match=r"all N rows.*step\(..., batch=batch\)") as e:
        sgld_jax.step(chain, SMALL_STEPS, MEAN, data=rows)
    assert "num_data=4" not in str(e.value)
    with pytest.raises(ValueError, match="Both data and batch"):
        sgld_jax.step(chain, SMALL_STEPS, MEAN, data=DATA, batch=rows)


def test_every_kernel_goes_on_bit_for_bit_and_from_a_file_too(make, tmp_path):
    def sampler():
        return make(1e-3, 1.0)

    options = {"num_chains": 3, "data": DATA, "batches": sgld_jax.shuffled(5)}
    whole = sgld_jax.sample(
        0, sampler(), MEAN, jax.random.normal, num_samples=5, **options
    )
    first = sgld_jax.sample(
        0, sampler(), MEAN, jax.random.normal, num_samples=2, **options
    )
    first.save(tmp_path / "run")
    for start in (first, sgld_jax.load(tmp_path / "run")):
        rest = sgld_jax.resume(
            start.final,
            sampler(),
            MEAN,
            num_samples=3,
            data=DATA,
            batches=options["batches"],
        )
        np.testing.assert_array_equal(rest.params, whole.params[:, 2:])
