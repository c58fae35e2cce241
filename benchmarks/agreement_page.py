"""The page `docs/agreement.md`, made of the results that were kept."""

import numpy as np

HEAD = """# How near to the posterior?

`python -m benchmarks hmc` measures and writes this page ({processor}; {versions}).

A network 64-10-10 with tanh and the prior N(0, 4/fan_in) on 500 of scikit-learn's
digits; 1,297 others are predicted. The reference is blackjax's HMC: {chains} chains of
{draws:,} draws of {leaps} steps with all data, from starts of their own; acceptance
{accepted:.2f}, R-hat of log probabilities {r_hat:.3f} (median). Every other method
has {members} members with {gradients:,} gradients of all data each, and {seeds} seeds.
Seconds are of {cores} core{s}, with compilation.

*Agreement*: how often the most probable class is HMC's. *Total variation*: half the sum
of absolute differences of probabilities, on average over images. The first row compares
two of HMC's chains with the other two: nothing can be told to be nearer than that.
"""

TAIL = """Prior and likelihood are given; the question is only whether a method has the
posterior that they make. Which predicts best is another question: here the ensemble of
optima has the lower NLL.

`sgld` and `sghmc` use minibatches of 50 and the step, of four and five, that came
nearest to HMC with another seed. `baoa` is `warm_up(metric="diagonal")`, which is told
nothing; its burn-in and warm-up are counted. All three start from early-stopped nets,
whose {early:,} gradients are counted, too.
"""


def page(result: dict) -> str:
    """The page, of the kept result of the case."""
    from benchmarks import agreement as case

    reference, *rows = result["rows"]
    versions = ", ".join(f"{k} {result[k]}" for k in ("jax", "blackjax", "python"))
    head = HEAD.format(
        processor=result["processor"],
        versions=versions,
        chains=case.HMC_CHAINS,
        draws=case.HMC_DRAWS,
        leaps=case.LEAPS,
        accepted=reference["acceptance"],
        r_hat=reference["R-hat"],
        cores=reference["cores"],
        s="s" if reference["cores"] > 1 else "",
        members=case.MEMBERS,
        gradients=case.GRADIENTS,
        seeds=case.SEEDS,
    )
    lines = [
        "| | agreement, % | total variation | accuracy, % | NLL | seconds |",
        "|---|---:|---:|---:|---:|---:|",
        _line("HMC, its other half", [reference]),
    ]
    for method in case.METHODS:
        lines.append(_line(method, [one for one in rows if one["method"] == method]))
    tail = TAIL.format(early=case.EARLY)
    return "\n\n".join([head.strip(), "\n".join(lines), tail.strip()]) + "\n"


def _line(name: str, rows: list[dict]) -> str:
    def mean(key: str, digits: int, factor: float = 1.0) -> str:
        x = factor * np.array([one[key] for one in rows])
        if len(x) == 1:
            return f"{x[0]:.{digits}f}"
        return f"{x.mean():.{digits}f} ± {x.std(ddof=1) / np.sqrt(len(x)):.{digits}f}"

    cells = [
        mean("agreement", 2, 100),
        mean("total variation", 4),
        mean("accuracy", 2, 100),
        mean("NLL", 3),
        f"{np.mean([one['seconds'] for one in rows]):.0f}",
    ]
    return f"| {name} | {' | '.join(cells)} |"
