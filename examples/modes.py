# python examples/modes.py
"""Twenty-five modes: who finds them, and who gives them their mass.

A mixture of 25 Gaussians of variance .03 on a grid of spacing 2, all of one mass
(Zhang et al. 2020, section 5). Between two modes U is 16 higher, so that a chain of
SGLD stays where it is for longer than anyone waits. Every row has 200,000 gradients:

    1 chain, 4 chains   of SGLD, at a step that samples a mode well
    30 cycles           4 chains, as Zhang et al. run them: in a first quarter large
                        steps without noise look for another mode, then draws are kept
    100 cycles          4 chains, and only the last fifth of a cycle, where steps are
                        small, is kept
    500 chains          a swarm, from starts as wide as the grid: 400 updates each
    contour             1 chain of contour SGLD, whose shares are learned in a quarter
    a ladder            4 chains at temperatures from 1 to 64 that swap positions

A mode is found where a hundredth of its mass is drawn. The last two would have the
masses of the target after more round trips; by cycles and in swarms a mode has what
descent leads to it. `30 cycles` finds all modes with draws twice as wide as they are,
of steps that are not stable. `contour` has ζ = 1: with .75, as its paper, it finds 12.
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import sgld_jax
from sgld_jax.analysis.style import GREY, INK, styled

GRID = np.stack(np.meshgrid(*[np.arange(-4.0, 5, 2)] * 2), -1).reshape(-1, 2)
VARIANCE, STEP = 0.03, 2e-3  # ελ = 0.07
BUDGET, KEPT = 200_000, 20_000  # gradients, and draws
PEAK = 0.09  # of Zhang et al.: ελ = 3 is not stable, on purpose
CYCLES = {"30 cycles": (30, 0.25), "100 cycles": (100, 0.8)}  # and how they explore
HEAT, STEPS = [1.0, 4.0, 16.0, 64.0], [2e-3, 5e-3, 1e-2, 2e-2]
ENERGIES, ZETA = np.linspace(0, 20, 21), 1.0  # of contour SGLD
NAMES = ("1 chain", "4 chains", *CYCLES, "500 chains", "contour", "a ladder")
PICTURE = pathlib.Path(__file__).parent / "pictures" / "modes.png"


def log_density(x):
    squares = jnp.sum((x - GRID) ** 2, 1)
    return jax.nn.logsumexp(-squares / (2 * VARIANCE))


def start(key):
    return 3 * jax.random.normal(key, (2,))


def draws(name: str, budget: int):
    """Positions `[n, 2]` of all chains, and their weights `[n]`."""
    potential = sgld_jax.from_log_density(log_density)
    num_chains = {"1 chain": 1, "contour": 1, "500 chains": 500}.get(name, 4)
    updates = budget // num_chains
    sampler, keep, burn_in = sgld_jax.sgld(STEP), None, updates // 4
    if name in CYCLES:
        number, exploration = CYCLES[name]
        cycle = sgld_jax.cyclical(PEAK, updates // number, exploration)
        sampler = sgld_jax.sgld(cycle.step_size, cycle.temperature)
        keep, burn_in = cycle.keep, 0
    if name == "a ladder":
        ladder = sgld_jax.replica_exchange(
            0,
            sgld_jax.sgld,
            potential,
            start,
            temperatures=HEAT,
            step_sizes=STEPS,
            swap_every=10,
            num_samples=(updates - burn_in) // 5,
            burn_in=burn_in,
            thinning=5,
        )
        return flat(ladder.cold)
    if name == "contour":
        learns = {"energy_edges": ENERGIES, "zeta": ZETA, "freeze_after": burn_in}
        sampler = sgld_jax.csgld(STEP, **learns)
    wanted = max(1, KEPT // num_chains)
    kept = updates - burn_in if keep is None else int(keep(np.arange(updates)).sum())
    samples = sgld_jax.sample(
        0,
        sampler,
        potential,
        start,
        num_chains=num_chains,
        num_samples=min(wanted, kept),
        burn_in=burn_in,
        thinning=max(1, kept // wanted),
        keep=keep,
    )
    return flat(samples.healthy(), weighted=name == "contour")


def flat(samples, weighted=False):
    w = samples.weights.ravel() if weighted else np.ones(samples.weights.size)
    return np.asarray(samples.params).reshape(-1, 2), w / w.sum()


def masses(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """The share of draws nearest to each mode, `[25]`."""
    nearest = np.argmin(((x[:, None] - GRID) ** 2).sum(-1), 1)
    return np.bincount(nearest, w, minlength=25)


def main(budget: int = BUDGET, picture=PICTURE) -> dict:
    found, shown = {}, {}
    print(f"{'':12} modes found   total variation of masses   sd of a mode")
    for name in NAMES:
        x, w = draws(name, budget)
        shown[name], mass = x, masses(x, w)
        away = np.abs(x[:, None] - GRID).min(1)
        modes, far = int((mass > 0.01 / 25).sum()), np.abs(mass - 1 / 25).sum() / 2
        wide = np.sqrt(w @ away**2).mean() / np.sqrt(VARIANCE)
        found[name] = modes, far, wide
        print(f"{name:12} {modes:5} of 25 {far:18.3f} {wide:21.2f} of what it is")
    draw(shown, found, picture)
    return found


def draw(shown, found, picture) -> None:
    figure = Figure((11.6, 6.2), dpi=110, layout="constrained")
    *axes, last = figure.subplots(2, 4).flat
    styled(last, "", "rings: the modes; of contour\nall draws, before their weights")
    last.set_axis_off()
    for ax, name in zip(axes, NAMES):
        styled(ax, name, f"{found[name][0]} of 25 modes")
        ax.plot(*GRID.T, "o", mfc="none", color=GREY, markersize=11, zorder=1)
        x = shown[name][:: max(1, len(shown[name]) // 4_000)]
        ax.plot(*x.T, ".", color=INK, markersize=1.5, alpha=0.4, zorder=2)
        ax.set(xlim=(-6, 6), ylim=(-6, 6), aspect="equal", xticks=[], yticks=[])
    figure.savefig(picture)


if __name__ == "__main__":
    main()

# What to expect, in 12 s on one CPU core:
#
#              modes found   total variation of masses   sd of a mode
# 1 chain          1 of 25              0.960                  1.01 of what it is
# 4 chains         4 of 25              0.840                  1.01 of what it is
# 30 cycles       25 of 25              0.146                  2.17 of what it is
# 100 cycles      25 of 25              0.370                  1.01 of what it is
# 500 chains      25 of 25              0.148                  1.01 of what it is
# contour         25 of 25              0.310                  1.04 of what it is
# a ladder        25 of 25              0.120                  1.02 of what it is
