"""Programs are kept by what they compute: nothing stale runs, nothing compiles twice."""

import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sgld_jax
from sgld_jax import program as program_module
from tests.runs import QUADRATIC, normal, on_data, run


@pytest.fixture
def compilations():
    """The compilations of XLA, also of single operations, as they happen."""
    seen = []

    def listen(event, seconds, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            seen.append(seconds)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield seen
    jax.monitoring.unregister_event_duration_listener(listen)


# --- each run sees the present value -------------------------------------------------

SETTINGS = {"scale": 1.0}
THE_SCALE = 1.0


class Scaled:
    scale = 1.0

    def density(self, x):
        return -0.5 * self.scale * jnp.sum(x**2)

    @jax.jit
    def jitted_density(self, x):
        return -0.5 * self.scale * jnp.sum(x**2)


def a_closure():
    def density(x):
        return -0.5 * SETTINGS["scale"] * jnp.sum(x**2)

    return density, lambda scale: SETTINGS.update(scale=scale)


def a_jitted_closure():
    density, change = a_closure()
    return jax.jit(density), change


def a_bound_method():
    owner = Scaled()
    return owner.density, lambda scale: setattr(owner, "scale", scale)


def a_rebound_global():
    def density(x):
        return -0.5 * THE_SCALE * jnp.sum(x**2)

    return density, lambda scale: globals().update(THE_SCALE=scale)


def an_array_edited_in_place():
    array = np.ones(3, np.float32)

    def density(x):
        return -0.5 * jnp.asarray(array)[0] * jnp.sum(x**2)

    return density, lambda scale: array.fill(scale)


def an_array_behind_a_jit_of_its_own():
    owner = {"array": jnp.ones(3)}

    def density(x):
        inner = jax.jit(lambda x, a=owner["array"]: -0.5 * a[0] * jnp.sum(x**2))
        return inner(x)

    return density, lambda scale: owner.update(array=jnp.full(3, scale))


CLOSURES = [
    a_closure,
    a_jitted_closure,
    a_bound_method,
    a_rebound_global,
    an_array_edited_in_place,
    an_array_behind_a_jit_of_its_own,
]


def variance(density):
    """Of SGLD with ε = .4 on λ = scale: 1 / (λ (1 − .2 λ))."""
    samples = sgld_jax.sample(
        0,
        sgld_jax.sgld(0.4),
        sgld_jax.from_log_density(density),
        normal,
        num_samples=1,
        burn_in=60,
        num_chains=4000,
    )
    return samples.params.var(), np.sqrt(2 / samples.params.size)


@pytest.mark.parametrize("make", CLOSURES)
def test_another_value_behind_a_potential_is_seen(make):
    density, change = make()
    for scale in (1.0, 4.0):
        change(scale)
        expected = 1 / (scale * (1 - 0.2 * scale))
        measured, error = variance(density)
        assert abs(measured / expected - 1) < 4.5 * error
    change(1.0)


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit])
def test_another_value_behind_collect_prior_and_likelihood_is_seen(wrap):
    at = {"x": jnp.zeros(()), "prior": 0.0, "data": 0.0}
    potential = sgld_jax.minibatch_potential(
        wrap(lambda p: at["prior"] * jnp.sum(p)),
        wrap(lambda p, rows: rows * at["data"]),
        num_data=3,
    )
    collect = wrap(lambda p: p[0] * 0 + at["x"])

    def seen():
        samples = run(
            2,
            sgld_jax.sgld(0.1, temperature=0.0),
            potential,
            lambda key: jnp.ones(2),
            data=jnp.arange(3.0),
            collect=collect,
        )
        return samples.params[0, -1], samples.potential[0, 0], samples.final.params[0]

    assert seen()[:2] == (0.0, 0.0)
    at.update(x=jnp.array(7.0), prior=1.0, data=2.0)
    kept, value, end = seen()
    assert (kept, value) == (7.0, -2.0 - 6.0)
    np.testing.assert_allclose(end, 1.2, rtol=1e-6)  # 1 + two steps of .1


def test_a_jitted_method_keeps_its_owner():
    owner = Scaled()
    owner.scale = 3.0
    x = jnp.ones(2)
    potential = sgld_jax.from_log_density(owner.jitted_density)
    assert potential(x, None) == 3.0


def test_two_callbacks_of_one_factory_are_not_exchanged():
    def collecting(number):
        def collect(x):
            shape = jax.ShapeDtypeStruct((), np.float32)
            return jax.pure_callback(
                lambda _: np.float32(number), shape, x[0], vmap_method="sequential"
            )

        return collect

    for number in (1.0, 2.0):
        samples = run(3, collect=collecting(number))
        np.testing.assert_array_equal(samples.params, np.full((4, 3), number))


# --- what is not the same is not exchanged -------------------------------------------


def test_equal_texts_with_other_outer_structures_are_told_apart():
    first = run(2, collect=lambda x: {"a": x[0], "b": x[1]})
    second = run(2, collect=lambda x: {"c": x[0], "d": x[1]})
    pair = run(2, collect=lambda x: (x[0], x[1]))
    assert first.params.keys() == {"a", "b"} and second.params.keys() == {"c", "d"}
    np.testing.assert_array_equal(pair.params[1], second.params["d"])


def test_the_first_and_the_second_of_two_arguments_are_told_apart():
    """Their texts would be equal, had the unused argument been left out."""
    x, y = jnp.arange(3.0), 5 + jnp.arange(3.0)
    for function, expected in [
        (lambda x, y: 2 * x, 2 * x),
        (lambda x, y: 2 * y, 2 * y),
    ]:
        doubled = program_module.Program(function, x, y)(x, y)
        np.testing.assert_array_equal(doubled, expected)


def test_flags_of_the_compiler_are_part_of_the_key(compilations):
    program_module._kept.clear()  # of other tests, with other flags
    run(1)
    compilations.clear()
    was = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", not was)
    try:
        run(1)
    finally:
        jax.config.update("jax_disable_most_optimizations", was)
    assert compilations


# --- nothing compiles twice ----------------------------------------------------------


class Unhashable:
    __hash__ = None

    def __init__(self, scale):
        self.scale = scale

    def __call__(self, x, batch):
        del batch
        return 0.5 * jnp.sum(x**2 / self.scale)


def fresh_but_equal():
    """Sampler, potential, collect and thinning of a run that are new objects each time."""
    data = jnp.linspace(0.0, 1.0, 11)
    prior = sgld_jax.gaussian_prior({"w": jnp.ones(2)})
    return [
        lambda: run(40, sgld_jax.sgld(0.1), lambda x, batch: 0.5 * jnp.sum(x**2)),
        lambda: run(40, potential=Unhashable(jnp.arange(1.0, 3.0))),
        lambda: on_data(40, collect=lambda x: x.sum() + data[3]),
        lambda: run(
            40,
            optax.chain(optax.add_decayed_weights(0.1), sgld_jax.sgld(0.01)),
            sgld_jax.from_log_density(prior),
            lambda key: {"w": jax.random.normal(key, (2,))},
        ),
    ]


@pytest.mark.parametrize("case", range(4))
def test_fresh_but_equal_objects_cost_no_compilation(case, compilations):
    fresh_but_equal()[case]()
    assert compilations
    compilations.clear()
    samples = fresh_but_equal()[case]()
    assert not compilations
    assert samples.report.compile_seconds < 2  # traced and lowered


@pytest.mark.parametrize(
    "changed", [{"thinning": 7}, {"burn_in": 3}, {"num_samples": 900}]
)
def test_other_counts_cost_no_compilation(changed, compilations):
    kwargs = {"num_samples": 20, "num_chains": 3}
    run(**kwargs)
    compilations.clear()
    run(**{**kwargs, **changed})
    assert not compilations


def test_the_cache_is_bounded(monkeypatch):
    monkeypatch.setattr(program_module, "_MAX_KEPT", 2)
    monkeypatch.setattr(program_module, "_kept", type(program_module._kept)())
    for scale in range(3):
        run(1, potential=lambda x, _, s=scale: (1.5 + s) * jnp.sum(x**2))
        run(1, potential=lambda x, _: jnp.sum(x**2))  # used again, and so kept
    assert len(program_module._kept) == 2


# --- what a program keeps alive ------------------------------------------------------


def lowered_texts(monkeypatch):
    texts = []
    compiled = program_module._compiled

    def spy(lowered, *args):
        texts.append(lowered.as_text())
        return compiled(lowered, *args)

    monkeypatch.setattr(program_module, "_compiled", spy)
    return texts


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit])
def test_arrays_that_functions_close_over_are_arguments(wrap, monkeypatch):
    big = jnp.linspace(0.0, 1.0, 50_000)
    texts = lowered_texts(monkeypatch)
    density = wrap(lambda x: -0.5 * jnp.sum((x - big.mean()) ** 2) + big[3])
    run(2, potential=sgld_jax.from_log_density(density))
    run(2, potential=wrap(lambda x, batch: jnp.sum((x - big.mean()) ** 2)))
    run(2, collect=wrap(lambda x: x[0] + big[7]))
    on_data(2, num_chains=3)
    assert len(texts) >= 4
    assert max(map(len, texts)) < 200_000  # 50,000 numbers in hex: 400 kB


@pytest.mark.parametrize("inner", [lambda f: f, jax.jit])
def test_closed_over_arrays_die_with_their_owner(inner):
    def one_run():
        big = jnp.linspace(0.0, 1.0, 300_007)
        shift = inner(lambda x: x - big[3])
        potential = lambda x, batch: 0.5 * jnp.sum(shift(x) ** 2)  # noqa: E731
        run(2, potential=potential, collect=lambda x: x + big[5])
        return weakref.ref(potential)

    potential = one_run()
    gc.collect()
    assert potential() is None
    assert not [x for x in jax.live_arrays() if x.shape == (300_007,)]


def test_data_behind_an_inner_jit_are_not_kept_in_programs():
    big = np.random.default_rng(0).normal(size=300_007).astype(np.float32)
    big = jnp.asarray(big)
    inner = jax.jit(lambda x: x - big.mean())
    before = list(program_module._kept)
    run(2, potential=lambda x, batch: 0.5 * jnp.sum(inner(x) ** 2))
    assert list(program_module._kept) == before


def test_a_start_can_be_donated():
    chain = sgld_jax.start(0, sgld_jax.sgld(0.1), normal, num_chains=3)
    step = jax.jit(
        lambda chain: sgld_jax.step(chain, sgld_jax.sgld(0.1), QUADRATIC),
        donate_argnums=0,
    )
    after, _ = step(chain)
    assert chain.params.is_deleted() and after.count.tolist() == [1, 1, 1]
