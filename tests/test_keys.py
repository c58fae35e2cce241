"""The key rules: never defaulted, never shared, never reused."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sgld_jax
from sgld_jax import generator as generator_module
from sgld_jax import keys as keys_module
from sgld_jax.keys import as_key, chain_keys
from tests.marks import briefly
from tests.mutants import mutated
from tests.runs import run_python

pytestmark = pytest.mark.shared_by_kernels
PARAMS = {"w": jnp.zeros((3, 2)), "b": jnp.zeros(2)}


def bits(keys):
    return np.asarray(jax.random.key_data(keys)).reshape(-1, 2)


def distinct(keys):
    return len(np.unique(bits(keys), axis=0))


def stack(n, params=PARAMS):
    return jax.tree.map(lambda x: jnp.zeros((n, *x.shape)), params)


def all_differ(rows):
    """Whether the rows of an array `[..., d]` do; of ±δ, where d is large."""
    rows = np.asarray(rows).reshape(-1, np.shape(rows)[-1])
    return len(np.unique(rows, axis=0)) == len(rows)


def noise(sampler, state, params=PARAMS):
    return sampler.update(jax.tree.map(jnp.zeros_like, params), state, params)[0]


# --- what `key=` takes ---------------------------------------------------------------


def test_seeds_typed_keys_and_legacy_keys_are_one_stream_and_stored_typed(make):
    states = [
        make(0.1, key=key).init(PARAMS)
        for key in (
            7,
            np.int64(7),
            jnp.array(7),
            jax.random.key(7),
            jax.random.PRNGKey(7),
            np.asarray(jax.random.PRNGKey(7)),
        )
    ]
    for state in states:
        assert jnp.issubdtype(state.rng_key.dtype, jax.dtypes.prng_key)
        np.testing.assert_array_equal(bits(state.rng_key), bits(states[0].rng_key))
    ((_, found),) = optax.tree.get_all_with_path(states[0], "rng_key")
    np.testing.assert_array_equal(bits(found), bits(states[0].rng_key))


@pytest.mark.parametrize(
    "key, error, words",
    [
        (True, TypeError, "seed such as 0"),
        (np.bool_(True), TypeError, "seed such as 0"),
        (0.0, TypeError, "seed from 0"),
        ("0", TypeError, "seed such as 0"),
        (-1, ValueError, r"0 ... 2\*\*32 - 1"),
        (2**32, ValueError, r"0 ... 2\*\*32 - 1"),
        (2**40, ValueError, r"0 ... 2\*\*32 - 1"),
        (np.arange(4), TypeError, "seed from 0"),
        (jnp.zeros((2, 2), jnp.uint32), ValueError, "jax.vmap"),
    ],
)
def test_keys_that_are_refused_when_the_sampler_is_built(make, key, error, words):
    with pytest.raises(error, match=words):
        make(0.1, key=key)


def test_a_batch_of_keys_is_refused(make):
    with pytest.raises(ValueError, match="batch of keys"):
        make(0.1, key=jax.random.split(jax.random.key(0), 4))


def test_the_largest_seed_is_taken():
    assert distinct(jnp.stack([as_key(s) for s in (0, 2**31, 2**32 - 1)])) == 3


def test_rbg_keys_are_refused_under_vmap_and_in_sample(make):
    key = jax.random.key(0, impl="rbg")
    sampler = make(0.1, key=key)
    noise(sampler, sampler.init(PARAMS))  # one chain is fine
    with pytest.raises(ValueError, match="threefry"):
        jax.vmap(sampler.init)(stack(3))
    states = jax.tree.map(lambda x: jnp.stack([x, x]), sampler.init(PARAMS))
    with pytest.raises(ValueError, match="threefry"):
        jax.vmap(sampler.update, (None, 0))(PARAMS, states)
    with pytest.raises(ValueError, match="threefry"):
        sgld_jax.start(key, sampler, lambda key: PARAMS, num_chains=2)


def test_without_a_key_the_first_update_raises_and_names_both_remedies(make):
    sampler = make(0.1)
    state = sampler.init(PARAMS)
    assert isinstance(state.rng_key, sgld_jax.Unseeded)
    assert jax.tree.leaves(state.rng_key) == []
    with pytest.raises(ValueError, match=r"key=0.*sgld_jax.seed\(state, key\)"):
        jax.eval_shape(sampler.update, PARAMS, state, PARAMS)


# --- streams -------------------------------------------------------------------------


@pytest.mark.key_reuse_off("draws from one key twice to compare")
def test_nobody_elses_stream_is_repeated(make):
    """optax.add_noise(key=0), model.init and jax.random.normal(key(0)) draw other numbers."""
    p = jnp.zeros(8)
    sampler = make(0.5, key=0)
    ours = np.asarray(noise(sampler, sampler.init(p), p))
    add_noise = optax.add_noise(1.0, 0.0, key=0)
    theirs = np.asarray(add_noise.update(p, add_noise.init(p))[0])
    key = jax.random.key(0)
    first, second = jax.random.split(key)
    others = [theirs] + [
        np.asarray(jax.random.normal(k, (8,))) for k in (key, first, second)
    ]
    for other in others:
        assert not np.intersect1d(np.round(ours, 5), np.round(other, 5)).size


def test_trees_and_kernels_of_one_seed_have_streams_of_their_own(make):
    init = make(0.1, key=0).init
    trees = [
        {"a": jnp.zeros(3)},
        {"b": jnp.zeros(3)},
        {"a": jnp.zeros((3, 1))},
        jnp.zeros(3),
    ]
    assert distinct(jnp.stack([init(tree).rng_key for tree in trees])) == len(trees)


def test_the_callers_key_may_be_donated_and_the_sampler_used_again(make):
    key = jax.random.key(0)
    sampler = make(0.1, key=key)
    step = jax.jit(sampler.update, donate_argnums=(1,))
    for _ in range(
        2
    ):  # the second init fails where the state holds the caller's buffer
        state = sampler.init(PARAMS)
        _, state = step(PARAMS, state, PARAMS)
    assert not key.is_deleted()


def test_noise_of_a_step_is_a_function_of_key_and_count_alone(make):
    sampler = make(0.1, key=0)
    state = sampler.init(PARAMS)
    for _ in range(4):
        _, state = sampler.update(PARAMS, state, PARAMS)
    memory = {k: v for k, v in state._asdict().items() if k not in ("rng_key", "trace")}
    assert memory["count"] == 4
    skipped = sampler.init(PARAMS)._replace(**memory)
    jax.tree.map(
        np.testing.assert_array_equal, noise(sampler, state), noise(sampler, skipped)
    )
    of_another = sampler.init(PARAMS)._replace(**memory | {"count": jnp.int32(5)})
    pair = noise(sampler, state), noise(sampler, of_another)
    moved = np.concatenate(
        [np.ravel(x) for x in jax.tree.leaves(jax.tree.map(jnp.not_equal, *pair))]
    )
    assert moved.any() if make is sgld_jax.sglrw else moved.all()


def words_drawn(key, counts, module=generator_module):
    """What the generator hashes out of a key: the words of some counts and places."""
    place = jnp.arange(8, dtype=jnp.uint32)
    return np.concatenate(
        [np.stack(module.words(key, jnp.int32(t), place), axis=1) for t in counts]
    )


def levels_meet(chain_keys, module=generator_module):
    """Whether a number drawn at one level is a key of another."""
    lone = sgld_jax.sgld(0.1, key=0).init(PARAMS).rng_key
    folded = jax.vmap(lambda i: jax.random.fold_in(lone, i))(jnp.arange(16))
    chains = chain_keys(lone, 16)
    everything = [bits(lone), bits(folded), bits(chains)]
    everything += [words_drawn(k, range(4), module) for k in (lone, *chains)]
    everything = np.concatenate(everything)
    return len(np.unique(everything, axis=0)) < len(everything)


@pytest.mark.key_reuse_off("draws from one key twice to compare")
def test_levels_do_not_meet():
    assert not levels_meet(chain_keys)


@pytest.mark.key_reuse_off("draws from one key twice to compare")
def test_levels_that_meet_are_seen():
    mutant = mutated(keys_module, "level", "base = key")
    assert levels_meet(mutant.chain_keys)
    from_zero = "first = jnp.broadcast_to(count.astype(_WORD), position.shape)"
    assert levels_meet(chain_keys, mutated(generator_module, "counters", from_zero))


def test_an_init_that_maps_no_parameter_is_out_of_sight_and_seed_cures_it(make):
    init = make(0.1, key=0).init
    states = jax.vmap(lambda i: init(PARAMS))(jnp.arange(4))
    assert distinct(states.rng_key) == 1
    assert distinct(sgld_jax.seed(states, 0).rng_key) == 4


# --- chains are independent by construction ------------------------------------------


def vmapped_inits(make=sgld_jax.sgld):
    init = make(0.1, key=0).init
    partly = {"w": jnp.zeros((6, 3, 2)), "b": jnp.zeros(2)}  # a shared bias
    twice = jax.tree.map(lambda x: jnp.zeros((2, 3, *x.shape)), PARAMS)
    axis1 = jax.tree.map(lambda x: jnp.moveaxis(x, 0, -1), stack(6))
    return {
        "vmap": lambda: jax.vmap(init)(stack(6)),
        "jit of vmap": lambda: jax.jit(jax.vmap(init))(stack(6)),
        "vmap of jit": lambda: jax.vmap(jax.jit(init))(stack(6)),
        "vmap of vmap": lambda: jax.vmap(jax.vmap(init))(twice),
        "last axis": lambda: jax.vmap(init, in_axes=-1)(axis1),
        "partly mapped": lambda: jax.vmap(init, in_axes=({"w": 0, "b": None},))(partly),
        "eval_shape inside": lambda: (
            jax.eval_shape(jax.vmap(init), stack(6)),
            jax.vmap(init)(stack(6)),
        )[1],
    }


@pytest.mark.parametrize("how", vmapped_inits())
def test_a_vmapped_init_gives_every_chain_its_own_key(make, how):
    keys = vmapped_inits(make)[how]().rng_key
    assert distinct(keys) == keys.size == 6


def test_chains_of_a_batch_do_not_depend_on_its_size(make):
    sampler = make(0.1, key=0)

    def first_noise(n):
        states = jax.vmap(sampler.init)(stack(n))
        return jax.jit(jax.vmap(lambda s: noise(sampler, s)))(states)

    few, many = first_noise(8), first_noise(1024)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b[:8]), few, many)
    third = jax.tree.map(lambda x: x[3], jax.vmap(sampler.init)(stack(8)))
    one = jax.jit(lambda s: noise(sampler, s))(third)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b[3]), one, few)


def test_a_sweep_over_step_sizes_from_one_start(make):
    """The state is built inside the vmapped loop: only `update` can see the chains."""

    def run(step_size):
        sampler = make(step_size, key=0)
        theta = jnp.zeros(40)

        def update(carry, _):
            theta, state = carry
            delta, state = sampler.update(jnp.zeros(40), state, theta)
            return (theta + delta, state), delta / jnp.sqrt(2 * step_size)

        return jax.lax.scan(update, (theta, sampler.init(theta)), None, length=4)[1]

    xi = np.asarray(jax.vmap(run)(jnp.array([0.1, 0.1, 0.2, 0.4])))
    assert all_differ(np.round(xi, 6))
    nested = np.asarray(
        jax.vmap(lambda e: jax.vmap(run)(jnp.array([e, e])))(jnp.ones(3))
    )
    assert all_differ(np.round(nested, 6))


def test_a_state_broadcast_into_a_vmapped_update(make):
    sampler, state = make(0.1, key=0), make(0.1, key=0).init(jnp.zeros(40))
    updates, _ = jax.vmap(sampler.update, (0, None))(jnp.zeros((6, 40)), state)
    assert all_differ(updates)


def test_equal_keys_that_are_mapped_give_common_noise(make):
    sampler = make(0.1)
    state = sampler.init(PARAMS)
    same = jnp.stack([jax.random.key(1)] * 3)
    states = jax.vmap(lambda k: sgld_jax.seed(state, k))(same)
    updates = jax.vmap(sampler.update, (None, 0))(PARAMS, states)[0]
    for row in updates["w"][1:]:
        np.testing.assert_array_equal(row, updates["w"][0])


def skip_without_derivatives(make):
    if make is sgld_jax.sglrw:
        pytest.skip("the odds of a move have no derivative")


def test_derivatives_and_checkpoint_pass_through(make):
    skip_without_derivatives(make)
    sampler = make(0.1, key=0)

    def loss(p):
        updates, _ = sampler.update(
            jax.tree.map(lambda x: 2 * x, p), sampler.init(p), p
        )
        return sum(jnp.sum(u**2) for u in jax.tree.leaves(updates))

    at = jax.tree.map(jnp.ones_like, PARAMS)
    expected = jax.grad(loss)(at)
    for how in (jax.checkpoint(loss), jax.jit(loss)):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5),
            jax.grad(how)(at),
            expected,
        )
    tangent = jax.jvp(loss, (at,), (at,))[1]
    total = sum(jnp.sum(g) for g in jax.tree.leaves(expected))
    np.testing.assert_allclose(tangent, total, rtol=1e-4)
    batch = jax.tree.map(lambda x: jnp.ones((3, *x.shape)), PARAMS)
    each = jax.vmap(jax.grad(loss))(batch)["b"]
    assert len(np.unique(np.asarray(each)[:, 0])) == 3
    hessian = jax.hessian(lambda b: loss({**at, "b": b}))(at["b"])
    np.testing.assert_allclose(hessian, 2 * 0.2**2 * np.eye(2), rtol=1e-5)


def end_of_a_path(make, eps, T, decaying=False):
    """A function of the last position after three updates on U = |θ|²."""
    step_size = (lambda count: eps / (1 + count)) if decaying else eps
    sampler = make(step_size, T, key=0)
    theta = jnp.ones(3)
    state = sampler.init(theta)
    for _ in range(3):
        updates, state = sampler.update(2 * theta, state, theta)
        theta = theta + updates
    return jnp.sum(theta**2)


@pytest.mark.parametrize(
    "argument, at",
    [
        pytest.param(0, (0.1, 1.3), marks=pytest.mark.slow),
        (1, (0.1, 1.3)),
        (0, (0.1, 0)),
    ],
)
@pytest.mark.parametrize("decaying", [False, True])
def test_derivatives_in_step_size_and_temperature(make, argument, at, decaying):
    """Forward, reverse and by differences; also in ε where T = 0."""
    skip_without_derivatives(make)
    at = tuple(map(jnp.float32, at))

    def f(x):
        changed = (*at[:argument], x, *at[argument + 1 :])
        return end_of_a_path(make, *changed, decaying=decaying)

    h = 0.01
    x, f = at[argument], jax.jit(f)
    by_differences = (f(x + h) - f(x - h)) / (2 * h)
    reverse, forward = jax.grad(f)(x), jax.jacfwd(f)(x)
    np.testing.assert_allclose(reverse, by_differences, rtol=0.02)
    np.testing.assert_allclose(forward, reverse, rtol=1e-4)
    curvature = jax.hessian(f)(x)
    assert np.isfinite(curvature) and curvature != 0


@pytest.mark.parametrize(
    "derivative", briefly([jax.grad, jax.jacfwd, jax.hessian], jax.grad)
)
@pytest.mark.parametrize("decaying", [False, True])
def test_derivatives_of_a_sweep_see_noise_of_their_own(make, derivative, decaying):
    """Chains of one step size differ, in a `vmap` of derivatives and in two of them."""
    d = derivative(lambda eps: end_of_a_path(make, eps, 1.3, decaying))
    once = np.asarray(jax.jit(jax.vmap(d))(jnp.array([0.1, 0.1, 0.2])))
    assert len(np.unique(once)) == 3
    twice = np.asarray(jax.jit(jax.vmap(jax.vmap(d)))(jnp.full((2, 3), 0.1)))
    assert len(np.unique(twice)) == 6 and np.isfinite(twice).all()


def test_chain_keys_are_prefix_stable():
    key = jax.random.key(3)
    np.testing.assert_array_equal(
        bits(chain_keys(key, 4)), bits(chain_keys(key, 99))[:4]
    )


@pytest.mark.parametrize("n_axes", [1, 2])
def test_chains_on_a_mesh_of_explicit_axes(n_axes):
    """Four devices, chains sharded over them: keys and updates still differ."""
    code = f"""
    import jax, jax.numpy as jnp, numpy as np, sgld_jax
    from jax.sharding import AxisType, PartitionSpec as P
    for kind in (AxisType.Explicit, AxisType.Auto):
        mesh = jax.make_mesh((4,), ("chain",), axis_types=(kind,))
        with jax.set_mesh(mesh):
            p = jax.device_put(jnp.zeros((8,) + (3,) * {n_axes}), jax.NamedSharding(mesh, P("chain")))
            sampler = sgld_jax.sgld(0.1, key=0)
            states = jax.jit(jax.vmap(sampler.init))(p)
            u, states = jax.jit(jax.vmap(sampler.update))(p, states, p)
            assert len(np.unique(np.asarray(u))) == u.size, kind
    """
    env = {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
        "JAX_PLATFORMS": "cpu",
    }
    run_python(code, env)


def test_the_key_reuse_checker_passes():
    """Two inits, jit, scan, vmap, sample and resume under JAX_DEBUG_KEY_REUSE=1."""
    code = """
    import jax, jax.numpy as jnp, sgld_jax
    key = jax.random.key(0)
    sampler = sgld_jax.sgld(0.1, key=key)
    p = {"a": jnp.zeros(3), "b": jnp.zeros((2, 2))}
    for _ in range(2):
        state = sampler.init(p)
        body = lambda c, _: (sampler.update(p, c, p)[1], None)
        jax.jit(lambda s: jax.lax.scan(body, s, None, length=3))(state)
    jax.vmap(sampler.init)(jax.tree.map(lambda x: jnp.zeros((4, *x.shape)), p))
    sgld_jax.seed(state, 1)
    U = sgld_jax.minibatch_potential(
        sgld_jax.gaussian_prior(1.0), lambda t, x: -0.5 * (x - t) ** 2, 16)
    for batches in (sgld_jax.with_replacement(4), sgld_jax.shuffled(4)):
        run = dict(data=jnp.arange(16.0), batches=batches, thinning=2)
        s = sgld_jax.sample(
            jax.random.key(1), sampler, U, jax.random.normal, num_samples=5, num_chains=3, **run)
        sgld_jax.resume(s.final, sampler, U, num_samples=5, **run)
    """
    run_python(code, {"JAX_DEBUG_KEY_REUSE": "1"})
