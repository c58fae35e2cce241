"""Chains over several devices: laid out as their starting points are.

Who wants this puts the starting points on a mesh, `stacked(device_put(params, ...))`,
with the chain axis sharded. Everything of a chain then lives where its parameters do.

`jax.make_mesh` makes axes Explicit: layouts are part of types, and a function that did
not think of them, such as a potential that gathers rows, does not trace. So runs are
compiled on the same devices with axes that the compiler looks after (Auto), and what is
returned is on the mesh of the caller again. No number moves for that.
"""

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.core import Tracer
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

PyTree = Any


class Layout(NamedTuple):
    """Where chains live.

    Attributes:
      mesh: of the caller; None on a single device.
      axis: over which the chain axis is sharded, if any.
    """

    mesh: Mesh | None
    axis: Any

    def inside(self) -> Any:
        """A context to trace and compile in."""
        if self.mesh is None or not _is_explicit(self.mesh):
            return contextlib.nullcontext()
        return jax.set_mesh(_auto(self.mesh))

    def enter(self, tree: PyTree) -> PyTree:
        """`tree` on the mesh of the compiler, arrays of one device on all of them."""
        return self._map(lambda x: _spec(x) or (), tree)

    def enter_chains(self, tree: PyTree) -> PyTree:
        """`tree`, leaves `[C, ...]`, on the mesh of the compiler, by its chain axis."""
        return self._map(lambda x: (self.axis, *(_spec(x) or ())[1:]), tree)

    def enter_block(self, tree: PyTree) -> PyTree:
        """`tree`, leaves `[K, C, ...]`, likewise."""
        return self._map(lambda x: (None, self.axis), tree)

    def leave(self, tree: PyTree) -> PyTree:
        """`tree`, which has entered, on the mesh of the caller."""
        return self._map(lambda x: _spec(x) or (), tree, self.mesh)

    def places(self, tree: PyTree) -> list | None:
        """The shardings of the leaves, for outputs that must stay where they are."""
        if self.mesh is None:
            return None
        return [x.sharding for x in jax.tree.leaves(tree)]

    def _map(self, spec: Callable, tree: PyTree, mesh: Mesh | None = None) -> PyTree:
        if self.mesh is None:
            return tree
        mesh = mesh or _auto(self.mesh)

        def put(x: jax.Array) -> jax.Array:
            return jax.device_put(x, NamedSharding(mesh, PartitionSpec(*spec(x))))

        return jax.tree.map(put, tree)


def on_cpu() -> bool:
    """Whether programs run on a CPU, unless their arguments are put elsewhere."""
    return jax.default_backend() == "cpu"


def layout_of(params: PyTree, data: PyTree = None) -> Layout:
    """The layout of starting points `[C, ...]`, or of the data if those have none."""
    for x in jax.tree.leaves(params):
        spec = _spec(x)
        if spec is not None:
            return Layout(x.sharding.mesh, (*spec, None)[0])
    for x in jax.tree.leaves(data):
        if _spec(x) is not None:
            return Layout(x.sharding.mesh, None)
    return Layout(None, None)


def on_auto_axes(step: Callable, chain: PyTree, data: PyTree) -> tuple[PyTree, Any]:
    """`step(chain, data) -> (chain, value [C])`, inside a caller's `jit`, too.

    There arrays have no device yet, only types; those say how they will lie.
    """
    types = jax.tree.map(lambda x: jax.typeof(x).sharding, chain)
    explicit = [s for s in jax.tree.leaves(types) if _is_explicit(s.mesh)]
    if not explicit:
        return step(chain, data)
    mesh, axis = explicit[0].mesh, (*explicit[0].spec, None)[0]
    out = types, NamedSharding(mesh, PartitionSpec(axis))
    axes = mesh.axis_names
    auto: Any = jax.sharding.auto_axes
    return auto(step, axes=axes, out_sharding=out)(chain, data)


def _spec(x: Any) -> PartitionSpec | None:
    """How a concrete array lies on the mesh of several devices that it is on."""
    if isinstance(x, Tracer) or not isinstance(x, jax.Array):
        return None
    sharding = x.sharding
    if isinstance(sharding, NamedSharding) and sharding.num_devices > 1:
        return sharding.spec
    return None


def _is_explicit(mesh: Any) -> bool:
    return any(kind != AxisType.Auto for kind in mesh.axis_types)


def _auto(mesh: Mesh) -> Mesh:
    if not _is_explicit(mesh):
        return mesh
    kinds = (AxisType.Auto,) * len(mesh.axis_names)
    return Mesh(mesh.devices, mesh.axis_names, axis_types=kinds)
