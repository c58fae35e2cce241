"""Chains over two devices: the draws of one device, and they stay where they were put."""

import pytest

from tests.runs import run_python

TWO_DEVICES = {
    "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
    "JAX_PLATFORMS": "cpu",
}
SETTING = """
import jax, jax.numpy as jnp, numpy as np, sgld_jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

data = {"x": jnp.arange(20.0), "y": jnp.ones((20, 2))}
potential = sgld_jax.minibatch_potential(
    sgld_jax.gaussian_prior(10.0),
    lambda t, b: -0.5 * jnp.sum((b["x"][:, None] - t) ** 2 * b["y"], axis=1), 20)
shuffled = {"data": data, "batches": sgld_jax.shuffled(6)}
start = np.random.default_rng(0).normal(size=(8, 2)).astype(np.float32)
table = jnp.arange(10.0)
slow = sgld_jax.sgld(1e-3)

def walled(x, batch):
    return 0.5 * jnp.sum(x**2) + jnp.sum(jnp.where(x > 2.7, jnp.nan, 0.0) * x)

RUNS = {
    "chains that fail": (sgld_jax.sgld(0.1), walled, dict(num_samples=300)),
    "shuffled": (slow, potential, dict(num_samples=300, thinning=2, **shuffled)),
    "blocks": (slow, potential, dict(
        num_samples=20, data=data, batches=sgld_jax.blocks(6))),
    # gathers by an index that differs between chains, which Explicit axes refuse
    "collect": (slow, potential, dict(
        num_samples=10, collect=lambda t: table[jnp.int32(t[0] ** 2) % 10], **shuffled)),
}

def draws(case, params):
    sampler, potential, kwargs = RUNS[case]
    init = sgld_jax.stacked(params)
    return sgld_jax.sample(3, sampler, potential, init, num_chains=8, **kwargs)

def lies_over_both(tree, kind):
    for x in jax.tree.leaves(tree):
        assert x.sharding.spec[0] == "c", x.sharding
        assert x.sharding.mesh.axis_types == (kind,)

one_device = {case: draws(case, start) for case in RUNS}
assert 0 < one_device["chains that fail"].failed.sum() < 8
"""
ON_A_MESH = """
def on_a_mesh(mesh, kind, entered):
    there = lambda: jax.device_put(start, NamedSharding(mesh, P("c")))
    for case, one in one_device.items():
        two = draws(case, there())
        np.testing.assert_allclose(two.params, one.params, rtol=1e-5, atol=1e-5)
        assert two.report.failures == one.report.failures
        lies_over_both(two.final, kind)
    more = sgld_jax.resume(two.final, slow, potential, num_samples=5, **shuffled)
    lies_over_both(more.final, kind)

    chain = sgld_jax.start(3, slow, sgld_jax.stacked(there()), num_chains=8, **shuffled)
    lies_over_both(chain, kind)
    step = jax.jit(
        lambda chain, data: sgld_jax.step(
            chain, slow, potential, data=data, batches=shuffled["batches"]),
        donate_argnums=0)
    for k in range(4):
        chain, value = step(chain, data)
    lies_over_both(chain.params, kind)
    at_two = one_device["shuffled"].params[:, 1]  # thinning 2: after 4 updates
    np.testing.assert_allclose(chain.params, at_two, rtol=1e-5, atol=1e-5)
    if entered:  # JAX asks for that, to lay out new arrays outside a jit
        states = jax.vmap(sgld_jax.sgld(0.1, key=0).init)(there())
        assert len(np.unique(jax.random.key_data(states.rng_key), axis=0)) == 8

kind = AxisType.KIND
mesh = jax.make_mesh((2,), ("c",), axis_types=(kind,))
on_a_mesh(mesh, kind, entered=False)
with jax.set_mesh(mesh):
    on_a_mesh(mesh, kind, entered=True)
"""


@pytest.mark.parametrize(
    "kind", ["Explicit", pytest.param("Auto", marks=pytest.mark.slow)]
)
def test_chains_over_a_mesh_have_the_draws_of_one_device(kind):
    """Without and within `jax.set_mesh`."""
    run_python(SETTING + ON_A_MESH.replace("KIND", kind), TWO_DEVICES)


@pytest.mark.slow
def test_data_over_a_mesh_and_chains_that_are_not():
    run_python(
        SETTING
        + """
mesh = jax.make_mesh((2,), ("rows",))
data = jax.device_put(data, NamedSharding(mesh, P("rows")))
RUNS["shuffled"][2]["data"] = data
two, one = draws("shuffled", start), one_device["shuffled"]
np.testing.assert_allclose(two.params, one.params, rtol=1e-5, atol=1e-5)
""",
        TWO_DEVICES,
    )
