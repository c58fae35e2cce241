"""The benchmarks' tables are what was kept: no figure is typed by hand."""

import json

import pytest

from benchmarks import __main__ as benchmarks
from benchmarks import laws
from tests.kernels import KERNELS
from tests.law import Z

RESULTS = sorted(benchmarks.RESULTS.glob("*.json"))


def test_the_readme_is_made_of_the_results_that_were_kept():
    assert RESULTS
    assert (benchmarks.HERE / "README.md").read_text() == benchmarks._readme()


PAGE = [benchmarks._kept(name) for name in benchmarks.ON_A_PAGE]


def test_the_page_of_laws_is_made_of_them_too_and_covers_the_registry():
    page = benchmarks.LAWS.read_text()
    assert page == benchmarks._law_page()
    rows, peers = (json.loads(path.read_text())["rows"] for path in PAGE)
    assert {row["kernel"] for row in rows} == set(KERNELS)
    assert all(f"## {name}\n" in page for name in KERNELS)
    largest = max(abs(row["z"]) for row in rows)
    assert largest < Z
    said = f"{len(rows)} settings the largest |z| is {largest:.2f}"
    assert said in " ".join(page.split())
    readme = " ".join((benchmarks.HERE.parent / "README.md").read_text().split())
    assert said in readme
    same = [abs(row["z of it"]) for row in peers if row["sampler"] == "blackjax.sgld"]
    assert max(same) < Z  # an independent implementation of the same law


@pytest.mark.parametrize(
    "name",
    [
        name if name == "sgld" else pytest.param(name, marks=pytest.mark.slow)
        for name in laws.ENTRIES
        if name != "sgnht"  # half a minute; `test_sgnht.py` has its law
    ],
)
def test_the_measurement_of_laws_runs(name):
    rows = laws.of_kernel(name, 2_000, (1.0,))
    assert max(abs(row["z"]) for row in rows) < Z
    assert len(rows) >= 8 and {row["kernel"] for row in rows} == {name}


@pytest.mark.parametrize(
    "path", [x for x in RESULTS if x not in PAGE], ids=lambda path: path.stem
)
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
