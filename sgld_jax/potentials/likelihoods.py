"""Log likelihoods that everybody writes: log p(yᵢ|θ) of every example, `[n]`.

    categorical             log softmax(f)_y
    bernoulli               y f − log(1 + eᶠ)
    normal                  −½ ((y − m)/σ)² − log σ − ½ log 2π
    heteroscedastic_normal  the same, with m and log σ both outputs of the network
    student_t               −½ (ν + 1) log(1 + ((y − m)/σ)²/ν) − log σ + const(ν)

All terms are kept, so that densities can be compared between models. What an example
has several of (pixels, targets) is summed. Shapes must be equal: `[n, 1]` against `[n]`
would broadcast to `[n, n]`, and sample another posterior in silence.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln


def categorical(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Classes: log softmax of the logits at the label.

    Args:
      logits: `[n, ..., K]`.
      labels: whole numbers from 0 to K − 1, `[n, ...]`. Any other is NaN, and fails a
        chain in its first update.

    Returns:
      `[n]`, in nats.

    Raises:
      TypeError: for labels that are not whole numbers.
      ValueError: while tracing, for shapes that do not fit.

    Example:
      >>> import jax.numpy as jnp, sgld_jax
      >>> logits = jnp.log(jnp.array([[0.9, 0.1], [0.5, 0.5]]))
      >>> each = sgld_jax.likelihoods.categorical(logits, jnp.array([0, 1]))
      >>> [round(float(x), 3) for x in each]
      [-0.105, -0.693]
    """
    logits, labels = jnp.asarray(logits), jnp.asarray(labels)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(
            f"labels have dtype {labels.dtype}: expected whole numbers from 0, "
            f"labels.astype(int). For one-hot rows: labels.argmax(-1)."
        )
    _check_shapes(labels, logits[..., 0], "labels", "logits[..., 0]")
    num_classes = logits.shape[-1]
    log_p = jax.nn.log_softmax(logits)
    known = (labels >= 0) & (labels < num_classes)
    place = jnp.where(known, labels, 0)[..., None]
    each = jnp.take_along_axis(log_p, place, axis=-1)[..., 0]
    return _of_examples(jnp.where(known, each, jnp.nan))


def bernoulli(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Yes and no: the log odds are the logits.

    Args:
      logits: `[n, ...]`.
      labels: 0 and 1, or booleans, of the same shape.

    Returns:
      `[n]`, in nats.

    Raises:
      ValueError: while tracing, for different shapes.

    Example:
      >>> import jax.numpy as jnp, sgld_jax
      >>> sgld_jax.likelihoods.bernoulli(jnp.zeros(2), jnp.array([0, 1])).shape
      (2,)
    """
    logits, labels = jnp.asarray(logits), jnp.asarray(labels)
    _check_shapes(labels, logits, "labels", "logits")
    each = labels.astype(logits.dtype) * logits - jax.nn.softplus(logits)
    return _of_examples(each)


def normal(mean: jax.Array, scale: jax.Array | float, y: jax.Array) -> jax.Array:
    """Measurements with errors of a standard deviation that is given, or sampled.

    A squared error alone is no likelihood: without σ² it says that σ² = 1/2 or 1.

    Args:
      mean: `[n, ...]`, what the model expects.
      scale: standard deviation, above 0; a number, or of a shape that broadcasts to
        that of `y`. To sample it, keep its logarithm among the parameters.
      y: `[n, ...]`, what was measured.

    Returns:
      `[n]`, in nats.

    Raises:
      ValueError: while tracing, for shapes that do not fit.

    Example:
      >>> import jax.numpy as jnp, sgld_jax
      >>> each = sgld_jax.likelihoods.normal(jnp.zeros(3), 1.0, jnp.zeros(3))
      >>> round(float(each[0]), 4)
      -0.9189
    """
    z, log_scale = _standardised(mean, scale, y)
    return _of_examples(-0.5 * z**2 - log_scale - 0.5 * math.log(2 * math.pi))


def heteroscedastic_normal(outputs: jax.Array, y: jax.Array) -> jax.Array:
    """Measurements whose errors depend on the input: mean and log σ by the network.

    Args:
      outputs: `[n, ..., 2]`: means, and the logarithms of the standard deviations.
      y: `[n, ...]`.

    Returns:
      `[n]`, in nats.

    Raises:
      ValueError: while tracing, for shapes that do not fit.

    Example:
      >>> import jax.numpy as jnp, sgld_jax
      >>> outputs = jnp.zeros((5, 2))              # of a network with two outputs
      >>> sgld_jax.likelihoods.heteroscedastic_normal(outputs, jnp.ones(5)).shape
      (5,)
    """
    outputs = jnp.asarray(outputs)
    if outputs.ndim < 2 or outputs.shape[-1] != 2:
        raise ValueError(
            f"outputs have shape {outputs.shape}: expected [n, ..., 2], means and log "
            f"standard deviations on the last axis."
        )
    mean, log_scale = outputs[..., 0], outputs[..., 1]
    y = jnp.asarray(y)
    _check_shapes(y, mean, "y", "outputs[..., 0]")
    z = (y - mean) * jnp.exp(-log_scale)
    return _of_examples(-0.5 * z**2 - log_scale - 0.5 * math.log(2 * math.pi))


def student_t(
    mean: jax.Array, scale: jax.Array | float, y: jax.Array, df: float = 4.0
) -> jax.Array:
    """Measurements with outliers: errors of Student's law.

    Args:
      mean: as `normal`.
      scale: as `normal`; the standard deviation is scale · √(df / (df − 2)).
      y: as `normal`.
      df: degrees of freedom ν, above 0; few make heavy tails.

    Returns:
      `[n]`, in nats.

    Raises:
      ValueError: while tracing, for shapes that do not fit.

    Example:
      >>> import jax.numpy as jnp, sgld_jax
      >>> each = sgld_jax.likelihoods.student_t(jnp.zeros(3), 1.0, jnp.zeros(3))
      >>> round(float(each[0]), 4)
      -0.9808
    """
    z, log_scale = _standardised(mean, scale, y)
    nu = jnp.asarray(df, z.dtype)
    constant = gammaln((nu + 1) / 2) - gammaln(nu / 2) - 0.5 * jnp.log(nu * math.pi)
    each = constant - 0.5 * (nu + 1) * jnp.log1p(z**2 / nu) - log_scale
    return _of_examples(each)


def _standardised(mean, scale, y) -> tuple[jax.Array, jax.Array]:
    """(y − m)/σ and log σ."""
    mean, y = jnp.asarray(mean), jnp.asarray(y)
    _check_shapes(y, mean, "y", "mean")
    scale = jnp.asarray(scale, mean.dtype)
    if np.broadcast_shapes(scale.shape, y.shape) != y.shape:
        raise ValueError(
            f"scale has shape {scale.shape}, y has {y.shape}: expected a number, or "
            f"one for each entry of y."
        )
    return (y - mean) / scale, jnp.log(scale)


def _check_shapes(given: jax.Array, wanted: jax.Array, name: str, other: str) -> None:
    if given.shape != wanted.shape or given.ndim == 0:
        raise ValueError(
            f"{name} has shape {given.shape}, {other} has {wanted.shape}: expected "
            f"equal shapes [n, ...], since [n, 1] and [n] would make [n, n]. Use "
            f"{other}.squeeze(-1), or {name}[:, None]."
        )


def _of_examples(each: jax.Array) -> jax.Array:
    return jnp.sum(each, axis=tuple(range(1, each.ndim)))
