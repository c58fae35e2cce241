"""The page `docs/mnist.md`, made of the results that were kept."""

HEAD = """# Images: LeNet-5 on MNIST and Fashion-MNIST

`python -m benchmarks mnist` and, with a GPU, `python -m benchmarks mnist full` measure
and write this page.

61,706 parameters, ReLU, no batch normalisation. Every method makes as many gradients
of batches: as so many networks or chains, or as one network that goes on for so long.
Each was tuned by the same rule: of five settings, with a quarter of the gradients
each, that was taken which makes {validation:,} validation images most likely. Samplers
begin at networks by Adam that had half of the gradients, and keep {draws} draws of each
chain, at T = 1 with the prior N(0, {variance:g}/fan_in); ε is their step size, N the
number of training images.

The test of Fashion-MNIST is a part of its training images that no method saw.
*Turned*: the first half of the test by 30 degrees, with noise. AUROC: of the predictive
entropy, beside images of the other set and of notMNIST. *Wrong of 95 %*: errors among
the most confident. Mean ± standard error over seeds where there are several; minutes
are those of a fit, without tuning.
"""

TAIL = """Of so few gradients a sampler gives half to its start, and on MNIST it has a
larger NLL than an ensemble that gives them all to Adam. At the full size `sghmc` tells
other images apart best, and is most right about the images it is most sure of, but for
dropout.

Printed elsewhere for MNIST with all 60,000 images, and for other networks (NLL): one
network .037, an ensemble of ten .016, variational inference .048. For Fashion-MNIST
published figures are of its own test images: context, and no comparison."""

COLUMNS = {
    "accuracy": "{:.4f}",
    "NLL": "{:.4f}",
    "Brier": "{:.4f}",
    "ECE": "{:.4f}",
    "error at 95 %": "{:.4f}",
    "NLL, turned": "{:.3f}",
    "AUROC, Fashion": "{:.3f}",
    "AUROC, MNIST": "{:.3f}",
    "AUROC, notMNIST": "{:.3f}",
    "minutes": "{:.1f}",
}
NAMES = {"mnist": "MNIST", "fashion": "Fashion-MNIST"}


def page(*results: dict) -> str:
    """The page, of the kept results of the case: a part of the images, and all."""
    from benchmarks import image_methods, images

    head = HEAD.format(
        validation=images.VALIDATION.stop - images.VALIDATION.start,
        draws=image_methods.DRAWS,
        variance=image_methods.SCALE**2,
    )
    sections = [
        _section(result, data)
        for result in results
        for data in NAMES
        if any(one["data"] == data for one in result["rows"])
    ]
    return "\n\n".join([head.strip(), *sections, TAIL]) + "\n"


def _section(result: dict, data: str) -> str:
    from benchmarks import mnist

    rows = [one for one in result["rows"] if one["data"] == data]
    size = mnist.SIZES[rows[0]["size"]]
    members, updates, batch = size.effort
    machine = result["device"] if "NVIDIA" in result["device"] else result["processor"]
    versions = ", ".join(f"{k} {result[k]}" for k in ("jax", "optax", "python"))
    seeds = len({one["seed"] for one in rows})
    about = (
        f"{members} × {updates:,} gradients of batches of {batch}; at most "
        f"{size.test:,} images of the test, and {size.others:,} of the other sets; "
        f"seeds: {seeds} ({machine}; {versions}). {result.get('note', '')}"
    ).strip()
    names = [name for name in COLUMNS if name in rows[0]]
    lines = [
        f"| | {' | '.join(names)} | tuned |".replace("error at 95 %", "wrong of 95 %"),
        "|---|" + "---:|" * len(names) + "---|",
    ]
    for method in dict.fromkeys(one["method"] for one in rows):
        lines.append(_line([one for one in rows if one["method"] == method], names))
    title = f"## {NAMES[data]}, {size.train:,} training images"
    return "\n\n".join([title, about, "\n".join(lines)])


def _line(rows: list[dict], names: list[str]) -> str:
    """Means of a method over its seeds."""
    cells = []
    for name in names:
        values = [one[name] for one in rows]
        mean = sum(values) / len(values)
        cells.append(COLUMNS[name].format(mean))
        if len(values) > 1 and name != "minutes":
            variance = sum((x - mean) ** 2 for x in values) / (len(values) - 1)
            error = (variance / len(values)) ** 0.5
            cells[-1] += f" ± {COLUMNS[name].format(error)}"
    tuned = "; ".join(dict.fromkeys(map(_tuned, rows)))
    return f"| {rows[0]['method']} | {' | '.join(cells)} | {tuned} |"


def _tuned(row: dict) -> str:
    """What was chosen, and whether more of it might have been better."""
    tried = row["validation NLL"]
    at_an_edge = tried.index(min(tried)) in (0, len(tried) - 1)
    return row["tuned"] + (", the last that was tried" if at_an_edge else "")
