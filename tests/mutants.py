"""Code broken on purpose: copies of modules in which one marked line is another.

A line that a test breaks ends in a comment, its mark, such as `# drift`; so it can be
rewritten freely, and the test need not know its text.
"""

import importlib
import importlib.util
import inspect
import re
import sys

# What kernels are made of, in the order of their imports.
GROUND = (
    "arguments",
    "generator",
    "keys",
    "leaves",
    "noise",
    "parameters",
    "preconditioners",
    "adaptive",
    "schedules",
    "settings",
    "states",
)


def mutated(module, mark: str, line: str):
    """A copy of a module whose line marked `# mark` is `line`, at the same indentation."""
    return _executed(module.__name__ + " mutated", _broken(module, mark, line))


def mutated_kernel(name: str, mark: str, line: str):
    """The module of a kernel, built on copies of its parts, one of which has the mark."""
    # psgld is sgld with a metric.
    kernels = (
        ["kernels.sgld", "kernels.psgld"] if name == "psgld" else [f"kernels.{name}"]
    )
    names = [f"sgld_jax.{part}" for part in (*GROUND, *kernels)]
    originals = {name: importlib.import_module(name) for name in names}
    marked = [m for m in originals.values() if _marks(m, mark)]
    assert len(marked) == 1, f"{mark!r} is a mark of {[m.__name__ for m in marked]}"
    try:
        for name, module in originals.items():
            source = inspect.getsource(module)
            if module is marked[0]:
                source = _broken(module, mark, line)
            _executed(name, source)
        return sys.modules[names[-1]]
    finally:
        sys.modules.update(originals)


def _marks(module, mark: str) -> list:
    return re.findall(rf"^ *.*  # {re.escape(mark)}$", inspect.getsource(module), re.M)


def _broken(module, mark: str, line: str) -> str:
    found = _marks(module, mark)
    assert len(found) == 1, f"{len(found)} lines of {module.__name__} end in # {mark}"
    indentation = found[0][: len(found[0]) - len(found[0].lstrip())]
    assert found[0].strip() != f"{line}  # {mark}", "the line is as it was"
    return inspect.getsource(module).replace(found[0], indentation + line)


def _executed(name: str, source: str):
    copy = importlib.util.module_from_spec(
        importlib.util.spec_from_loader(name, loader=None)
    )
    sys.modules[name] = copy  # dataclasses look their module up
    exec(compile(source, name, "exec"), copy.__dict__)
    return copy
