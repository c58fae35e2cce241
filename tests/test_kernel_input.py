"""What kernels take, keep, and refuse, with a sentence. Walks the registry."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sgld_jax
from tests.kernels import AT_ZERO, KERNELS

PARAMS = {"w": jnp.zeros((4, 3)), "b": jnp.zeros(3)}


def one_update(sampler, params, grads=None):
    state = sampler.init(params)
    grads = jax.tree.map(jnp.ones_like, params) if grads is None else grads
    updates, after = sampler.update(grads, state, params)
    assert jax.tree.structure(state) == jax.tree.structure(after)
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(after)):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
    return updates


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("step_size", [0.1, optax.constant_schedule(0.1)])
def test_dtypes_are_kept_under_strict_promotion(make, dtype, step_size):
    with jax.enable_x64(dtype == jnp.float64), jax.numpy_dtype_promotion("strict"):
        params = {"a": jnp.zeros((2, 3), dtype), "b": jnp.zeros(5, dtype)}
        sampler = make(
            step_size, preconditioner=sgld_jax.diagonal(2.0), temperature=0.5, key=0
        )
        updates = one_update(sampler, params)
        assert all(u.dtype == dtype for u in jax.tree.leaves(updates))
        assert float(jnp.std(updates["b"].astype(jnp.float32))) > 0


def test_float64_noise_has_float64_resolution(make):
    with jax.enable_x64(True):
        params = {"a": jnp.zeros(64, jnp.float64), "b": jnp.zeros(64, jnp.float32)}
        updates = one_update(make(0.3, key=0), params)
        assert not np.array_equal(updates["a"], np.float32(updates["a"]))
        assert updates["b"].dtype == jnp.float32
        assert abs(np.corrcoef(updates["a"], updates["b"])[0, 1]) < 0.5


def test_empty_leaves_pass(make):
    params = {
        "a": jnp.zeros(2),
        "none": None,
        "masked": optax.MaskedNode(),
        "empty": {},
    }
    updates = one_update(make(0.1, key=0), params)
    assert jax.tree.structure(updates) == jax.tree.structure(params)
    assert one_update(make(0.1, key=0), {}) == {}
    assert one_update(make(0.1, key=0), {"z": jnp.zeros((0, 3))})["z"].shape == (0, 3)


def test_unknown_extra_arguments_are_ignored(make):
    sampler = make(0.1, key=0)
    assert isinstance(sampler, optax.GradientTransformationExtraArgs)
    state = sampler.init(PARAMS)
    plain, _ = sampler.update(PARAMS, state, PARAMS)
    extra, _ = sampler.update(PARAMS, state, PARAMS, value=1.0, batch=None, anything=3)
    jax.tree.map(np.testing.assert_array_equal, plain, extra)


@pytest.mark.parametrize(
    "leaf, word",
    [
        (jnp.zeros(3, jnp.int32), "nnx.split"),
        (jnp.zeros(3, bool), "nnx.split"),
        (jax.random.key(0), "nnx.split"),
        (jnp.zeros(3, jnp.bfloat16), "param_dtype"),
        (jnp.zeros(3, jnp.float16), "param_dtype"),
        (jnp.zeros(3, jnp.complex64), "split_real_and_imaginary"),
    ],
)
def test_leaves_that_cannot_be_sampled_are_refused_by_name(make, leaf, word):
    with pytest.raises(TypeError, match=r"\['bad'\]") as error:
        make(0.1, key=0).init({"good": jnp.zeros(2), "bad": leaf})
    assert word in str(error.value)
    assert "good" not in str(error.value)


def test_split_real_and_imaginary_is_the_remedy_for_complex_leaves(make):
    sampler = optax.contrib.split_real_and_imaginary(make(0.5, key=0))
    z = jnp.zeros(4000, jnp.complex64)
    updates, _ = sampler.update(z, sampler.init(z), z)
    real = np.asarray(
        one_update(make(0.5, key=1), jnp.zeros(400_000), jnp.zeros(400_000))
    )
    for part in (updates.real, updates.imag):  # each has the noise of a real leaf
        ratio = np.mean(np.square(part)) / np.mean(np.square(real))
        assert abs(ratio - 1) < 4.5 * np.sqrt(2 / 4000 + 2 / 400_000)
    correlation = np.corrcoef(updates.real, updates.imag)[0, 1]
    assert abs(np.arctanh(correlation)) < 4.5 / np.sqrt(4000)


@pytest.mark.parametrize("name", AT_ZERO)
def test_low_precision_is_for_optimisation_alone(name):
    make, params = KERNELS[name].make, {"w": jnp.ones(3, jnp.bfloat16)}
    grads = jax.tree.map(jnp.ones_like, params)
    still = make(0.1, 0.0)
    updates, _ = still.update(grads, still.init(params), params)
    assert updates["w"].dtype == jnp.bfloat16
    noisy = make(0.1, optax.constant_schedule(0.0), key=0)
    with pytest.raises(TypeError, match="lose the law.*'w'.*bfloat16"):
        noisy.init(params)


# --- schedules -----------------------------------------------------------------------

ENDS = {  # all of them end a little below zero, by rounding
    "linear": optax.linear_schedule(0.01, 0.0, 49),
    "polynomial": optax.polynomial_schedule(0.03, 0.0, 1.7, 49),
    "cosine": optax.cosine_decay_schedule(0.03, 49),
    "by hand": lambda count: 0.07 - 0.07 / 49 * jnp.minimum(count, 49) - 1e-8,
}


@pytest.mark.shared_by_kernels
@pytest.mark.parametrize("name", ENDS)
@pytest.mark.parametrize("which", ["step_size", "temperature"])
@pytest.mark.parametrize("inject", [False, True])
def test_a_schedule_that_ends_at_zero_ends_at_zero(make, name, which, inject):
    settings = {"step_size": 0.1, "temperature": 1.0, which: ENDS[name]}
    factory = optax.inject_hyperparams(make) if inject else make
    sampler = factory(**settings, key=0)
    params = jnp.ones(3)

    @jax.jit
    def run(state, params):
        def step(carry, _):
            state, params = carry
            updates, state = sampler.update(params, state, params)
            return (state, params + updates), updates

        # Long enough for a velocity to come to rest after the last step above zero.
        return jax.lax.scan(step, (state, params), None, length=100)[1]

    updates = run(sampler.init(params), params)
    assert np.isfinite(updates).all()
    if which == "step_size":
        np.testing.assert_allclose(updates[-5:], 0.0, atol=2e-4)


@pytest.mark.shared_by_kernels
@pytest.mark.parametrize(
    "which, cause", [("step_size", "the step size"), ("temperature", "the temperature")]
)
@pytest.mark.parametrize("inject", [False, True])
def test_a_schedule_that_goes_below_zero_is_named_with_the_update(
    make, which, cause, inject
):
    settings = {"step_size": 0.01, "temperature": 1.0}
    settings[which] = lambda count: 0.01 * (7.0 - count)
    factory = optax.inject_hyperparams(make) if inject else make
    with pytest.warns(UserWarning, match=f"{cause} was negative or not a number"):
        samples = sgld_jax.sample(
            0,
            factory(**settings, key=0),
            sgld_jax.from_log_density(lambda x: -0.5 * jnp.sum(x**2)),
            lambda key: jnp.ones(2),
            num_samples=20,
        )
    ((_, step, leaf),) = samples.report.failures
    assert (step, leaf) == (8, cause)  # the eighth update has a zero


@pytest.mark.parametrize("which", ["step_size", "temperature"])
def test_what_a_schedule_must_not_return(make, which):
    for returned, words in [(-0.5, "returned -0.5"), (jnp.ones(3), r"shape \(3,\)")]:
        settings = {"step_size": 0.1, which: lambda count, r=returned: r}
        sampler = make(**settings, key=0)
        with pytest.raises(ValueError, match=f"schedule of {which} {words}|{words}"):
            sampler.update(PARAMS, sampler.init(PARAMS), PARAMS)


# --- trees ---------------------------------------------------------------------------


def test_wrong_shapes_are_refused_while_tracing_with_the_path(make):
    sampler = make(0.1, key=0)
    grads = {"w": jnp.zeros((4, 3)), "b": jnp.zeros((4, 3))}
    with pytest.raises(ValueError, match=r"\['b'\].*\(4, 3\).*\(3,\)"):
        jax.eval_shape(sampler.update, grads, sampler.init(PARAMS), PARAMS)


def test_different_trees_are_refused_with_the_paths(make):
    sampler = make(0.1, key=0)
    grads = {"w": jnp.zeros((4, 3)), "c": jnp.zeros(3)}
    with pytest.raises(ValueError, match=r"lack .*'b'.* and have .*'c'"):
        jax.eval_shape(sampler.update, grads, sampler.init(PARAMS), PARAMS)


@pytest.mark.parametrize(
    "step_size", [0, 0.0, -0.1, float("nan"), float("inf"), jnp.array(-1.0)]
)
def test_step_sizes_out_of_range(make, step_size):
    with pytest.raises(ValueError, match="step_size=.*expected"):
        make(step_size)


@pytest.mark.parametrize(
    "temperature", [-0.1, float("nan"), float("inf"), np.float32(-2)]
)
def test_temperatures_out_of_range(make, temperature):
    with pytest.raises(ValueError, match="temperature=.*expected"):
        make(0.1, temperature)


@pytest.mark.parametrize("bad", [None, "0.1", True, {"w": 0.1}])
def test_hyperparameters_of_the_wrong_type(make, bad):
    with pytest.raises(TypeError, match="expected a number or a function"):
        make(bad)
    with pytest.raises((TypeError, ValueError), match="expected"):
        make(0.1, bad)


def test_a_step_per_coordinate_is_a_preconditioner(make):
    with pytest.raises(ValueError, match="diagonal"):
        make(jnp.array([0.1, 0.2]))


@pytest.mark.parametrize("scale", [0.0, -1.0, {"w": jnp.array([1.0, float("nan")])}])
def test_diagonal_refuses_what_is_not_positive(scale):
    with pytest.raises(ValueError, match="above 0"):
        sgld_jax.diagonal(scale)


def test_diagonal_refuses_what_does_not_fit(make):
    for scale, words in [
        ({"w": 1.0}, "no entry for"),
        ({"w": jnp.ones(3), "b": 1.0}, r"\['w'\] has shape \(3,\)"),
    ]:
        sampler = make(0.1, preconditioner=sgld_jax.diagonal(scale), key=0)
        with pytest.raises(ValueError, match=words):
            sampler.init(PARAMS)


def test_init_looks_at_no_value(make):
    sampler = make(0.1, key=0)
    state = jax.eval_shape(sampler.init, PARAMS)
    assert state.rng_key.shape == () and state.count.dtype == jnp.int32


def test_the_counter_saturates_instead_of_wrapping(make):
    sampler = make(optax.constant_schedule(0.1), key=0)
    state = sampler.init(PARAMS)._replace(count=jnp.array(2**31 - 1, jnp.int32))
    _, after = sampler.update(PARAMS, state, PARAMS)
    assert int(after.count) == 2**31 - 1


shapes = st.lists(st.integers(0, 4), max_size=3).map(tuple)
leaves = st.one_of(st.none(), shapes.map(jnp.zeros))
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.dictionaries(st.sampled_from("abcd"), inner, max_size=3),
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
    ),
    max_leaves=5,
)


@pytest.mark.shared_by_kernels
@settings(max_examples=25, deadline=None, derandomize=True)
@given(tree=trees)
@pytest.mark.parametrize("name", KERNELS)
def test_any_tree_keeps_its_structure_shapes_and_dtypes(name, tree):
    updates = one_update(KERNELS[name].make(0.1, key=0), tree)
    assert jax.tree.structure(updates) == jax.tree.structure(tree)
    for u, p in zip(jax.tree.leaves(updates), jax.tree.leaves(tree)):
        assert (u.shape, u.dtype) == (p.shape, p.dtype)
        assert bool(jnp.all(jnp.isfinite(u)))


@pytest.mark.parametrize("name", KERNELS)
def test_the_signature_begins_alike(name):
    """Positional parameters of the same names and defaults, then keywords."""
    signature = inspect.signature(getattr(sgld_jax, name))
    first, *rest = signature.parameters.values()
    assert (first.name, first.default) == ("step_size", first.empty)
    if "friction" in signature.parameters:
        friction, *rest = rest
        assert (friction.name, friction.default) == ("friction", 0.1)
    second, *rest = rest
    assert (second.name, second.default) == ("temperature", 1.0)
    taken = {"preconditioner", "key"} if KERNELS[name].takes_metric else {"key"}
    assert taken <= {p.name for p in rest}
    assert all(p.kind is p.KEYWORD_ONLY for p in rest)
