"""Pictures: the data drawn, not the pixels. No display, nothing shown."""

import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image
from scipy import stats

from sgld_jax.analysis import plots
from sgld_jax.analysis.scores import auroc, calibration_bins
from sgld_jax.analysis.swarm import _GROUPS


@pytest.fixture
def ax():
    return Figure().add_subplot()


def texts(ax):
    """Every text on the axes, its legend included."""
    legend = ax.get_legend()
    inside = [] if legend is None else [legend.get_title(), *legend.get_texts()]
    titles = [ax.get_title(loc="left")]
    return titles + [t.get_text() for t in [*ax.texts, *inside]]


def prediction(n=400, seed=0):
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet([1, 1, 1], n)
    return probs, np.array([rng.choice(3, p=p) for p in probs])


# --- reliability ---------------------------------------------------------------


def test_reliability_draws_the_bins_of_every_method(ax):
    probs, labels = prediction()
    sharper = probs**2 / (probs**2).sum(1, keepdims=True)
    methods = {"right": probs, "sharp": sharper}
    assert plots.reliability(methods, labels, num_bins=8, note="T = 1", ax=ax) is ax
    diagonal, *lines = ax.lines
    np.testing.assert_array_equal(diagonal.get_xydata(), [[0, 0], [1, 1]])
    assert len(lines) == 2
    for line, p in zip(lines, methods.values()):
        bins = calibration_bins(p, labels, 8)
        want = np.stack([bins.confidence, bins.accuracy], 1)
        np.testing.assert_array_equal(line.get_xydata(), want)
    assert any(t.startswith("sharp: ECE 0.") for t in texts(ax))
    assert "T = 1" in texts(ax)


def test_reliability_leaves_out_empty_bins(ax):
    probs = np.tile([[1.0, 0.0]], (50, 1))
    plots.reliability({"saturated": probs}, np.zeros(50, int), ax=ax)
    np.testing.assert_array_equal(ax.lines[1].get_xydata(), [[1, 1]])


def test_reliability_band_is_the_binomial_one(ax):
    # One bin of 400 with 300 right: the bootstrap count is Binomial(400, 3/4). Its
    # 5 % point from 500 replicates errs by .1 sd; 4.5 of these and one count.
    n, right = 400, 300
    probs = np.tile([[0.8, 0.2]], (n, 1))
    labels = (np.arange(n) >= right).astype(int)
    plots.reliability({"x": probs}, labels, num_bins=1, ax=ax)
    heights = ax.collections[0].get_paths()[0].vertices[:, 1]
    law = stats.binom(n, right / n)
    tolerance = 0.45 * law.std() + 1
    assert abs(heights.min() * n - law.ppf(0.05)) < tolerance
    assert abs(heights.max() * n - law.ppf(0.95)) < tolerance


# --- histogram of entropy --------------------------------------------------------


def test_ood_histogram_draws_shares_and_names_the_auroc(ax):
    rng = np.random.default_rng(1)
    inside, outside = rng.gamma(2, 0.2, 300), rng.gamma(4, 0.3, 70)
    plots.ood_histogram(inside, outside, names=("in", "out"), note="16 × 50", ax=ax)
    edges = np.linspace(0, max(inside.max(), outside.max()), 31)
    for bars, group in zip(ax.containers, (inside, outside), strict=True):
        np.testing.assert_allclose([bar.get_x() for bar in bars], edges[:-1])
        heights = [bar.get_height() for bar in bars]
        np.testing.assert_allclose(
            heights, np.histogram(group, edges)[0] / len(group), atol=1e-12
        )
        assert sum(heights) == pytest.approx(1)
    assert f"AUROC {auroc(inside, outside):.3f}" in texts(ax)
    assert {"in (n = 300)", "out (n = 70)", "16 × 50"} <= set(texts(ax))


# --- images -----------------------------------------------------------------------


def test_uncertain_images_are_the_extremes_with_their_split(ax):
    rng = np.random.default_rng(2)
    images = rng.uniform(size=(20, 4, 4))
    aleatoric, epistemic = rng.uniform(size=(2, 20))
    total = aleatoric + epistemic
    captions = [f"image {i}" for i in range(20)]
    split = (total, aleatoric, epistemic)
    plots.uncertain_images(images, split, captions, per_row=3, ax=ax)
    order = np.argsort(total)
    shown = [*order[:3], *order[::-1][:3]]
    for drawn, i in zip(ax.images, shown, strict=True):
        np.testing.assert_array_equal(drawn.get_array(), images[i])
        assert drawn.get_clim() == (images[shown].min(), images[shown].max())
    bars = [container[0] for container in ax.containers]
    unit = 0.86 / total[shown].max()
    for first, second, i in zip(bars[::2], bars[1::2], shown, strict=True):
        assert first.get_width() == pytest.approx(unit * aleatoric[i])
        assert second.get_width() == pytest.approx(unit * epistemic[i])
        assert second.get_x() == pytest.approx(first.get_x() + first.get_width())
    assert {f"image {i}" for i in shown} <= set(texts(ax))
    numbers = f"{aleatoric[shown[-1]]:.2f} + {epistemic[shown[-1]]:.2f}"
    assert numbers in texts(ax)


def test_fewer_images_than_a_row_and_no_uncertainty_at_all(ax):
    plots.uncertain_images(np.zeros((2, 3, 3)), np.zeros((3, 2)), ax=ax)
    assert len(ax.images) == 4
    assert all(np.isfinite(bar[0].get_width()) for bar in ax.containers)


# --- the swarm ----------------------------------------------------------------------


def bowl(x):
    return jnp.sum(x**2)


def test_swarm_draws_every_particle_in_the_colour_of_its_group(ax):
    positions = np.random.default_rng(3).uniform(-2, 2, (50, 2))
    groups = np.arange(50) % 3
    plots.swarm(positions, bowl, groups=groups, limit=3.0, note="sgld(0.1)", ax=ax)
    particles = ax.collections[-1]
    np.testing.assert_array_equal(particles.get_offsets(), positions)
    colours = [to_rgb(_GROUPS[g]) for g in groups]
    np.testing.assert_allclose(particles.get_facecolors()[:, :3], colours)
    assert ax.get_xlim() == ax.get_ylim() == (-3, 3)
    assert "sgld(0.1)" in texts(ax)


def test_ood_curves_pass_through_every_threshold_and_name_the_area(ax):
    inside, outside = np.array([0.1, 0.2, 0.5]), np.array([0.4, 0.6])
    plots.ood_curves({"SGLD": (inside, outside)}, names=("in", "out"), ax=ax)
    x, y = ax.lines[1].get_data()
    for at in (0.0, 0.15, 0.3, 0.45, 0.55, 0.7):
        point = np.mean(inside > at), np.mean(outside > at)
        assert np.isclose(np.stack([x, y], 1), point).all(axis=1).any(), at
    area = np.trapezoid(y[::-1], x[::-1])
    assert area == pytest.approx(auroc(inside, outside)) == pytest.approx(5 / 6)
    assert "SGLD: area 0.833" in texts(ax)
    assert ax.get_xlabel() == "share of in that raise the alarm"


def test_swarm_contours_follow_the_energy(ax):
    plots.swarm(np.zeros((1, 2)), lambda x: 3 * x[0], limit=1.0, ax=ax)
    # At 1, 2, 3 deviations of a Gaussian mode: k²/2 above the lowest, and the highest.
    levels = [-3, -2.5, -1, 1.5, 3]
    np.testing.assert_allclose(ax.collections[0].levels, levels, atol=1e-6)


def test_swarm_over_a_flat_landscape(ax):
    plots.swarm(np.zeros((1, 2)), lambda x: 0 * x[0], ax=ax)
    assert len(ax.collections[0].levels) == 2  # one band, and no error


def test_animation_moves_the_particles_and_rests_at_the_end(tmp_path):
    # Two particles, far apart, cross the picture in opposite directions.
    x = np.linspace(-2, 2, 12)
    frames = np.stack([np.stack([x, x * 0 + 1], 1), np.stack([-x, x * 0 - 1], 1)], 1)
    path = tmp_path / "swarm.gif"
    counts = 10 * np.arange(12)
    ax = plots.swarm_animation(
        path, frames, bowl, counts=counts, groups=[0, 1], limit=3.0, seconds=1.2
    )
    np.testing.assert_array_equal(ax.collections[-1].get_offsets(), frames[-1])
    assert "update 110" in texts(ax)
    with Image.open(path) as gif:
        assert gif.n_frames == 12
        for k in (0, 5, 11):
            gif.seek(k)
            assert gif.info["duration"] == (2500 if k == 11 else 100)
            picture = np.asarray(gif.convert("RGB"))
            for particle, group in zip(frames[k], (0, 1)):
                column, row = ax.transData.transform(particle).round().astype(int)
                seen = picture[picture.shape[0] - 1 - row, column]
                wanted = np.round(255 * np.array(to_rgb(_GROUPS[group])))
                np.testing.assert_allclose(seen, wanted, atol=2)
        # Where the first particle began nothing is left of it in the last picture.
        column, row = ax.transData.transform(frames[0, 0]).round().astype(int)
        seen = picture[picture.shape[0] - 1 - row, column]
        assert np.abs(seen - 255.0 * np.array(to_rgb(_GROUPS[0]))).max() > 50
    assert path.stat().st_size < 200_000


def test_mode_shares_draws_shares_and_what_was_expected(ax):
    expected = {"truth": [0.5, 0.5], "start": [0.25, 0.75]}
    plots.mode_shares([30, 10], expected, note="500 particles", ax=ax)
    assert [bar.get_height() for bar in ax.patches] == [0.75, 0.25]
    for lines, weights in zip(ax.collections, expected.values(), strict=True):
        assert [s[0, 1] for s in lines.get_segments()] == weights
    assert {"truth", "start", "draws", "500 particles"} <= set(texts(ax))


# --- all of them -------------------------------------------------------------------

CALLS = {
    "reliability": lambda ax: plots.reliability(
        {"x": prediction()[0]}, [0] * 400, ax=ax
    ),
    "ood_curves": lambda ax: plots.ood_curves({"a": ([0.1, 0.2], [0.3])}, ax=ax),
    "ood_histogram": lambda ax: plots.ood_histogram([0.1, 0.2], [0.3], ax=ax),
    "uncertain_images": lambda ax: plots.uncertain_images(
        np.zeros((2, 3, 3)), np.ones((3, 2)), ax=ax
    ),
    "swarm": lambda ax: plots.swarm(np.zeros((3, 2)), bowl, ax=ax),
    "mode_shares": lambda ax: plots.mode_shares([1], {"truth": [1.0]}, ax=ax),
}


@pytest.mark.parametrize("name", CALLS)
def test_without_axes_a_new_figure_is_made_and_never_shown(name, monkeypatch):
    from matplotlib import pyplot

    pyplot.switch_backend("agg")
    monkeypatch.setattr(
        pyplot, "show", lambda *a, **k: pytest.fail("show() was called")
    )
    before = len(pyplot.get_fignums())
    drawn = CALLS[name](None)
    assert len(pyplot.get_fignums()) == before + 1
    drawn.get_figure().canvas.draw()
    pyplot.close(drawn.get_figure())


def test_every_public_plot_is_tested_here():
    assert set(plots.__all__) == {*CALLS, "swarm_animation"}


def test_matplotlib_is_imported_only_when_something_is_drawn():
    code = "import sys, sgld_jax.analysis.plots; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
