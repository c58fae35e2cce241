"""What a run returns."""

import dataclasses
from typing import Any, NamedTuple

import jax
import numpy as np

from sgld_jax.engine.chain import Chain
from sgld_jax.keys import is_key
from sgld_jax.leaves import paths

PyTree = Any

_SHOWN = 12  # leaves, and lines of the report, in a repr
_HYPERPARAMETERS = ("the step size", "the temperature")


class ChainFailure(NamedTuple):
    """One chain that went non-finite.

    Attributes:
      chain: its number.
      step: the update that failed, counted from 0.
      leaf: where it showed: a parameter by its path, "the potential", or the cause,
        "the step size" or "the temperature".
    """

    chain: int
    step: int
    leaf: str

    def __str__(self) -> str:
        if self.leaf in _HYPERPARAMETERS:
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
        lines += map(str, self.failures)
        return "\n".join(lines + [self.interrupted] * bool(self.interrupted))


@dataclasses.dataclass(frozen=True, repr=False)
class Samples:
    """The draws of a run. Arrays are NumPy, with axes chain, draw, event.

    `samples[chains, draws]` slices both axes, as in `samples[:, 100:]`.

    Attributes:
      params: what `collect` returned of each position, leaves `[C, S, ...]`.
      potential: U as the update that made the draw saw it, on its batch and at
        the position before it, `[C, S]`.
      weights: importance weights for averages over draws, not normalised, `[C, S]`:
        ε for `sgld`. 0 where a chain had gone non-finite. NaN where they are unknown:
        without a kernel, or with several whose steps shrink differently.
      counts: updates made when the draw was taken, `[C, S]`.
      final: the whole `Chain` after the last draw, for `resume`.
      report: what happened.
      cut: whether the last draws were sliced off, so that `final` is later than what
        is left.
    """

    params: PyTree
    potential: np.ndarray
    weights: np.ndarray
    counts: np.ndarray
    final: Chain
    report: RunReport
    cut: bool = False

    @property
    def interrupted(self) -> bool:
        """Whether something stopped the run early; the report says how to go on."""
        return bool(self.report.interrupted)

    @property
    def num_chains(self) -> int:
        """C."""
        return self.potential.shape[0]

    @property
    def num_samples(self) -> int:
        """S, the draws of each chain."""
        return self.potential.shape[1]

    @property
    def failed(self) -> np.ndarray:
        """Which chains went non-finite, bool `[C]`."""
        return np.asarray(self.final.failure.step) >= 0

    @property
    def streams(self) -> np.ndarray:
        """Numbers of the streams of batches, int `[C]`; equal where batches were."""
        return np.asarray(self.final.batches.stream)

    def draw(self, chain: int, draw: int) -> PyTree:
        """One position: the parameters of draw `draw` of chain `chain`, leaves `[...]`.

        Raises:
          IndexError: for a chain or a draw that is not there.
        """
        return jax.tree.map(lambda x: x[chain, draw], self.params)

    def __repr__(self) -> str:
        leaves = list(paths(self.params).items())
        shown = [
            f"  params{path.removeprefix('(the leaf)')}: {x.dtype}{list(np.shape(x))}"
            for path, x in leaves[:_SHOWN]
            if x is not None
        ]
        more = len(leaves) - _SHOWN
        shown += [f"  and {more} more leaves"] * (more > 0)
        lines = str(self.report).splitlines()
        shown += [f"  {line}" for line in lines[:_SHOWN]]
        shown += [f"  and {len(lines) - _SHOWN} more lines"] * (len(lines) > _SHOWN)
        head = f"Samples: {self.num_chains} chains of {self.num_samples} draws"
        return "\n".join([head, *shown])

    def healthy(self) -> "Samples":
        """The same draws without the chains that went non-finite."""
        return self[~self.failed]

    def __getitem__(self, index: Any) -> "Samples":
        chains: Any
        draws: Any
        if isinstance(index, str):
            raise IndexError(
                f"samples[{index!r}]: expected chains and draws, as in "
                f"samples[0, 100:]. Parameters are in samples.params."
            )
        if isinstance(index, tuple) and len(index) != 2:
            raise IndexError(
                f"samples[{', '.join(map(str, index))}] has {len(index)} indices: "
                f"expected chains and draws, as in samples[0, 100:]. Coordinates are "
                f"those of samples.params."
            )
        chains, draws = index if isinstance(index, tuple) else (index, slice(None))
        last = np.arange(self.num_samples)[draws]
        if isinstance(chains, (int, np.integer)):
            chains = [chains]
        if isinstance(draws, (int, np.integer)):
            draws = [draws]

        def cut(x):
            return x[chains][:, draws]

        final = jax.tree.map(
            lambda x: x[np.arange(self.num_chains)[chains]], self.final
        )
        return dataclasses.replace(
            self,
            params=jax.tree.map(cut, self.params),
            potential=cut(self.potential),
            weights=cut(self.weights),
            counts=cut(self.counts),
            final=final,
            report=self.report._replace(
                failures=failures_of(final), begin=self.report.begin[chains]
            ),
            cut=self.cut or self.num_samples - 1 not in np.atleast_1d(last)[-1:],
        )

    def concatenate(self, later: "Samples") -> "Samples":
        """These draws followed by those of a `resume` of their `final` chain.

        Raises:
          ValueError: if `later` does not go on where these draws end.
        """
        _check_goes_on(self, later)

        def join(a, b):
            return np.concatenate([a, b], axis=1)

        mine, other = self.report, later.report
        return Samples(
            jax.tree.map(join, self.params, later.params),
            join(self.potential, later.potential),
            join(self.weights, later.weights),
            join(self.counts, later.counts),
            later.final,
            RunReport(
                mine.updates + other.updates,
                mine.seconds + other.seconds,
                mine.compile_seconds + other.compile_seconds,
                other.failures,
                other.interrupted,
                mine.begin,
                other.group_size,
                other.shared_by,
                max(mine.temporary_bytes, other.temporary_bytes),
            ),
        )


def _check_goes_on(first: Samples, later: Samples) -> None:
    """Raises unless `later` is `Samples` that were resumed from the end of `first`."""
    if not isinstance(later, Samples):
        raise TypeError(
            f"concatenate was given {type(later).__name__}: expected the Samples that "
            f"resume(samples.final, ...) returned, one at a time."
        )

    def keys(samples: Samples) -> list[np.ndarray]:
        leaves = jax.tree.leaves(samples.final.state)
        return [np.asarray(jax.random.key_data(x)) for x in leaves if is_key(x)]

    if later.num_chains != first.num_chains:
        problem = f"there are {later.num_chains} chains after {first.num_chains}"
    elif first.cut:
        problem = "the end of the first draws, where `later` goes on, was sliced off"
    elif any((a != b).any() for a, b in zip(keys(first), keys(later))):
        problem = "the chains have other keys, so they are not the same chains"
    elif (later.report.begin < np.asarray(first.final.count))[~later.failed].any():
        problem = "`later` begins before the first draws end, so draws would repeat"
    elif (later.report.begin > np.asarray(first.final.count))[~later.failed].any():
        problem = "there are updates between the two, whose draws are missing"
    else:
        return
    raise ValueError(
        f"Cannot append: {problem}. Expected what resume(samples.final, ...) returned. "
        f"For independent runs, stack chains: np.concatenate of params along axis 0."
    )


def failures_of(chain: Chain) -> tuple[ChainFailure, ...]:
    """The chains that have gone non-finite, with the name of the leaf."""
    names = [path for path, leaf in paths(chain.params).items() if leaf is not None]
    names += ["the potential", *_HYPERPARAMETERS]
    steps, leaves = np.asarray(chain.failure.step), np.asarray(chain.failure.leaf)
    return tuple(
        ChainFailure(int(i), int(steps[i]), names[leaves[i]])
        for i in np.flatnonzero(steps >= 0)
    )
