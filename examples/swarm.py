# python examples/swarm.py
"""Five hundred particles in four wells: descent is stuck, Langevin dynamics hops.

The same loop twice, `sgld` with temperature 0, which is gradient descent, and with
temperature 1. Between two wells U is 3.4 higher than in them. A particle of the first
run ends in the well where it began; of the second run three of four end in another one,
as many as chance has it where nothing of the start is left. Their spread in a well is
that of the density, .7.

An animation of the second run is drawn beside the picture, `swarm.gif`.
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import sgld_jax
from sgld_jax.analysis import plots
from sgld_jax.analysis.style import EPISTEMIC, GREY, INK, styled

WELLS = jnp.array([[x, y] for x in (-2.0, 2.0) for y in (-2.0, 2.0)])
SD, STEP, PARTICLES = 0.7, 0.02, 500
UPDATES, FRAMES = 4_000, 400  # positions are kept every tenth update
PICTURE = pathlib.Path(__file__).parent / "pictures" / "swarm.png"


def log_density(x):
    return jax.nn.logsumexp(-jnp.sum((x - WELLS) ** 2, 1) / (2 * SD**2))


POTENTIAL = sgld_jax.from_log_density(log_density)


def start(key):
    return jax.random.uniform(key, (2,), minval=-4.0, maxval=4.0)


def well_of(x) -> np.ndarray:
    """The nearest well, leaves `[...]` of positions `[..., 2]`."""
    return ((np.asarray(x)[..., None, :] - np.asarray(WELLS)) ** 2).sum(-1).argmin(-1)


def run(temperature: float, updates: int) -> np.ndarray:
    """Positions `[particles, 1 + FRAMES, 2]`, with where they start."""
    sampler = sgld_jax.sgld(STEP, temperature)
    given = {"num_chains": PARTICLES}
    first = sgld_jax.start(0, sampler, start, **given).params
    samples = sgld_jax.sample(
        0,
        sampler,
        POTENTIAL,
        start,
        num_samples=FRAMES,
        thinning=updates // FRAMES,
        **given,
    )
    return np.concatenate([np.asarray(first)[:, None], samples.params], 1)


def main(updates: int = UPDATES, picture=PICTURE) -> dict:
    found, paths = {}, {T: run(T, updates) for T in (0.0, 1.0)}
    for T, x in paths.items():
        wells = well_of(x)
        elsewhere = np.mean(wells != wells[:, :1], 0)
        late = x[:, FRAMES // 2 :]
        sd = np.std(late - np.asarray(WELLS)[well_of(late)])
        found[T] = elsewhere[-1], sd
        print(
            f"T = {T:.0f}: {elsewhere[-1]:.2f} are in another well than they began in, "
            f"and their spread in one is {sd:.3f}"
        )
    draw(paths, updates, pathlib.Path(picture))
    return found


def draw(paths, updates, picture) -> None:
    figure = Figure((11.4, 4.2), dpi=100, layout="constrained")
    *planes, right = figure.subplots(1, 3)
    titles = ("T = 0: each stays in its well", "T = 1: all wells, from every well")
    note = f"after {updates:,} updates; colours: where they began"

    def energy(x):
        return POTENTIAL(x, None)

    for ax, title, x in zip(planes, titles, paths.values()):
        groups = well_of(x[:, 0])
        plots.swarm(
            x[:, -1], energy, groups=groups, limit=4.5, title=title, note=note, ax=ax
        )
    styled(right, "Who has moved", "share in another well than at the start")
    counts = np.arange(FRAMES + 1) * (updates // FRAMES)
    for (T, x), color in zip(paths.items(), (INK, EPISTEMIC)):
        wells = well_of(x)
        share = np.mean(wells != wells[:, :1], 0)
        right.plot(counts, share, color=color, label=f"T = {T:.0f}")
    right.axhline(0.75, color=GREY, linewidth=1, ls=(0, (4, 3)))
    right.set(xlabel="updates", ylim=(-0.03, 1))
    right.legend(loc="center right", frameon=False, fontsize=9)
    figure.savefig(picture)
    frames = paths[1.0][:, :: FRAMES // 40]
    plots.swarm_animation(
        picture.with_suffix(".gif"),
        frames.swapaxes(0, 1),
        energy,
        counts=counts[:: FRAMES // 40],
        groups=well_of(frames[:, 0]),
        limit=4.5,
        title="T = 1: particles change wells",
    )


if __name__ == "__main__":
    main()

# What to expect, in 5 s on one CPU core:
#
# T = 0: 0.00 are in another well than they began in, and their spread in one is 0.000
# T = 1: 0.75 are in another well than they began in, and their spread in one is 0.706
