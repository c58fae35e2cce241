"""The command line: arguments, exit codes, and one sentence where something is missing."""

import subprocess
import sys
import types

import pytest

import sgld_jax
from sgld_jax import cli
from sgld_jax.demo import experiment


@pytest.fixture
def asked(monkeypatch):
    """Settings that `run` was called with; the run itself fails at once."""
    seen = []

    def run(settings, say):
        seen.append(settings)
        raise FloatingPointError("chain 3 went non-finite")

    monkeypatch.setattr(experiment, "run", run)
    return seen


@pytest.mark.parametrize("module", ["flax", "sklearn", "matplotlib", "arviz"])
def test_a_missing_extra_is_one_sentence_and_exit_code_2(
    module, monkeypatch, tmp_path, capsys, asked
):
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    assert cli.main(["demo", "--out", str(tmp_path / "out")]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert "pip install 'sgld-jax[demo]'" in err
    assert {"sklearn": "scikit-learn"}.get(module, module) in err
    assert not asked and not (tmp_path / "out").exists()


def test_arguments_reach_the_experiment(tmp_path, asked):
    out = ["--out", str(tmp_path)]
    cli.main(["demo", *out])
    cli.main(["demo", *out, "--seed", "4294967295", "--prior-scale", "6", "--quick"])
    assert asked[0] == experiment.Settings()
    assert asked[1] == experiment.QUICK._replace(seed=2**32 - 1, prior_scale=6.0)


def test_no_finite_chain_is_exit_code_1(tmp_path, capsys, asked):
    assert cli.main(["demo", "--out", str(tmp_path)]) == 1
    assert capsys.readouterr().err == "chain 3 went non-finite\n"


def test_interrupt_is_exit_code_130(tmp_path, capsys, monkeypatch):
    def run(settings, say):
        raise KeyboardInterrupt

    monkeypatch.setattr(experiment, "run", run)
    assert cli.main(["demo", "--out", str(tmp_path)]) == 130
    assert "Interrupted" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_exit_code_2(tmp_path, capsys, asked):
    (tmp_path / "file").touch()
    assert cli.main(["demo", "--out", str(tmp_path / "file" / "out")]) == 2
    assert "cannot make this folder" in capsys.readouterr().err
    assert not asked


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["dmeo"],
        ["demo", "--seed", "-1"],
        ["demo", "--seed", "4294967296"],
        ["demo", "--seed", "1.5"],
        ["demo", "--prior-scale", "0"],
        ["demo", "--prior-scale", "inf"],
        ["demo", "--prior-scale", "wide"],
    ],
)
def test_wrong_arguments_are_exit_code_2(arguments, capsys, asked):
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == 2
    assert "usage: sgld-jax" in capsys.readouterr().err
    assert not asked


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out.strip() == sgld_jax.__version__


def test_python_m_is_the_same_command():
    command = [sys.executable, "-m", "sgld_jax", "demo", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: sgld-jax demo")
    assert done.stderr == ""


def test_the_command_line_loads_no_extra():
    code = (
        "import sys, sgld_jax.cli; "
        "print(*{'flax', 'sklearn', 'matplotlib', 'arviz', 'tqdm'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == ""


def test_the_entry_point_names_this_function():
    from importlib.metadata import entry_points

    (script,) = [
        e for e in entry_points(group="console_scripts") if e.name == "sgld-jax"
    ]
    assert script.value == "sgld_jax.cli:main"
    assert isinstance(script.load(), types.FunctionType)
