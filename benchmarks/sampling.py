"""Whole updates: ours through `sample`, against the floor and against rivals."""

import jax

import sgld_jax
from benchmarks import entrants
from benchmarks.models import Model, lenet, logistic, network
from benchmarks.timing import Loop, interleaved

LARGE = 100_000  # rows of the regressions


def logistic_50() -> tuple[Model, tuple[int, ...]]:
    """50 features, batches of 32."""
    return logistic(50, LARGE, 32), (1, 64, *((4096,) if _is_gpu() else (1024, 10_000)))


def logistic_500() -> tuple[Model, tuple[int, ...]]:
    """500 features, batches of 256."""
    return logistic(500, LARGE, 256), (1, 64)


def network_26k() -> tuple[Model, tuple[int, ...]]:
    """A network of 26,122 parameters, batches of 32."""
    return network(), (1, 64, 4096) if _is_gpu() else (1, 64)


def lenet_images() -> tuple[Model, tuple[int, ...]]:
    """LeNet on images of 28 × 28, batches of 32."""
    return lenet(), (64, 1024) if _is_gpu() else (1, 8)


def rows(
    model: Model, chains: tuple[int, ...], rounds: int, seconds: float
) -> list[dict]:
    """A row for each number of chains and entrant."""
    table = []
    for num_chains in chains:
        loops = _loops(model, num_chains)
        timings = interleaved(loops, num_chains, rounds, seconds)
        reference = timings["sgld_jax.sample"].micro
        for name, t in timings.items():
            table.append(
                {
                    "model": model.name,
                    "chains": num_chains,
                    "loop": name,
                    "µs per chain and update": t.micro,
                    "fastest": t.low,
                    "slowest": t.high,
                    "its time over ours": t.micro / reference,
                    "first call s": t.first_call,
                    "temporaries MB": t.megabytes,
                }
            )
    return table


KERNELS = {
    "sgld": sgld_jax.sgld,
    "psgld": lambda step_size: sgld_jax.psgld(
        step_size, num_data=network().num_data, freeze_after=1_000
    ),
    "leimkuhler_matthews": sgld_jax.leimkuhler_matthews,
    "baoa": sgld_jax.baoa,
    "sghmc": sgld_jax.sghmc,
    "sgnht": sgld_jax.sgnht,
    "sglrw": sgld_jax.sglrw,
}


def kernels(rounds: int, seconds: float, chains: tuple[int, ...] = (1, 64)) -> list:
    """An update of each kernel in a bare scan, on the network."""
    model, table = network(), []
    for num_chains in chains:
        drawn = sgld_jax.with_replacement(model.batch_size)
        loops = {
            name: entrants.bare(model, num_chains, drawn, kernel)
            for name, kernel in KERNELS.items()
        }
        timings = interleaved(loops, num_chains, rounds, seconds)
        for name, t in timings.items():
            table.append(
                {
                    "model": model.name,
                    "chains": num_chains,
                    "kernel": name,
                    "µs per chain and update": t.micro,
                    "fastest": t.low,
                    "slowest": t.high,
                    "over sgld": t.micro / timings["sgld"].micro,
                }
            )
    return table


def _loops(model: Model, num_chains: int) -> dict[str, Loop]:
    """All entrants on rows drawn with replacement, some of them on other batches."""
    drawn = sgld_jax.with_replacement(model.batch_size)
    blocks = sgld_jax.blocks(model.batch_size)
    given = model, num_chains
    one_for_all = sgld_jax.with_replacement(model.batch_size, shared_by=num_chains)
    shared = {"sgld_jax.sample, one batch for all": entrants.ours(*given, one_for_all)}
    return {
        "sgld_jax.sample": entrants.ours(*given, drawn),
        "sgld_jax.sample, with progress": entrants.ours(*given, drawn, progress=True),
        "our update in a bare scan": entrants.bare(*given, drawn),
        "SGD, no noise": entrants.floor(*given, drawn),
        "optax.add_noise": entrants.add_noise(*given, drawn),
        "blackjax.sgld": entrants.blackjax(*given, None),
        "sgld_jax.sample, blocks": entrants.ours(*given, blocks),
        "SGD, no noise, blocks": entrants.floor(*given, blocks),
        "blackjax.sgld, our blocks": entrants.blackjax(*given, blocks),
        **(shared if num_chains > 1 else {}),
    }


def _is_gpu() -> bool:
    return jax.devices()[0].platform == "gpu"
