"""What happened in a run."""

from typing import NamedTuple

import numpy as np

from sgld_jax.engine.chain import Chain
from sgld_jax.leaves import paths
from sgld_jax.states import HYPERPARAMETERS, traces


class ChainFailure(NamedTuple):
    """One chain that went non-finite.

    Attributes:
      chain: its number.
      step: the update that failed, counted from 0.
      leaf: where it showed: a parameter by its path, "the potential", or the cause,
        "the step size", "the temperature" or "the friction".
    """

    chain: int
    step: int
    leaf: str

    def __str__(self) -> str:
        if self.leaf in HYPERPARAMETERS.values():
            return (
                f"chain {self.chain}: {self.leaf} was negative or not a number in "
                f"update {self.step}; look at its schedule"
            )
        if self.step == 0:
            return (
                f"chain {self.chain} failed in its first update, at {self.leaf}: it "
                f"started where the potential or its gradient is not finite; look at "
                f"init"
            )
        return (
            f"chain {self.chain} went non-finite in update {self.step} at {self.leaf} "
            f"and stays at its last finite position; usual causes: a step size too "
            f"large, log(0) or 0/0 in the potential, NaN in the data, a density that "
            f"is 0 somewhere (a scale above 0 is sampled as its logarithm)"
        )


class RunReport(NamedTuple):
    """What happened in a run.

    Attributes:
      updates: updates made of every chain in this run.
      seconds: wall time, without compilation.
      compile_seconds: time to trace, to lower and, unless the program was kept, to
        compile.
      failures: the chains that have gone non-finite so far.
      interrupted: how to go on, if Ctrl-C or an exception stopped the run; else empty.
      begin: updates made of each chain before this run, int `[C]`.
      group_size: chains that were updated at once.
      shared_by: chains that saw the same batches; 1 where each had its own.
      temporary_bytes: memory on the device beside data, chains and draws.
      clipped: share of moves that a kernel has cut short in about the last thousand
        updates, averaged over healthy chains.
      acceptance: share of proposals that were accepted in about the last thousand
        updates, averaged over healthy chains; 1 for kernels that reject none.
      lowest_acceptance: that of the chain with the smallest one.
    """

    updates: int
    seconds: float
    compile_seconds: float
    failures: tuple[ChainFailure, ...]
    interrupted: str
    begin: np.ndarray
    group_size: int
    shared_by: int
    temporary_bytes: int
    clipped: float = 0.0
    acceptance: float = 1.0
    lowest_acceptance: float = 1.0

    def __str__(self) -> str:
        groups = f", chains in groups of {self.group_size}"
        whole = self.group_size >= len(self.begin)
        lines = [
            f"{self.updates} updates in {self.seconds:.3g} s{groups * (not whole)}"
        ]
        if self.shared_by > 1:
            lines += [
                f"{self.shared_by} chains share each batch and are correlated: R-hat "
                f"is too good; errors come from the means of the chains of a stream"
            ]
        if self.clipped:
            lines += [
                f"{self.clipped:.2g} of all moves were cut short in the last updates, "
                f"and the law holds without such: take a smaller step size, or bring "
                f"down the noise of the gradients"
            ]
        if self.acceptance < 1:
            lines += [
                f"{self.acceptance:.2f} of the last proposals were accepted, "
                f"{self.lowest_acceptance:.2f} in the worst chain; .57 is best"
            ]
        if self.lowest_acceptance < _STUCK and self.updates >= 100:
            lines += [
                "a chain hardly moves: take a smaller step size, or shorter steps in "
                "between, as warm_up does; results lean on where it stands"
            ]
        lines += map(str, self.failures)
        return "\n".join(lines + [self.interrupted] * bool(self.interrupted))


_STUCK = 0.05  # of proposals accepted; chains that mix have .4 and more


def acceptance_in(chain: Chain) -> tuple[float, float]:
    """The share of accepted proposals: of all healthy chains, and of the worst."""
    healthy = np.asarray(chain.failure.step) < 0
    shares = [np.asarray(trace.acceptance)[healthy] for trace in traces(chain.state)]
    found = [(float(x.mean()), float(x.min())) for x in shares if x.size]
    return min(found, default=(1.0, 1.0))


def clipped_in(chain: Chain) -> float:
    """The share of moves that were cut short, as the chains' traces have it."""
    healthy = np.asarray(chain.failure.step) < 0
    shares = [np.asarray(trace.clipped)[healthy] for trace in traces(chain.state)]
    return max((float(x.mean()) for x in shares if x.size), default=0.0)


def failures_of(chain: Chain) -> tuple[ChainFailure, ...]:
    """The chains that have gone non-finite, with the name of the leaf."""
    names = [path for path, leaf in paths(chain.params).items() if leaf is not None]
    names += ["the potential", *HYPERPARAMETERS.values()]
    steps, leaves = np.asarray(chain.failure.step), np.asarray(chain.failure.leaf)
    return tuple(
        ChainFailure(int(i), int(steps[i]), names[leaves[i]])
        for i in np.flatnonzero(steps >= 0)
    )
