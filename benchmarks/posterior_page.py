"""The page `docs/posteriors.md`, made of the results that were kept."""

from benchmarks import posteriors

HEAD = """# Published posteriors, with nothing chosen by hand

`python -m benchmarks posteriors` measures, one posterior after the other, and writes
this page ({when}; {processor}).

The 24 posteriors of posteriordb that have reference draws, and three logistic
regressions with long runs of HMC. `mala` and `baoa` are

```python
fit = sgld_jax.warm_up(0, model.potential, model.init, num_chains=64, kernel=...)
plan = dict(num_chains=64, burn_in=fit.burn_in, thinning=fit.thinning, num_samples=500)
samples = sgld_jax.sample(1, fit.sampler, model.potential, fit.init, **plan)
```

and the model is `sgld_jax.constrained(log_density, constraints, like)`. NUTS is
blackjax {blackjax}, window adaptation with a dense metric, 4 chains of 1,000 draws
after 1,000 of warm-up, in 64 bits. "Mean" is the worst |difference| of a posterior mean
from that of the reference, in standard deviations; "sd" the standard deviation that is
furthest off, over that of the reference; gradients are those of a chain; seconds are
those of a process of its own, with compilation, and with the run in 32 bits where the
warm-up then asked for 64. "ESS" is effective draws of the slowest scalar for each
gradient of the run.
"""


def page(result: dict) -> str:
    """The page, of the kept result of the case."""
    rows = result["rows"]
    parts = [HEAD.format(when=_versions(result), **result).strip(), *_summary(rows)]
    parts += [_table(rows), *_warnings(rows), *_minibatches(rows)]
    return "\n\n".join(parts) + "\n"


def _versions(result: dict) -> str:
    return ", ".join(f"{name} {result[name]}" for name in ("jax", "optax", "python"))


def _summary(rows: list[dict]) -> list[str]:
    """How many pass, and how many seconds that took."""
    lines = []
    for sampler in posteriors.SAMPLERS:
        mine = [one for one in rows if one["sampler"] == sampler]
        good = [one for one in mine if posteriors.passed(one)]
        slow = sum(one["seconds"] > posteriors.SECONDS for one in mine)
        silent = [one for one in mine if one not in good and not one["warnings"]]
        said = f"; of the others {len(silent)} said nothing"
        lines.append(
            f"- `{sampler}`: {len(good)} of {len(mine)} within {posteriors.MEANS} sd "
            f"of the means, in {list(posteriors.WIDTHS)} of the widths, and with an "
            f"R-hat below {posteriors.R_HAT}{said * (sampler != 'NUTS')}. {slow} took "
            f"more than {posteriors.SECONDS:.0f} s."
        )
    return ["\n".join(lines)]


def _table(rows: list[dict]) -> str:
    names = "posterior sampler bits mean sd R-hat warm-up run seconds ESS".split()
    lines = [names, ["---"] * 2 + ["---:"] * 8]
    for one in rows:
        bold = "" if posteriors.passed(one) else "**"
        lines.append(
            [
                one["posterior"],
                one["sampler"],
                str(one["bits"]),
                f"{bold}{one['worst mean']:.3f}{bold}",
                f"{bold}{one['worst sd']:.3f}{bold}",
                f"{one['R-hat']:.4f}",
                f"{one['warm-up']:,}",
                f"{one['run']:,}",
                f"{one['seconds']:.1f}",
                f"{one['ESS per gradient']:.2g}",
            ]
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _minibatches(rows: list[dict]) -> list[str]:
    """What was predicted of minibatches."""
    mine = [one for one in rows if "predicted sd" in one]
    if not mine:
        return []
    lines = ["| posterior | sd, predicted at most | sd that is furthest off |"]
    lines += ["| --- | ---: | ---: |"]
    lines += [
        f"| {one['posterior']} | {one['predicted sd']:.3f} | {one['worst sd']:.3f} |"
        for one in mine
    ]
    words = (
        f"`sghmc` is `warm_up(..., data=data, batches=shuffled({posteriors.BATCHES}), "
        f"tolerance={posteriors.BIAS})`; a gradient is of {posteriors.BATCHES} rows. "
        f"Its step is the one whose law allows that bias in the worst direction; the "
        f"reference draws know a standard deviation to .7 %."
    )
    return [words, "\n".join(lines)]


def _warnings(rows: list[dict]) -> list[str]:
    said = [
        f"- {one['posterior']}, `{one['sampler']}`: {' '.join(one['warnings'])}"
        for one in rows
        if one["warnings"]
    ]
    return ["What the runs themselves said:", "\n".join(said)] if said else []
