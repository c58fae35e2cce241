# python examples/aleatoric_epistemic.py
"""What more data cure, and what they do not.

Two classes whose labels are flipped with a known probability, so that the noise of a
label is known: H(.1) = .325 and H(.2) = .500 nats. A small network learns from 100 to
10,000 examples, and the entropy of its prediction is split in two: the aleatoric part,
E H[p], is what each draw would leave to chance; the epistemic part, the mutual
information of label and network, is how much the draws disagree. The first should come
to the entropy of the noise, and the second should go, about as 1/N.

Up to 1,000 examples an update sees all of them, and beyond that 1,000 of them:
`warm_up` then chooses a step at which their noise matters little.
"""

import pathlib

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import sgld_jax
from sgld_jax.analysis.style import EPISTEMIC, GREY, INK, styled

FLIPPED = (0.1, 0.2)
NUM_DATA = (100, 300, 1_000, 3_000, 10_000)
ALL_ROWS = 1_000  # up to which an update sees all of them
CHAINS, DRAWS = 8, 50
PICTURE = pathlib.Path(__file__).parent / "pictures" / "aleatoric_epistemic.png"


def blobs(num: int, flipped: float, seed: int):
    """Points `[num, 2]` about (−1.5, 0) and (1.5, 0), and labels `[num]`."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, num)
    x = 0.5 * rng.normal(size=(num, 2)) + np.stack([3.0 * label - 1.5, 0 * label], 1)
    wrong = rng.uniform(size=num) < flipped
    return jnp.float32(x), jnp.asarray(np.where(wrong, 1 - label, label))


def split(num: int, flipped: float, updates: int, draws: int):
    """Means over new points of the aleatoric and the epistemic part."""
    data = blobs(num, flipped, seed=num)
    given = {"data": data, "num_chains": CHAINS}
    if num > ALL_ROWS:
        given["batches"] = sgld_jax.shuffled(ALL_ROWS)
    network = sgld_jax.tabular_classification(2, (32,), 2, num_data=num)
    fit = sgld_jax.warm_up(
        0, network.potential, network.init, metric="diagonal", updates=updates, **given
    )
    plan = {"burn_in": fit.burn_in, "thinning": fit.thinning, "num_samples": draws}
    samples = sgld_jax.sample(
        1, fit.sampler, network.potential, fit.init, **plan, **given
    )
    logits = sgld_jax.predict(network.apply, samples, blobs(500, flipped, seed=0)[0])
    total, aleatoric, epistemic = sgld_jax.entropy_split(logits)
    assert np.allclose(total, aleatoric + epistemic, atol=1e-5)
    return float(aleatoric.mean()), float(epistemic.mean())


def main(
    num_data=NUM_DATA, updates: int = 3_000, draws: int = DRAWS, picture=PICTURE
) -> dict:
    found = {}
    for flipped in FLIPPED:
        for num in num_data:
            found[flipped, num] = split(num, flipped, updates, draws)
            aleatoric, epistemic = found[flipped, num]
            print(
                f"flipped {flipped:.0%}, N = {num:6,}: "
                f"aleatoric {aleatoric:.3f} of {noise(flipped):.3f}, "
                f"epistemic {epistemic:.4f}, times N {epistemic * num:.2f}"
            )
    draw(found, num_data, picture)
    return found


def noise(p: float) -> float:
    """H(p), in nats."""
    return float(-p * np.log(p) - (1 - p) * np.log(1 - p))


def draw(found, num_data, picture) -> None:
    figure = Figure((9.6, 3.9), dpi=110, layout="constrained")
    left, right = figure.subplots(1, 2)
    styled(left, "The noise of a label", "aleatoric part; dashes: the truth")
    styled(right, "What is not known", "epistemic part; dashes: a line as 1/N")
    for flipped, color in zip(FLIPPED, (INK, EPISTEMIC)):
        aleatoric, epistemic = np.transpose([found[flipped, n] for n in num_data])
        label = f"{flipped:.0%} of labels flipped"
        left.axhline(noise(flipped), color=color, linewidth=1, ls=(0, (4, 3)))
        left.plot(num_data, aleatoric, "o-", color=color, label=label)
        right.plot(num_data, epistemic, "o-", color=color)
    line = epistemic[-1] * num_data[-1] / np.array(num_data)
    right.plot(num_data, line, color=GREY, linewidth=1, ls=(0, (4, 3)))
    for ax in (left, right):
        ax.set(xscale="log", xlabel="N", ylabel="nats")
    left.set_ylim(0, 0.7)
    right.set_yscale("log")
    left.legend(loc="lower right", frameon=False, fontsize=8)
    figure.savefig(picture)


if __name__ == "__main__":
    main()

# What to expect, in 100 s on one CPU core. In the first data set 6 labels of 100 happen
# to be flipped, and nobody can know better: H(.06) = .227.
#
# flipped 10%, N =    100: aleatoric 0.215 of 0.325, epistemic 0.0328, times N 3.28
# flipped 10%, N =    300: aleatoric 0.343 of 0.325, epistemic 0.0184, times N 5.51
# flipped 10%, N =  1,000: aleatoric 0.326 of 0.325, epistemic 0.0038, times N 3.84
# flipped 10%, N =  3,000: aleatoric 0.335 of 0.325, epistemic 0.0015, times N 4.41
# flipped 10%, N = 10,000: aleatoric 0.326 of 0.325, epistemic 0.0007, times N 6.70
# flipped 20%, N =    100: aleatoric 0.460 of 0.500, epistemic 0.0272, times N 2.72
# flipped 20%, N =    300: aleatoric 0.460 of 0.500, epistemic 0.0126, times N 3.77
# flipped 20%, N =  1,000: aleatoric 0.512 of 0.500, epistemic 0.0040, times N 4.01
# flipped 20%, N =  3,000: aleatoric 0.513 of 0.500, epistemic 0.0019, times N 5.55
# flipped 20%, N = 10,000: aleatoric 0.501 of 0.500, epistemic 0.0008, times N 7.80
