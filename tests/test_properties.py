"""Any input: the right result, or a clear error that this package raised.

Each property draws its input and says what must come of it. Few cases run by default,
2,000 in the slow run.
"""

import traceback

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sgld_jax
from sgld_jax.potentials.data import num_rows
from tests.runs import QUADRATIC, SAMPLER, arrays, assert_equal_bits

REFUSED = object()
SMALL = st.integers(-2, 6)


def outcome(call):
    """What a call returns, or REFUSED by a sentence of ours; nothing else may happen."""
    try:
        return call()
    except (TypeError, ValueError) as error:
        where = traceback.extract_tb(error.__traceback__)[-1].filename
        assert "sgld_jax" in where, f"an internal error, in {where}: {error!r}"
        assert 20 < len(str(error)) < 2000
        return REFUSED


def was_refused(result, expected: bool) -> bool:
    assert (result is REFUSED) == expected, f"{result}, refused should be {expected}"
    return expected


# --- trees, shapes, dtypes -----------------------------------------------------------

SHAPES = st.lists(st.integers(0, 4), max_size=3).map(tuple)
DTYPES = st.sampled_from(
    [jnp.float32] * 6 + [jnp.bfloat16, jnp.float16, jnp.int32, jnp.bool_, jnp.complex64]
)
LEAVES = st.builds(lambda shape, dtype: jnp.ones(shape, dtype), SHAPES, DTYPES)


def containers(inner):
    return st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    )


TREES = st.recursive(st.none() | LEAVES, containers, max_leaves=5)


def an_update_of_any_tree(data):
    """θ − ε g + √(2εT) ξ with a number of its own in every coordinate."""
    tree, T = data.draw(TREES), data.draw(st.sampled_from([0, 1.0]))
    sampler = sgld_jax.sgld(0.5, T, key=0)
    result = outcome(lambda: sampler.update(tree, sampler.init(tree), tree)[0])
    dtypes = {x.dtype for x in jax.tree.leaves(tree)}
    allowed = {jnp.dtype(d) for d in ("float32", "bfloat16", "float16")}
    sound = dtypes <= (allowed if T == 0 else {jnp.dtype("float32")})
    if was_refused(result, not sound):
        return
    assert jax.tree.structure(result) == jax.tree.structure(tree)
    for update, x in zip(jax.tree.leaves(result), jax.tree.leaves(tree)):
        assert (update.shape, update.dtype) == (x.shape, x.dtype)
    flat = [np.ravel(x).astype(float) for x in jax.tree.leaves(result)]
    noise = np.concatenate([*flat, []]) + 0.5
    assert np.isfinite(noise).all()
    assert len(np.unique(noise)) == (min(len(noise), 1) if T == 0 else len(noise))


# --- hyperparameters and schedules ---------------------------------------------------

FLOATS = st.floats(width=32, allow_subnormal=False)  # the CPU takes those for 0
VALUES = st.one_of(
    FLOATS,
    FLOATS.map(np.float32),
    FLOATS.map(lambda x: jnp.asarray(x)),
    st.integers(-3, 3),
    st.sampled_from([None, True, "0.1", b"1", 0.1j, [0.1], (1,), {}, object()]),
    SHAPES.map(np.ones),
)


def any_hyperparameter(data):
    name, value = data.draw(st.sampled_from(["step", "temperature"])), data.draw(VALUES)
    given_as = {"step": (value, 1.0), "temperature": (0.1, value)}[name]
    sampler = outcome(lambda: sgld_jax.sgld(*given_as, key=0))
    numeric = isinstance(value, (int, float, np.generic, np.ndarray, jax.Array))
    sound = (
        numeric
        and not isinstance(value, bool)
        and np.ndim(value) == 0
        and bool(np.isfinite(value))
        and bool(value > 0 or (value == 0 and name == "temperature"))
    )
    if was_refused(sampler, not sound):
        return
    x = jnp.ones(2)
    trace = sampler.update(x, sampler.init(x), x)[1].trace
    used = trace.step_size if name == "step" else trace.temperature
    assert used == np.float32(value)


def any_schedule(data):
    """A value at or above 0 is used; one below is 0 by rounding, or NaN."""
    first, now = data.draw(st.floats(0, 1e3, width=32)), data.draw(FLOATS)
    count = data.draw(st.integers(1, 2**31 - 2))
    sampler = sgld_jax.sgld(lambda k: jnp.where(k == 0, first, now), key=0)
    x = jnp.ones(2)
    state = sampler.init(x)._replace(count=jnp.asarray(count, jnp.int32))
    updates, after = sampler.update(x, state, x)
    used = after.trace.step_size
    if now >= 0:
        assert used == np.float32(now)
    elif abs(now) < 0.9e-5 * first:
        assert used == 0 and (updates == 0).all()
    elif not abs(now) <= 1.1e-5 * first:
        assert np.isnan(used) and np.isnan(updates).all()


# --- counts --------------------------------------------------------------------------


def any_counts(data):
    """Draw k comes after burn_in + (k + 1) thinning updates, also across a resume."""
    num_samples, more, thinning = (data.draw(SMALL) for _ in range(3))
    burn_in, chains = data.draw(SMALL), data.draw(st.sampled_from([-1, 0, 1, 3, 3]))

    def run(num_samples):
        return sgld_jax.sample(
            1,
            SAMPLER,
            QUADRATIC,
            lambda key: jax.random.normal(key, (2,)),
            num_samples=num_samples,
            num_chains=chains,
            burn_in=burn_in,
            thinning=thinning,
        )

    first = outcome(lambda: run(num_samples))
    if was_refused(first, min(num_samples, thinning, chains) < 1 or burn_in < 0):
        return
    assert first.params.shape == (chains, num_samples, 2)
    counts = burn_in + thinning * np.arange(1, num_samples + 1)
    np.testing.assert_array_equal(first.counts, np.tile(counts, (chains, 1)))
    later = outcome(
        lambda: sgld_jax.resume(
            first.final, SAMPLER, QUADRATIC, num_samples=more, thinning=thinning
        )
    )
    if was_refused(later, more < 1):
        return
    both = first.concatenate(later)
    assert_equal_bits(arrays(both), arrays(run(num_samples + more)))


# --- data and batches ----------------------------------------------------------------

PARTS = st.one_of(
    st.builds(
        lambda n, rest, dtype: np.zeros((n, *rest), dtype),
        st.integers(0, 3),
        SHAPES,
        st.sampled_from([np.float32, np.int64, np.bool_, "U3", object]),
    ),
    st.sampled_from([3.0, "text", np.float32(1), None, [1.0], {1.0}]),
)


def any_data(data):
    """N is the common length of all parts, if there is one."""
    tree = data.draw(PARTS | st.dictionaries(st.sampled_from("ab"), PARTS, max_size=2))
    parts = list(tree.values()) if isinstance(tree, dict) else [tree]
    arrays_only = [x for x in parts if x is not None]
    lengths = {len(x) for x in arrays_only if isinstance(x, np.ndarray) and np.ndim(x)}
    sound = len(lengths) == 1 and 0 not in lengths
    for x in arrays_only:
        sound &= isinstance(x, np.ndarray) and x.dtype.kind in "fib"
    result = outcome(lambda: num_rows(tree))
    if not was_refused(result, not sound):
        assert result == lengths.pop()


def any_batch_size(data):
    """Rows 0 … N−1; an epoch of `shuffled` has each of them once."""
    scheme = data.draw(st.sampled_from([sgld_jax.shuffled, sgld_jax.with_replacement]))
    num_data, size = data.draw(st.integers(1, 9)), data.draw(st.integers(-1, 11))
    rows = np.zeros((num_data, 1), np.float32)
    chain = outcome(
        lambda: sgld_jax.start(
            data.draw(st.integers(0, 9)),
            SAMPLER,
            jax.random.normal,
            num_chains=1,
            data=rows,
            batches=scheme(size),
        )
    )
    if was_refused(chain, not 1 <= size <= num_data):
        return
    state, seen = jax.tree.map(lambda x: x[0], chain.batches), []
    while len(seen) < num_data:
        indices, state = scheme(size).next(state, num_data)
        assert indices.shape == (size,)
        seen += indices.tolist()
    assert set(seen) <= set(range(num_data))
    if scheme is sgld_jax.shuffled:
        assert sorted(seen[:num_data]) == list(range(num_data))


PROPERTIES = {  # and how many of the 2,000 cases
    an_update_of_any_tree: 400,
    any_hyperparameter: 600,
    any_schedule: 200,
    any_counts: 150,
    any_data: 500,
    any_batch_size: 150,
}


def check(holds, cases):
    @settings(max_examples=cases, deadline=None, derandomize=True, database=None)
    @given(st.data())
    def property_of(data):
        holds(data)

    property_of()


@pytest.mark.parametrize("holds", PROPERTIES, ids=lambda f: f.__name__)
def test_a_right_result_or_a_clear_error(holds):
    check(holds, PROPERTIES[holds] // 20)


@pytest.mark.slow
@pytest.mark.parametrize("holds", PROPERTIES, ids=lambda f: f.__name__)
def test_a_right_result_or_a_clear_error_in_2000_cases(holds):
    check(holds, PROPERTIES[holds])
