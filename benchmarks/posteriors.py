# python -m benchmarks posteriors [NAME ...]
"""Published posteriors, by `warm_up` and `sample`, and by blackjax's NUTS.

No number is chosen per model. Each is run in 32 bits, and again in 64 where the report
of the warm-up says so; in a process of its own, so that what was compiled for another
helps none.
"""

import json
import pathlib
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import sgld_jax
from benchmarks import restart
from benchmarks.posterior_models import (
    LOGISTIC,
    MODELS,
    Posterior,
    logistic_data,
    posterior,
    scalars,
)

SAMPLERS = ("mala", "baoa", "NUTS")
BATCHES, BIAS = 100, 0.04  # rows an update, and the bias that is allowed
NAMES = (*MODELS, *LOGISTIC)
CHAINS, DRAWS = 64, 500
MEANS, WIDTHS, R_HAT, SECONDS = 0.1, (0.93, 1.07), 1.01, 30.0  # what is asked


def row(name: str, kernel: str) -> dict:
    """One posterior by one of our kernels, with all it took."""
    began = time.perf_counter()
    about = posterior(name)
    model = about.model()
    fit = sgld_jax.warm_up(
        0, model.potential, model.init, num_chains=CHAINS, kernel=kernel
    )
    samples = sgld_jax.sample(
        1,
        fit.sampler,
        model.potential,
        fit.init,
        num_chains=CHAINS,
        num_samples=DRAWS,
        burn_in=fit.burn_in,
        thinning=fit.thinning,
        collect=model.constrain,
    )
    seconds = time.perf_counter() - began
    run = fit.burn_in + fit.thinning * DRAWS
    warnings = [*fit.report.warnings]
    if samples.failed.any():
        warnings.append(f"{samples.failed.sum()} of {CHAINS} chains failed in the run.")
    elif samples.report.lowest_acceptance < 0.05:
        warnings.append("A chain hardly moved in the run.")
    facts = {"warm-up": fit.report.gradients, "run": run, "seconds": seconds}
    return _compared(about, samples.params, run * CHAINS) | facts | _said(warnings)


def minibatch_row(name: str) -> dict:
    """A logistic regression by `sghmc`, with shuffled batches of 100."""
    began = time.perf_counter()
    X, y, prior_sd, _ = logistic_data(name)

    def log_likelihood(p, row):
        logits = row["x"] @ p["beta"]
        return row["y"] * logits - jax.nn.softplus(logits)

    potential = sgld_jax.minibatch_potential(
        lambda p: -0.5 * jnp.sum(p["beta"] ** 2) / prior_sd**2, log_likelihood, len(y)
    )
    data = {"x": X.astype(np.float32), "y": y.astype(np.float32)}
    given = {"data": data, "batches": sgld_jax.shuffled(BATCHES), "num_chains": CHAINS}
    zero = {"beta": jnp.zeros(X.shape[1])}
    fit = sgld_jax.warm_up(0, potential, lambda key: zero, tolerance=BIAS, **given)
    samples = sgld_jax.sample(
        1,
        fit.sampler,
        potential,
        fit.init,
        num_samples=DRAWS,
        burn_in=fit.burn_in,
        thinning=fit.thinning,
        **given,
    )
    run = fit.burn_in + fit.thinning * DRAWS
    facts = {"warm-up": fit.report.gradients, "run": run}
    facts |= {"seconds": time.perf_counter() - began}
    facts |= {"predicted sd": 1 + fit.predicted_bias}
    compared = _compared(posterior(name), samples.params, run * CHAINS)
    return compared | facts | _said([*fit.report.warnings])


def nuts_row(name: str) -> dict:
    """By blackjax: window adaptation with a dense metric, 4 chains, 1,000 draws."""
    import blackjax

    began = time.perf_counter()
    about = posterior(name)
    model = about.model()
    keys = jax.random.split(jax.random.key(0), 3)

    def log_density(z):
        return -model.potential(z, None)

    def one(init_key, warm_key, key):
        adapt = blackjax.window_adaptation(
            blackjax.nuts, log_density, is_mass_matrix_diagonal=False
        )
        (state, settings), seen = adapt.run(warm_key, model.init(init_key), 1000)
        step = blackjax.nuts(log_density, **settings).step

        def draw(state, key):
            state, info = step(key, state)
            return state, (model.constrain(state.position), info.num_integration_steps)

        _, (draws, steps) = jax.lax.scan(draw, state, jax.random.split(key, 1000))
        return draws, steps, seen.info.num_integration_steps

    split = [jax.random.split(key, 4) for key in keys]
    draws, steps, warming = jax.jit(jax.vmap(one))(*split)
    draws = jax.tree.map(np.asarray, draws)
    seconds = time.perf_counter() - began
    facts = {
        "warm-up": int(np.mean(np.sum(warming, 1))),
        "run": int(np.mean(np.sum(steps, 1))),
        "seconds": seconds,
    }
    return _compared(about, draws, int(np.sum(steps))) | facts | _said([])


def _compared(about: Posterior, params: Any, gradients: int) -> dict:
    """Draws `[C, S, ...]` beside the reference."""
    draws = scalars(jax.tree.map(np.asarray, about.named(params)))
    known = about.summaries
    away = [abs(draws[k].mean() - v["mean"]) / v["sd"] for k, v in known.items()]
    width = [draws[k].std() / v["sd"] for k, v in known.items()]
    wanted = {name: draws[name] for name in known}
    r_hat, ess = (jax.tree.leaves(f(wanted)) for f in (sgld_jax.rhat, sgld_jax.ess))
    worst = max(width, key=lambda ratio: abs(np.log(ratio)))
    return {
        "worst mean": float(max(away)),
        "worst sd": float(worst),
        "R-hat": float(np.max(r_hat)),
        "ESS per gradient": float(np.min(ess) / gradients),
    }


def _said(warnings: list[str]) -> dict:
    bits = 64 if jnp.result_type(float) == np.float64 else 32
    return {"bits": bits, "warnings": warnings}


def passed(found: dict) -> bool:
    """Whether mean, width and R-hat are as was asked."""
    low, high = WIDTHS
    widths = low <= found["worst sd"] <= high
    return bool(found["worst mean"] <= MEANS and widths and found["R-hat"] < R_HAT)


def rows(kept: pathlib.Path, chosen: list[str]) -> list[dict]:
    """A row for each posterior and sampler, kept one by one in a file of JSON.

    Those that the file has are not run again, unless they were chosen.
    """
    found = json.loads(kept.read_text())["rows"] if kept.exists() else []
    for name in chosen or NAMES:
        if not chosen and name in {one["posterior"] for one in found}:
            continue
        found = [one for one in found if one["posterior"] != name]
        for sampler in (*SAMPLERS, *["sghmc"] * (name in LOGISTIC)):
            one = {"posterior": name, "sampler": sampler}
            found.append(one | _in_a_process(name, sampler))
            print(found[-1], flush=True)
        found.sort(key=lambda one: NAMES.index(one["posterior"]))
        kept.write_text(json.dumps({"rows": found}, ensure_ascii=False))
    return found


def _in_a_process(name: str, sampler: str) -> dict:
    """In 32 bits first, as anybody begins; seconds of both runs count."""
    if sampler == "NUTS":
        return _process(name, sampler, 64)
    first = _process(name, sampler, 32)
    if not any("jax_enable_x64" in words for words in first["warnings"]):
        return first
    second = _process(name, sampler, 64)
    return second | {"seconds": first["seconds"] + second["seconds"]}


def _process(name: str, sampler: str, bits: int) -> dict:
    return restart.apart("posteriors", name, sampler, bits)


def main(name: str, sampler: str, bits: str) -> None:
    """One row, as JSON."""
    jax.config.update("jax_enable_x64", bits == "64")
    others = {"NUTS": nuts_row, "sghmc": minibatch_row}
    made = others[sampler](name) if sampler in others else row(name, sampler)
    print(json.dumps(made))


if __name__ == "__main__":
    main(*sys.argv[1:])
