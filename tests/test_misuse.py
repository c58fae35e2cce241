"""The misuse table: what people type by mistake, and the sentence they get.

Each row is a call and words of the error. Every error names what was given, what was
expected and what to type, in fewer than 2,000 characters, and none is an internal one.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sgld_jax
from tests.runs import DATA, MEAN, QUADRATIC, SAMPLER, N, normal, run

ROWS = np.arange(12.0, dtype=np.float32).reshape(6, 2)
FREE = lambda x, rows: jnp.sum((rows - x) ** 2)  # noqa: E731


def with_data(data, potential=FREE, **kwargs):
    return run(2, potential=potential, data=data, **kwargs)


def with_init(init):
    return run(2, potential=lambda p, _: jnp.zeros(()), init=init)


TWO = np.ones(2, np.float32)


def updated(sampler, params=TWO, grads=TWO):
    return sampler.update(grads, sampler.init(params), params)


def resumed(chain, **kwargs):
    return sgld_jax.resume(chain, SAMPLER, QUADRATIC, num_samples=2, **kwargs)


def in_x64():
    with jax.enable_x64(True):
        init = lambda key: jax.random.normal(key, (2,), jnp.float64)  # noqa: E731
        chain = run(2, init=init).final
    return resumed(chain)


MISUSE = {
    # --- data
    "data as nested lists": (
        lambda: with_data(ROWS.tolist()),
        TypeError,
        "data holds a list.*jnp.asarray",
    ),
    "a long nested list": (
        lambda: with_data(np.zeros((5000, 10)).tolist()),
        TypeError,
        "data holds a list",
    ),
    "data as a list of row vectors": (
        lambda: with_data(list(ROWS)),
        TypeError,
        "rows, or parts of rows",
    ),
    "a list inside a dict": (
        lambda: with_data({"x": [1.0, 2.0]}, lambda x, b: jnp.sum(x)),
        TypeError,
        "data holds a list",
    ),
    "strings in data": (
        lambda: with_data(np.array(["a", "b"])),
        TypeError,
        "an array of <U1, expected an array of numbers",
    ),
    "objects in data": (
        lambda: with_data({"x": np.array([1, None], object)}),
        TypeError,
        "an array of object",
    ),
    "a string as data": (lambda: with_data("file.csv"), TypeError, "is str, expected"),
    "a number as data": (lambda: with_data(3.0), TypeError, "is float, expected"),
    "integers that x32 cuts to 0": (
        lambda: with_data(np.full((4, 2), 2**33)),
        ValueError,
        "up to 8589934592, which JAX would cut to int32",
    ),
    "parts of different length": (
        lambda: with_data((ROWS, ROWS[:3])),
        ValueError,
        "one common leading axis",
    ),
    "no rows": (lambda: with_data(ROWS[:0]), ValueError, "0 rows"),
    "fewer rows than num_data": (
        lambda: with_data(jax.tree.map(lambda x: x[:5], DATA), MEAN),
        ValueError,
        f"num_data={N}, but data has 5 rows.*batch=batch",
    ),
    "no data for a minibatch potential": (
        lambda: run(2, potential=MEAN),
        ValueError,
        "there are no data",
    ),
    "batches as a number": (
        lambda: with_data(ROWS, batches=3),
        TypeError,
        r"batches=3: expected full_batch\(\)",
    ),
    "a batch larger than the data": (
        lambda: with_data(ROWS, batches=sgld_jax.shuffled(7)),
        ValueError,
        "batch_size=7 is more than the 6 rows",
    ),
    # --- potential
    "a log density as potential": (
        lambda: run(2, potential=lambda x: -jnp.sum(x**2)),
        TypeError,
        r"potential\(x\) cannot be called.*from_log_density",
    ),
    "potential with aux": (
        lambda: run(2, potential=lambda x, _: (jnp.sum(x**2), x)),
        TypeError,
        "returned a tuple: expected a scalar",
    ),
    "potential returns None": (
        lambda: run(2, potential=lambda x, _: None),
        TypeError,
        "returned a NoneType: expected a scalar",
    ),
    "potential returns an integer": (
        lambda: run(2, potential=lambda x, _: jnp.int32(3)),
        TypeError,
        "dtype int32: expected a real floating scalar",
    ),
    "potential returns a complex number": (
        lambda: run(2, potential=lambda x, _: jnp.sum(x) * 1j),
        TypeError,
        "dtype complex64: expected a real floating scalar",
    ),
    "potential returns a vector": (
        lambda: run(2, potential=lambda x, _: x**2),
        ValueError,
        r"has shape \(2,\): expected a scalar",
    ),
    "a number as potential": (
        lambda: run(2, potential=1.0),
        TypeError,
        "potential=1.0: expected a function",
    ),
    "a mean likelihood": (
        lambda: with_data(
            ROWS,
            sgld_jax.minibatch_potential(
                sgld_jax.gaussian_prior(1.0), lambda x, b: jnp.mean(b), 6
            ),
        ),
        ValueError,
        "one value per example",
    ),
    # --- init
    "init returns None": (lambda: with_init(lambda key: None), TypeError, "NoneType"),
    "init returns an empty tree": (
        lambda: with_init(lambda key: {}),
        TypeError,
        r"init\(key\) returned dict without an array",
    ),
    "init returns a string": (
        lambda: with_init(lambda key: {"w": "zeros"}),
        TypeError,
        "a str among the parameters",
    ),
    "init is an array": (
        lambda: with_init(jnp.zeros(2)),
        TypeError,
        "expected a function key -> params",
    ),
    "integers as parameters": (
        lambda: with_init(lambda key: jnp.zeros(2, int)),
        TypeError,
        "Only real floating leaves",
    ),
    "bfloat16 parameters": (
        lambda: with_init(lambda key: jnp.zeros(2, jnp.bfloat16)),
        TypeError,
        "lose the law",
    ),
    "stacked with too few starts": (
        lambda: with_init(sgld_jax.stacked(jnp.zeros((3, 2)))),
        ValueError,
        "num_chains=4",
    ),
    "stacked with nothing": (
        lambda: with_init(sgld_jax.stacked({})),
        TypeError,
        "stacked was given dict without an array",
    ),
    # --- sampler
    "a step size as sampler": (
        lambda: run(2, 0.1),
        TypeError,
        "expected an optax.GradientTransformation",
    ),
    "an array as preconditioner": (
        lambda: sgld_jax.sgld(0.1, preconditioner=jnp.ones(2)),
        TypeError,
        "expected a Preconditioner",
    ),
    "an uncalled preconditioner": (
        lambda: sgld_jax.sgld(0.1, preconditioner=sgld_jax.identity),
        TypeError,
        r"is a function: expected a Preconditioner, such as sgld_jax.identity\(\)",
    ),
    "a matrix to diagonal": (
        lambda: updated(
            sgld_jax.sgld(0.1, preconditioner=sgld_jax.diagonal(jnp.eye(2)), key=0)
        ),
        ValueError,
        "above 0",
    ),
    "a matrix of positive numbers to diagonal": (
        lambda: updated(
            sgld_jax.sgld(
                0.1, preconditioner=sgld_jax.diagonal(jnp.ones((2, 2))), key=0
            )
        ),
        ValueError,
        r"has shape \(2, 2\), the parameter has \(2,\)",
    ),
    "a schedule that returns a vector": (
        lambda: updated(sgld_jax.sgld(lambda count: jnp.ones(3), key=0)),
        ValueError,
        r"The schedule of step_size returned shape \(3,\)",
    ),
    "a schedule that returns a negative number": (
        lambda: updated(sgld_jax.sgld(0.1, lambda count: -1.0, key=0)),
        ValueError,
        "The schedule of temperature returned -1.0",
    ),
    "a negative step size": (lambda: sgld_jax.sgld(-0.1), ValueError, "step_size=-0.1"),
    "a step size of zero": (lambda: sgld_jax.sgld(0), ValueError, "step_size=0"),
    "a step size as text": (
        lambda: sgld_jax.sgld("1e-3"),
        TypeError,
        "step_size='1e-3'",
    ),
    "a step per coordinate": (
        lambda: sgld_jax.sgld(jnp.ones(2)),
        ValueError,
        "preconditioner=sgld_jax.diagonal",
    ),
    "no key": (
        lambda: updated(sgld_jax.sgld(0.1)),
        ValueError,
        r"no key.*sgld_jax.seed\(state, key\)",
    ),
    "a seed out of range": (lambda: sgld_jax.sgld(0.1, key=-1), ValueError, "key=-1"),
    "a batch of keys": (
        lambda: sgld_jax.sgld(0.1, key=jax.random.split(jax.random.key(0))),
        ValueError,
        "batch of keys",
    ),
    "nothing to seed": (
        lambda: sgld_jax.seed(optax.sgd(0.1).init(jnp.ones(2)), 0),
        ValueError,
        "found no key slot",
    ),
    "gradients of another shape": (
        lambda: updated(sgld_jax.sgld(0.1, key=0), grads=jnp.ones((2, 2))),
        ValueError,
        r"has shape \(2, 2\), the parameter has \(2,\)",
    ),
    # --- counts
    "no draws": (lambda: run(0), ValueError, "num_samples=0"),
    "half a draw": (lambda: run(1.5), TypeError, "num_samples=1.5: expected a whole"),
    "no chains": (lambda: run(2, num_chains=0), ValueError, "num_chains=0"),
    "negative burn-in": (lambda: run(2, burn_in=-1), ValueError, "burn_in=-1"),
    "no thinning": (lambda: run(2, thinning=0), ValueError, "thinning=0"),
    "too much thinning": (lambda: run(2, thinning=2**31), ValueError, "fewer than 2"),
    "a batch of half a row": (
        lambda: sgld_jax.shuffled(0.5),
        TypeError,
        "batch_size=0.5: expected a whole number",
    ),
    "a batch of no rows": (lambda: sgld_jax.shuffled(0), ValueError, "batch_size=0"),
    "num_data of nothing": (
        lambda: sgld_jax.minibatch_potential(lambda p: 0.0, lambda p, b: b, 0),
        ValueError,
        "num_data=0",
    ),
    # --- after the run
    "Samples to resume": (lambda: resumed(run(2)), TypeError, "pass samples.final"),
    "parameters to resume": (
        lambda: resumed(jnp.ones(2)),
        TypeError,
        "expected what sgld_jax.start returned",
    ),
    "thinning as text": (
        lambda: resumed(run(2).final, thinning="3"),
        TypeError,
        "thinning='3': expected a whole number",
    ),
    "too far below zero": (
        lambda: resumed(run(2).final, burn_in=-3, thinning=3),
        ValueError,
        "burn_in=-3: expected at least -2",
    ),
    "an optimizer's chain to a sampler": (
        lambda: resumed(run(2, optax.adam(0.1)).final),
        ValueError,
        "Pass the sampler they were started with",
    ),
    "a run appended to itself": (
        lambda: run(2).concatenate(run(2)),
        ValueError,
        "begins before the first draws end",
    ),
    "chains of x64 in x32": (in_x64, TypeError, "is float64, and 64 bits are off"),
    "three indices": (lambda: run(2)[0, 0, 0], IndexError, "has 3 indices"),
    "collect returns text": (
        lambda: run(2, collect=lambda x: {"name": "w"}),
        TypeError,
        "collect returned a str",
    ),
    # --- where no driver can run
    "sample inside jit": (
        lambda: jax.jit(lambda x: run(2, init=lambda key: x).params)(jnp.ones(2)),
        TypeError,
        "cannot be inside jax.jit.*sgld_jax.step",
    ),
    "sample inside vmap": (
        lambda: jax.vmap(lambda x: run(2, init=lambda key: x).params)(jnp.ones((2, 2))),
        TypeError,
        "cannot be inside jax.jit, vmap",
    ),
    "sample inside grad": (
        lambda: jax.grad(lambda x: run(2, init=lambda key: x).params.sum())(
            jnp.ones(2)
        ),
        TypeError,
        "cannot be inside jax.jit, vmap, grad",
    ),
}


@pytest.mark.parametrize("name", MISUSE)
def test_a_mistake_gets_a_sentence(name):
    call, error, words = MISUSE[name]
    with pytest.raises(error, match=words) as raised:
        call()
    assert type(raised.value) is error
    assert 20 < len(str(raised.value)) < 2000


RIGHT = {
    "Python numbers as parameters": lambda: updated(
        sgld_jax.sgld(0.1, key=0), params=0.5, grads=0.5
    ),
    "Python numbers as init": lambda: run(
        2, potential=lambda p, _: p["a"] ** 2, init=lambda key: {"a": 0.0}
    ),
    "a tuple of parts": lambda: with_data((ROWS, ROWS[:, 0]), lambda x, b: jnp.sum(x)),
    "booleans in data": lambda: with_data({"x": ROWS > 3}, lambda x, b: jnp.sum(x)),
    "int64 that fits": lambda: with_data(np.arange(6), lambda x, b: jnp.sum(x)),
    "collect returns a Python number": lambda: run(2, collect=lambda x: 1.0),
    "a potential with more parameters": lambda: run(
        2, potential=lambda x, batch=None, power=2: jnp.sum(x**power)
    ),
    "an optimizer as sampler": lambda: run(2, optax.adam(0.1), init=normal),
}


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_passes(name):
    result = RIGHT[name]()
    kept = result.params if isinstance(result, sgld_jax.Samples) else result[0]
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(kept))
