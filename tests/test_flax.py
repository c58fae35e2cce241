"""NNX loops written for Adam, with SGLD in its place. Linen: `test_flax_linen.py`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import nnx
from flax.training.train_state import TrainState

import sgld_jax
from tests.compositions import ALPHA, law_p_value
from tests.flax_setup import (
    MEMBERS,
    STEPS,
    N,
    X,
    Y,
    assert_close,
    distinct,
    key_data,
    sampler,
)


class Model(nnx.Module):
    """Its biases start at zero in every member of an ensemble, and are not mapped."""

    def __init__(self, rngs):
        self.first = nnx.Linear(3, 4, rngs=rngs)
        self.last = nnx.Linear(4, 1, rngs=rngs)

    def __call__(self, x):
        return self.last(jnp.tanh(self.first(x)))


def nnx_loss(model):
    return 0.5 * jnp.mean((model(X) - Y) ** 2)


def nnx_step(model, optimizer):
    loss, grads = nnx.value_and_grad(nnx_loss)(model)
    optimizer.update(model, grads)
    return loss


def pair(tx, rngs=None):
    model = Model(nnx.Rngs(0) if rngs is None else rngs)
    return model, nnx.Optimizer(model, tx, wrt=nnx.Param)


def eager_loop(model, optimizer):
    return jnp.stack([nnx_step(model, optimizer) for _ in range(STEPS)])


def jit_loop(model, optimizer, **kwargs):
    step = nnx.jit(nnx_step, **kwargs)
    return jnp.stack([step(model, optimizer) for _ in range(STEPS)])


def nnx_scan_loop(model, optimizer):
    @nnx.scan(length=STEPS, in_axes=(nnx.Carry,), out_axes=(nnx.Carry, 0))
    def steps(carry):
        return carry, nnx_step(*carry)

    return nnx.jit(lambda model, optimizer: steps((model, optimizer))[1])(
        model, optimizer
    )


def lax_scan_loop(model, optimizer):
    graph, state = nnx.split((model, optimizer))

    def step(state, _):
        pair = nnx.merge(graph, state)
        return (lambda loss: (nnx.state(pair), loss))(nnx_step(*pair))

    state, losses = jax.jit(lambda s: jax.lax.scan(step, s, length=STEPS))(state)
    nnx.update((model, optimizer), state)
    return losses


NNX_LOOPS = {
    "eager": eager_loop,
    "nnx.jit": jit_loop,
    "donation": functools.partial(jit_loop, donate_argnums=(0, 1)),
    "nnx.scan": nnx_scan_loop,
    "split, lax.scan, merge": lax_scan_loop,
}


def nnx_by_hand(tx, key):
    """The same loop on plain arrays, without `nnx.Optimizer`."""
    graph, params = nnx.split(Model(nnx.Rngs(0)), nnx.Param)
    params, losses = nnx.to_pure_dict(params), []
    state = tx.init(params)
    state = state if key is None else sgld_jax.seed(state, key)
    loss_of = jax.jit(jax.value_and_grad(lambda p: nnx_loss(nnx.merge(graph, p))))
    for _ in range(STEPS):
        loss, grads = loss_of(params)
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        losses.append(loss)
    return params, jnp.stack(losses)


@functools.cache
def nnx_expected(kind):
    return nnx_by_hand(
        *((optax.adam(1e-3), None) if kind == "adam" else (sampler(), 1))
    )


@pytest.mark.parametrize("how", NNX_LOOPS)
def test_an_nnx_loop_takes_sgld_in_place_of_adam(how):
    for kind in ("adam", "sgld"):
        model, optimizer = pair(optax.adam(1e-3) if kind == "adam" else sampler(None))
        if kind == "sgld":
            sgld_jax.seed(optimizer, 1)
        losses = NNX_LOOPS[how](model, optimizer)
        params, expected = nnx_expected(kind)
        assert_close(losses, expected)
        assert_close(nnx.to_pure_dict(nnx.state(model, nnx.Param)), params)
        assert int(optimizer.step[...]) == STEPS


def test_an_unseeded_nnx_optimizer_raises_until_it_is_seeded():
    model, optimizer = pair(sampler(key=None))
    with pytest.raises(ValueError, match=r"no key.*sgld_jax.seed\(state, key\)"):
        nnx.jit(nnx_step)(model, optimizer)
    sgld_jax.seed(optimizer, 1)
    nnx.jit(nnx_step)(model, optimizer)


def test_a_hyperparameter_of_a_running_nnx_optimizer():
    tx = optax.inject_hyperparams(sgld_jax.sgld)(1e-3, 1.0, key=0)
    model, optimizer = pair(tx)
    step = nnx.jit(nnx_step)
    step(model, optimizer)
    optimizer.opt_state.hyperparams["temperature"][...] = 0.0
    before = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    grads = nnx.to_pure_dict(nnx.grad(nnx_loss)(model))
    step(model, optimizer)
    after = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    assert_close(after, jax.tree.map(lambda p, g: p - 1e-3 * g, before, grads))


# ------------------------------------------------------------------ ensembles


def members(build):
    """Models and optimizers built inside an `nnx.vmap`, as ensembles are."""
    build = nnx.vmap(build, in_axes=0, out_axes=0)
    return nnx.split_rngs(splits=MEMBERS)(build)(nnx.Rngs(0))


def with_a_key(rngs):
    return pair(sampler(key=0), rngs)


def seeded_inside(rngs):
    model, optimizer = pair(sampler(key=None), rngs)
    return model, sgld_jax.seed(optimizer, 0)


def seeded_over(rngs):
    del rngs
    model, optimizer = members(lambda rngs: pair(sampler(key=None), rngs))
    nnx.vmap(lambda optimizer: sgld_jax.seed(optimizer, 0) and None)(optimizer)
    return model, optimizer


@pytest.mark.parametrize("build", [with_a_key, seeded_inside, seeded_over])
def test_members_of_an_nnx_ensemble_draw_noise_of_their_own(build):
    model, optimizer = build(None) if build is seeded_over else members(build)
    assert not np.any(model.last.bias[...])  # zeros, which no vmap maps
    assert distinct(key_data(optimizer.opt_state)) == MEMBERS
    zero = nnx.vmap(lambda model: nnx.grad(lambda m: 0.0 * nnx_loss(m))(model))(model)
    step = nnx.jit(nnx.vmap(lambda m, o, g: o.update(m, g)))
    for _ in range(2):  # not only the first update, which looks at the gradients
        before = model.last.bias[...]
        step(model, optimizer, zero)
        noise = model.last.bias[...] - before
        assert len(np.unique(noise)) == MEMBERS


def test_a_train_state_and_an_nnx_optimizer_have_the_exact_law():
    """On U = θ² with ε = 1/4 and T = 1.3: ρ = 1/2, and laws.md 3.1 gives .8666667."""
    tx, chains, law = sgld_jax.sgld(0.25, 1.3, key=0), 20_000, {"w": 1.3 / 1.5}
    start = np.sqrt(law["w"]) * np.random.default_rng(2).normal(size=(chains, 2))
    start = jnp.asarray(start, jnp.float32)

    def linen(w):
        ts = TrainState.create(apply_fn=None, params={"w": w}, tx=tx)
        step = lambda ts, _: (ts.apply_gradients(grads={"w": 2 * ts.params["w"]}), None)  # noqa: E731
        return jax.lax.scan(step, ts, length=12)[0].params["w"]

    class Point(nnx.Module):
        def __init__(self, w):
            self.w = nnx.Param(w)

    def in_nnx(w):
        point = Point(w)
        optimizer = nnx.Optimizer(point, tx, wrt=nnx.Param)
        for _ in range(3):
            optimizer.update(point, nnx.grad(lambda p: jnp.sum(p.w[...] ** 2))(point))
        return point.w[...]

    for run in (jax.vmap(linen), nnx.vmap(in_nnx)):
        end = {"w": np.asarray(jax.jit(run)(start))}
        assert law_p_value(end, law) > ALPHA
        assert law_p_value(end, {"w": 1.05 * law["w"]}) < ALPHA


# -------------------------------------------------------- checkpoints and units


def test_orbax_resumes_nnx_state_bit_for_bit(tmp_path):
    model, optimizer = pair(sampler(key=0))
    step = nnx.jit(nnx_step)
    for _ in range(3):
        step(model, optimizer)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "three", nnx.state((model, optimizer)))
        checkpointer.wait_until_finished()
        expected = [step(model, optimizer) for _ in range(3)]
        other = pair(sampler(key=7), nnx.Rngs(5))
        target = jax.eval_shape(lambda: nnx.state(other))
        nnx.update(other, checkpointer.restore(tmp_path / "three", target))
    np.testing.assert_array_equal([step(*other) for _ in range(3)], expected)
    np.testing.assert_array_equal(
        key_data(other[1].opt_state), key_data(optimizer.opt_state)
    )


def test_mean_loss_at_temperature_1_over_n_is_the_sum_loss():
    """design.md: step Nε and temperature 1/N on U/N is step ε and temperature 1 on U."""
    step_size, prior = 1e-3, 0.1

    def on_the_sum(model, optimizer):
        grads = nnx.grad(lambda model: N * nnx_loss(model))(model)
        optimizer.update(model, grads)

    decay = optax.add_decayed_weights(prior)
    on_sum = optax.chain(decay, sgld_jax.sgld(step_size, 1.0, key=0))
    decay = optax.add_decayed_weights(prior / N)
    on_mean = optax.chain(decay, sgld_jax.sgld(N * step_size, 1 / N, key=0))
    ends = []
    for tx, step in ((on_sum, nnx.jit(on_the_sum)), (on_mean, nnx.jit(nnx_step))):
        model, optimizer = pair(tx)
        for _ in range(STEPS):
            step(model, optimizer)
        ends.append(nnx.to_pure_dict(nnx.state(model, nnx.Param)))
    assert_close(*ends)


class WithStatistics(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(2, 2, rngs=rngs)
        self.norm = nnx.BatchNorm(2, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)


class Tied(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(2, 2, rngs=rngs)
        self.second = nnx.Linear(2, 2, rngs=rngs)
        self.second.kernel = self.first.kernel


def sampled_from(init):
    squares = lambda p, _: sum(jnp.sum(x**2) for x in jax.tree.leaves(p))  # noqa: E731
    return sgld_jax.sample(
        0, sgld_jax.sgld(0.1), squares, init, num_samples=2, num_chains=2
    )


@pytest.mark.parametrize(
    "init, words",
    [
        (lambda k: nnx.state(WithStatistics(nnx.Rngs(k))), r"mean'\] \(BatchStat\)"),
        (lambda k: WithStatistics(nnx.Rngs(k)), r"RngKey.*nnx.split\(model, nnx.Param"),
        (lambda k: Tied(nnx.Rngs(k)), "one Variable, tied weights"),
        (
            lambda k: {"params": {"w": jnp.ones(2)}, "batch_stats": {"m": jnp.ones(2)}},
            r"batch_stats.*variables\['params'\]",
        ),
    ],
)
def test_what_is_no_parameter_is_refused(init, words):
    with pytest.raises(TypeError, match=words):
        sampled_from(init)


def test_parameters_alone_of_such_modules_are_sampled():
    samples = sampled_from(lambda k: nnx.state(WithStatistics(nnx.Rngs(k)), nnx.Param))
    assert len(jax.tree.leaves(samples.params)) == 4
    tied = sampled_from(lambda k: nnx.state(Tied(nnx.Rngs(k)), nnx.Param))
    assert len(jax.tree.leaves(tied.params)) == 3  # one kernel, two biases


def test_names_of_nnx_parameters_end_where_one_types_them():
    init = lambda key: nnx.state(nnx.Linear(2, 2, rngs=nnx.Rngs(key)), nnx.Param)  # noqa: E731
    scales = {"kernel": 2.0, "bias": 1.0}
    samples = sgld_jax.sample(
        0,
        sgld_jax.sgld(0.1, preconditioner=sgld_jax.diagonal(scales)),
        sgld_jax.from_log_density(sgld_jax.gaussian_prior(scales)),
        init,
        num_samples=300,
        num_chains=4,
        burn_in=100,
        thinning=40,
    )
    names = list(sgld_jax.summary(samples).index)
    assert names[0] == "bias[0]" and names[-1] == "kernel[1, 1]"
    assert set(sgld_jax.to_arviz(samples).posterior.data_vars) == {"bias", "kernel"}
