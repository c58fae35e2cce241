"""Every notebook runs, at toy size, in a fresh kernel of this interpreter."""

import os
import re
import sys
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
QUICK_COMPILER = "--xla_backend_optimization_level=0"
MAX_CELLS, MAX_BYTES, MAX_TEXT = 20, 600_000, 4_000

# Two names under the root of a file system, or a drive; "/" inside a URL, a tag or a
# relative path is neither.
ABSOLUTE_PATH = re.compile(r"(?<![\w./<:\]])/[\w.-]+/[\w.-]+|\b[A-Za-z]:\\\w|~/\w")

each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
# The first by default, the others in the slow run.
first_or_slow = pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.stem, marks=[pytest.mark.slow] * bool(i))
        for i, path in enumerate(NOTEBOOKS)
    ],
)


def load(path):
    return nbformat.read(path, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def has_figure(cell):
    return any("image/png" in out.get("data", {}) for out in cell.outputs)


def texts(cell):
    """Everything readable in the outputs of a cell."""
    for out in cell.get("outputs", []):
        yield out.get("text", "")
        for mime, value in out.get("data", {}).items():
            if mime.startswith("text/"):
                yield value


def execute(path, folder):
    """The notebook after a toy run; raises where a cell does."""
    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpec, KernelSpecManager

    class ThisInterpreter(KernelSpecManager):
        def get_kernel_spec(self, kernel_name):
            # An installed "python3" may belong to another environment.
            argv = [sys.executable, "-m", "ipykernel_launcher", "-f"]
            return KernelSpec(argv=[*argv, "{connection_file}"], language="python")

    manager = AsyncKernelManager(
        kernel_spec_manager=ThisInterpreter(),
        connection_file=str(folder / "kernel.json"),
    )
    environment = {
        **os.environ,
        "SGLD_JAX_TOY": "1",
        "IPYTHONDIR": str(folder),
        "JAX_PLATFORMS": "cpu",
        # What runs a few times is not worth optimising: a third of the time.
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {QUICK_COMPILER}",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    }
    notebook = load(path)
    client = nbclient.NotebookClient(
        notebook,
        km=manager,
        timeout=300,
        resources={"metadata": {"path": str(FOLDER)}},
    )
    client.execute(env=environment, cleanup_kc=True)  # the manager is ours, so say so
    return notebook


def test_there_are_notebooks():
    assert NOTEBOOKS


@first_or_slow
def test_runs_at_toy_size_and_its_figures_are_kept(path, tmp_path):
    executed = execute(path, tmp_path)
    for saved, ran in zip(code_cells(load(path)), code_cells(executed), strict=True):
        assert has_figure(saved) == has_figure(ran), saved.source
        assert not any("Warning" in text for text in texts(ran)), list(texts(ran))
    assert any(has_figure(cell) for cell in code_cells(executed))


@each
def test_is_short_and_small(path):
    notebook = load(path)
    assert len(notebook.cells) <= MAX_CELLS
    assert path.stat().st_size < MAX_BYTES
    for cell in code_cells(notebook):
        assert sum(map(len, texts(cell))) < MAX_TEXT, cell.source


@each
def test_was_saved_after_one_full_run_without_complaints(path):
    cells = code_cells(load(path))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        for out in cell.outputs:
            assert out.output_type != "error"
            assert out.get("name") != "stderr", out.text


@each
def test_names_no_absolute_path(path):
    for cell in load(path).cells:
        for text in (cell.source, *texts(cell)):
            assert not ABSOLUTE_PATH.search(text), ABSOLUTE_PATH.search(text)[0]


@pytest.mark.parametrize(
    "text, found",
    [
        ("/home/someone/data.csv", True),
        ("File '/tmp/ipykernel_1/x.py'", True),
        ("C:\\Users\\someone", True),
        ("cd ~/repo", True),
        ("[README](../README.md), sgld_jax/kernels/sgld.py", False),
        ("https://docs.jax.dev/en/latest", False),
        ("<td>1</td></tr>, N/n, $1/(1 - x)$, 20 / 3 / 4", False),
    ],
)
def test_an_absolute_path_is_recognised(text, found):
    assert bool(ABSOLUTE_PATH.search(text)) == found
