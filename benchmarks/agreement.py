# python -m benchmarks hmc
"""How near to the posterior: a small network on digits, against long chains of HMC.

64-10-10 with tanh, 500 digits, all of them in every gradient of HMC. Of 1,297 other
digits it is compared which class is most probable, and by how much probabilities differ
(half the sum of absolute differences, on average). All methods have 8 members, and each
member as many gradients of all data.
"""

import functools
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import sgld_jax
from benchmarks import restart

N, WIDTH, SCALE = 500, 10, 2.0
SEEDS, MEMBERS, GRADIENTS, BATCH = 5, 8, 10_000, 50
DRAWS = 100  # kept of each member
HMC_CHAINS, HMC_WARM_UP, HMC_DRAWS, LEAPS = 4, 500, 1_000, 100
EARLY = 2_000  # gradients of all data before early-stopped nets become chains


def digits() -> tuple[tuple, tuple]:
    """Images in −.3 to .7 and labels: N to learn from, and the rest."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    images, labels = np.float32(images[order] / 16 - 0.3), labels[order]
    return (images[:N], labels[:N]), (images[N:], labels[N:])


def network() -> sgld_jax.Network:
    """The network, with the prior N(0, 4/fan_in)."""
    from flax import nnx

    class Net(nnx.Module):
        def __init__(self, rngs: nnx.Rngs):
            self.hidden = nnx.Linear(64, WIDTH, rngs=rngs)
            self.out = nnx.Linear(WIDTH, 10, rngs=rngs)

        def __call__(self, x: jax.Array) -> jax.Array:
            return self.out(jnp.tanh(self.hidden(x)))

    def log_likelihood(model: Any, batch: Any) -> jax.Array:
        x, labels = batch
        return sgld_jax.likelihoods.categorical(model(x), labels)

    return sgld_jax.from_nnx(Net, log_likelihood, sgld_jax.fan_in_prior(SCALE), N)


def hmc(said: pathlib.Path) -> dict:
    """How blackjax's HMC went; its chains' probabilities `[C, n, K]` go into a file."""
    import blackjax

    began = time.perf_counter()
    net, (data, (images, _)) = network(), digits()
    data = jax.tree.map(jnp.asarray, data)

    def one(key: jax.Array) -> tuple:
        init_key, warm_key, key = jax.random.split(key, 3)
        adapt = blackjax.window_adaptation(
            blackjax.hmc,
            lambda params: -net.potential(params, data),
            num_integration_steps=LEAPS,
        )
        start = net.init(init_key)
        (state, settings), _ = adapt.run(warm_key, start, HMC_WARM_UP)
        kernel = blackjax.hmc(lambda p: -net.potential(p, data), **settings).step

        def draw(state: Any, key: jax.Array) -> tuple:
            state, info = kernel(key, state)
            probs = jax.nn.softmax(net.apply(state.position, images))
            return state, (probs, info.acceptance_rate)

        keys = jax.random.split(key, HMC_DRAWS)
        return jax.lax.scan(draw, state, keys)[1]

    probs, accepted = jax.jit(jax.vmap(one))(
        jax.random.split(jax.random.key(0), HMC_CHAINS)
    )
    r_hat = sgld_jax.rhat(jnp.log(probs[:, :, :50] + 1e-9))
    mean = np.asarray(probs.mean(1))
    np.savez_compressed(said, probs=mean)
    return {
        "acceptance": float(accepted.mean()),
        "R-hat": float(np.median(r_hat)),
        "seconds": time.perf_counter() - began,
        **compared(mean[:2].mean(0), mean[2:].mean(0)),  # halves of its chains
        **_scores(mean.mean(0)),
    }


def sgld(seed: int, net: sgld_jax.Network, data: Any, step: float = 3e-4) -> dict:
    """Minibatches of 50, from early-stopped nets.

    The step is that of four (1e-4 to 2e-3) which came nearest to HMC with another seed.
    """
    return _with_batches(sgld_jax.sgld(step), seed, net, data)


def sghmc(seed: int, net: sgld_jax.Network, data: Any, step: float = 1e-4) -> dict:
    """Likewise, with momentum, and the best of five steps, 1e-5 to 1e-3."""
    return _with_batches(sgld_jax.sghmc(step, 0.1), seed, net, data)


def baoa(seed: int, net: sgld_jax.Network, data: Any) -> dict:
    """All data, by `warm_up`: a metric and a step for every chain."""
    starts = _early_stopped(seed, net, data)
    given = {"data": data, "num_chains": MEMBERS}
    fit = sgld_jax.warm_up(seed, net.potential, starts, metric="diagonal", **given)
    left = GRADIENTS - EARLY - fit.report.gradients - fit.burn_in
    run = {"burn_in": fit.burn_in, "thinning": left // DRAWS}
    return {"sampler": fit.sampler, "init": fit.init, **run}


def ensemble(seed: int, net: sgld_jax.Network, data: Any) -> dict:
    """Adam to the optimum of U; as many networks, and one draw of each."""
    adam = optax.adam(optax.cosine_decay_schedule(1e-2, GRADIENTS))
    run = {"burn_in": GRADIENTS - 1, "thinning": 1, "num_samples": 1}
    return {"sampler": adam, "init": net.init, **run}


def early_stopped(seed: int, net: sgld_jax.Network, data: Any) -> dict:
    """Adam on nine tenths of the data, stopped where the tenth is most likely."""
    starts = _early_stopped(seed, net, data, GRADIENTS)
    still = optax.set_to_zero()
    run = {"burn_in": 0, "thinning": 1, "num_samples": 1}
    return {"sampler": still, "init": starts, **run}


METHODS: dict[str, Callable] = {
    "sgld": sgld,
    "sghmc": sghmc,
    "baoa, warm_up": baoa,
    "ensemble": ensemble,
    "ensemble, early stopped": early_stopped,
}


def _early_stopped(
    seed: int, net: sgld_jax.Network, data: Any, gradients: int = EARLY
) -> Any:
    return sgld_jax.early_stopped(
        seed,
        net,
        data,
        num_chains=MEMBERS,
        updates=gradients * N // BATCH,
        batch_size=BATCH,
    )


def _with_batches(sampler: Any, seed: int, net: sgld_jax.Network, data: Any) -> dict:
    updates = (GRADIENTS - EARLY) * N // BATCH
    return {
        "sampler": sampler,
        "init": _early_stopped(seed, net, data),
        "batches": sgld_jax.shuffled(BATCH),
        "burn_in": updates // 3,
        "thinning": 2 * updates // 3 // DRAWS,
    }


def row(method: str, seed: int, said: pathlib.Path) -> dict:
    """One method with one seed, beside what HMC says."""
    if method == "HMC":
        return hmc(said)
    began = time.perf_counter()
    net, (data, (images, _)) = network(), digits()
    data = jax.tree.map(jnp.asarray, data)
    plan = {"num_samples": DRAWS} | METHODS[method](seed, net, data)
    samples = sgld_jax.sample(
        seed,
        plan.pop("sampler"),
        net.potential,
        plan.pop("init"),
        num_chains=MEMBERS,
        data=data,
        collect=lambda params: net.apply(params, images),
        **plan,
    ).healthy()
    probs = np.asarray(sgld_jax.predictive_probs(samples.params))
    seconds = time.perf_counter() - began
    with np.load(said) as file:
        near = compared(probs, file["probs"].mean(0))
    return near | _scores(probs) | {"chains": samples.num_chains, "seconds": seconds}


def compared(probs: np.ndarray, reference: np.ndarray) -> dict:
    """Agreement and total variation of two predictions, `[n, K]` each."""
    same = probs.argmax(1) == reference.argmax(1)
    variation = 0.5 * np.abs(probs - reference).sum(1)
    found = {"agreement": same.mean(), "total variation": variation.mean()}
    return {name: float(x) for name, x in found.items()}


def _scores(probs: np.ndarray) -> dict:
    labels = digits()[1][1]
    accuracy = float(np.mean(probs.argmax(1) == labels))
    return {"accuracy": accuracy, "NLL": sgld_jax.nll(probs, labels)}


def rows(kept: pathlib.Path, said: pathlib.Path) -> list[dict]:
    """HMC, and each method with each seed; `said` is where HMC's predictions are."""
    print("some 6 minutes on one core", flush=True)
    todo = [{"method": "HMC", "seed": 0}]
    todo += [{"method": m, "seed": seed} for m in METHODS for seed in range(SEEDS)]
    return restart.rows(kept, todo, functools.partial(row, said=said))
