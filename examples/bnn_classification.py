# python examples/bnn_classification.py
"""A Flax classifier that knows what it has never seen.

It learns 300 digits of 0 to 7, and is asked about 1,143 others, and about eights and
nines, which it has never seen. Eight nets are trained with early stopping: a deep
ensemble. From each a chain draws 50 more nets from the posterior. `collect` keeps what
each net says of the images in question, and not the nets.

Two questions matter to who relies on a classifier. Which answers may be believed: what
errors are left where the most confident 90 % are kept? And does it notice what it was
never taught: has an eight or nine the higher entropy (AUROC)?
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

import sgld_jax
from sgld_jax import plots

N = 300
CHAINS, DRAWS = 8, 50
PICTURE = pathlib.Path(__file__).parent / "pictures" / "bnn_classification.png"


class Classifier(nnx.Module):
    """64 pixels, 50 units, 8 logits."""

    def __init__(self, rngs: nnx.Rngs):
        self.hidden = nnx.Linear(64, 50, rngs=rngs)
        self.out = nnx.Linear(50, 8, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:  # [n, 64] -> [n, 8]
        return self.out(nnx.relu(self.hidden(images)))


def log_likelihood(model: Classifier, batch) -> jax.Array:
    images, labels = batch
    return sgld_jax.likelihoods.categorical(model(images), labels)


def digits():
    """Training data; test data of the same classes; images of other classes."""
    images, labels = load_digits(return_X_y=True)
    images = (images / 16 - 0.3).astype(np.float32)
    known = np.random.default_rng(0).permutation(np.flatnonzero(labels < 8))
    train, test = known[:N], known[N:]
    return (
        (jnp.asarray(images[train]), jnp.asarray(labels[train])),
        (images[test], labels[test]),
        images[labels >= 8],
    )


def main(updates: int = 3_000, draws: int = DRAWS, picture=PICTURE) -> dict:
    data, (images, labels), others = digits()
    prior = sgld_jax.fan_in_prior(2.0)
    flat = sgld_jax.from_nnx(Classifier, log_likelihood, prior, num_data=N)
    network = sgld_jax.hierarchical(flat)  # the prior's scales are sampled, too
    starts = sgld_jax.early_stopped(
        0, network, data, num_chains=CHAINS, updates=updates
    )
    fit = sgld_jax.warm_up(
        1,
        network.potential,
        starts,
        num_chains=CHAINS,
        data=data,
        metric="diagonal",
        updates=updates,
    )
    asked = jnp.concatenate([images, others])
    samples = sgld_jax.sample(
        2,
        fit.sampler,
        network.potential,
        fit.init,
        num_chains=CHAINS,
        num_samples=draws,
        burn_in=fit.burn_in,
        thinning=fit.thinning,
        data=data,
        collect=lambda params: network.apply(params, asked),
    )
    nets = jax.vmap(network.apply, (0, None))(starts.params, asked)[:, None]
    logits = {  # [C, S, n, 8]
        "one net": nets[:1],
        "eight nets": nets,
        "one draw": samples.params[:1, -1:],
        "their posterior": samples.params,
    }
    found, entropies = {}, {}
    for name, said in logits.items():
        entropy = np.asarray(sgld_jax.entropy_split(said).total)
        entropies[name] = entropy[: len(labels)], entropy[len(labels) :]
        probs = np.asarray(sgld_jax.predictive_probs(said))[: len(labels)]
        found[name] = score(probs, labels, *entropies[name])
        print(
            f"{name:<16} accuracy {{:.4f}}  NLL {{:.3f}}  surest 90 % err "
            f"{{:.4f}}  AUROC {{:.3f}}".format(*found[name])
        )
    some = jax.nn.log_softmax(samples.params[:, :, -50:])  # of eights and nines
    print(f"R-hat of log probabilities: median {np.median(sgld_jax.rhat(some)):.2f}")
    shown = ("eight nets", "their posterior")
    draw({name: entropies[name] for name in shown}, picture)
    return found


def score(probs, labels, known, unknown):
    """Accuracy, NLL, error where it is most confident, and AUROC."""
    return (
        float(np.mean(probs.argmax(1) == labels)),
        sgld_jax.nll(probs, labels),
        sgld_jax.error_at_coverage(probs, labels, 0.9),
        sgld_jax.auroc(known, unknown),
    )


def draw(entropies, picture) -> None:
    figure = Figure((9.6, 3.9), dpi=110, layout="constrained")
    for ax, (name, groups) in zip(
        figure.subplots(1, 2, sharey=True), entropies.items()
    ):
        plots.ood_histogram(
            *groups, names=("digits 0 to 7", "eights and nines"), title=name, ax=ax
        )
    figure.savefig(picture)


if __name__ == "__main__":
    main()

# What to expect, in 20 s on two CPU cores. The posterior is right more often than the
# nets it started from, and knows better what it has never seen. Its NLL is worse: it is
# less sure than it could be, where early stopping was chosen by that very score. And
# one draw is no estimate: what is offered is the average.
#
# one net          accuracy 0.9598  NLL 0.142  surest 90 % err 0.0078  AUROC 0.867
# eight nets       accuracy 0.9755  NLL 0.082  surest 90 % err 0.0000  AUROC 0.932
# one draw         accuracy 0.9160  NLL 1.849  surest 90 % err 0.0457  AUROC 0.805
# their posterior  accuracy 0.9808  NLL 0.152  surest 90 % err 0.0019  AUROC 0.950
# R-hat of log probabilities: median 1.14
