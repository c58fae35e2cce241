"""A shuffle that nobody stores: the entry of a random permutation at any place."""

import jax
import jax.numpy as jnp
import numpy as np

# Each round halves what is left of the order: after 20, pairs are uniform to 2⁻²⁰.
_ROUNDS = 20  # rounds


def permuted(position: jax.Array, keys: jax.Array, num_data: int) -> jax.Array:
    """Entries `position` [n] of permutations of 0 ... N−1, keyed by words [2, n].

    In each round x and K − x (mod N) change places or not, by a bit that both share;
    so every round is a bijection, for any N. The rounds stay a loop: unrolled they
    compile three times longer and run no faster.
    """
    size = np.uint32(num_data)

    def swap_or_not(r: jax.Array, x: jax.Array) -> jax.Array:
        key = _mix(keys[0] + r.astype(jnp.uint32) * np.uint32(0x9E3779B9))
        pivot = _mix(key ^ keys[1]) % size
        partner = jnp.where(pivot >= x, pivot - x, pivot + size - x)
        swap = _mix(jnp.maximum(x, partner) ^ key) >> 31  # one bit for both
        return jnp.where(swap == 1, partner, x)

    x = position.astype(jnp.uint32)
    return jax.lax.fori_loop(0, _ROUNDS, swap_or_not, x).astype(jnp.int32)


def _mix(h: jax.Array) -> jax.Array:
    """The finaliser of MurmurHash3: a bit flips each output bit half the time."""
    h = (h ^ (h >> 16)) * np.uint32(0x85EBCA6B)
    h = (h ^ (h >> 13)) * np.uint32(0xC2B2AE35)
    return h ^ (h >> 16)
