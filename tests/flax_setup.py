"""What the tests of Linen and of NNX loops share: a regression and its sampler."""

import functools

import chex
import jax
import numpy as np
import optax

import sgld_jax

RNG = np.random.default_rng(0)
X = RNG.normal(size=(16, 3)).astype(np.float32)
Y = np.sin(X[:, :1])
N, STEPS = 16, 3
MEMBERS = 4


def sampler(key=0, temperature=1.0, step_size=1e-3):
    """A Gaussian prior, and SGLD on the mean loss of N examples."""
    return optax.chain(
        optax.add_decayed_weights(0.1 / N),
        sgld_jax.sgld(N * step_size, temperature / N, key=key),
    )


def key_data(tree):
    ((_, key),) = optax.tree.get_all_with_path(tree, "rng_key")
    return np.asarray(jax.random.key_data(getattr(key, "get_value", lambda: key)()))


def distinct(keys):
    return len(np.unique(keys.reshape(-1, 2), axis=0))


# Equal to rounding: compilers fuse differently.
assert_close = functools.partial(chex.assert_trees_all_close, rtol=1e-5, atol=1e-6)
