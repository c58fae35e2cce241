"""Less noise from the same batches, with what is known of the gradient elsewhere.

control variate   ∇Ũ(θ) − ∇Ũ(θ̂) + ∇U(θ̂)                 θ̂ a centre that stays
SVRG              the same, and θ̂ is where the chain was at its last refresh
SAGA              −∇log p(θ) + (N/n) Σ_batch [gᵢ(θ) − gᵢ] + Σᵢ gᵢ
                  gᵢ(θ) = −∇log p(xᵢ|θ), and gᵢ is what it was when last seen

Ũ is what a batch says of U, the same batch at θ and at θ̂, so that what its rows say of
both alike cancels. All are unbiased. The nearer θ̂ the less noise;
far from it the two noises add up. The memory of SVRG and SAGA is that of a chain: the
engine keeps it in `Chain`, beside the state of the sampler.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sgld_jax.arguments import check_count
from sgld_jax.leaves import paths
from sgld_jax.potentials.data import num_rows
from sgld_jax.potentials.potential import (
    Potential,
    check_is_potential,
    check_num_data,
    without_jit,
)

PyTree = Any

_TABLE_BYTES = 2**28  # of a chain, that `saga` may keep


class Estimator(NamedTuple):
    """Gradients with a memory, for `sample` in place of a potential. Of one chain.

    Attributes:
      init: `(params, data) -> memory`, a tree of arrays.
      value_and_grad: `(params, batch, indices, memory) -> ((U, ∇U), memory)`, estimates
        by the rows `indices` `[n]` of the data, which are `batch`.
      refresh: `(params, data, memory) -> memory`, a pass over all data.
      refresh_every: after how many updates, from the first on; 0 for never.
      potential: what is estimated.
    """

    init: Callable[[PyTree, PyTree], PyTree]
    value_and_grad: Callable[[PyTree, PyTree, Any, PyTree], tuple]
    refresh: Callable[[PyTree, PyTree, PyTree], PyTree]
    refresh_every: int
    potential: Potential


def estimated(potential: Any) -> Any:
    """The potential that an estimator is of; any other potential itself."""
    return potential.potential if isinstance(potential, Estimator) else potential


@dataclasses.dataclass(frozen=True)
class _ControlVariate:
    """What `control_variate` returns.

    Attributes:
      potential: Ũ.
      center: θ̂, leaves `[...]`.
      value: U(θ̂) of all data, `[]`.
      gradient: ∇U(θ̂) of all data, leaves `[...]`.
      num_data: N.
    """

    potential: Potential
    center: PyTree
    value: jax.Array
    gradient: PyTree
    num_data: int

    def __call__(self, params: PyTree, batch: PyTree) -> jax.Array:
        # Its gradient is ∇Ũ(θ) − ∇Ũ(θ̂) + ∇U(θ̂): the second line says it to `grad`.
        there, slope = jax.value_and_grad(self.potential)(self.center, batch)
        change = self.potential(params, batch) - there
        away = jax.tree.map(jnp.subtract, params, self.center)
        missing = jax.tree.map(jnp.subtract, self.gradient, slope)  # of the batch
        products = jax.tree.map(lambda a, b: jnp.sum(a * b), missing, away)
        return self.value + change + sum(jax.tree.leaves(products))


def control_variate(potential: Potential, center: PyTree, data: PyTree) -> Potential:
    """A potential whose minibatch noise vanishes at a centre (Baker et al. 2019).

    For posteriors that are narrow about one mode, as with many data: small batches then
    give gradients that are nearly full. Start the chains at the centre,
    `init=lambda key: center`. In networks and other posteriors of many modes chains
    move away from any centre, and the noise grows.

    Args:
      potential: Ũ, `(params, batch) -> scalar`.
      center: θ̂, one position near the mode, such as an optimizer finds.
      data: all N rows, arrays `[N, ...]`; one pass over them is made here.

    Returns:
      A potential of the same posterior, with the same number of data. It costs two
      gradients where `potential` costs one.

    Raises:
      TypeError, ValueError: for potentials that are random, for data of another N, and
        where U or its gradient at the centre is not finite.

    Example:
      >>> import jax.numpy as jnp, sgld_jax
      >>> x = jnp.array([1.0, 2.0, 4.0, 5.0])
      >>> potential = sgld_jax.minibatch_potential(
      ...     sgld_jax.gaussian_prior(10.0), lambda mean, x: -0.5 * (x - mean) ** 2, 4)
      >>> quiet = sgld_jax.control_variate(potential, jnp.array(2.9), x)
      >>> samples = sgld_jax.sample(
      ...     0, sgld_jax.sgld(0.05), quiet, lambda key: jnp.array(2.9), data=x,
      ...     batches=sgld_jax.with_replacement(1), num_samples=10, num_chains=4)
      >>> samples.params.shape
      (4, 10)

    Source: J. Baker, P. Fearnhead, E. B. Fox and C. Nemeth, Control variates for
    stochastic gradient MCMC, Statistics and Computing 2019, equation 6.
    """
    potential = _fixed(potential, "A control variate")
    check_num_data(potential, data)
    center, data = (jax.tree.map(jnp.asarray, tree) for tree in (center, data))
    value, gradient = jax.jit(jax.value_and_grad(potential))(center, data)
    for path, x in paths((value, gradient)).items():
        if not jnp.isfinite(x).all():
            raise ValueError(
                f"U(center) is {float(value):g} and {path} of (U, its gradient) is not "
                f"finite: expected a center near the mode of the posterior."
            )
    return _ControlVariate(potential, center, value, gradient, num_rows(data))


def svrg(potential: Potential, refresh_every: int) -> Estimator:
    """Gradients with a control variate at where the chain was (Dubey et al. 2016).

    Every so many updates a chain makes a pass over all data, and until the next one its
    minibatch gradients are corrected by the gradient there. No centre need be known.

    Args:
      potential: Ũ, `(params, batch) -> scalar`.
      refresh_every: M, updates between two passes. With batches of n rows a pass every
        N/n updates costs as much as the updates, which cost two gradients each.

    Returns:
      An `Estimator` for `sample`, `resume` and `step`, in place of the potential. Each
      chain keeps a position and a gradient more.

    Raises:
      TypeError, ValueError: for potentials that are random; `refresh_every` below 1.

    Example:
      >>> import jax, jax.numpy as jnp, sgld_jax
      >>> x = jax.random.normal(jax.random.key(0), (100,)) + 3
      >>> potential = sgld_jax.minibatch_potential(
      ...     sgld_jax.gaussian_prior(10.0), lambda m, x: -0.5 * (x - m) ** 2, 100)
      >>> samples = sgld_jax.sample(
      ...     0, sgld_jax.sgld(1e-3), sgld_jax.svrg(potential, refresh_every=20),
      ...     jax.random.normal, data=x, batches=sgld_jax.shuffled(5),
      ...     num_samples=100, num_chains=4)

    Source: K. A. Dubey, S. J. Reddi, S. A. Williamson, B. Póczos, A. J. Smola and E. P.
    Xing, Variance reduction in stochastic gradient Langevin dynamics, NeurIPS 2016,
    algorithm 2.
    """
    potential = _fixed(potential, "svrg")
    check_count("refresh_every", refresh_every, 1)

    def refresh(params: PyTree, data: PyTree, memory: PyTree = None) -> dict:
        value, gradient = jax.value_and_grad(potential)(params, data)
        return {"center": params, "value": value, "gradient": gradient}

    def value_and_grad(params: PyTree, batch: PyTree, indices: Any, memory: dict):
        now = _ControlVariate(potential, **memory, num_data=0)
        return jax.value_and_grad(now)(params, batch), memory

    return Estimator(refresh, value_and_grad, refresh, int(refresh_every), potential)


def saga(potential: Potential, *, most_bytes: int = _TABLE_BYTES) -> Estimator:
    """Gradients corrected by those of each row when it was last seen (Dubey et al.).

    Each chain keeps a gradient for each row, N × d numbers, and never passes over all
    data again: for models of few parameters. A batch costs one gradient of each row.

    Args:
      potential: of `minibatch_potential`, whose log likelihood says what a row adds.
      most_bytes: of the table of one chain.

    Returns:
      An `Estimator` for `sample`, `resume` and `step`, in place of the potential. Its
      batches must have a size.

    Raises:
      TypeError, ValueError: for other potentials, and random ones; when a chain starts,
        for a table of more bytes.

    Example:
      >>> import jax, jax.numpy as jnp, sgld_jax
      >>> x = jax.random.normal(jax.random.key(0), (100,)) + 3
      >>> potential = sgld_jax.minibatch_potential(
      ...     sgld_jax.gaussian_prior(10.0), lambda m, x: -0.5 * (x - m) ** 2, 100)
      >>> samples = sgld_jax.sample(
      ...     0, sgld_jax.sgld(1e-3), sgld_jax.saga(potential), jax.random.normal,
      ...     data=x, batches=sgld_jax.shuffled(5), num_samples=100, num_chains=4)

    Source: Dubey et al. 2016, algorithm 1; see `svrg`.
    """
    potential = _fixed(potential, "saga")
    parts = [getattr(potential, x, None) for x in ("log_prior", "log_likelihood")]
    if not all(map(callable, parts)):
        raise TypeError(
            "saga needs what each row adds to the potential: expected one of "
            "minibatch_potential(log_prior, log_likelihood, num_data)."
        )
    check_count("most_bytes", most_bytes, 1)
    model: Any = potential

    def of_rows(params: PyTree, batch: PyTree) -> PyTree:
        """−∇log p(xᵢ|θ) of each row, leaves `[n, ...]`."""

        def minus(params: PyTree, row: PyTree) -> jax.Array:
            one = jax.tree.map(lambda x: x[None], row)
            return -model.log_likelihood(params, one)[0]

        return jax.vmap(jax.grad(minus), (None, 0))(params, batch)

    def init(params: PyTree, data: PyTree) -> dict:
        size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(params))
        if size * num_rows(data) > most_bytes:
            raise ValueError(
                f"saga would keep {num_rows(data):,} gradients of {size:,} bytes for "
                f"each chain, and most_bytes={most_bytes:,}: take svrg, or allow more."
            )
        table = of_rows(params, data)
        return {"table": table, "total": jax.tree.map(lambda x: x.sum(0), table)}

    def value_and_grad(params: PyTree, batch: PyTree, indices: Any, memory: dict):
        _check_indices(indices)
        # A row that is drawn twice changes the table once.
        times = (indices[:, None] == indices).sum(1)
        seen = of_rows(params, batch)
        move = functools.partial(_saga_leaf, indices, times, model.num_data)
        slope = jax.grad(lambda p: -model.log_prior(p))(params)
        trees = slope, seen, memory["table"], memory["total"]
        leaves, structure = zip(*map(jax.tree.flatten, trees))
        moved = [structure[0].unflatten(x) for x in zip(*map(move, *leaves))]
        value = potential(params, batch)
        return (value, moved[0]), {"table": moved[1], "total": moved[2]}

    return Estimator(init, value_and_grad, lambda p, d, memory: memory, 0, potential)


def _saga_leaf(indices, times, num_data, slope, seen, table, total) -> tuple:
    """The gradient of a leaf, its table and the sum of that, after a batch."""
    # Read before it is written, or XLA copies the table in every update.
    before, table = jax.lax.optimization_barrier((table[indices], table))
    change = seen - before
    share = (1 / times).astype(seen.dtype).reshape(-1, *[1] * (seen.ndim - 1))
    grad = slope + num_data / len(indices) * change.sum(0) + total  # as it was
    return grad, table.at[indices].set(seen), total + (share * change).sum(0)  # sum


def _check_indices(indices: Any) -> None:
    if indices is None:
        raise ValueError(
            "saga is for batches: expected shuffled(n), with_replacement(n) or "
            "blocks(n). With all data the gradient has no noise."
        )


def _fixed(potential: Any, name: str) -> Any:
    check_is_potential(potential, f"{name} is of a function of its batch.")
    return without_jit(potential)
