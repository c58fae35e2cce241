"""`sample(until=)` and `stop_when`: a run ends when it has enough, and can go on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sgld_jax
from sgld_jax.analysis import stopping
from tests.runs import QUADRATIC, arrays, assert_equal_bits, normal, run

MANY = 50_000_000


def forever(until, **kwargs):
    return run(MANY, until=until, **kwargs)


def test_it_ends_at_a_chunk_with_the_draws_so_far_and_goes_on_bit_for_bit():
    seen = []

    def until(samples):
        seen.append(samples.num_samples)
        return samples.num_samples > 1_000

    # Draws would not fit: room is made for what a run may at most have.
    samples = run(200_000, until=until)
    assert samples.interrupted and 1_000 < samples.num_samples < 200_000
    assert "Stopped by until after" in samples.report.interrupted
    assert samples.num_samples == seen[-1] and np.isfinite(samples.params).all()
    more = sgld_jax.resume(samples.final, sgld_jax.sgld(0.1), QUADRATIC, num_samples=7)
    whole = run(samples.num_samples + 7)
    assert_equal_bits(arrays(samples.concatenate(more)), arrays(whole))


def test_a_function_is_asked_after_every_chunk_from_the_first_draw_on():
    seen = []
    run(100_000, until=lambda samples: seen.append(samples.num_samples), burn_in=50)
    assert seen[0] >= 1 and len(seen) > 3 and (np.diff(seen) > 0).all()
    assert seen[-1] < 100_000  # at the end there is nothing to stop


@pytest.mark.parametrize("rule", [{"seconds": 0.2}, {"gradients": 40_000}])
def test_a_budget_counts_burn_in(rule):
    rule = sgld_jax.stop_when(**rule, ess=10)
    samples = run(10, until=rule, burn_in=200_000_000)
    assert samples.interrupted and samples.num_samples == 0
    assert samples.report.seconds < 10


def test_the_last_draw_is_no_stop():
    samples = run(1, until=lambda samples: True)
    assert not samples.interrupted and samples.num_samples == 1


def test_errors_are_looked_at_when_there_is_a_fifth_more(monkeypatch):
    seen = []
    monkeypatch.setattr(
        stopping, "ess_of", lambda samples: seen.append(samples.num_samples) or [1.0]
    )
    run(400_000, until=sgld_jax.stop_when(ess=1e9))
    assert len(seen) > 3
    assert (np.array(seen[1:]) >= 1.2 * np.array(seen[:-1])).all()


def test_an_error_in_the_rule_keeps_the_draws():
    def until(samples):
        raise RuntimeError("no idea")

    with pytest.warns(UserWarning, match="What was drawn is returned"):
        samples = run(100_000, until=until)
    assert "RuntimeError (no idea)" in samples.report.interrupted


@pytest.mark.parametrize(
    "rule, holds",
    [
        ({"ess": 3_000}, lambda s: min(sgld_jax.ess(s)) > 3_000),
        ({"mcse": 0.02}, lambda s: max(sgld_jax.mcse(s)) < 0.02),
        ({"ess": 500, "mcse": 0.02}, lambda s: max(sgld_jax.mcse(s)) < 0.02),
        ({"seconds": 0.3}, lambda s: 0.3 <= s.report.seconds < 20),
        ({"gradients": 20_000}, lambda s: s.report.updates * 4 >= 20_000),
        ({"ess": 1e12, "gradients": 9}, lambda s: s.report.updates < 500_000),
    ],
)
def test_rules(rule, holds):
    samples = run(2_000_000, until=sgld_jax.stop_when(**rule))
    assert samples.interrupted and holds(samples)


def test_what_moves_nowhere_is_never_enough():
    samples = sgld_jax.sample(
        0,
        sgld_jax.sgld(0.1, 0.0),
        QUADRATIC,
        lambda key: jnp.zeros(2),
        num_samples=2_000,
        num_chains=4,
        until=sgld_jax.stop_when(ess=1),
    )
    assert not samples.interrupted


@pytest.mark.parametrize(
    "given, words",
    [({}, "would never stop"), ({"ess": 0}, "ess"), ({"seconds": -1}, "seconds")],
)
def test_rules_that_are_refused(given, words):
    with pytest.raises(ValueError, match=words):
        sgld_jax.stop_when(**given)


def test_what_is_no_rule_is_refused():
    with pytest.raises(TypeError, match="until"):
        run(3, until=lambda: True)
    chain = sgld_jax.start(0, sgld_jax.sgld(0.1), normal, num_chains=2)
    with pytest.raises(TypeError, match="until"):
        sgld_jax.resume(chain, sgld_jax.sgld(0.1), QUADRATIC, num_samples=1, until=3)


def test_resume_can_stop_too():
    first = run(10)
    rule = sgld_jax.stop_when(gradients=4_000)
    more = sgld_jax.resume(
        first.final, sgld_jax.sgld(0.1), QUADRATIC, num_samples=500_000, until=rule
    )
    assert more.interrupted and more.report.updates < 500_000
    assert first.concatenate(more).num_samples == 10 + more.num_samples
    assert jax.tree.leaves(more.params)[0].shape[1] == more.num_samples


def test_without_arviz_it_is_said_before_the_run(monkeypatch):
    def missing():
        raise ImportError("ArviZ is not installed")

    monkeypatch.setattr(stopping, "import_arviz", missing)
    with pytest.raises(ImportError, match="ArviZ"):
        sgld_jax.stop_when(ess=100)
    assert callable(sgld_jax.stop_when(seconds=1))
