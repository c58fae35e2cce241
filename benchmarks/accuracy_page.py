"""The page `docs/accuracy.md`, made of the results that were kept."""

HEAD = """# Less noise for the same gradients: a9a

`python -m benchmarks accuracy` measures and writes this page ({about}).

A logistic regression with 32,561 rows, 124 coefficients and the prior N(0, 1), by
`sgld` with the covariance at the mode as its metric, {chains} chains from there. An
update costs {rows} gradients of rows: batches of {rows}, or of {half} where each row is
looked at twice, or of {svrg} with a pass over all rows every {every:,} updates; `saga`
keeps a gradient of each row and looks once.

The posterior is known by blackjax's HMC in 64 bits, 16 chains of 1,000 draws: R-hat
{r_hat:.4f}, errors of means up to {error:.4f} of a standard deviation.

## At equal gradients and equal steps

ελ = {step:g}. The variance GV of the gradient in units of the posterior, at draws, mean
over coordinates; the variance of the draws, 1 for the posterior's, and by the law of
`sgld`, (1 + εGV/2)/(1 − ε/2), which knows nothing of noise that depends on θ, nor that
the noise of an epoch adds up to 0.
"""

TIME = """## Against time

Each at the step by which noise leaves standard deviations 2 % too wide, by that law and
the GV above. Root mean square and worst errors of means, and of standard deviations, in
units of the latter, after seconds that include Newton's steps to the mode and
compilation. The noise of corrected gradients grows with how far a chain is from where
they were, and so with the step, which the law does not know: deviations are wider than
was asked, those of `svrg` and `saga` most. NUTS:
blackjax, window adaptation with a dense metric from 0, 4 chains of 1,000 draws after
1,000, all at once.
"""


def page(result: dict) -> str:
    """The page, of the kept result of the case."""
    from benchmarks import accuracy as case

    known = case.reference()
    versions = ", ".join(f"{k} {result[k]}" for k in ("jax", "blackjax", "python"))
    head = HEAD.format(
        about=f"{result['processor']}; {versions}",
        chains=case.CHAINS,
        rows=case.ROWS,
        half=case.METHODS["control variate"].rows,
        svrg=case.METHODS["svrg"].rows,
        every=case.METHODS["svrg"].every,
        step=case.STEP,
        r_hat=float(known["r_hat"]),
        error=float(known["error"]),
    )
    equal = ["| | GV | variance | by the law |", "|---|---:|---:|---:|"]
    times = [
        "| | ελ | seconds | draws | mean | worst | sd | worst |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for one in result["rows"]:
        if "GV" in one:
            cells = one["GV"], one["variance"], one["by the law"]
            noise, wide, law = (f"{x:.3g}" if x > 10 else f"{x:.3f}" for x in cells)
            equal.append(f"| {one['method']} | {noise} | {wide} | {law} |")
        for at in one["times"]:
            step = f"{one['step']:.2g}" if "step" in one else "–"
            names = ("mean", "worst mean", "sd", "worst sd")
            errors = " | ".join(f"{at[name]:.3f}" for name in names)
            times.append(
                f"| {one['method']} | {step} | {at['seconds']:.0f} | "
                f"{at['draws']:,} | {errors} |"
            )
    parts = [head.strip(), "\n".join(equal), TIME.strip(), "\n".join(times)]
    return "\n\n".join(parts) + "\n"
