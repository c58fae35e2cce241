"""The page `docs/mnist.md`, made of the results that were kept."""

HEAD = """# Images: LeNet-5 on a part of MNIST

`python -m benchmarks mnist` measures and writes this page ({about}).

{n:,} training images, 61,706 parameters, ReLU, no batch normalisation. Every method
makes {members} × {updates:,} gradients of batches of {batch}: as {members} networks or
chains, or as one network that goes on for so long. Each was tuned by the same rule: of
three settings, with a quarter of the gradients each, that was taken which makes
{validation:,} validation images most likely. Samplers begin at networks by Adam that
had half of the gradients, and keep {draws} draws of each chain, at T = 1 with the prior
N(0, {variance:g}/fan_in).

{test:,} test images. *Turned*: the first half of them by 30 degrees, with noise. AUROC:
of the predictive entropy, beside {others:,} test images of Fashion-MNIST and {others:,}
of notMNIST. *Wrong of 95 %*: errors among the most confident.
"""

TAIL = """It is a part of the training images and one seed: published figures are
context and no comparison (all 60,000 images, NLL: one network .037, an ensemble of ten
.016, variational inference .048)."""

COLUMNS = {
    "accuracy": "{:.4f}",
    "NLL": "{:.4f}",
    "Brier": "{:.4f}",
    "ECE": "{:.4f}",
    "error at 95 %": "{:.4f}",
    "NLL, turned": "{:.3f}",
    "AUROC, Fashion": "{:.4f}",
    "AUROC, notMNIST": "{:.4f}",
}


def page(result: dict) -> str:
    """The page, of the kept result of the case."""
    from benchmarks import mnist as case

    versions = ", ".join(f"{k} {result[k]}" for k in ("jax", "optax", "python"))
    head = HEAD.format(
        about=f"{result['processor']}; {versions}",
        n=case.N,
        members=case.MEMBERS,
        updates=case.UPDATES,
        batch=case.BATCH,
        validation=case.VALIDATION,
        draws=case.DRAWS,
        variance=case.SCALE**2,
        test=case.TEST,
        others=case.OTHERS,
    )
    names = [*COLUMNS, "minutes", "tuned"]
    lines = [
        f"| | {' | '.join(names)} |".replace("error at 95 %", "wrong of 95 %"),
        "|---|" + "---:|" * len(names),
    ]
    for one in result["rows"]:
        cells = [form.format(one[name]) for name, form in COLUMNS.items()]
        cells += [f"{one['minutes']:.0f}", one["tuned"]]
        lines.append(f"| {one['method']} | {' | '.join(cells)} |")
    return "\n\n".join([head.strip(), "\n".join(lines), TAIL]) + "\n"
