# python -m benchmarks.engine
"""What does `sample` cost beside the updates it makes?

Against a bare `jax.lax.scan` of the same update, interleaved, in runs of about two
seconds; a call with fresh but equal objects, when everything has been compiled; and one
frozen chain among healthy ones. Prints a Markdown table.
"""

import functools
import platform
import statistics
import time
import warnings

import jax
import jax.numpy as jnp

import sgld_jax
from benchmarks.models import Model, logistic, network

ROUNDS = 7
SECONDS = 2.0


class Case:
    """One model and number of chains, run by `sample` and by a bare scan."""

    def __init__(self, model: Model, num_chains: int):
        self.model = model
        self.num_chains = num_chains
        self.updates = 1
        self.chain = sgld_jax.start(
            0,
            self.sampler(),
            model.init,
            num_chains=num_chains,
            data=model.data,
            batches=self.batches(),
        )

    def sampler(self):
        """New objects at every call, as when a cell of a notebook is run again."""
        return sgld_jax.sgld(1e-6)

    def batches(self):
        return sgld_jax.with_replacement(self.model.batch_size)

    def sample(self, updates: int):
        return sgld_jax.resume(
            self.chain,
            self.sampler(),
            self.model.potential(),
            num_samples=1,
            thinning=updates,
            data=self.model.data,
            batches=self.batches(),
        )

    @functools.cached_property
    def scan(self):
        """`updates -> seconds` of the bare loop."""
        sampler, potential, batches = (
            self.sampler(),
            self.model.potential(),
            self.batches(),
        )

        @functools.partial(jax.jit, static_argnums=2)
        def run(chain, data, updates):
            def one(carry, _):  # U is carried along, since `sample` records it
                chain = carry[0]
                return sgld_jax.step(
                    chain, sampler, potential, data=data, batches=batches
                ), None

            start = chain, jnp.zeros(self.num_chains)
            return jax.lax.scan(one, start, None, length=updates)[0]

        def timed(updates):
            began = time.perf_counter()
            jax.block_until_ready(run(self.chain, self.model.data, updates))
            return time.perf_counter() - began

        return timed

    def calibrate(self) -> None:
        """Sets the number of updates that take about two seconds."""
        self.updates = 20
        while True:
            self.scan(self.updates)
            seconds = self.scan(self.updates)
            if seconds > SECONDS / 4:
                break
            self.updates *= 4
        self.updates = int(self.updates * SECONDS / seconds)
        self.scan(self.updates)
        self.sample(2)

    def row(self) -> str:
        """A line of the table."""
        self.calibrate()
        bare, ours, beside, traced = [], [], [], []
        for _ in range(ROUNDS):
            bare.append(self.scan(self.updates))
            began = time.perf_counter()
            report = self.sample(self.updates).report
            whole = time.perf_counter() - began
            ours.append(report.seconds)
            traced.append(report.compile_seconds)
            beside.append(whole - report.compile_seconds - report.seconds)
        micro = [1e6 * x / self.updates / self.num_chains for x in bare]
        ratio = [a / b for a, b in zip(ours, bare)]
        spread = max(bare) / min(bare) - 1
        return (
            f"| {self.model.name} | {self.num_chains} | {statistics.median(micro):.3g} "
            f"| {statistics.median(ratio):.3f} | {min(ratio):.3f} to {max(ratio):.3f} "
            f"| {100 * spread:.0f} % | {1e3 * statistics.median(traced):.0f} "
            f"| {1e3 * statistics.median(beside):.1f} |"
        )


def frozen_row() -> str:
    """64 chains, of which one has failed, against 64 healthy ones."""
    case = Case(logistic(50, 10_000, 32), 64)
    case.calibrate()
    updates = case.updates // 4
    first = jax.tree.map(lambda x: x.at[0].set(0), case.chain.failure)
    warnings.filterwarnings("ignore", ".*chains have failed")
    healthy, frozen = case.chain, case.chain._replace(failure=first)
    seconds = {"healthy": [], "frozen": []}
    for _ in range(ROUNDS + 1):
        for name, chain in (("healthy", healthy), ("frozen", frozen)):
            case.chain = chain
            seconds[name].append(case.sample(updates).report.seconds)
    ratio = [b / a for a, b in zip(seconds["healthy"][1:], seconds["frozen"][1:])]
    return (
        f"One frozen chain among 64: {statistics.median(ratio):.3f} of the time of 64 "
        f"healthy ones ({min(ratio):.3f} to {max(ratio):.3f})."
    )


def main() -> None:
    """Prints the table."""
    print(
        f"JAX {jax.__version__}, Python {platform.python_version()}, "
        f"{jax.devices()[0].platform}, {ROUNDS} rounds of {SECONDS:.0f} s\n"
    )
    print(
        "| model | chains | bare scan, µs per chain and update | `sample` over scan "
        "| its range | spread of the scan | trace and lower, ms | rest of a call, ms |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for num_chains in (1, 64, 1024):
        row = Case(logistic(50, 10_000, 32), num_chains).row()
        print(row, flush=True)
    for num_chains in (1, 64):
        row = Case(network(), num_chains).row()
        print(row, flush=True)
    print("\n" + frozen_row())


if __name__ == "__main__":
    main()
