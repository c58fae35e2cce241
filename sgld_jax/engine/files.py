"""`Samples` in a folder: the draws, and the chains as they were, to go on from.

A tree of dicts, lists and tuples comes back as it was. Another class of container (an
NNX state, a dataclass, a NamedTuple) comes back as dicts with the names of its parts.
The state of a sampler is kept as named arrays, and gets its classes back from the
sampler when chains go on; so no file decides what is built.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from sgld_jax import archive
from sgld_jax.engine.chain import Chain, Failure, StoredState
from sgld_jax.engine.report import RunReport, failures_of
from sgld_jax.engine.samples import Samples
from sgld_jax.keys import Unseeded, is_key
from sgld_jax.leaves import is_numeric
from sgld_jax.potentials.batches import BatchState

PyTree = Any

_REPORT = ("updates", "seconds", "compile_seconds", "interrupted", "group_size")
_REPORT += ("shared_by", "temporary_bytes", "clipped")
_REPORT += ("acceptance", "lowest_acceptance")


def save(samples: Samples, folder: Any) -> None:
    """Writes `Samples` into a new folder; see `Samples.save`."""
    chain, report = samples.final, samples.report
    arrays: dict[str, Any] = {}
    facts = {
        "kind": "Samples",
        "params": _described(samples.params, "params", arrays),
        "chain": _described(chain.params, "chain.params", arrays),
        "state": _described_state(chain.state, arrays),
        "memory": _described(chain.memory, "chain.memory", arrays),
        "report": {name: getattr(report, name) for name in _REPORT},
        "cut": bool(samples.cut),
        "versions": {"jax": jax.__version__, "optax": optax.__version__},
    }
    arrays |= _named(samples, "", ("potential", "weights", "counts"))
    arrays |= _named(chain, "chain.", ("count", "group"))
    arrays |= _named(chain.failure, "chain.failure.", Failure._fields)
    arrays |= _named(chain.batches, "chain.batches.", BatchState._fields)
    arrays["report.begin"] = report.begin
    archive.write(folder, arrays, facts)


def load(folder: Any) -> Samples:
    """The `Samples` that `samples.save(folder)` wrote, checked before they are built.

    Args:
      folder: where they are.

    Returns:
      `Samples`. Trees of dicts, lists and tuples are as they were; other classes of
      containers are dicts. `resume(samples.final, ...)` goes on bit for bit with the
      sampler, potential and data of before.

    Raises:
      FileNotFoundError: if there is no such folder, or a file of it is missing.
      ValueError: naming the file, for what has been damaged or never was `Samples`, and
        for folders of another version.

    Example:
      >>> import jax, pathlib, tempfile, sgld_jax
      >>> potential = sgld_jax.from_log_density(lambda x: -0.5 * x**2)
      >>> samples = sgld_jax.sample(
      ...     0, sgld_jax.sgld(0.1), potential, jax.random.normal, num_samples=10)
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     samples.save(pathlib.Path(folder, "run"))
      ...     again = sgld_jax.load(pathlib.Path(folder, "run"))
      >>> bool((again.params == samples.params).all())
      True
    """
    arrays, facts = archive.read(folder)
    try:
        samples = _samples(arrays, facts)
        _check_shapes(samples)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ValueError(f"{folder} holds no Samples ({error!r}).") from None
    return samples


def with_state_of(sampler: Any, chain: Chain) -> Chain:
    """The chain with a state of the sampler's classes, if it came from a folder.

    Raises:
      ValueError: for a state that another sampler left.
    """
    stored = chain.state
    if not isinstance(stored, StoredState):
        return chain
    expected = jax.eval_shape(jax.vmap(sampler.init), chain.params)
    slots, treedef = jax.tree_util.tree_flatten_with_path(expected, _is_empty_slot)
    names = tuple(jax.tree_util.keystr(path) for path, _ in slots)
    if names != stored.names:
        raise ValueError(
            f"The state that was stored is not one of this sampler: it has "
            f"{list(stored.names)}, expected {list(names)}. Pass the sampler of the "
            f"run that was saved."
        )
    return chain._replace(state=treedef.unflatten(stored.arrays))


def _is_empty_slot(leaf: Any) -> bool:
    return isinstance(leaf, Unseeded)


def _named(record: Any, prefix: str, fields: tuple) -> dict[str, Any]:
    values = {prefix + name: getattr(record, name) for name in fields}
    return {name: value for name, value in values.items() if value is not None}


def _described_state(state: PyTree, arrays: dict) -> list[str]:
    if isinstance(state, StoredState):  # loaded, and saved again
        names, leaves = state.names, state.arrays
    else:
        flat, _ = jax.tree_util.tree_flatten_with_path(state)
        names = [jax.tree_util.keystr(path) for path, _ in flat]
        leaves = [leaf for _, leaf in flat]
    arrays |= {f"chain.state{name}": leaf for name, leaf in zip(names, leaves)}
    return list(names)


def _described(tree: PyTree, name: str, arrays: dict) -> Any:
    """What JSON can say of a tree; its leaves go to `arrays`, by name."""
    if tree is None:
        return None
    if is_numeric(tree) or hasattr(tree, "dtype"):
        arrays[name] = tree
        return name
    if type(tree) in (list, tuple):
        parts = [_described(x, f"{name}[{i}]", arrays) for i, x in enumerate(tree)]
        return {type(tree).__name__: parts}
    items = list(tree.items()) if type(tree) is dict else _parts(tree, name)
    for key, _ in items:
        if isinstance(key, bool) or not isinstance(key, (str, int)):
            raise TypeError(
                f"{name} has a key {key!r}: expected text or whole numbers."
            )
    parts = [[k, _described(x, f"{name}[{k!r}]", arrays)] for k, x in items]
    return {"dict": parts}


def _parts(tree: PyTree, name: str) -> list[tuple[Any, Any]]:
    """The parts of a container of any class, and what they are called."""
    flat, _ = jax.tree_util.tree_flatten_with_path(
        tree, is_leaf=lambda x: x is not tree
    )
    if any(part is tree for _, part in flat):
        raise TypeError(
            f"{name} is a {type(tree).__name__}: expected a tree of arrays."
        )
    names = [
        next(
            getattr(path[0], attribute)
            for attribute in ("key", "name", "idx")
            if hasattr(path[0], attribute)
        )
        for path, _ in flat
    ]
    return [(key, part) for key, (_, part) in zip(names, flat)]


def _built(node: Any, arrays: dict) -> PyTree:
    """The tree that was described."""
    if node is None:
        return None
    if isinstance(node, str):
        return arrays[node]
    ((kind, parts),) = node.items()
    if kind == "dict":
        if not all(type(key) in (str, int) for key, _ in parts):
            raise TypeError("a key that is no text")
        return {key: _built(part, arrays) for key, part in parts}
    return {"list": list, "tuple": tuple}[kind](_built(part, arrays) for part in parts)


def _samples(arrays: dict, facts: dict) -> Samples:
    names = facts["state"]
    on_device = {
        name: _as_jax(x) for name, x in arrays.items() if name.startswith("chain.")
    }
    batches: list[Any] = [
        on_device.get(f"chain.batches.{field}") for field in BatchState._fields
    ]
    chain = Chain(
        _built(facts["chain"], on_device),
        StoredState(tuple(names), tuple(on_device[f"chain.state{n}"] for n in names)),
        BatchState(*batches),
        on_device["chain.count"],
        Failure(*(on_device[f"chain.failure.{field}"] for field in Failure._fields)),
        on_device["chain.group"],
        _built(facts["memory"], on_device),
    )
    return Samples(
        params=_built(facts["params"], arrays),
        potential=arrays["potential"],
        weights=arrays["weights"],
        counts=arrays["counts"],
        final=chain,
        report=_report(facts["report"], chain, arrays["report.begin"]),
        cut=bool(facts["cut"]),
    )


def _report(facts: dict, chain: Chain, begin: Any) -> RunReport:
    said: dict[str, Any] = {name: facts[name] for name in _REPORT}
    kinds = {name: str if name == "interrupted" else (int, float) for name in _REPORT}
    if not all(isinstance(said[name], kind) for name, kind in kinds.items()):
        raise TypeError("a report of other types")
    return RunReport(**said, failures=failures_of(chain), begin=begin)


def _as_jax(x: Any) -> Any:
    """A jax.Array, but for wide numbers while 64 bits are off, which it would cut."""
    if is_key(x) or jax.dtypes.canonicalize_dtype(x.dtype) != x.dtype:
        return x
    return jnp.asarray(x)


def _check_shapes(samples: Samples) -> None:
    """Raises unless all arrays have the axes of the same chains and draws."""
    axes = samples.potential.shape
    if len(axes) != 2:
        raise TypeError(f"a potential of shape {axes}")
    for x in jax.tree.leaves((samples.params, samples.weights, samples.counts)):
        if x.shape[:2] != axes:
            raise TypeError(f"draws of shape {x.shape} beside a potential of {axes}")
    chain = samples.final
    parts = (*chain._replace(params=None), chain.params, samples.report.begin)
    for x in jax.tree.leaves(parts):
        if x.shape[:1] != axes[:1]:
            raise TypeError(f"chains of shape {x.shape} beside draws of {axes}")
    if not jax.tree.leaves(samples.params):
        raise TypeError("no draws")
