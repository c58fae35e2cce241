"""The generator: published answers, exact laws, and bits that follow key and place.

The statistics are those of `benchmarks/quality.py`; each test's false-alarm rate with a
fresh seed is ALPHA, and the seeds are fixed.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import sgld_jax
from benchmarks import quality
from sgld_jax import generator
from sgld_jax.noise import normal_like
from tests.mutants import mutated

ALPHA = 1e-6
KEY = jax.random.key(3)
COUNT = jnp.int32(5)

pytestmark = pytest.mark.key_reuse_off("draws from one key twice to compare")

# Random123's kat_vectors: threefry2x32, 20 rounds: counters, key, answer.
KNOWN = [
    ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
    ((0xFFFFFFFF,) * 2, (0xFFFFFFFF,) * 2, (0x1CB996FC, 0xBB002BE7)),
    ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
]


@pytest.mark.parametrize("counters, key, answer", KNOWN)
def test_known_answers(counters, key, answer):
    given = (jnp.uint32(x) for x in (*key, *counters))
    assert tuple(map(int, generator.threefry(*given))) == answer


def test_the_hash_is_jaxs():
    """`fold_in` hashes the counters (0, data): an independent implementation of ours."""
    for data in (0, 1, 77, 2**31):
        ours = generator.threefry(
            *jax.random.key_data(KEY), jnp.uint32(0), jnp.uint32(data)
        )
        theirs = jax.random.key_data(jax.random.fold_in(KEY, data))
        np.testing.assert_array_equal(np.stack(ours), theirs)


def test_box_muller_in_float64():
    """The transform as its formula says, from the same bits, to float32's rounding."""
    x0, x1 = np.random.default_rng(0).integers(0, 2**32, (2, 200_000), dtype=np.uint64)
    x0[:4], x1[:4] = [0, 0, 2**32 - 1, 2**32 - 1], [0, 255, 0, 2**32 - 1]
    z = np.stack(generator.box_muller(*(jnp.asarray(x, jnp.uint32) for x in (x0, x1))))
    u = ((x0 << 8 | x1 & 255).astype(float) + 0.5) / 2**40
    angle = ((x1 >> 8 & 0x3FFFFF).astype(float) + 0.5) / 2**22 * np.pi / 2
    signs = 1.0 - 2.0 * np.stack([x1 >> 31 & 1, x1 >> 30 & 1])
    exact = signs * np.sqrt(-2 * np.log(u)) * np.stack([np.cos(angle), np.sin(angle)])
    # u itself rounds near 1, where the radius is small; elsewhere to parts in 10⁷.
    assert np.abs(z - exact).max() < 4e-4
    usual = u < 0.99
    assert np.abs(z - exact)[:, usual].max() < 2e-6
    assert np.abs(z).max() > 7.5  # of x0 = 0: the tail of 40 bits


def test_the_angle_uses_all_its_bits():
    x1 = jnp.arange(0, 2**32, 2**8 * 4099, dtype=jnp.uint32)
    z = np.stack(generator.box_muller(jnp.full_like(x1, 2**31), x1))
    assert len(np.unique(z[0])) > 0.99 * len(x1)


def normals(n, key=KEY, count=COUNT):
    return generator.normal(key, count, jax.lax.iota(jnp.uint32, n))


def drawn(n, key=KEY, count=COUNT):
    return normal_like(key, count, jnp.zeros(n))


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8, 22, 29, 30, 31, 257, 1000])
def test_a_number_depends_on_its_place_alone(n):
    """In bits, wherever the compiler puts it: un-jitted steps round in other ways."""
    want = np.asarray(jax.jit(lambda: drawn(1000))())[:n]
    keys = jnp.stack([KEY, jax.random.key(4), jax.random.key(5)])

    @jax.jit
    def ways(key, keys, count):
        def step(c, _):
            return c + 1, drawn(n, key, c)

        return {
            "alone": drawn(n, key, count),
            "in a scan": jax.lax.scan(step, count, None, 2)[1][0],
            "under vmap": jax.vmap(lambda k: drawn(n, k, count))(keys)[0],
            "before another leaf": normal_like(
                key, count, {"x": jnp.zeros(n), "y": jnp.zeros(3)}
            )["x"],
        }

    for how, numbers in ways(KEY, keys, COUNT).items():
        np.testing.assert_array_equal(numbers, want, how)


def test_leaves_lie_end_to_end():
    tree = {"a": jnp.zeros((2, 3)), "b": jnp.zeros(()), "c": jnp.zeros((5, 1))}
    parts = jax.tree.leaves(jax.jit(lambda: normal_like(KEY, COUNT, tree))())
    flat = np.concatenate([np.ravel(x) for x in parts])
    np.testing.assert_array_equal(flat, jax.jit(lambda: drawn(12))())


def test_numbers_are_none_of_jax_random():
    ours = set(np.asarray(normals(4096)).tolist())
    for key in (KEY, jax.random.fold_in(KEY, COUNT), *jax.random.split(KEY)):
        theirs = np.asarray(jax.random.normal(key, (4096,))).tolist()
        assert len(ours & set(theirs)) < 20  # by chance: some 4 of 2²⁴ values


def test_keys_of_other_implementations_draw_by_jax():
    key = jax.random.key(0, impl="rbg")
    drawn = normal_like(key, COUNT, jnp.zeros(6))
    theirs = jax.random.normal(jax.random.fold_in(key, COUNT), (8,))[:6]
    np.testing.assert_array_equal(drawn, theirs)
    with pytest.raises(ValueError, match="rbg: batches need a Threefry key"):
        generator.words(key, COUNT, jnp.zeros(1, jnp.uint32))


# --- the law -------------------------------------------------------------------------


def smallest_p(rows):
    worst = min(rows, key=lambda row: row.p)
    return worst.p * len(rows), worst


@pytest.mark.parametrize("exponent", [21, pytest.param(26, marks=pytest.mark.slow)])
def test_numbers_are_normal_and_independent(exponent):
    p, worst = smallest_p(quality.battery(exponent))
    assert p > ALPHA, worst


MUTANTS = {
    "11 bits of the radius": (
        "tail",
        "u = (_number(x0 >> 21) + 0.5) * np.float32(2**-11)",
    ),
    "a rotation forgotten": ("round", "x1 = x0 ^ x1"),
    "both numbers of a pair alike": ("halves", "return cosine"),
    "neighbouring pairs alike": ("pair", "pair = position >> 2"),
    "the count is not hashed": (
        "counters",
        "first = jnp.broadcast_to(count.astype(_WORD) * 0 + 1, position.shape)",
    ),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_broken_generators_are_seen(mutant, monkeypatch):
    broken = mutated(generator, *MUTANTS[mutant])
    draw = lambda k, c, first, n: broken.normal(  # noqa: E731
        k, c, first + jax.lax.iota(jnp.uint32, n)
    )
    monkeypatch.setattr(quality, "_draw", jax.jit(draw, static_argnums=3))
    p, _ = smallest_p(quality.battery(21))
    assert p < ALPHA


@pytest.mark.parametrize("bound", [1, 2, 7, 1000, 65_537, 2**31 - 1])
def test_whole_numbers_are_what_their_words_spell(bound):
    place = jax.lax.iota(jnp.uint32, 5000)
    x0, x1 = (np.asarray(x).astype(object) for x in generator.words(KEY, COUNT, place))
    exact = (x0 * 2**32 + x1) * bound // 2**64
    drawn = np.asarray(generator.below(KEY, COUNT, place, bound))
    np.testing.assert_array_equal(drawn, exact.astype(np.int64))
    if bound <= 1000:
        counts = np.bincount(drawn, minlength=bound)
        assert len(counts) == bound
        assert bound == 1 or stats.chisquare(counts).pvalue > ALPHA


# --- laid out over a mesh ------------------------------------------------------------


def test_a_leaf_spread_over_a_mesh_has_the_same_numbers_and_stays_there():
    from tests.runs import run_python

    run_python(
        """
        import jax, jax.numpy as jnp, numpy as np, sgld_jax
        mesh = jax.make_mesh((2,), ("m",), axis_types=(jax.sharding.AxisType.Explicit,))
        params = {"b": jnp.zeros(3), "w": jnp.zeros((4, 6))}
        place = jax.NamedSharding(mesh, jax.P(None, "m"))
        sampler = sgld_jax.sgld(0.5, key=0)
        whole, _ = jax.jit(sampler.update)(params, sampler.init(params), params)
        with jax.set_mesh(mesh):
            spread = {"b": params["b"], "w": jax.device_put(params["w"], place)}
            parts, _ = jax.jit(sampler.update)(spread, sampler.init(spread), spread)
            assert parts["w"].sharding == place, parts["w"].sharding
        for leaf in params:
            np.testing.assert_array_equal(np.asarray(parts[leaf]), np.asarray(whole[leaf]))
        """,
        env={"XLA_FLAGS": "--xla_force_host_platform_device_count=2"},
    )


def test_the_whole_path_of_a_kernel_uses_it():
    x = jnp.zeros(7)
    state = sgld_jax.sgld(0.5, key=0).init(x)
    updates, _ = sgld_jax.sgld(0.5, key=0).update(x, state, x)
    np.testing.assert_array_equal(updates, drawn(7, state.rng_key, state.count))
