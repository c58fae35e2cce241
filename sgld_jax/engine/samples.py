"""What a run returns."""

import dataclasses
from typing import Any

import jax
import numpy as np

from sgld_jax.engine.chain import Chain
from sgld_jax.engine.report import RunReport, failures_of
from sgld_jax.keys import is_key
from sgld_jax.leaves import paths

PyTree = Any

_SHOWN = 12  # leaves, and lines of the report, in a repr


@dataclasses.dataclass(frozen=True, repr=False)
class Samples:
    """The draws of a run. Arrays are NumPy, with axes chain, draw, event.

    `samples[chains, draws]` slices both axes, as in `samples[:, 100:]`.

    Attributes:
      params: what `collect` returned of each position, leaves `[C, S, ...]`.
      potential: U as the update that made the draw saw it, on its batch and at
        the position before it, `[C, S]`; with `mala`, U of the draw itself.
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

    def save(self, folder: Any) -> None:
        """Writes everything into a new folder, for `sgld_jax.load` and for other tools.

        Arrays are NumPy's files, with a manifest of their shapes, types and SHA-256.
        Nothing is pickled, nothing is overwritten, and the folder appears when it is
        whole. Draws alone for ArviZ: `to_arviz(samples).to_netcdf(path)`.

        Args:
          folder: a path where nothing is yet.

        Raises:
          FileExistsError: if there is something already.
          TypeError: for trees whose keys are neither text nor whole numbers.
        """
        from sgld_jax.engine import files  # which needs this class

        files.save(self, folder)

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
                other.clipped,
                other.acceptance,
                other.lowest_acceptance,
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
