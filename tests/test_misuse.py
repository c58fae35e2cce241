"""The misuse table: what people type by mistake, and the sentence they get.

Each row is a call and words of the error. Every error names what was given, what was
expected and what to type, in fewer than 2,000 characters, and none is an internal one.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas
import pytest

import sgld_jax
from tests.runs import (
    DATA,
    MEAN,
    QUADRATIC,
    SAMPLER,
    SCHEMES,
    SMALL_STEPS,
    N,
    normal,
    on_data,
    run,
)

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


CHAINS_OF_2 = np.zeros((4, 2, 1, 3), np.float32)  # logits [C, S, n, K]
PRIOR = sgld_jax.gaussian_prior(1.0)


def posterior(log_likelihood, log_prior=PRIOR, num_data=6):
    """A run on six rows with a likelihood of one's own."""
    return with_data(
        ROWS, sgld_jax.minibatch_potential(log_prior, log_likelihood, num_data)
    )


def squares(x, rows):
    return -jnp.sum((rows - x) ** 2, axis=1)


def resumed_on_data(**changes):
    arguments = {"data": DATA, "batches": SCHEMES["shuffled"], **changes}
    return sgld_jax.resume(
        on_data(2).final, SMALL_STEPS, MEAN, num_samples=2, **arguments
    )


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
    "a generator as data": (
        lambda: with_data(row for row in ROWS),
        TypeError,
        r"data is a generator, which can be read once.*batch=batch",
    ),
    "a function as data": (lambda: with_data(lambda: ROWS), TypeError, "is function"),
    "a table of pandas as data": (
        lambda: with_data(pandas.DataFrame({"a": [1.0, 2.0]})),
        TypeError,
        "is DataFrame, expected an array of numbers",
    ),
    "dates in data": (
        lambda: with_data(np.array(["2026-01-01"], "datetime64[D]")),
        TypeError,
        "an array of datetime64",
    ),
    "a number among the parts": (
        lambda: with_data({"x": ROWS, "n": 6}),
        TypeError,
        r"\['n'\] is int",
    ),
    "no parts": (lambda: with_data({}), ValueError, "the leading axes are {}"),
    "an array without rows": (
        lambda: with_data(np.array(3.0)),
        ValueError,
        "one common leading axis",
    ),
    "keys in data": (
        lambda: with_data(jax.random.key(0)),
        TypeError,
        "an array of key<fry>",
    ),
    "a scheme that was not called": (
        lambda: with_data(ROWS, batches=sgld_jax.shuffled),
        TypeError,
        r"expected full_batch\(\), with_replacement\(n\), shuffled\(n\) or blocks\(n\)",
    ),
    "a scheme by name": (
        lambda: with_data(ROWS, batches="shuffled"),
        TypeError,
        "batches='shuffled': expected full_batch",
    ),
    "batches of no data": (
        lambda: run(2, batches=sgld_jax.shuffled(2)),
        ValueError,
        "batches asks for 2 rows, but there is no data",
    ),
    "more num_data than rows": (
        lambda: posterior(squares, num_data=60),
        ValueError,
        "num_data=60, but data has 6 rows: N/n would be wrong",
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
    "potential by name": (
        lambda: run(2, potential="x**2"),
        TypeError,
        r"potential='x\*\*2': expected a function of \(params, batch\)",
    ),
    "a log density with a batch": (
        lambda: sgld_jax.from_log_density(lambda x, batch: -x),
        TypeError,
        r"log_density\(x, batch\) cannot be called.*minibatch_potential",
    ),
    "a log density that is a number": (
        lambda: sgld_jax.from_log_density(3.0),
        TypeError,
        r"log_density=3.0: expected a function of \(params\)",
    ),
    "a log density of many values": (
        lambda: run(2, potential=sgld_jax.from_log_density(lambda x: -(x**2))),
        ValueError,
        r"has shape \(2,\): expected a scalar. Sum it",
    ),
    "a prior that is a number": (
        lambda: sgld_jax.minibatch_potential(1.0, squares, 6),
        TypeError,
        "log_prior=1.0: expected a function",
    ),
    "a prior of many values": (
        lambda: posterior(squares, log_prior=lambda x: -(x**2)),
        ValueError,
        r"log_prior\(params\) has shape \(2,\)",
    ),
    "a likelihood without a batch": (
        lambda: sgld_jax.minibatch_potential(PRIOR, lambda x: -x, 6),
        TypeError,
        r"log_likelihood\(x\) cannot be called with \(params, batch\)",
    ),
    "a likelihood with a column": (
        lambda: posterior(lambda x, rows: rows[:, :1]),
        ValueError,
        r"returned shape \(6, 1\) for a batch of 6: expected \(6,\)",
    ),
    "num_data as an array": (
        lambda: sgld_jax.minibatch_potential(PRIOR, squares, np.zeros((900, 1))),
        TypeError,
        "num_data=array.*expected a whole number",
    ),
    "a prior of no width": (
        lambda: sgld_jax.gaussian_prior(0.0),
        ValueError,
        "finite numbers above 0",
    ),
    "a prior of None": (
        lambda: sgld_jax.gaussian_prior(None),
        TypeError,
        r"gaussian_prior\(scale\) is None: expected a number",
    ),
    "a prior scale as text": (
        lambda: sgld_jax.gaussian_prior({"w": "1"}),
        TypeError,
        r"\['w'\] is '1': expected a number",
    ),
    "a prior of other leaves": (
        lambda: sgld_jax.gaussian_prior({"a": 1.0})({"b": jnp.ones(2)}),
        ValueError,
        r"no entry for .*\['b'\]",
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
    "init without a key": (
        lambda: with_init(lambda: jnp.ones(2)),
        TypeError,
        r"init\(\) cannot be called with \(key\)",
    ),
    "Samples as init": (lambda: with_init(run(2)), TypeError, "init is a Samples"),
    "complex parameters": (
        lambda: with_init(lambda key: jnp.ones(2) * 1j),
        TypeError,
        "split_real_and_imaginary",
    ),
    "a key among the parameters": (
        lambda: with_init(lambda key: {"w": jnp.ones(2), "rng": key}),
        TypeError,
        r"not \['rng'\] \(key<fry>\)",
    ),
    "stacked without an axis of chains": (
        lambda: with_init(sgld_jax.stacked(jnp.zeros(()))),
        ValueError,
        "expected a leading axis of num_chains=4",
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
    "a sampler that was not called": (
        lambda: run(2, sgld_jax.sgld),
        TypeError,
        "expected an optax.GradientTransformation",
    ),
    "a step size of NaN": (
        lambda: sgld_jax.sgld(float("nan")),
        ValueError,
        "step_size=nan: expected a finite number above 0",
    ),
    "a complex step size": (
        lambda: sgld_jax.sgld(0.1j),
        TypeError,
        "step_size=0.1j: expected a number",
    ),
    "a negative temperature": (
        lambda: sgld_jax.sgld(0.1, -1.0),
        ValueError,
        "temperature=-1.0: expected a finite number of at least 0",
    ),
    "a temperature of None": (
        lambda: sgld_jax.sgld(0.1, None),
        TypeError,
        "temperature=None",
    ),
    "a schedule without a count": (
        lambda: sgld_jax.sgld(lambda: 0.1),
        TypeError,
        r"step_size\(\) cannot be called with \(count\)",
    ),
    "a schedule that returns nothing": (
        lambda: updated(sgld_jax.sgld(lambda count: None, key=0)),
        TypeError,
        "The schedule of step_size returned None",
    ),
    "a schedule that returns text": (
        lambda: updated(sgld_jax.sgld(lambda count: "0.1", key=0)),
        TypeError,
        "The schedule of step_size returned '0.1'",
    ),
    "a schedule that returns a complex number": (
        lambda: updated(sgld_jax.sgld(lambda count: 0.1j, key=0)),
        TypeError,
        "The schedule of step_size returned 0.1j",
    ),
    "diagonal of None": (
        lambda: sgld_jax.diagonal(None),
        TypeError,
        r"diagonal\(scale\) is None",
    ),
    "diagonal of another tree": (
        lambda: updated(
            sgld_jax.sgld(0.1, preconditioner=sgld_jax.diagonal({"a": 1.0}), key=0)
        ),
        ValueError,
        "has no entry for",
    ),
    "a key as text": (lambda: sgld_jax.sgld(0.1, key="a"), TypeError, "key='a'"),
    "a seed that is no whole number": (
        lambda: sgld_jax.sgld(0.1, key=0.5),
        TypeError,
        "key=0.5: expected a seed",
    ),
    "a seed of 2**70": (
        lambda: sgld_jax.sgld(0.1, key=2**70),
        ValueError,
        "JAX would wrap it around",
    ),
    "gradients of another tree": (
        lambda: updated(sgld_jax.sgld(0.1, key=0), {"a": TWO}, {"b": TWO}),
        ValueError,
        "different trees: gradients lack",
    ),
    "gradients of integers": (
        lambda: updated(sgld_jax.sgld(0.1, key=0), grads=np.ones(2, int)),
        TypeError,
        "Only real floating leaves",
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
    "True as a count": (lambda: run(True), TypeError, "num_samples=True"),
    "an array as a count": (
        lambda: run(np.arange(900)),
        TypeError,
        "num_samples=array.*expected a whole number",
    ),
    "more updates than there is noise": (
        lambda: run(10**12),
        ValueError,
        r"fewer than 2\*\*31, since its noise would repeat",
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
    "another scheme": (
        lambda: resumed_on_data(batches=sgld_jax.with_replacement(6)),
        ValueError,
        r"started with shuffled\(6\), but batches is with_replacement\(6\)",
    ),
    "another batch size": (
        lambda: resumed_on_data(batches=sgld_jax.shuffled(5)),
        ValueError,
        r"started with shuffled\(6\), but batches is shuffled\(5\)",
    ),
    "no data when going on": (
        lambda: resumed_on_data(data=None),
        ValueError,
        "batches asks for 6 rows, but there is no data",
    ),
    "another kernel": (
        lambda: sgld_jax.resume(
            run(2).final, optax.chain(SAMPLER), QUADRATIC, num_samples=2
        ),
        ValueError,
        "Pass the sampler they were started with",
    ),
    "Samples to step": (
        lambda: sgld_jax.step(run(2), SAMPLER, QUADRATIC),
        TypeError,
        "pass samples.final",
    ),
    "data and batch to step": (
        lambda: sgld_jax.step(
            on_data(2).final, SMALL_STEPS, MEAN, data=DATA, batch=DATA
        ),
        ValueError,
        "Both data and batch were given",
    ),
    "a list to concatenate": (
        lambda: run(2).concatenate([run(2)]),
        TypeError,
        "concatenate was given list",
    ),
    "a run appended after a slice": (
        lambda: run(4)[:, :2].concatenate(run(2)),
        ValueError,
        "was sliced off",
    ),
    "a parameter as an index": (
        lambda: run(2)["w"],
        IndexError,
        "Parameters are in samples.params",
    ),
    "three indices": (lambda: run(2)[0, 0, 0], IndexError, "has 3 indices"),
    "collect returns text": (
        lambda: run(2, collect=lambda x: {"name": "w"}),
        TypeError,
        "collect returned a str",
    ),
    "collect that is no function": (
        lambda: run(2, collect="w"),
        TypeError,
        "collect='w': expected a function of",
    ),
    "collect without a return": (
        lambda: run(2, collect=lambda x: None),
        TypeError,
        "collect returned None, without an array",
    ),
    # --- analysis
    "a table of one chain": (
        lambda: sgld_jax.summary(np.zeros(500)),
        ValueError,
        r"got x \(500,\). A single chain is x\[None\]",
    ),
    "a table of a Chain": (
        lambda: sgld_jax.summary(run(2).final),
        ValueError,
        r"Expected arrays \[C, S, ...\]",
    ),
    "a table of two draws": (
        lambda: sgld_jax.summary(run(2)),
        ValueError,
        "2 draws of each chain: expected at least 4",
    ),
    "weights of bare arrays": (
        lambda: sgld_jax.ess(np.arange(200.0).reshape(4, 50), weighted=True),
        ValueError,
        "the weights of these draws are unknown",
    ),
    "logits of one network": (
        lambda: sgld_jax.predictive_probs(np.zeros((9, 3), np.float32)),
        ValueError,
        r"logits\[None, None\] for one network",
    ),
    "logits of integers": (
        lambda: sgld_jax.predictive_probs(CHAINS_OF_2.astype(int)),
        TypeError,
        "logits are of dtype int.*real floating",
    ),
    "logits for a score": (
        lambda: sgld_jax.nll(np.array([[3.0, -2.0]]), [0]),
        ValueError,
        r"expected probabilities. Logits .* predictive_probs\(logits\)",
    ),
    "NaN for a score": (
        lambda: sgld_jax.brier(np.full((1, 2), np.nan), [0]),
        ValueError,
        "expected probabilities",
    ),
    "labels from 1": (
        lambda: sgld_jax.nll(np.eye(3), [1, 2, 3]),
        ValueError,
        "labels run from 1 to 3: expected classes from 0 to 2",
    ),
    "one-hot labels": (
        lambda: sgld_jax.nll(np.eye(3), np.eye(3, dtype=int)),
        ValueError,
        r"expected \[n, K\] and \[n\]",
    ),
    "labels as numbers with a point": (
        lambda: sgld_jax.nll(np.eye(3), [0.0, 1.0, 2.0]),
        TypeError,
        "labels have dtype float64",
    ),
    "labels before probabilities": (
        lambda: sgld_jax.nll([0, 1, 2], np.eye(3)),
        ValueError,
        r"probs has shape \(3,\)",
    ),
    "arrays to ArviZ": (
        lambda: sgld_jax.to_arviz(np.zeros((4, 50))),
        TypeError,
        "takes what sample returned",
    ),
    "predictions without a name in a picture": (
        lambda: sgld_jax.plots.reliability(np.eye(3), [0, 1, 2]),
        TypeError,
        "methods is a ndarray: expected a dict",
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
