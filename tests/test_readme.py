"""The README is true: its code runs, its files exist, its numbers are the demo's."""

import doctest
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "name, least", [("README.md", 20), ("docs/coming_from.md", 15)]
)
def test_the_code_in_the_documents_runs(name, least):
    for module in ("flax", "equinox"):
        pytest.importorskip(module)
    pytest.importorskip("arviz", exc_type=ImportError)
    result = doctest.testfile(str(ROOT / name), module_relative=False)
    assert result.attempted > least and result.failed == 0


def test_the_two_commands_are_those_that_ci_runs():
    ci = (ROOT / ".ci" / "run").read_text()
    for extra, program in (("demo", "sgld-jax demo"), ("test", "pytest")):
        command = (
            f"python3 -m venv .venv && .venv/bin/pip install -e '.[{extra}]' "
            f"&& .venv/bin/{program}"
        )
        assert command in README.splitlines()
    assert (
        "grep -m 1 -F \"pip install -e '.[test]' && .venv/bin/pytest\" README.md" in ci
    )


def test_files_named_in_the_readme_exist():
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    tests = [f"tests/{name}" for name in re.findall(r"`(test_\w+\.py)`", README)]
    paths = re.findall(r"`((?:sgld_jax|tests|examples)/[\w./]+\.\w+)`", README)
    assert links and tests and paths
    for path in links + tests + paths:
        assert (ROOT / path).exists(), path


def test_every_kernel_has_a_row_among_the_samplers_and_a_place_in_the_readme():
    text = (ROOT / "docs" / "samplers.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| \**\[`(\w+)`\]\(../sgld_jax/kernels/(\w+)\.py\)", text, re.M
    )
    assert [name for name, _ in rows] == [file for _, file in rows]
    files = (ROOT / "sgld_jax" / "kernels").glob("[!_]*.py")
    assert {name for name, _ in rows} == {file.stem for file in files}
    assert all(f"`{name}`" in README for name, _ in rows)


def table_of(text):
    """The rows of the first Markdown table with an accuracy column."""
    start = text.rindex("\n", 0, text.index("| accuracy")) + 1
    return text[start : text.index("\n\n", start)].splitlines()


def test_the_demos_numbers_in_the_readme_come_from_the_demo():
    """From the report that the command beside them wrote into examples/demo."""
    report = (ROOT / "examples" / "demo" / "report.md").read_text(encoding="utf-8")
    assert table_of(README) == table_of(report)
    command = re.search(r"Made by `([^`]+)`", report).group(1)
    assert command in README
