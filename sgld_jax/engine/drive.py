"""The driver: a run as a sequence of compiled chunks of about half a second.

One chunk is computed while the one before it is looked at and copied. What is settled
is kept whatever comes after it: Ctrl-C, an exception from a callback, a full device.
"""

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from sgld_jax.engine.chain import Chain, pick
from sgld_jax.engine.devices import Layout
from sgld_jax.engine.draws import Draws, one_weight
from sgld_jax.engine.feed import Fixed, Loaded
from sgld_jax.engine.loop import Draw, chunk, empty_block, model_of
from sgld_jax.engine.plan import Plan, Steps
from sgld_jax.engine.progress import Progress
from sgld_jax.engine.report import RunReport, acceptance_in, clipped_in, failures_of
from sgld_jax.engine.samples import Samples
from sgld_jax.engine.stopping import Stopping
from sgld_jax.program import Program
from sgld_jax.warn import warn

PyTree = Any

# From the dispatch of a chunk to its end. Two are under way, so that each takes half.
_SECONDS = 1.0
_GROWTH = 4  # of a chunk over those before it, whose duration is known
_MAX_UPDATES = 2**30  # of a chunk: they are counted in int32
_BLOCK_BYTES = 16 * 2**20  # of draws, on the device; there are two blocks


class _Settled(NamedTuple):
    """Where a run stands: one object, so that no interruption can tear it apart.

    Attributes:
      chain: after `done` updates, healthy or frozen.
      done: updates made in this run.
      frozen: which chains have gone non-finite, bool `[C]`.
      frozen_draw: what is recorded of those from now on, leaves `[C, ...]`.
    """

    chain: Chain
    done: int
    frozen: np.ndarray
    frozen_draw: Draw | None


class _Launched(NamedTuple):
    """A chunk that the device has been asked for.

    Attributes:
      steps: its updates.
      start: the chains before it, for a second look.
      end: the chains after it; frozen ones where they were.
      block: its draws.
      finite: whether all was finite, bool `[C]`.
      data: what its updates see.
      at: when it was launched, in seconds.
    """

    steps: Steps
    start: Chain
    end: Chain
    block: Draw
    finite: jax.Array
    data: PyTree
    at: float


def drive(
    step: Callable,
    collect: Callable,
    chain: Chain,
    feed: Fixed | Loaded,
    plan: Plan,
    size: int,
    layout: Layout,
    progress: bool,
    until: Stopping,
) -> Samples:
    """Makes the draws of a plan; see `sample`.

    Args:
      step: `(chain, data) -> (chain, U [C])`, one update of all chains.
      collect: `params -> tree`, what is kept of one position.
      chain: where to begin.
      feed: the data of every chunk.
      plan: what to draw.
      size: chains that are updated at once.
      layout: where chains and data live.
      progress: whether to show a bar.
      until: whether the draws so far are enough.
    """
    chain = layout.enter_chains(chain)
    feed.enter(layout)
    with layout.inside():
        run = _Run(step, collect, chain, feed, plan, size, layout)
        stopped = _until_done_or_stopped(run, plan, progress, until)
    return run.samples(stopped)


def _until_done_or_stopped(
    run: "_Run", plan: Plan, progress: bool, until: Stopping
) -> str:
    """Makes the draws; how to go on, if something came in between."""
    bar = Progress(plan.total, progress)
    stopped = ""
    try:
        ahead = run.launch(run.settled.chain, 0)
        while ahead is not None:
            now, ahead = ahead, run.launch(ahead.end, ahead.steps.end)
            if run.settle(now):  # what was launched after it began wrong
                ahead = run.launch(run.settled.chain, run.settled.done)
            if progress:
                bar.advance(run.settled.done, *run.look(now.steps))
            if until(run, plan):
                return plan.how_to_go_on(run.settled.done, "Stopped by until")
    except (KeyboardInterrupt, Exception) as error:
        if not run.settled.done:
            raise
        if run.settled.done == plan.total:
            return ""
        stopped = plan.how_to_go_on(run.settled.done, _why(error))
        if not isinstance(error, KeyboardInterrupt):
            warn(f"{stopped} What was drawn is returned.")
    finally:
        bar.close()
    return stopped


def _why(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "Interrupted"
    first_line = (str(error).splitlines() or [""])[0][:200]
    return f"Stopped by {type(error).__name__} ({first_line})"


class _Run:
    """The programs of a run, its draws on the host, and where it stands."""

    def __init__(
        self,
        step: Callable,
        collect: Callable,
        chain: Chain,
        feed: Fixed | Loaded,
        plan: Plan,
        size: int,
        layout: Layout,
    ):
        self._feed, self._plan, self._layout = feed, plan, layout
        data = self._data = feed.between(0, 1)
        self._size = size
        self._begin = np.array(chain.count)
        began = time.perf_counter()
        self._model, self._draw = model_of(step, collect, chain, data, size)
        self._compile_seconds = time.perf_counter() - began
        self._block = self._compiled(empty_block(self._draw, _BLOCK_BYTES))
        self._free = [self._new_block()]  # the second is made when it is needed
        self._fast = self._chunk_program(chain, watched=False)
        self._watched: Program | None = None  # these two when a chain fails
        self._pick: Program | None = None
        self._draws = Draws(self._draw, plan.num_samples)
        self._largest, self._seconds_per_update = 0, 0.0
        # So that the time from here on, less all compilation, is that of the run.
        self._began = time.perf_counter() - self._compile_seconds
        frozen = np.asarray(chain.failure.step) >= 0
        self.settled = _Settled(chain, 0, frozen, self._draw_if(frozen, chain))

    def launch(self, chain: Chain, done: int) -> _Launched | None:
        """Asks the device for the next chunk, and does not wait; None at the end."""
        if done >= self._plan.total:
            return None
        block = self._free.pop() if self._free else self._new_block()
        steps = self._plan.next_chunk(done, self._budget(), len(block.count))
        self._data = self._feed.between(steps.begin, steps.end)
        at = time.perf_counter()
        end, block, finite = self._call(self._fast, chain, block, steps, self._data)
        if self.settled.frozen.any():
            end = self._put_back(self.settled.frozen, chain, end)
        return _Launched(steps, chain, end, block, finite, self._data, at)

    def settle(self, now: _Launched) -> bool:
        """Waits for a chunk, keeps its draws, and freezes the chains that failed.

        Healthy chains keep the bits of the fast program. What failed is run again with
        a look at every update. Returns whether that changed any chain.
        """
        old, end = self.settled, now.end
        suspect = ~np.asarray(now.finite) & ~old.frozen
        self._measure(now)
        draws = self._plan.draws(now.steps)
        self._draws.write(draws, now.block)
        failed = np.zeros_like(suspect)
        if suspect.any():
            again, block = self._look_again(now)
            failed = suspect & (np.asarray(again.failure.step) >= 0)
            self._draws.write(draws, block, failed)
            end = self._put_back(failed, again, end)
        if old.frozen_draw is not None:
            self._draws.repeat(draws, old.frozen_draw, old.frozen)
        frozen = old.frozen | failed
        draw = self._draw_if(frozen, end) if failed.any() else old.frozen_draw
        self.settled = _Settled(end, now.steps.end, frozen, draw)
        self._feed.forget(now.steps.end)
        self._free.append(now.block)
        return bool(failed.any())

    def look(self, steps: Steps) -> tuple[float, int]:
        """The mean potential of the healthy chains in a chunk, and how many are not."""
        frozen, draws = self.settled.frozen, self._plan.draws(steps)
        return self._draws.mean_potential(draws, ~frozen), int(frozen.sum())

    def samples(self, stopped: str) -> Samples:
        """What has been drawn."""
        seconds = time.perf_counter() - self._began - self._compile_seconds
        chain, done = self._layout.leave(self.settled.chain), self.settled.done
        drawn = self._plan.drawn(done)
        draws = jax.tree.map(lambda x: x[:, :drawn], self._draws.arrays)
        failures = failures_of(chain)
        report = RunReport(
            done,
            seconds,
            self._compile_seconds,
            failures,
            stopped,
            self._begin,
            self._size,
            int(np.asarray(chain.batches.source)[0, 4]),
            self._fast.temporary_bytes,
            clipped_in(chain),
            *acceptance_in(chain),
        )
        weights = one_weight(draws.weights)
        return Samples(
            draws.params, draws.potential, weights, draws.count, chain, report
        )

    def _budget(self) -> int:
        """Updates of the next chunk; the first ones tell how long an update takes."""
        if not self._largest:
            return 1
        by_time = _SECONDS / self._seconds_per_update
        most = _GROWTH * self._largest, _MAX_UPDATES, self._feed.most
        return int(max(1, min(by_time, *most)))

    def _measure(self, now: _Launched) -> None:
        updates = now.steps.end - now.steps.begin
        self._seconds_per_update = (time.perf_counter() - now.at) / updates
        self._largest = max(self._largest, updates)

    def _call(self, program: Program, chain: Chain, block: Draw, steps: Steps, data):
        stops = np.int32(steps.num_stops)
        return program(chain, data, block, steps.updates, stops)

    def _look_again(self, now: _Launched) -> tuple[Chain, Draw]:
        if self._watched is None:
            self._watched = self._chunk_program(now.start, watched=True)
        block = self._new_block()
        end, block, _ = self._call(self._watched, now.start, block, now.steps, now.data)
        return end, block

    def _put_back(self, chosen: np.ndarray, new: Chain, old: Chain) -> Chain:
        if self._pick is None:
            places = self._layout.places(old)
            self._pick = self._compiled(pick, chosen, new, old, places=places)
        return self._pick(chosen, new, old)

    def _new_block(self) -> Draw:
        return self._layout.enter_block(self._block())

    def _chunk_program(self, chain: Chain, watched: bool) -> Program:
        block = self._free[0] if self._free else self._new_block()
        function = functools.partial(chunk, self._model, self._size, watched)
        updates = np.zeros(len(block.count), np.int32)
        return self._compiled(
            function,
            *(chain, self._data, block, updates, np.int32(0)),
            donate=(2,),
            places=self._layout.places((chain, block)),
        )

    def _compiled(self, function: Callable, *args: Any, **kwargs: Any) -> Program:
        program = Program(function, *args, **kwargs)
        self._compile_seconds += program.seconds
        return program

    def _draw_if(self, frozen: np.ndarray, chain: Chain) -> Draw | None:
        """What is recorded of frozen chains from now on: a draw after no update."""
        if not frozen.any():
            return None
        block = self._new_block()
        none = Steps(np.zeros(len(block.count), np.int32), 1, 0, 0, 0)
        _, block, _ = self._call(self._fast, chain, block, none, self._data)
        return jax.tree.map(lambda rows: np.array(rows[0]), block)
