"""The audit: sound samplers pass by their own law, everything else is named."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sgld_jax
from sgld_jax import cli
from sgld_jax.expression import NAMES, transformation
from sgld_jax.tuning.audit import _default, judged
from sgld_jax.tuning.gaussians import Problem
from sgld_jax.tuning.laws import LAWS
from tests import compositions
from tests.compositions import UNSOUND
from tests.kernels import FRICTION, IDENTITY, KERNELS, SHARED_MUTANTS
from tests.marks import briefly
from tests.mutants import mutated_kernel

T = 1.3
audit = sgld_jax.audit


# --- what is sound ----------------------------------------------------------------------


SOUND = {  # how it is built, and what the audit is told
    "sgld": (sgld_jax.sgld(0.1, T), {}),
    "sgld, a tiny step": (sgld_jax.sgld(1e-7, T), {}),
    "leimkuhler_matthews": (sgld_jax.leimkuhler_matthews(0.1, T), {}),
    "baoa": (sgld_jax.baoa(0.1, temperature=T), {}),
    "baoa, little momentum": (sgld_jax.baoa(0.1, 0.8, T), {}),
    "sghmc": (sgld_jax.sghmc(0.1, temperature=T), {}),
    "sgnht": (sgld_jax.sgnht(0.1, temperature=T), {}),
    "sglrw": (sgld_jax.sglrw(0.1, T), {}),
    "psgld, frozen later": (
        sgld_jax.psgld(0.1, T, num_data=100, freeze_after=300),
        {},
    ),
    "a metric": (sgld_jax.baoa(0.1, 0.3, T, preconditioner=sgld_jax.diagonal(3.0)), {}),
    "a mean loss": (sgld_jax.sgld(50.0, T / 500), {"gradient_scale": 1 / 500}),
    "weight decay before": (
        optax.chain(optax.add_decayed_weights(2.0), sgld_jax.sgld(0.1, T)),
        {"prior_precision": 2.0},
    ),
    "a mean loss with weight decay": (
        optax.chain(
            optax.add_decayed_weights(2 / 500), sgld_jax.baoa(50.0, 0.5, T / 500)
        ),
        {"gradient_scale": 1 / 500, "prior_precision": 2.0},
    ),
    "MultiSteps": (
        optax.MultiSteps(sgld_jax.sgld(0.1, T), 3).gradient_transformation(),
        {},
    ),
    "apply_if_finite": (optax.apply_if_finite(sgld_jax.sghmc(0.1, 0.3, T), 3), {}),
    "injected": (
        optax.inject_hyperparams(sgld_jax.sgld)(step_size=0.1, temperature=T),
        {},
    ),
    "clipping that does not bind": (
        optax.chain(optax.clip(1e3), sgld_jax.sgld(0.1, T)),
        {},
    ),
}


@pytest.mark.key_reuse_off("optax selects between states")
@pytest.mark.parametrize(
    "name", briefly(SOUND, "sgnht", "a mean loss with weight decay")
)
def test_what_is_sound_passes(name):
    sampler, told = SOUND[name]
    report = audit(sampler, key=0, temperature=T, **told)
    assert report.passed, str(report)
    assert len(report.rows) >= 9 and "law of" in report.explanation


def test_every_kernel_has_a_law_and_an_audit():
    known = {type(kernel.make(0.1).init(jnp.zeros(2))) for kernel in KERNELS.values()}
    assert known == set(LAWS)
    assert {law.name for law in LAWS.values()} | {"psgld"} == set(KERNELS)
    audited = {name.partition(",")[0] for name in SOUND}
    assert set(KERNELS) <= audited


@pytest.mark.parametrize("name", [name for name in KERNELS if KERNELS[name].law])
def test_the_laws_are_those_of_the_registry(name):
    sampler = KERNELS[name].make(0.1).init(jnp.zeros(2))
    precision, eps = np.array([0.3, 2.0]), np.array([0.2, 0.4])
    for noise in (0.0, 3.0):
        ours = LAWS[type(sampler)].stationary(precision, eps, T, FRICTION, noise)
        expected = KERNELS[name].law(precision, eps, T, noise)
        np.testing.assert_allclose(ours, expected, rtol=1e-12)


def test_a_thermostat_of_one_coordinate_is_looked_at_for_one_update():
    sampler = sgld_jax.sgnht(0.1, temperature=T, per_coordinate=True)
    report = audit(sampler, key=0, temperature=T)
    assert report.passed and len(report.rows) == 4
    assert "nobody knows in closed form" in report.explanation


def test_a_slow_thermostat_is_looked_at_for_one_update():
    report = audit(sgld_jax.sgnht(1e-6, temperature=T), key=0, temperature=T)
    assert report.passed and len(report.rows) == 4
    assert "take a larger step size" in report.explanation


@pytest.mark.slow
def test_a_masked_kernel_passes():
    params = {"b": jnp.zeros(2), "w": jnp.zeros(3)}
    report = audit(compositions.masked("sgld"), key=0, temperature=T, params=params)
    assert report.passed, str(report)
    assert "2 of 5 coordinates have no noise" in report.explanation


def test_leaves_that_are_not_sampled_are_left_out_and_counted():
    params = {"b": jnp.zeros(3), "w": jnp.zeros(4)}
    sampler = compositions.last_layer()  # Adam moves b
    report = audit(sampler, key=0, temperature=T, params=params)
    assert report.passed, str(report)
    assert "3 of 7 coordinates have no noise" in report.explanation


@pytest.mark.key_reuse_off("optax.add_noise hands its key on")
def test_a_law_of_ones_own():
    """SGLD of optax's parts, whose chains are told apart by `seed`."""
    noise = optax.chain(optax.scale(-0.1), optax.add_noise(0.2 * T, 0.0, key=0))
    report = audit(noise, key=0, temperature=T)
    assert [row.name for row in report.rows if not row.passed] == [
        "chains, correlation"
    ]
    assert "Chains share their noise" in report.explanation
    law = lambda precision, step_size, temperature: 2 * temperature / precision
    report = audit(sgld_jax.sgld(0.1, T), key=0, temperature=T, law=law)
    assert not report.passed and "the law that was given" in report.explanation


# --- what is not ------------------------------------------------------------------------

WORDS = {  # of the explanation
    "clip before, binding": "clips or normalises",
    "clip_by_global_norm before, binding": "clips or normalises",
    "scale_by_adam before": "clips or normalises",
    "trace before": "remembers gradients",
    "ema before": "10 times the variance",
    "scale before": "gradient_scale=",
    "ema after": "after its noise was scaled",
    "schedule_free around": "schedule_free",
    "reduce_on_plateau after": "the step size changes along the run",
    "scale after": "after its noise was scaled",
    "weight decay after": "weight decay after a kernel",
    "add_noise as a sampler": "Chains share their noise",
}


@pytest.mark.key_reuse_off("optax.add_noise hands its key on")
@pytest.mark.parametrize("name", briefly(UNSOUND, "clip before, binding", "ema after"))
def test_unsound_compositions_fail_with_the_cause(name):
    build, _ = UNSOUND[name]
    report = audit(build(), key=0, temperature=T)
    assert not report.passed
    assert WORDS[name] in report.explanation, report.explanation


OTHERS = {
    "an optimizer": (optax.adam(0.1), {}, "this is an optimizer"),
    "uphill": (
        optax.chain(optax.scale(-1.0), sgld_jax.sgld(0.1, T)),
        {},
        "do not go against the gradient",
    ),
    "another temperature": (sgld_jax.sgld(0.1, 0.5), {}, "temperature=0.5"),
    "an untold mean": (sgld_jax.sgld(0.1, T / 500), {}, "gradient_scale="),
    "untold weight decay": (
        optax.chain(optax.add_decayed_weights(2.0), sgld_jax.sgld(0.1, T)),
        {},
        "prior_precision=2",
    ),
    "a metric that adapts for ever": (
        sgld_jax.psgld(0.1, T, num_data=1, decay=0.9, eps=0.1, freeze_after=None),
        {},
        "Freeze it",
    ),
    "a step that decays": (
        sgld_jax.sgld(optax.exponential_decay(0.1, 10, 0.5), T),
        {},
        "the step size changes along the run, by a factor of",
    ),
}


@pytest.mark.parametrize("name", briefly(OTHERS, "an optimizer", "an untold mean"))
def test_what_else_goes_wrong_is_said(name):
    sampler, told, words = OTHERS[name]
    report = audit(sampler, key=0, temperature=T, **told)
    assert not report.passed and words in report.explanation, str(report)


def test_one_key_for_all_chains_is_seen():
    sampler = sgld_jax.sgld(0.1, T)

    def init(params):
        return sampler.init(params)._replace(rng_key=jax.random.key(1))

    shared = optax.GradientTransformation(init, sampler.update)
    report = audit(shared, key=0, temperature=T)
    assert not report.passed and "Chains share their noise" in report.explanation


# A constant step shows no schedule that is read late.
UNSEEN = {("sgld", "stale step size"), ("sglrw", "stale step size")}
MUTANTS = [
    (name, mutant)
    for name, kernel in KERNELS.items()
    for mutant in kernel.mutants
    if (name, mutant) not in UNSEEN
]
MUTANTS += [("sgld", mutant) for mutant in SHARED_MUTANTS]
BRIEFLY = {
    "one key for all chains",
    "leaves overlap",
    "stale friction",
    "two fresh kicks",
}


def every_mutant():
    """A few in the slow run; all of them by `pytest -m exhaustive`, four minutes."""
    for name, mutant in MUTANTS:
        marks = [pytest.mark.slow, pytest.mark.exhaustive]
        yield pytest.param(name, mutant, marks=marks[: 1 + (mutant not in BRIEFLY)])


@pytest.mark.key_reuse_off("some mutants share keys, and an audit must see it")
@pytest.mark.parametrize("name, mutant", list(every_mutant()))
def test_mutants_fail(name, mutant):
    kernel = KERNELS[name]
    change = (kernel.mutants | SHARED_MUTANTS)[mutant]
    factory = getattr(mutated_kernel(name, *change), name)
    G = sgld_jax.diagonal(2.0) if kernel.takes_metric else IDENTITY
    if name == "sgnht":
        sampler = factory(0.1, FRICTION, T, key=0)
    else:
        sampler = kernel.wrap(factory)(0.1, T, preconditioner=G, key=0)
    law = next(law for law in LAWS.values() if law.name == name.removeprefix("p"))
    params = _default(law.coordinates)
    problem = Problem(sampler, law, FRICTION, params, 1, T, 1.0, 0.0)
    report = judged(problem, 20_000, jax.random.key(0))
    assert not report.passed, str(report)


# --- input ------------------------------------------------------------------------------


def test_a_report_is_a_table_that_can_be_read():
    report = audit(sgld_jax.sgld(0.1, T), key=0, temperature=T, num_chains=1_000)
    head, *rows, verdict = str(report).splitlines()
    assert head.split() == ["expected", "measured", "z"]
    assert len({len(row) for row in rows}) == 1 and len(rows) == len(report.rows)
    assert verdict == "PASSED. Chains have the law of sgld."
    wrong = str(audit(sgld_jax.sgld(0.1), key=0, temperature=T, num_chains=1_000))
    assert wrong.count("   wrong\n") >= 2 and "FAILED. The noise" in wrong


BAD = [
    (3, {}, "expected an optax transformation"),
    (optax.MultiSteps(sgld_jax.sgld(0.1), 2), {}, "gradient_transformation"),
    (sgld_jax.sgld(0.1), {"temperature": 0.0}, "temperature"),
    (sgld_jax.sgld(0.1), {"gradient_scale": -1.0}, "gradient_scale"),
    (sgld_jax.sgld(0.1), {"prior_precision": -1.0}, "prior_precision"),
    (sgld_jax.sgld(0.1), {"num_chains": 3}, "num_chains"),
    (sgld_jax.sgld(0.1), {"law": lambda: 1}, "law"),
    (sgld_jax.sgld(0.1), {"key": None}, "key"),
    (
        optax.chain(sgld_jax.sgld(0.1), sgld_jax.baoa(0.1)),
        {},
        "several laws .baoa, sgld.",
    ),
    (
        sgld_jax.sgld(0.1, preconditioner=sgld_jax.dense(np.eye(6) + 0.5)),
        {},
        "by the gradient of another",
    ),
]


@pytest.mark.parametrize("sampler, told, words", BAD)
def test_what_cannot_be_audited_is_refused(sampler, told, words):
    with pytest.raises((TypeError, ValueError), match=words):
        audit(sampler, **{"key": 0, **told})


# --- the command ------------------------------------------------------------------------


def test_expressions_are_read():
    read = transformation
    state = read("optax.chain(clip(0.1), sgld_jax.sgld(1e-2, temperature=1/500))").init(
        0.0
    )
    assert "SGLDState" in str(state)
    assert isinstance(
        read("masked(baoa(0.1), {'a': True, 'b': False})"), optax.GradientTransformation
    )
    metric = read("sgld(0.1, preconditioner=diagonal(2.0))")
    assert isinstance(metric, optax.GradientTransformation)
    assert read("scale(-1)").update(jnp.ones(2), ())[0][0] == -1
    assert isinstance(read("MultiSteps(sgld(0.1), 3)"), optax.GradientTransformation)
    assert "rmsprop" in NAMES


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sgld(",
        "__import__('os').system('true')",
        "sgld.__globals__",
        "eval('1')",
        "[x for x in (1, 2)]",
        "sgld(**{'step_size': 1})",
        "lambda: 0",
        "sgld(0.1 ** 2)",
        "sgld(f'{1}')",
        "open('x')",
        "sgld(0.1).init",
        "chain(sgld(0.1), (lambda x: x))",
        "masked(sgld(1), {**{}})",
        "sgld(1) if True else 2",
        "1/0",
        "(" * 5_000,
    ],
)
def test_nothing_else_is(text):
    with pytest.raises(ValueError, match="is not|is no|understood"):
        transformation(text)


def test_the_command_says_it(capsys):
    assert cli.main(["audit", "sgld(1e-2)"]) == 0
    assert "PASSED. Chains have the law of sgld." in capsys.readouterr().out
    assert cli.main(["audit", "chain(clip(0.1), sgld(1e-2))", "--seed", "3"]) == 1
    out = capsys.readouterr().out
    assert "FAILED. A gradient three times as large" in out
    assert max(map(len, out.splitlines())) <= 88
    mean = ["--gradient-scale", "1/500", "--prior-precision", "2"]
    text = "chain(add_decayed_weights(4e-3), sgld(5, temperature=1/500))"
    assert cli.main(["audit", text, *mean]) == 0


@pytest.mark.parametrize(
    "text", ["sgld(-1)", "adam(", "nothing(1)", "sgld(1, T=2)", "3"]
)
def test_the_command_refuses_with_a_sentence(text, capsys):
    assert cli.main(["audit", text]) == 2
    out, err = capsys.readouterr()
    assert out == "" and len(err) > 20 and "Traceback" not in err
