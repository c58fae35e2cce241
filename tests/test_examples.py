"""The examples run, print what they say, and say what they do."""

import functools
import importlib.util
import inspect
import pathlib
import re

import numpy as np
import pytest

EXAMPLES = pathlib.Path(__file__).parent.parent / "examples"
NAMES = sorted(path.name for path in EXAMPLES.glob("*.py"))


@functools.cache
def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def closing_comment(name):
    lines = (EXAMPLES / name).read_text().splitlines()
    start = max(i for i, line in enumerate(lines) if not line.startswith("#")) + 1
    return [line.removeprefix("# ") for line in lines[start:]]


@pytest.mark.parametrize("name", NAMES)
def test_examples_begin_with_their_command_and_end_with_their_numbers(name):
    lines = (EXAMPLES / name).read_text().splitlines()
    assert lines[0] == f"# python examples/{name}"
    assert f"`{lines[0][2:]}`" in (EXAMPLES / "README.md").read_text()
    assert len(lines) <= 150
    assert re.search(r"\d\.\d", closing_comment(name)[-1])


def test_the_two_lines_of_flax_loop_are_those_of_its_table():
    module = load("flax_loop")
    rows = [line.split("|") for line in module.__doc__.splitlines() if "|" in line]
    assert [cell.strip() for cell in rows[0]] == ["trains", "samples"]
    body = squeezed(inspect.getsource(module.main)).replace(",)", ")")
    for column in zip(*rows[2:]):
        transformation, kept = squeezed("".join(column)).split("kept=")
        assert transformation in body and f"kept={kept}" in body


def squeezed(text):
    return "".join(text.split())


def test_flax_loop(capsys):
    module = load("flax_loop")
    scores = module.main(epochs=40)
    printed = capsys.readouterr().out.splitlines()
    form = r"(.+?) +accuracy +[\d.]+ % +NLL [\d.]+"
    names = [re.fullmatch(form, line)[1] for line in printed]
    assert names == ["Adam", "SGLD, one draw", "SGLD, 5 draws"]
    expected = [re.fullmatch(form, line) for line in closing_comment("flax_loop.py")]
    assert [line[1] for line in expected if line] == [*names[:2], "SGLD, 101 draws"]
    assert len(range(module.EPOCHS // 2, module.EPOCHS + 1, 5)) == 101
    for accuracy, nll in scores.values():  # of 797, by chance 80 ± 8
        assert accuracy > 0.2 and np.isfinite(nll)


def test_an_average_of_draws_is_never_worse_than_they_are_on_average():
    """Jensen: exact, and false if predictions and labels were misaligned in `run`."""
    module = load("flax_loop")
    train, (images, labels) = module.digits()
    tx = module.sgld_jax.sgld(module.STEP_SIZE, 1 / module.N, key=0)
    draws = module.run(tx, [3, 4, 5], train, images)
    assert draws.shape == (3, len(labels), 10)
    np.testing.assert_allclose(draws.sum(axis=-1), 1, rtol=1e-5)
    nll = [module.score("", draw, labels)[1] for draw in draws]
    assert len(set(nll)) == 3
    assert module.score("", draws.mean(axis=0), labels)[1] <= np.mean(nll)
