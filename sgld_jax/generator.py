"""Random numbers as functions of a key, a count and a position: nothing is carried.

    x = Threefry-20(key; count + 1, j)               two words of 32 bits
    z_2j, z_2j+1 = √(−2 log u) · (cos 2πv, sin 2πv)    u: 40 bits of x, v: 24 bits

`jax.random.normal` costs 17 to 31 ns a number on a CPU with AVX2, this 4 to 5: one hash
where folding a count into a key takes another, and a transform that needs no table,
no branch and no division (`python -m benchmarks noise`). Its tails reach 7.5
standard deviations; those of `jax.random.normal` end at 5.4.

The two numbers of a pair hash the same words twice. Once would do, but then the words
wait in memory, and that was slower on a CPU with AVX2 and mostly on an H200.

`fold_in`, `split` and `bits` of `jax.random` hash counters whose first word is 0. Ours
is never 0, so of one key they and we make different numbers.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

_WORD = jnp.uint32
_PARITY = np.uint32(0x1BD11BDA)
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_SIGN = np.uint32(0x8000_0000)

# cos(πw/2) and sin(πw/2)/w as polynomials of w², for |w| < 1/2, by least squares of
# the largest error, which is 3e-8: half of what float32 rounds away.
_COS = (1.0, -1.2336970567703247, 0.2535986304283142, -0.020408352836966515)
_SIN = (
    1.570796251296997,
    -0.6459629535675049,
    0.07967590540647507,
    -0.004592289216816425,
)


# Traced once for each shape, into the caller's program: the same text, in less time.
_traced_once = functools.partial(jax.jit, inline=True)


def normal(key: jax.Array, count: jax.Array, position: jax.Array) -> jax.Array:
    """Standard normal numbers, float32 `[n]`.

    Args:
      key: a typed key `[]` of Threefry.
      count: a number from 0 to 2³¹ − 1, `[]`, such as that of an update.
      position: uint32 `[n]`; equal positions have equal numbers.
    """
    pair = position >> 1  # pair
    cosine, sine = box_muller(*words(key, count, pair))
    return jnp.where(position & 1 == 0, cosine, sine)  # halves


def uniform(key: jax.Array, count: jax.Array, position: jax.Array) -> jax.Array:
    """Uniform numbers in (0, 1), float32 `[n]`: the odd multiples of 2⁻²⁴.

    So none is 0 or 1, and u is as likely as 1 − u. Arguments as those of `normal`.
    """
    x0, x1 = words(key, count, position >> 1)
    chosen = jnp.where(position & 1 == 0, x0, x1)
    return _number(chosen >> 9) * np.float32(2**-23) + np.float32(2**-24)


def below(
    key: jax.Array, count: jax.Array, position: jax.Array, bound: int
) -> jax.Array:
    """Whole numbers from 0 to `bound` − 1, int32 `[n]`, all equally likely.

    The integer part of `bound` times the fraction 0.x₀x₁ that the two words spell; so
    the chances differ by less than `bound` parts in 2⁶⁴.
    """
    x0, x1 = words(key, count, position)
    low = _high_word(x1, bound)
    sum_low = x0 * np.uint32(bound) + low
    carry = (sum_low < low).astype(_WORD)
    return (_high_word(x0, bound) + carry).astype(jnp.int32)


def is_threefry(key: jax.Array) -> bool:
    """Whether a typed key is one of Threefry, JAX's default."""
    return "threefry2x32" in str(jax.random.key_impl(key))


def words(key: jax.Array, count: jax.Array, position: jax.Array) -> tuple:
    """Two words of 32 random bits for each position, uint32 `[n]`; count may be `[n]`.

    Raises:
      ValueError: for keys of another implementation, whose words are no Threefry key.
    """
    if not is_threefry(key):
        raise ValueError(
            f"key is of the kind {jax.random.key_impl(key)}: batches need a Threefry "
            f"key, such as jax.random.key(seed, impl='threefry2x32')."
        )
    first = jnp.broadcast_to(count.astype(_WORD) + 1, position.shape)  # counters
    k0, k1 = jax.random.key_data(key)
    return threefry(k0, k1, first, position)


@_traced_once
def threefry(k0, k1, x0, x1) -> tuple:
    """The block cipher Threefry-2×32 of 20 rounds: uint32, elementwise.

    Source: J. K. Salmon, M. A. Moraes, R. O. Dror and D. E. Shaw, Parallel random
    numbers: as easy as 1, 2, 3, SC 2011, section 3.3; their known-answer vectors are
    in the tests.
    """
    keys = (k0, k1, k0 ^ k1 ^ _PARITY)
    x0, x1 = x0 + k0, x1 + k1
    for group in range(5):
        for bits in _ROTATIONS[group % 2]:
            x0 = x0 + x1
            x1 = x0 ^ ((x1 << bits) | (x1 >> (32 - bits)))  # round
        x0 = x0 + keys[(group + 1) % 3]
        x1 = x1 + keys[(group + 2) % 3] + np.uint32(group + 1)
    return x0, x1


@_traced_once
def box_muller(x0: jax.Array, x1: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Two independent standard normals of two words of random bits, float32.

    The radius has the 32 bits of the first word and the lowest 8 of the second; the
    angle has the other 24: two signs, and 22 bits of a quarter turn. With t = πw/2 the
    distance from the middle of that quarter, cos(π/4 + t) = (cos t − sin t)/√2, and sin
    the same with a plus.

    Source: G. E. P. Box and M. E. Muller, A note on the generation of random normal
    deviates, Annals of Mathematical Statistics 29(2), 1958.
    """
    low = ((x0 & 0xFF) << 8) | (x1 & 0xFF)
    u = _number(x0 >> 8) * np.float32(2**-24)
    u = u + (_number(low) + np.float32(0.5)) * np.float32(2**-40)  # tail
    radius = jnp.sqrt(-jnp.log(u))  # radius
    w = _number((x1 >> 8) & 0x3F_FFFF) * np.float32(2**-22) + np.float32(2**-23 - 0.5)
    cos, sin = _polynomial(_COS, w * w), w * _polynomial(_SIN, w * w)
    return (
        _with_sign(radius * (cos - sin), x1),
        _with_sign(radius * (cos + sin), x1 << 1),
    )


def _number(x: jax.Array) -> jax.Array:
    """An integer below 2²⁴ as a float, exactly. Unsigned ones convert slowly."""
    return x.astype(jnp.int32).astype(jnp.float32)


def _polynomial(coefficients: tuple[float, ...], x: jax.Array) -> jax.Array:
    value = jnp.full_like(x, coefficients[-1])
    for c in coefficients[-2::-1]:
        value = value * x + np.float32(c)
    return value


def _with_sign(z: jax.Array, bits: jax.Array) -> jax.Array:
    """`z` with its sign changed where the highest bit is set."""
    changed = lax.bitcast_convert_type(z, _WORD) ^ (bits & _SIGN)
    return lax.bitcast_convert_type(changed, jnp.float32)


def _high_word(x: jax.Array, factor: int) -> jax.Array:
    """The upper 32 of the 64 bits of x · factor, from products of halves."""
    mask = np.uint32(0xFFFF)
    low, high = np.uint32(factor & 0xFFFF), np.uint32(factor >> 16)
    middle = (x >> 16) * low + (((x & mask) * low) >> 16)
    lower = (x & mask) * high + (middle & mask)
    return (x >> 16) * high + (middle >> 16) + (lower >> 16)
