"""Long tables, kept row by row, so that a run goes on where it was stopped."""

import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any


def apart(module: str, *arguments: Any) -> dict:
    """The row that a module prints last, run in a process of its own."""
    code = [sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments)]
    done = subprocess.run(code, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{module} {arguments}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def rows(kept: pathlib.Path, todo: list[dict], make: Callable[..., dict]) -> list[dict]:
    """Those that the file has, and one for each of `todo` that it lacks.

    Args:
      kept: a file of JSON, written after every row.
      todo: what tells rows apart, such as `{"data": "yacht", "split": 3}`.
      make: is called with these by name, and returns the rest of the row. The
        cores that it may use are added.
    """
    found = json.loads(kept.read_text())["rows"] if kept.exists() else []
    for facts in todo:
        if any(facts.items() <= one.items() for one in found):
            continue
        cores = len(os.sched_getaffinity(0))
        found.append(facts | make(**facts) | {"cores": cores})
        print(found[-1], flush=True)
        kept.write_text(json.dumps({"rows": found}, ensure_ascii=False))
    return found
