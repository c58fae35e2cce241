"""How time is taken: loops in turns, runs of seconds, medians and spreads."""

import importlib.metadata
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax


class Timing(NamedTuple):
    """What a loop costs.

    Attributes:
      micro: µs per update of one chain, the median of the rounds.
      low: of the fastest round.
      high: of the slowest round.
      first_call: seconds of the first call, of one update, with all compilation, when
        nothing that JAX has traced or compiled before is left.
      megabytes: that the program takes beside its arguments and results.
    """

    micro: float
    low: float
    high: float
    first_call: float
    megabytes: float


class Loop(NamedTuple):
    """A program to time.

    Attributes:
      run: `updates -> seconds`: makes so many updates of all chains, and says how long
        it took.
      temporary_bytes: memory beside arguments and results; to be asked after a run.
    """

    run: Callable[[int], float]
    temporary_bytes: Callable[[], int]


def clocked(function: Any, arguments: Callable[[int], tuple]) -> Loop:
    """A jitted function of so many updates, by the clock on the wall."""

    def run(updates: int) -> float:
        began = time.perf_counter()
        jax.block_until_ready(function(*arguments(updates)))
        return time.perf_counter() - began

    def temporary_bytes() -> int:
        compiled = function.lower(*arguments(100)).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    return Loop(run, temporary_bytes)


def interleaved(
    loops: dict[str, Loop], num_chains: int, rounds: int, seconds: float
) -> dict[str, Timing]:
    """Times loops in turns, so that what the machine does meanwhile meets all alike."""
    first = {name: _first(loop.run) for name, loop in loops.items()}
    updates = {name: _calibrated(loop.run, seconds) for name, loop in loops.items()}
    taken: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(rounds):
        for name, loop in loops.items():
            per_update = loop.run(updates[name]) / updates[name]
            taken[name].append(1e6 * per_update / num_chains)
    return {
        name: Timing(
            statistics.median(t),
            min(t),
            max(t),
            first[name],
            loops[name].temporary_bytes() / 1e6,
        )
        for name, t in taken.items()
    }


def _first(run: Callable[[int], float]) -> float:
    jax.clear_caches()  # or those who come later would find much of their work done
    began = time.perf_counter()
    run(1)
    return time.perf_counter() - began


def _calibrated(run: Callable[[int], float], seconds: float) -> int:
    """How many updates take so many seconds beside what a call takes in any case."""
    call, updates = run(1), 4
    run(updates)
    taken = run(updates) - call
    while taken < seconds / 4:
        updates = int(updates * min(16, max(2, seconds / 2 / max(taken, 1e-6))))
        run(updates)  # some loops compile for each length
        taken = run(updates) - call
    updates = max(1, int(updates * seconds / taken))
    run(updates)
    return updates


def circumstances() -> dict[str, Any]:
    """The versions and the machine, to stand beside every figure."""
    names = {d.name for d in importlib.metadata.distributions()}
    return {
        name: importlib.metadata.version(name) if name in names else "none"
        for name in ("jax", "optax", "blackjax")
    } | {
        "python": platform.python_version(),
        "device": jax.devices()[0].device_kind,
        "processor": _processor(),
    }


def _processor() -> str:
    """The name of the processor and whether it has AVX-512, on Linux."""
    try:
        with open("/proc/cpuinfo") as file:
            lines = file.read().splitlines()
    except OSError:
        return platform.processor()
    facts = dict(line.split(":", 1) for line in lines if ":" in line)
    facts = {name.strip(): value.strip() for name, value in facts.items()}
    wide = "AVX-512" if "avx512f" in facts.get("flags", "") else "no AVX-512"
    cores = sum(line.startswith("processor") for line in lines)
    return f"{facts.get('model name', platform.machine())}, {wide}, {cores} cores"
