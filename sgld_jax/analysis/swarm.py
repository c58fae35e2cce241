"""Pictures of a swarm: many particles in the plane, still and in motion."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from sgld_jax.analysis.draws import healthy_array, is_samples
from sgld_jax.analysis.style import ALEATORIC, BLUE, EPISTEMIC, INK, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_GROUPS = ("#0f5c78", "#d1502d", "#e0a11b", "#7d3f98")
_LAND = ("#ffffff", "#8fb3c4")  # of the highest and of the lowest energy
_DEVIATIONS = np.arange(5)  # 1 to 4 sd of a Gaussian mode are the contours


def swarm(
    positions: Any,
    energy: Callable[[jax.Array], jax.Array],
    *,
    groups: ArrayLike | None = None,
    limit: float = 6.0,
    title: str = "A swarm of Langevin particles",
    note: str = "",
    ax: "Axes | None" = None,
) -> "Axes":
    """Particles in the plane over contours of their energy.

    Args:
      positions: `[P, 2]`, or `Samples` of `[C, S, 2]`, whose last draws are shown.
      energy: U of one position, `[2] -> []`, in JAX. Contours lie k²/2 above the
        lowest, k = 1 to 4: for a Gaussian mode at T = 1, at k standard deviations.
      groups: integers `[P]`, such as the basin where a particle started; colours.
      limit: the picture is [−limit, limit]².
      title: of the picture.
      note: what was sampled, and how.
      ax: where to draw; a new figure if None.

    Example:
      >>> import jax.numpy as jnp, numpy as np
      >>> from matplotlib.figure import Figure
      >>> from sgld_jax.analysis import plots
      >>> ax = plots.swarm(np.zeros((9, 2)), jnp.sum, ax=Figure().add_subplot())
    """
    from matplotlib.colors import BoundaryNorm, LinearSegmentedColormap

    ax = styled(ax, title, note)
    side = np.linspace(-limit, limit, 241, dtype=np.float32)
    grid = np.stack(np.meshgrid(side, side), axis=-1)
    levels = np.asarray(jax.vmap(jax.vmap(energy))(jnp.asarray(grid)))
    low = levels.min()
    high = max(levels.max(), low + 1e-3)  # of a flat landscape, too
    edges = low + 0.5 * _DEVIATIONS**2
    edges = np.append(edges[edges < high], high)
    land = LinearSegmentedColormap.from_list("land", _LAND[::-1])
    # Drawn smooth, each band would let a seam of the background through.
    ax.contourf(
        side,
        side,
        levels,
        edges,
        cmap=land,
        norm=BoundaryNorm(edges, 256),
        antialiased=False,
    )
    points = _by_draw(positions)[-1] if is_samples(positions) else positions
    points = np.asarray(points)
    which = np.zeros(len(points), int) if groups is None else np.asarray(groups)
    colors = [_GROUPS[g % len(_GROUPS)] for g in which]
    ax.scatter(points[:, 0], points[:, 1], s=6, c=colors, linewidths=0, zorder=3)
    ax.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
    return ax


def swarm_animation(
    path: Any,
    frames: Any,
    energy: Callable[[jax.Array], jax.Array],
    *,
    counts: ArrayLike | None = None,
    seconds: float = 5.0,
    ax: "Axes | None" = None,
    **options: Any,
) -> "Axes":
    """Writes a swarm in motion as an animated GIF that rests on its last frame.

    Args:
      path: of the GIF.
      frames: positions `[F, P, 2]`, or `Samples` of `[C, S, 2]`, a frame a draw.
      energy: as in `swarm`.
      counts: updates made at each frame `[F]`, printed in its corner.
      seconds: of motion, before the rest.
      ax: where to draw, alone on its figure; a new figure if None.
      **options: of `swarm`, such as `groups`, `limit` and `note`.

    Returns:
      The axes, showing the last frame.

    Example:
      >>> import pathlib, tempfile
      >>> import jax.numpy as jnp, numpy as np
      >>> from sgld_jax.analysis import plots
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = pathlib.Path(folder) / "swarm.gif"
      ...     ax = plots.swarm_animation(path, np.zeros((3, 9, 2)), jnp.sum)
      ...     path.exists()
      True
    """
    from matplotlib.figure import Figure

    if ax is None:
        ax = Figure((4.6, 5.0), dpi=100, layout="constrained").add_subplot()
    frames = _by_draw(frames) if is_samples(frames) else np.asarray(frames)
    ax = swarm(frames[0], energy, ax=ax, **options)
    times = None if counts is None else np.asarray(counts)
    _write_gif(path, _pictures(ax, frames, times), seconds)
    return ax


def _by_draw(samples: Any) -> np.ndarray:
    """The particles of `Samples` in the plane, draw by draw, `[S, C, 2]`."""
    draws, _ = healthy_array(samples, "positions [C, S, 2]", weighted=None)
    return np.swapaxes(draws, 0, 1)


def _pictures(
    ax: Any, frames: np.ndarray, counts: np.ndarray | None
) -> list[np.ndarray]:
    """The axes' figure with the particles of each frame, bytes `[height, width, 3]`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    corner = ax.text(0.02, 0.02, "", transform=ax.transAxes, color=INK, fontsize=9)
    moving = (ax.collections[-1], corner)
    canvas = FigureCanvasAgg(ax.get_figure())
    for artist in moving:
        artist.set_visible(False)
    canvas.draw()  # the landscape, once: it takes longer than all particles
    landscape = canvas.copy_from_bbox(ax.get_figure().bbox)
    for artist in moving:
        artist.set_visible(True)
    pictures = []
    for i, positions in enumerate(frames):
        moving[0].set_offsets(positions)
        corner.set_text("" if counts is None else f"update {counts[i]:,}")
        canvas.restore_region(landscape)
        for artist in moving:
            ax.draw_artist(artist)
        pictures.append(np.array(canvas.buffer_rgba())[..., :3])
    return pictures


def _write_gif(path: Any, pictures: list[np.ndarray], seconds: float) -> None:
    """The last picture stays for a while."""
    from PIL import Image

    # One palette and no dither, so that frames differ in the particles alone.
    palette = Image.new("P", (1, 1))
    palette.putpalette(_palette(np.stack([pictures[0], pictures[-1]])))
    images = [
        Image.fromarray(x).quantize(palette=palette, dither=Image.Dither.NONE)
        for x in pictures
    ]
    pauses = [round(1000 * seconds / len(images))] * (len(images) - 1) + [2500]
    images[0].save(
        path, save_all=True, append_images=images[1:], duration=pauses, loop=0
    )


def _palette(pixels: np.ndarray) -> list[int]:
    """The colours of the particles, and the most frequent of `pixels` `[..., 3]`."""
    from matplotlib.colors import to_rgb

    groups = np.round(255 * np.array([to_rgb(c) for c in _GROUPS])).astype(np.uint8)
    colors, counts = np.unique(pixels.reshape(-1, 3), axis=0, return_counts=True)
    common = colors[np.argsort(-counts)][: 64 - len(groups)]
    return np.concatenate([groups, common]).ravel().tolist()


def mode_shares(
    counts: ArrayLike,
    expected: Mapping[str, ArrayLike],
    *,
    title: str = "How many draws in each mode?",
    note: str = "",
    ax: "Axes | None" = None,
) -> "Axes":
    """Bars of the share of draws in each mode, with marks at the shares expected.

    Args:
      counts: draws nearest to each mode `[M]`.
      expected: name -> weights `[M]` that sum to 1, such as the truth.
      title: of the picture.
      note: what was sampled, and how.
      ax: where to draw; a new figure if None.

    Example:
      >>> from matplotlib.figure import Figure
      >>> from sgld_jax.analysis import plots
      >>> ax = plots.mode_shares(
      ...     [30, 10], {"truth": [0.5, 0.5]}, ax=Figure().add_subplot())
    """
    ax = styled(ax, title, note)
    counts = np.asarray(counts)
    mode = np.arange(len(counts))
    ax.bar(mode, counts / counts.sum(), color=ALEATORIC, label="draws")
    for (name, weights), color in zip(expected.items(), (EPISTEMIC, INK, BLUE)):
        ax.hlines(weights, mode - 0.42, mode + 0.42, color=color, label=name)
    ax.set(xlabel="mode", ylabel="share", xticks=[])
    ax.margins(y=0.25)  # room for the legend
    ax.legend(frameon=False, fontsize=8)
    return ax
