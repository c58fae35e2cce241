"""What a run is given, checked before any work: each error says what to type."""

from typing import Any

import jax
import numpy as np
import optax

from sgld_jax.keys import is_key
from sgld_jax.leaves import paths
from sgld_jax.potentials.batches import Batches
from sgld_jax.seeding import slot_structure


def check_sampler(sampler: Any) -> None:
    """Raises `TypeError` for what is not a gradient transformation."""
    if not isinstance(sampler, optax.GradientTransformation):
        raise TypeError(
            f"sampler={sampler!r}: expected an optax.GradientTransformation, such as "
            f"sgld_jax.sgld(1e-3)."
        )


def check_count(name: str, value: Any, least: int) -> None:
    """Raises unless `value` is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name}={value!r}: expected a whole number.")
    if value < least:
        raise ValueError(f"{name}={value}: expected at least {least}.")


def check_belongs(chain: Any, sampler: Any, batches: Batches) -> None:
    """Raises `ValueError` for a chain that another sampler or batch scheme made."""
    has_stream = chain.batches.rng_key is not None
    if has_stream != (batches.batch_size is not None):
        given = "batches of rows" if has_stream else "full batches"
        raise ValueError(
            f"These chains were started with {given}, but batches={batches!r}: pass "
            f"the scheme they were started with."
        )
    expected = jax.eval_shape(jax.vmap(sampler.init), chain.params)
    have, want = slot_structure(chain.state), slot_structure(expected)
    if have != want:
        raise ValueError(
            f"The state of these chains is not one of this sampler: it is {have}, "
            f"expected {want}. Pass the sampler they were started with."
        )


def check_distinct_keys(chain: Any) -> None:
    """Raises `ValueError` if two chains share a key, and so draw the same noise."""
    for path, leaf in paths(chain.state).items():
        if is_key(leaf):
            data = np.asarray(jax.random.key_data(leaf))
            different = len(np.unique(data.reshape(len(data), -1), axis=0))
            if different < len(data):
                raise ValueError(
                    f"The {len(data)} chains hold only {different} different keys in "
                    f"state{path}: some would draw the same noise. Start them with "
                    f"sgld_jax.start, or use jax.vmap(sgld_jax.seed)(state, keys)."
                )
