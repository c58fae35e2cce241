"""NumPyro models as potentials, with their subsampled plates as minibatches."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sgld_jax.arguments import shown
from sgld_jax.potentials.constraints import Constrained, uniform_start

PyTree = Any


class _ModelPotential:
    """U of a model; a batch is row numbers `[n]` of its plate, None without one."""

    def __init__(self, of_rows: Callable, num_data: int | None):
        self._of_rows, self.num_data = of_rows, num_data

    def __call__(self, params: PyTree, batch: PyTree) -> jax.Array:
        return self._of_rows(params, batch)


def from_numpyro(model: Callable, *args: Any, **kwargs: Any) -> Constrained:
    """The posterior of a NumPyro model, to be sampled without bounds.

    `numpyro.plate(name, N, subsample_size=n)` becomes minibatches: the `data` of the
    result are the row numbers of the plate, `batches` say which of them an update sees,
    any number n of them, and the plate scales the likelihood by N/n. Without `batches`
    all rows are seen.

    Args:
      model: a function with NumPyro's primitives, whose latent variables are
        continuous.
      *args: of the model, the data among them.
      **kwargs: of the model.

    Returns:
      A `Constrained`; `constrain` gives all latent and deterministic sites.

    Raises:
      ImportError: without NumPyro: `pip install 'sgld-jax[numpyro]'`.
      ValueError: for discrete latent variables, for latent variables within a
        subsampled plate, and for several such plates.

    Example:
      >>> import jax.numpy as jnp, numpyro, sgld_jax
      >>> from numpyro import distributions as dist
      >>> def model(y):
      ...     mu = numpyro.sample("mu", dist.Normal(0, 10))
      ...     sigma = numpyro.sample("sigma", dist.HalfNormal(5))
      ...     with numpyro.plate("rows", len(y), subsample_size=50):
      ...         batch = numpyro.subsample(y, event_dim=0)
      ...         numpyro.sample("y", dist.Normal(mu, sigma), obs=batch)
      >>> model = sgld_jax.from_numpyro(model, jnp.sin(jnp.arange(200.0)))
      >>> chain = sgld_jax.start(
      ...     0, sgld_jax.sghmc(1e-4, 0.1), model.init, num_chains=4,
      ...     data=model.data, batches=sgld_jax.shuffled(50))
    """
    infer = _infer()
    sites = _sites(model, args, kwargs)
    plate = _subsampled(sites)
    name, size = plate or (None, None)
    _check_latent(sites, name)

    def on(rows: Any) -> Callable:
        return model if name is None else _with_rows(model, name, rows)

    def all_rows() -> Any:
        return None if size is None else jnp.arange(size)

    def of_rows(z: PyTree, batch: PyTree) -> jax.Array:
        return infer.potential_energy(on(batch), args, kwargs, z)

    def constrain(z: PyTree) -> PyTree:
        whole = on(all_rows())
        return infer.constrain_fn(whole, args, kwargs, z, return_deterministic=True)

    def unconstrain(params: PyTree) -> PyTree:
        latent = {site: params[site] for site in like}
        return infer.unconstrain_fn(on(all_rows()), args, kwargs, latent)

    def log_jacobian(z: PyTree) -> jax.Array:
        latent = {site: x for site, x in constrain(z).items() if site in like}
        whole = on(all_rows())
        density, _ = infer.log_density(whole, args, kwargs, latent)
        return -of_rows(z, all_rows()) - density

    like = {
        site: found["value"]
        for site, found in sites.items()
        if found["type"] == "sample" and not found["is_observed"]
    }
    init = uniform_start(jax.eval_shape(unconstrain, like))
    potential = _ModelPotential(of_rows, size)
    data = None if size is None else np.arange(size, dtype=np.int32)
    return Constrained(potential, init, constrain, unconstrain, log_jacobian, data)


def _infer() -> Any:
    try:
        from numpyro.infer import util
    except ImportError:
        raise ImportError(
            "from_numpyro needs NumPyro: pip install 'sgld-jax[numpyro]'"
        ) from None
    return util


def _sites(model: Callable, args: tuple, kwargs: dict) -> dict:
    """The sites of one run of the model, by name."""
    from numpyro import handlers

    if not callable(model):
        raise TypeError(f"model={shown(model)}: expected a function of NumPyro's.")
    seeded = handlers.seed(model, rng_seed=0)
    return dict(handlers.trace(seeded).get_trace(*args, **kwargs))


def _subsampled(sites: dict) -> tuple[str, int] | None:
    """Name and size of the plate that takes some of its rows."""
    plates = {
        name: int(site["args"][0])
        for name, site in sites.items()
        if site["type"] == "plate"
        and site["args"][1] is not None
        and site["args"][0] != site["args"][1]
    }
    if len(plates) > 1:
        raise ValueError(
            f"The model subsamples several plates, {sorted(plates)}: expected one, "
            f"since a batch is rows of one table. Give the others all of their rows."
        )
    return next(iter(plates.items()), None)


def _check_latent(sites: dict, plate: str | None) -> None:
    for name, site in sites.items():
        if site["type"] != "sample" or site["is_observed"]:
            continue
        if site["fn"].support.is_discrete:
            raise ValueError(
                f"{name!r} is discrete and not observed: expected continuous latent "
                f"variables. Sum it out, as numpyro.distributions.Mixture does."
            )
        if plate in {frame.name for frame in site["cond_indep_stack"]}:
            raise ValueError(
                f"{name!r} is a latent variable of every row of the plate {plate!r}, "
                f"which takes some of them: an update would see others each time. "
                f"Integrate it out, or give the plate all rows."
            )


def _with_rows(model: Callable, name: str, rows: jax.Array) -> Callable:
    """The model with these rows in a plate, whatever its subsample_size says."""
    from numpyro.primitives import Messenger

    class Rows(Messenger):
        def process_message(self, msg: Any) -> None:
            if msg["type"] == "plate" and msg["name"] == name:
                msg["value"] = rows
                msg["args"] = (msg["args"][0], None)

    return Rows(model)
