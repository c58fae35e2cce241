"""`mala`: exact at any step, by its own arithmetic and by its law; and the engine's part.

The law of one update is not that of the other kernels, whose registry it is not in: an
update depends on the potential, and moves a proposal.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import integrate, stats

import sgld_jax
from sgld_jax import noise as noise_module
from sgld_jax.kernels import mala as module
from sgld_jax.noise import noise
from tests.law import Z, gaussian_rows
from tests.mutants import mutated, mutated_kernel
from tests.runs import DATA, MEAN, SCHEMES, arrays, assert_equal_bits

# --- the arithmetic of one decision --------------------------------------------------

MATRIX = np.array([[1.0, 0.6, 0.0], [0.6, 2.0, -0.3], [0.0, -0.3, 0.5]])
METRICS = {
    "identity": (sgld_jax.identity(), np.eye(3)),
    "diagonal": (sgld_jax.diagonal(jnp.array([0.5, 2.0, 1.0])), np.diag([0.5, 2, 1])),
    "dense": (sgld_jax.dense(MATRIX), MATRIX),
}


def steep(x):
    return jnp.sum(x**4) / 4 + x[0] * x[1] - 2 * x[2]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("T", [1.0, 1.7])
def test_acceptance_is_metropolis_and_hastings_of_the_proposal_densities(metric, T):
    """π(θ') q(θ|θ') / π(θ) q(θ'|θ), with q by the density of a Gaussian."""
    preconditioner, G = METRICS[metric]
    seen = []
    with jax.enable_x64(True):
        for seed in range(20):
            x, y = np.random.default_rng(seed).normal(size=(2, 3))
            eps = [0.05, 0.5, 2.0][seed % 3]
            sampler = sgld_jax.mala(eps, T, preconditioner=preconditioner, key=seed)
            _, state = step(sampler, sampler.init(jnp.array(x)), jnp.array(x))
            assert state.position.acceptance == 1.0  # of a start
            _, after = step(sampler, state, jnp.array(y))
            expected = min(1.0, np.exp(log_ratio(x, y, float(np.float32(eps)), T, G)))
            assert float(after.position.acceptance) == pytest.approx(expected, rel=1e-5)
            accepted = np.array_equal(after.position.params, y)
            assert accepted or np.array_equal(after.position.params, x)
            assert float(after.position.potential) == pytest.approx(
                float(steep(after.position.params)), rel=1e-7
            )
            seen += [0 < expected < 1, accepted]
    assert 5 < sum(seen[::2]) and 2 < sum(seen[1::2]) < 18


def step(sampler, state, x):
    value, grads = jax.value_and_grad(steep)(x)
    return sampler.update(grads, state, x, value=value)


def log_ratio(x, y, eps, T, G):
    grad = lambda z: z**3 + np.array([z[1], z[0], -2.0])  # noqa: E731

    def log_density(to, start):
        mean = start - eps * G @ grad(start)
        return stats.multivariate_normal.logpdf(to, mean, 2 * eps * T * G)

    target = lambda z: -float(steep(z)) / T  # noqa: E731
    return target(y) + log_density(x, y) - target(x) - log_density(y, x)


def test_the_next_proposal_is_a_langevin_step_from_the_position():
    """With the noise of a step that is known: T = 1 against T = 4 from the same key."""
    x = jnp.array([0.3, -0.2, 1.0])
    cold, warm = (sgld_jax.mala(0.1, T, key=3) for T in (1.0, 4.0))
    (a, state), (b, _) = (step(s, s.init(x), x) for s in (cold, warm))
    kick = b - a  # √(2ε·4) − √(2ε) of the same numbers: one root
    np.testing.assert_allclose(a, -0.1 * jax.grad(steep)(x) + kick, atol=1e-6)
    # A proposal without density: back to the position, and a step from there.
    far = x + 100.0
    c, after = cold.update(jnp.ones(3), state, far, value=jnp.inf)
    assert after.position.acceptance == 0.0
    np.testing.assert_array_equal(after.position.params, x)
    d, _ = warm.update(jnp.ones(3), state, far, value=jnp.inf)
    drift = -0.1 * jax.grad(steep)(x)
    np.testing.assert_allclose(far + c, x + drift + (d - c), atol=1e-4)


# --- the law -------------------------------------------------------------------------

# U = x⁴/4 + (y − x²)²/2: x ∝ exp(−x⁴/(4T)), and y − x² is N(0, T) beside it.
TEMPERATURE = 1.7
CHAINS = 20_000
CURVED = {"y": jnp.float32(0.6), "x": jnp.float32(0.4)}  # a metric


def curved(params):
    return params["x"] ** 4 / 4 + (params["y"] - params["x"] ** 2) ** 2 / 2


@functools.cache
def quadrature():
    """The distribution of x, on a grid."""
    grid = np.linspace(-6, 6, 4001)
    density = np.exp(-(grid**4) / (4 * TEMPERATURE))
    cumulative = integrate.cumulative_trapezoid(density, grid, initial=0)
    return grid, cumulative / cumulative[-1]


def after_some_updates(make, updates, seed):
    """Chains that start in the law, and how many proposals they took."""
    grid, cumulative = quadrature()
    rng = np.random.default_rng(seed)
    x = np.interp(rng.uniform(size=CHAINS), cumulative, grid)
    y = x**2 + np.sqrt(TEMPERATURE) * rng.normal(size=CHAINS)
    params = {"x": jnp.array(x, jnp.float32), "y": jnp.array(y, jnp.float32)}
    G = sgld_jax.diagonal(CURVED)
    sampler = make(0.8, TEMPERATURE, preconditioner=G, key=seed)

    @jax.jit
    def run(params):
        state = jax.vmap(sampler.init)(params)

        def one(params, state):
            value, grads = jax.value_and_grad(curved)(params)
            updates, state = sampler.update(grads, state, params, value=value)
            return optax.apply_updates(params, updates), state

        def update(_, carry):
            return jax.vmap(one)(*carry)

        return jax.lax.fori_loop(0, updates, update, (params, state))[1]

    return run(params)


def law(make, updates=30, seed=0):
    """Whether x, and y − x², have their law; and their p-values."""
    position = after_some_updates(make, updates, seed).position.params
    x, y = (np.asarray(position[name], np.float64) for name in "xy")
    grid, cumulative = quadrature()
    uniform = np.interp(x, grid, cumulative)
    rest = (y - x**2) / np.sqrt(TEMPERATURE)
    rows = gaussian_rows(stats.norm.ppf(np.clip(uniform, 1e-9, 1 - 1e-9)), "x")
    rows += gaussian_rows(rest, "y given x")
    beside = np.abs(x) - np.abs(x).mean()
    z = (beside * rest).mean() / (beside * rest).std() * np.sqrt(len(x))
    return [*rows, rows[0]._replace(name="x and y", statistic=z, p=stats.norm.sf(z))]


def worst(rows):
    return min(row.p for row in rows) * len(rows)


def test_a_target_that_is_not_gaussian_is_exact_at_a_large_step():
    """Three seeds; a p-value of 1e-6 by chance in one of 300,000."""
    for seed in range(3):
        rows = law(sgld_jax.mala, seed=seed)
        assert worst(rows) > 1e-6, rows
    trace = after_some_updates(sgld_jax.mala, 30, 0).trace
    assert 0.3 < float(trace.acceptance.mean()) < 0.7  # so decisions do matter


MUTANTS = {
    "every proposal accepted": ("accept", "accepted = jnp.array(True)"),
    "half the log": (
        "accept",
        "accepted = jnp.log(one_uniform(state, there)) < log_a / 2",
    ),
    "no correction for the proposal": ("ratio", "a = (here.potential - value) / T"),
    "the steps' lengths forgotten": ("ratio", "a = a / T"),
    "the metric twice": (
        "ratio",
        "a = (a - eps * (dot(G(there.gradient), G(there.gradient)) - "
        "dot(G(here.gradient), G(here.gradient))) / 4) / T",
    ),
    "noise of √(εT)": ("noise", "sd = jnp.sqrt(eps) * jnp.sqrt(T)"),
    "T forgotten": ("noise", "sd = jnp.sqrt(2 * eps)"),
    "half the gradient": (
        "drift",
        "move = add(scale(-eps / 2, G(here.gradient)), kick)",
    ),
    "a step from the gradient of the proposal": (
        "drift",
        "move = add(scale(-eps, G(grads)), kick)",
    ),
}


FIRST, *OTHERS = MUTANTS


@pytest.mark.key_reuse_off("some mutants share keys, and a law must see it")
@pytest.mark.parametrize(
    "name", [FIRST, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)]
)
def test_mutants_are_killed(name):
    rows = law(mutated_kernel("mala", *MUTANTS[name]).mala)
    assert worst(rows) < 1e-6, rows


def decisions_and_noise(noise_module, keys=20_000):
    """Numbers that decide, as normal ones, and the noise of the same updates."""
    like = jnp.zeros(4)

    def both(key):
        state = sgld_jax.mala(0.1, key=key).init(like)
        return noise_module.one_uniform(state, like), noise(state, 1.0, like)

    keys = jax.random.split(jax.random.key(0), keys)
    u, xi = jax.jit(jax.vmap(both))(keys)
    return stats.norm.ppf(np.asarray(u, np.float64)), np.asarray(xi, np.float64)


def largest_z(z, xi):
    """Of the correlations of z with each ξ, its size and its square."""
    others = np.concatenate([xi, np.abs(xi), xi[:, ::2] ** 2 + xi[:, 1::2] ** 2], 1)
    others = (others - others.mean(0)) / others.std(0)
    return np.abs(z @ others / np.sqrt(len(z))).max()


def test_decisions_are_independent_of_the_noise():
    assert largest_z(*decisions_and_noise(noise_module)) < Z
    shared = "key = key_of_chain(state.rng_key, values)"
    mutant = mutated(noise_module, "decides", shared)
    assert largest_z(*decisions_and_noise(mutant)) > 10


# --- through the engine --------------------------------------------------------------

NORMAL = sgld_jax.from_log_density(lambda x: -0.5 * jnp.sum(x**2))


def half_normal_potential(x, batch):
    """∞ below 0."""
    return jnp.where(jnp.all(x > 0), 0.5 * jnp.sum(x**2), jnp.inf)


def run(num_samples, potential=NORMAL, step_size=1.0, **kwargs):
    kwargs = {"num_chains": 64, **kwargs}
    init = kwargs.pop("init", lambda key: 1 + jax.random.uniform(key, (2,)))
    return sgld_jax.sample(
        5, sgld_jax.mala(step_size), potential, init, num_samples=num_samples, **kwargs
    )


def test_a_half_normal_has_its_law_and_no_chain_fails():
    samples = run(50, half_normal_potential, burn_in=100, thinning=20)
    assert not samples.failed.any()
    assert (samples.params > 0).all()
    uniform = 2 * stats.norm.cdf(samples.params) - 1
    rows = gaussian_rows(stats.norm.ppf(uniform), "half-normal")
    assert worst(rows) > 1e-6, rows
    # U is that of the draw itself, and not of what was proposed.
    np.testing.assert_allclose(
        samples.potential, 0.5 * np.sum(samples.params**2, -1), rtol=1e-6
    )
    assert (samples.weights == 1).all()


def test_starts_far_out_come_in_without_a_failed_chain():
    samples = run(1, init=lambda key: 1e4 * jax.random.normal(key, (2,)), burn_in=50)
    assert not samples.failed.any()
    assert np.abs(samples.params).max() < 10


def test_proposals_that_overflow_are_rejections():
    """x⁴ from 10¹²: the first step leaves what float32 can say."""
    quartic = sgld_jax.from_log_density(lambda x: -jnp.sum(x**4))
    samples = run(3, quartic, init=lambda key: jnp.full(2, 1e12) * 1e-4)
    assert np.isfinite(samples.params).all() and samples.report.acceptance < 1
    wild = sgld_jax.from_log_density(lambda x: -1e38 * jnp.sum(x**2))
    samples = run(100, wild, init=lambda key: jnp.ones(2) * 0.1, step_size=100.0)
    assert not samples.failed.any()
    np.testing.assert_array_equal(samples.params, np.float32(0.1))
    assert samples.report.lowest_acceptance == 0.0
    assert "a chain hardly moves" in str(samples.report)


@pytest.mark.parametrize("thinning", [1, 3])
def test_m_and_then_k_draws_are_m_plus_k(thinning):
    plan = {"thinning": thinning}
    sampler, potential = sgld_jax.mala(1.0), half_normal_potential
    first = run(4, potential, **plan)
    more = sgld_jax.resume(first.final, sampler, potential, num_samples=5, **plan)
    assert_equal_bits(
        arrays(first.concatenate(more)), arrays(run(9, potential, **plan))
    )


def test_saved_and_loaded_it_goes_on_bit_for_bit(tmp_path):
    first = run(4, half_normal_potential)
    first.save(tmp_path / "run")
    loaded = sgld_jax.load(tmp_path / "run")
    sampler, potential = sgld_jax.mala(1.0), half_normal_potential
    with pytest.raises(ValueError, match="were loaded, and their params are proposals"):
        loaded.final.position  # noqa: B018
    more = sgld_jax.resume(loaded.final, sampler, potential, num_samples=5)
    again = sgld_jax.resume(first.final, sampler, potential, num_samples=5)
    assert_equal_bits(arrays(more), arrays(again))
    assert loaded.report.acceptance == first.report.acceptance


def test_bias_check_expects_no_bias_and_sees_none():
    well = sgld_jax.from_log_density(lambda x: -jnp.sum((x**2 - 1) ** 2))
    sampler = sgld_jax.mala(0.1)
    samples = run(200, well, step_size=0.1, burn_in=400, thinning=10, num_chains=256)
    report = sgld_jax.bias_check(samples, sampler, well)
    assert report.predicted == 1 and report.predicted_error == 0
    assert report.explained and report.measured_error < 0.02


def test_an_audit_says_what_to_do_instead():
    with pytest.raises(ValueError, match="look at its draws instead, by bias_check"):
        sgld_jax.audit(sgld_jax.mala(0.1), key=0)


def test_others_start_from_the_position():
    samples = run(20, half_normal_potential)
    final = samples.final
    np.testing.assert_array_equal(final.position, samples.params[:, -1])
    assert (np.asarray(final.params) != np.asarray(final.position)).all()
    other = sgld_jax.sample(
        0,
        sgld_jax.sgld(0.1),
        NORMAL,
        sgld_jax.stacked(final.position),
        num_samples=1,
        num_chains=64,
    )
    assert other.final.position is other.final.params


def test_a_loop_of_ones_own_sees_the_same_chains():
    sampler = sgld_jax.mala(1.0)
    chain = sgld_jax.start(5, sampler, jax.random.normal, num_chains=3)
    one = jax.jit(lambda chain: sgld_jax.step(chain, sampler, NORMAL))
    for _ in range(6):
        chain, value = one(chain)
    same = sgld_jax.sample(
        5, sampler, NORMAL, jax.random.normal, num_samples=6, num_chains=3
    )
    np.testing.assert_array_equal(chain.position, same.params[:, -1])
    np.testing.assert_allclose(value, 0.5 * np.asarray(chain.position) ** 2, rtol=1e-6)


def test_a_start_without_density_is_a_failure_and_is_named():
    def init(key):
        return jax.random.normal(key, (2,))

    with pytest.warns(UserWarning, match="chains have failed"):
        samples = run(3, half_normal_potential, init=init)
    below = np.array([x.min() < 0 for x in samples.final.params])
    assert samples.failed.sum() > 10
    assert "failed in its first update" in str(samples.report)
    assert not samples.failed[~below].any()
    with pytest.warns(UserWarning, match="chains have failed"):
        infinite = sgld_jax.from_log_density(lambda x: -jnp.sum(jnp.sqrt(x)))
        samples = run(3, infinite, init=lambda key: jnp.zeros(2))  # a slope of ∞
    assert samples.failed.all()


def test_a_schedule_that_goes_below_zero_is_named():
    with pytest.warns(UserWarning, match="the step size was negative"):
        samples = run(6, step_size=lambda count: 1.0 - 0.4 * count)
    assert samples.failed.all()
    assert {failure.step for failure in samples.report.failures} == {3}


def test_a_schedule_is_that_of_the_proposal():
    """Steps in turn, as long as they do not look at the chain, leave π as it is."""
    turns = lambda count: jnp.where(count % 4 == 3, 0.1, 1.5)  # noqa: E731
    samples = run(200, half_normal_potential, step_size=turns, burn_in=40, thinning=10)
    second = np.mean(np.asarray(samples.params, np.float64) ** 2, axis=(1, 2))
    z = (second.mean() - 1) / (second.std(ddof=1) / np.sqrt(len(second)))
    assert abs(z) < Z


# --- what is refused -----------------------------------------------------------------


@pytest.mark.parametrize("scheme", [name for name in SCHEMES if name != "full"])
def test_minibatches_are_refused(scheme):
    given = {"data": DATA, "batches": SCHEMES[scheme]}
    with pytest.raises(ValueError, match="leave batches out, or take sghmc or sgld"):
        run(1, MEAN, **given)
    chain = sgld_jax.start(
        0, sgld_jax.mala(0.1), jax.random.normal, num_chains=2, data=DATA
    )
    with pytest.raises(ValueError, match="leave batches out"):
        sgld_jax.step(chain, sgld_jax.mala(0.1), MEAN, **given)


def test_a_loader_is_refused():
    batches = [{"x": np.zeros(4), "y": np.ones((4, 2))}]
    with pytest.raises(ValueError, match="leave batches out"):
        run(1, MEAN, loader=batches, num_data=20)


def test_all_data_are_fine():
    samples = run(3, MEAN, data=DATA, step_size=1e-3)
    assert not samples.failed.any()


@pytest.mark.parametrize("wrapper", ["masked", "partition"])
def test_a_part_of_the_parameters_is_refused(wrapper):
    if wrapper == "masked":
        sampler = optax.masked(sgld_jax.mala(0.1), {"a": True, "b": False})
    else:
        parts = {"s": sgld_jax.mala(0.1), "o": optax.adam(1e-3)}
        sampler = optax.partition(parts, {"a": "s", "b": "o"})
    init = lambda key: {"a": jax.random.normal(key), "b": jnp.zeros(2)}  # noqa: E731
    potential = sgld_jax.from_log_density(lambda p: -(p["a"] ** 2) - jnp.sum(p["b"]))
    with pytest.raises(ValueError, match="must move all parameters at once"):
        sgld_jax.sample(0, sampler, potential, init, num_samples=1)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: sgld_jax.mala(0.1, 0.0), "would accept nothing but descent"),
        (lambda: sgld_jax.mala(-0.1), "step_size"),
        (
            lambda: sgld_jax.mala(0.1, preconditioner=sgld_jax.rmsprop(num_data=1)),
            "never changes",
        ),
        (
            lambda: sgld_jax.mala(
                0.1, preconditioner=sgld_jax.position_dependent(lambda p: p)
            ),
            "Γ",
        ),
    ],
)
def test_what_cannot_be_exact_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_an_update_needs_params_and_value():
    sampler = sgld_jax.mala(0.1, key=0)
    state = sampler.init(jnp.zeros(2))
    for given in ({"params": jnp.zeros(2)}, {"value": 0.0}):
        with pytest.raises(ValueError, match="with both of the same params"):
            sampler.update(jnp.zeros(2), state, **given)
    unseeded = sgld_jax.mala(0.1)
    with pytest.raises(ValueError, match="has no key"):
        unseeded.update(
            jnp.zeros(2), unseeded.init(jnp.zeros(2)), jnp.zeros(2), value=0.0
        )


# --- input, keys and wrappers --------------------------------------------------------


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_dtypes_are_kept_under_strict_promotion(dtype):
    with jax.enable_x64(dtype == jnp.float64), jax.numpy_dtype_promotion("strict"):
        params = {"a": jnp.ones(3, dtype), "empty": jnp.zeros((0, 2), dtype)}
        sampler = sgld_jax.mala(0.1, key=0)
        state = sampler.init(params)
        updates, after = sampler.update(params, state, params, value=dtype(1.0))
        kinds = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)  # noqa: E731
        assert kinds(updates) == kinds(params) and kinds(after) == kinds(state)


def test_the_state_may_be_donated():
    """Its position is no alias of the parameters it started from."""
    sampler, x = sgld_jax.mala(0.1, key=0), jnp.ones(3)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def update(x, state):
        updates, state = sampler.update(x, state, x, value=jnp.sum(x**2) / 2)
        return x + updates, state

    update(x, sampler.init(x))


def test_chains_of_a_vmap_have_noise_and_decisions_of_their_own():
    sampler = sgld_jax.mala(1.0, key=0)
    x = jnp.ones((2000, 1))
    state = jax.vmap(sampler.init)(x)
    for _ in range(2):
        value = jnp.sum(x**2, 1) / 2
        updates, state = jax.vmap(lambda g, s, p, v: sampler.update(g, s, p, value=v))(
            x, state, x, value
        )
        x = x + updates
    assert len(np.unique(np.asarray(x))) > 1990
    # Of equal proposals a share is accepted, and not all or none.
    same = jax.vmap(
        lambda s: sampler.update(jnp.ones(1), s, 2 * jnp.ones(1), value=2.0)
    )
    moved = np.asarray(same(state)[1].position.params) == 2
    assert 0.02 < moved.mean() < 0.98


def test_at_the_end_of_its_counter_it_fails_loudly():
    sampler = sgld_jax.mala(0.1, key=0)
    last = jnp.array(2**31 - 1, jnp.int32)
    state = sampler.init(jnp.zeros(2))._replace(count=last)
    updates, _ = sampler.update(jnp.zeros(2), state, jnp.zeros(2), value=0.0)
    assert np.isnan(updates).all()


@pytest.mark.parametrize(
    "wrap",
    [
        lambda make: optax.chain(make(0.3)),
        lambda make: optax.inject_hyperparams(make)(0.3),
        lambda make: optax.with_extra_args_support(make(0.3)),
    ],
)
def test_wrappers_hand_the_potential_on_and_the_engine_finds_the_position(wrap):
    sampler = wrap(lambda step_size: sgld_jax.mala(step_size))
    samples = sgld_jax.sample(
        5,
        sampler,
        half_normal_potential,
        lambda key: 1 + jax.random.uniform(key, (2,)),
        num_samples=20,
        num_chains=64,
    )
    assert (samples.params > 0).all() and not samples.failed.any()
    assert 0.2 < samples.report.acceptance < 0.9


def test_the_module_shows_its_equation_first():
    assert "Proposal   θ' = θ − ε G ∇U(θ)" in module.__doc__[:400]
