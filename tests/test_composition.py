"""What may be composed with a kernel: the table of the README, row by row.

Sound rows are run in every way people run optax, and held to an exact law. Unsound
rows compile just as well: there the same check must see that the law is wrong.
"""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from scipy import stats

import sgld_jax
from tests.compositions import (
    ABOUT_MEMORY,
    ALPHA,
    CHAINS,
    DRAWS,
    PAIRS,
    TEMPERATURE,
    UNSOUND,
    Row,
    accumulated,
    add_noise,
    as_params,
    compositions,
    injected,
    kernel,
    keys_of,
    last_layer,
    law_p_value,
    lyapunov,
    one_call,
    row_of,
    scaled_after,
    scanned,
    simulate,
    two_groups,
    variance,
)
from tests.kernels import KERNELS

CALLS = 3
NOISES = np.random.default_rng(1).normal(size=(2 * CALLS, 2, 2)).astype(np.float32)


def begin(row):
    params = as_params(row, {"b": jnp.array([0.3, -1.0]), "w": jnp.array([2.0, 0.5])})
    tx = row.build()
    return tx, params, tx.init(params)


@functools.cache
def path(name, row):
    """One compiled scan, for all modes that scan, and both its halves."""
    row = row_of(name, row)
    tx, params, state = begin(row)
    run = jax.jit(functools.partial(scanned, row, tx))
    half = run(params, state, NOISES[:CALLS], jnp.array(0))
    return run, half, run(*half, NOISES[CALLS:], jnp.array(CALLS))


@functools.cache
def eager(name, row):
    row = row_of(name, row)
    tx, params, state = begin(row)
    before = layout(state)
    for count in range(CALLS):
        params, state = one_call(row, tx, params, state, NOISES[count], count)
        assert layout(state) == before
    return params, state


def layout(tree, weak=True):
    """Structure, shapes, dtypes, and which leaves are weakly typed."""
    leaves, treedef = jax.tree.flatten(jax.eval_shape(lambda: tree))
    return treedef, [(x.shape, x.dtype, weak and x.weak_type) for x in leaves]


def bits(tree):
    """Leaves as NumPy arrays, typed keys as their data."""
    plain = optax.tree.unwrap_random_key_data(tree)
    return [np.asarray(x) for x in jax.tree.leaves(plain)]


def assert_same_bits(a, b):
    chex.assert_trees_all_equal(bits(a), bits(b), strict=True)


def assert_close(a, b):
    """Equal to rounding, keys and counts exactly: compilers fuse differently."""
    for x, y in zip(bits(a), bits(b), strict=True):
        rounding = {"rtol": 1e-5, "atol": 1e-5} if x.dtype.kind in "fc" else {"rtol": 0}
        np.testing.assert_allclose(x, y, **rounding)


def in_jit_with_donation(name, row):
    """Buffers given away are ours to give: a second init from one tx still works."""
    setting = row_of(name, row)
    tx, params, _ = begin(setting)
    step = jax.jit(functools.partial(one_call, setting, tx), donate_argnums=(0, 1))
    for _ in range(2):
        mine, state = jax.tree.map(jnp.copy, params), tx.init(params)
        given_away = mine["w"]
        for count in range(CALLS):
            mine, state = step(mine, state, NOISES[count], count)
        assert given_away.is_deleted()
        assert_close((mine, state), eager(name, row))


def in_scan(name, row):
    assert_close(path(name, row)[1], eager(name, row))


def in_vmap(name, row):
    """Chains from one start, with one stream of gradients, go different ways."""
    row = row_of(name, row)
    tx, params, _ = begin(row)
    ends = jax.tree.map(lambda x: jnp.stack([x] * 5), params)
    states = jax.vmap(tx.init)(ends)
    keys = keys_of(states)
    assert all(len(np.unique(key, axis=0)) == 5 for key in keys)
    axes = (0, 0, None, None)
    step = jax.jit(jax.vmap(functools.partial(one_call, row, tx), axes))
    ways = []  # of several draws, since walks by ±δ soon meet at one point
    for count in range(6 * row.calls):
        ends, states = step(ends, states, NOISES[count % len(NOISES)], count)
        ways += [ends[leaf] for leaf in row.law]
    assert len(np.unique(jnp.concatenate(ways, axis=1), axis=0)) == 5
    fewer = jax.vmap(tx.init)(jax.tree.map(lambda x: x[:3], ends))
    assert_same_bits([key[:3] for key in keys], keys_of(fewer))


def in_eval_shape(name, row):
    row = row_of(name, row)
    tx, params, state = begin(row)
    assert layout(jax.eval_shape(tx.init, params)) == layout(state)
    step = functools.partial(one_call, row, tx)
    shapes = jax.eval_shape(step, params, state, NOISES[0], 0)
    assert layout(shapes) == layout((params, state))


def in_map_params(name, row):
    """optax finds what is shaped like parameters; the key is not among it."""
    tx, _, state = begin(row_of(name, row))
    changed = optax.tree.map_params(tx, lambda x: x + 1, state)
    assert layout(changed) == layout(state)
    assert_same_bits(keys_of(changed), keys_of(state))


MODES = {
    "jit, donation": in_jit_with_donation,
    "scan": in_scan,
    "vmapped init": in_vmap,
    "eval_shape": in_eval_shape,
    "map_params": in_map_params,
}


BROKEN_IN_OPTAX = {("flatten", "map_params")}  # for every transformation
TABLE = [
    (name, row, mode)
    for name, row in PAIRS
    for mode in MODES
    if (row, mode) not in BROKEN_IN_OPTAX
    and (name == next(iter(KERNELS)) or row in ABOUT_MEMORY)
]


@pytest.mark.parametrize("name, row, mode", compositions(TABLE))
def test_sound_rows_run_in_every_mode(name, row, mode):
    MODES[mode](name, row)


@pytest.fixture(scope="module")
def checkpointer():
    with ocp.StandardCheckpointer() as checkpointer:
        yield checkpointer


@pytest.mark.parametrize("name, row", compositions(PAIRS))
def test_orbax_resumes_bit_for_bit(name, row, checkpointer, tmp_path):
    run, half, end = path(name, row)
    checkpointer.save(tmp_path / "half", half)
    checkpointer.wait_until_finished()
    tx, params, _ = begin(row_of(name, row))
    target = jax.eval_shape(lambda: (params, tx.init(params)))
    restored = checkpointer.restore(tmp_path / "half", target)
    assert layout(restored, weak=False) == layout(half, weak=False)
    assert_same_bits(run(*restored, NOISES[CALLS:], jnp.array(CALLS)), end)


def test_optax_itself_fails_the_key_reuse_checker_where_it_selects():
    """Why rows are marked `key_reuse_off`: once this fails, the marks can go."""
    tx = optax.MultiSteps(optax.add_noise(1.0, 0.5, 0), 2)
    with jax.debug_key_reuse(True), pytest.raises(jax.errors.KeyReuseError):
        tx.update(jnp.zeros(3), tx.init(jnp.zeros(3)))


# ------------------------------------------------------------------------ laws


WITH_LAW = [(name, row) for name, row in PAIRS if KERNELS[name].law]


@pytest.mark.parametrize("name, row", compositions(WITH_LAW))
def test_sound_rows_have_their_exact_law(name, row):
    row = row_of(name, row)
    start, end = simulate(row, DRAWS)
    assert law_p_value(end, row.end or row.law) > ALPHA
    for leaf in row.law:  # a chain that stands still would keep its law, too
        r = np.corrcoef(start[leaf][:, 0], end[leaf][:, 0])[0, 1]
        assert 2 * stats.norm.sf(abs(np.arctanh(r)) * np.sqrt(CHAINS - 3)) > ALPHA


@pytest.mark.key_reuse_off("optax.add_noise hands its key on")
@pytest.mark.parametrize("name", UNSOUND)
def test_unsound_rows_fail_the_law(name):
    build, wrong = UNSOUND[name]
    row = Row(build, variance())
    if build is add_noise:  # which under a vmap gives all chains one key
        row = row._replace(init=lambda tx, x, i: sgld_jax.seed(tx.init(x), i))
    _, end = simulate(row, draws=80, chains=20_000)
    assert law_p_value(end, variance()) < ALPHA
    if wrong is not None:
        assert law_p_value(end, wrong) > ALPHA


def test_the_wrong_values_are_those_of_the_laws():
    assert scaled_after(2.0) == pytest.approx(0.3714286, abs=1e-7)
    assert UNSOUND["scale before"][1]["w"] == pytest.approx(1.4857143, abs=1e-7)
    ema = np.array([[1 - 0.1 * 0.1, -0.1 * 0.9], [0.1, 0.9]])  # λ = T = 1, ε = .1
    assert lyapunov(ema, [[0.2, 0], [0, 0]]) == pytest.approx(1.9525066, abs=1e-7)


# -------------------------------------------------------------- row by row


@pytest.mark.key_reuse_off("optax selects between states")
def test_multi_steps_is_sgld_on_the_mean_gradient():
    tx, params = accumulated(), {"b": jnp.ones(2), "w": jnp.zeros(2)}
    state, grads = tx.init(params), [{"b": jnp.ones(2), "w": 3.0 * jnp.arange(2.0)}]
    grads += [
        jax.tree.map(lambda g: 2 * g, grads[0]),
        jax.tree.map(jnp.zeros_like, params),
    ]
    for t, g in enumerate(grads):
        assert int(optax.tree.get(state, "inner_opt_state").count) == 0
        updates, state = tx.update(g, state, params)
        assert t == 2 or not any(np.any(u) for u in updates.values())
    plain = kernel()
    expected, _ = plain.update(grads[0], plain.init(params), params)  # (1 + 2 + 0)/3
    assert_close(updates, expected)
    assert int(optax.tree.get(state, "inner_opt_state").count) == 1


@pytest.mark.key_reuse_off("optax selects between states")
def test_apply_if_finite_holds_count_and_noise():
    tx, params = optax.apply_if_finite(kernel(), 3), jnp.ones(2)
    state = tx.init(params)
    expected, _ = tx.update(params, state, params)
    updates, state = tx.update(params * jnp.nan, state, params)
    assert not np.any(updates)
    assert int(state.inner_state.count) == 0
    updates, state = tx.update(params, state, params)
    np.testing.assert_array_equal(updates, expected)


def test_two_groups_built_with_one_seed_draw_different_noise():
    tx, params = two_groups(), {"b": jnp.zeros(2), "w": jnp.zeros(2)}
    updates, _ = tx.update(params, tx.init(params), params)
    assert not np.any(np.isin(updates["b"], updates["w"]))


def test_adam_elsewhere_is_adam():
    tx, adam = last_layer(), optax.adam(0.01)
    grads, params = (
        {"b": jnp.array([1.0, -2.0]), "w": jnp.ones(2)},
        {
            "b": jnp.zeros(2),
            "w": jnp.zeros(2),
        },
    )
    state, theirs = tx.init(params), adam.init(params["b"])
    for _ in range(3):
        updates, state = tx.update(grads, state, params)
        expected, theirs = adam.update(grads["b"], theirs)
        np.testing.assert_array_equal(updates["b"], expected)


def test_a_sweep_gives_every_chain_its_step_size():
    tx, steps = injected(), jnp.linspace(0.02, 0.6, CHAINS)

    def one(step_size, key):
        law = TEMPERATURE / (2.0 * (1 - step_size))
        x = jnp.sqrt(law) * jax.random.normal(key, [2])
        state = optax.tree.set(tx.init(x), step_size=step_size)
        for _ in range(3):
            updates, state = tx.update(2.0 * x, state, x)
            x = x + updates
        return x / jnp.sqrt(law)

    keys = jax.random.split(jax.random.key(5), CHAINS)
    z = {"w": np.asarray(jax.jit(jax.vmap(one))(steps, keys))}
    assert law_p_value(z, {"w": 1.0}) > ALPHA
    assert law_p_value(z, {"w": 1.1}) < ALPHA
