"""The examples run, print what they say, and say what they do."""

import functools
import importlib.util
import inspect
import pathlib
import re

import numpy as np
import pytest

EXAMPLES = pathlib.Path(__file__).parent.parent / "examples"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py"))
NUMBER = r"-?\d[\d,]*(\.\d+)?"
# A run in small, in which the programs are compiled and little else is done.
FAST = {
    "aleatoric_epistemic": {"num_data": (100, 2_000), "updates": 40, "draws": 4},
    "bnn_classification": {"updates": 40, "draws": 4},
    "bnn_regression": {"updates": 40, "draws": 4},
    "flax_loop": {"epochs": 40},
    "last_layer": {"updates": 40, "draws": 4},
    "modes": {"budget": 20_000},
    "swap_two_lines": {"steps": 400},
    "swarm": {"updates": 400},
}


@functools.cache
def load(name):
    pytest.importorskip("haiku" if name == "swap_two_lines" else "flax")
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def closing_comment(name):
    lines = (EXAMPLES / f"{name}.py").read_text().splitlines()
    start = max(i for i, line in enumerate(lines) if not line.startswith("#")) + 1
    return [line.removeprefix("# ") for line in lines[start:]]


def shape(lines):
    """What is printed, without its numbers and the width of its columns."""
    return [" ".join(re.sub(NUMBER, "0", line).split()) for line in lines]


@pytest.mark.parametrize("name", NAMES)
def test_examples_begin_with_their_command_and_end_with_their_numbers(name):
    lines = (EXAMPLES / f"{name}.py").read_text().splitlines()
    assert lines[0] == f"# python examples/{name}.py"
    gallery = (EXAMPLES / "README.md").read_text()
    assert f"`{lines[0][2:]}`" in gallery and f"](pictures/{name}.png)" in gallery
    assert (EXAMPLES / "pictures" / f"{name}.png").exists()
    assert len(lines) <= 150
    assert re.search(r"\d\.\d", closing_comment(name)[-1])


@pytest.mark.parametrize("name", ["flax_loop", "swap_two_lines"])
def test_the_two_lines_are_those_of_the_table(name):
    module = load(name)
    rows = [line.split("|") for line in module.__doc__.splitlines() if "|" in line]
    assert [cell.strip() for cell in rows[0]] == ["trains", "samples"]
    body = squeezed(inspect.getsource(module.main)).replace(",)", ")")
    for column in zip(*rows[2:]):
        transformation, kept = squeezed("".join(column)).split("kept=")
        assert transformation in body and f"kept={kept}" in body


def squeezed(text):
    return "".join(text.split())


# The loop that README names by default, the others in the slow run.
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name != "flax_loop"))
        for name in NAMES
    ],
)
def test_examples_print_what_they_say_and_draw(name, capsys, tmp_path):
    found = load(name).main(**FAST[name], picture=tmp_path / "picture.png")
    printed = shape(capsys.readouterr().out.splitlines())
    said = shape(closing_comment(name))
    assert printed and set(printed) <= set(said)
    assert len(set(printed)) == len(set(said[said.index("#") + 1 :]))
    assert (tmp_path / "picture.png").stat().st_size > 5_000
    assert all(np.all(np.isfinite(values(x))) for x in found.values())


def values(found):
    return np.array(list(found.values()) if isinstance(found, dict) else found)


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


def test_a_known_noise_of_labels_has_its_entropy():
    module = load("aleatoric_epistemic")
    assert module.noise(0.5) == pytest.approx(np.log(2))
    x, labels = module.blobs(20_000, 0.2, seed=3)
    wrong = np.mean((np.asarray(x)[:, 0] > 0) != np.asarray(labels))
    expected = 0.2 + 0.6 * 0.00135  # the blobs overlap by as much: three sd
    assert abs(wrong - expected) < 4.5 * np.sqrt(0.2 * 0.8 / 20_000)
