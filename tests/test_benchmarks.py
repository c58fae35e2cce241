"""The benchmarks' tables are what was kept: no figure is typed by hand."""

import json

import pytest

from benchmarks import __main__ as benchmarks

RESULTS = sorted(benchmarks.RESULTS.glob("*.json"))


def test_the_readme_is_made_of_the_results_that_were_kept():
    assert RESULTS
    assert (benchmarks.HERE / "README.md").read_text() == benchmarks._readme()


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_versions_and_machine_stand_beside_every_figure(path):
    result = json.loads(path.read_text())
    section = benchmarks._section(result)
    for fact in ("jax", "optax", "blackjax", "python"):
        assert f"{fact} {result[fact]}" in section
    assert result["case"] in benchmarks.CASES
    assert result["device"] in section or result["processor"] in section


def test_tables_are_readable():
    rows = [{"loop": "ours", "chains": 1024, "µs": 1.23456, "s": 123456.0}]
    assert benchmarks._table(rows).splitlines() == [
        "| loop | chains | µs | s |",
        "| --- | ---: | ---: | ---: |",
        "| ours | 1,024 | 1.23 | 123,456 |",
    ]
