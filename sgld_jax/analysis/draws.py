"""Which draws can be used, and what their scalars are called."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sgld_jax.analysis.weights import usable_weights
from sgld_jax.leaves import as_typed
from sgld_jax.warn import warn

PyTree = Any

MIN_DRAWS = 4  # below that ArviZ has no half chains to compare
MAX_SCALARS = 2_000  # a minute for 64 chains of 500 draws
_SHOWN = 5  # names in a message


class Usable(NamedTuple):
    """The draws that statistics are made of.

    Attributes:
      arrays: by name, float64 `[C', S, ...]`, of the C' chains that are finite.
      weights: of the draws `[C', S]`, to be averaged with; None to count all alike.
      streams: which chains saw the same batches, int `[C']`; None if all had their own.
    """

    arrays: dict[str, np.ndarray]
    weights: np.ndarray | None
    streams: np.ndarray | None


def is_samples(draws: Any) -> bool:
    """Whether these are `Samples`, known by what they hold, or a tree of arrays."""
    return hasattr(draws, "params") and hasattr(draws, "failed")


def tree_of(draws: Any) -> PyTree:
    """The arrays `[C, S, ...]` of `Samples`, or the tree itself."""
    return draws.params if is_samples(draws) else draws


def healthy_array(
    draws: Any, what: str, weighted: bool | None = False
) -> tuple[Any, np.ndarray | None]:
    """The one array of `Samples` without failed chains, and the weights to use.

    `draws` itself if they are no `Samples`. Warns of chains that are left out. With
    `weighted=None` weights do not matter.

    Raises:
      ValueError: for draws that are not one array, or where no chain is left.
    """
    if not is_samples(draws):
        return draws, usable_weights(draws, weighted, slice(None))
    leaves = jax.tree.leaves(draws.params)
    if len(leaves) != 1:
        raise ValueError(
            f"samples.params is a tree of {len(leaves)} arrays: expected one, {what}. "
            f"Pass samples.healthy().params[...], or keep it alone with collect."
        )
    kept = _healthy_chains(draws)
    return leaves[0][kept], usable_weights(draws, weighted, kept)


def healthy_tree(draws: Any) -> tuple[PyTree, tuple[int, int]]:
    """Parameters `[C', S, ...]` of the chains that are finite, and C' and S.

    Raises:
      ValueError: for leaves without common axes C and S, or where no chain is left.
    """
    tree = jax.tree.map(np.asarray, tree_of(draws))
    shapes = {x.shape[:2] for x in jax.tree.leaves(tree)}
    if len(shapes) != 1 or len(next(iter(shapes))) < 2 or 0 in next(iter(shapes)):
        raise ValueError(
            f"The draws have the leading axes {sorted(shapes)}: expected Samples, or "
            f"arrays [C, S, ...], chain and draw first. One position is x[None, None]."
        )
    if is_samples(draws):
        kept = _healthy_chains(draws)
        tree = jax.tree.map(lambda x: x[kept], tree)
    return tree, jax.tree.leaves(tree)[0].shape[:2]


def _healthy_chains(draws: Any) -> np.ndarray:
    """The numbers of the chains of `Samples` that are finite; warns of the others."""
    bad = {int(i): "failed, see samples.report" for i in np.flatnonzero(draws.failed)}
    if bad:
        warn(_left_out(bad, draws.num_chains))
    return np.flatnonzero(~np.asarray(draws.failed))


def named_arrays(tree: PyTree, default: str) -> dict[str, Any]:
    """The leaves of a tree by their path, joined with "."; a bare array is `default`.

    A "/" in a key would open a group in netCDF and in a DataTree, so it becomes ".".

    Raises:
      ValueError: if two leaves would have one name.
    """
    named: dict[str, Any] = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        path = as_typed(path)
        name = jax.tree_util.keystr(path, simple=True, separator=".").replace("/", ".")
        name = name or default
        if name in named:
            raise ValueError(
                f"Two leaves are both called {name!r} once keys are joined with '.': "
                f"rename one of them, for instance in collect."
            )
        named[name] = leaf
    return named


def labels(name: str, shape: tuple[int, ...]) -> list[str]:
    """Names of the scalars of an array, such as `w[0, 1]`."""
    if not shape:
        return [name]
    return [f"{name}[{', '.join(map(str, index))}]" for index in np.ndindex(*shape)]


def usable(
    draws: Any, names: Sequence[str] | None = None, weighted: bool | None = False
) -> Usable:
    """The checked leaves of the chains that are finite, and how to weight them.

    `weighted=None` asks for no weights, where they do not matter.

    Warns of chains left out, of scalars that never move, and of swapped axes.

    Raises:
      TypeError, ValueError: as `summary`.
    """
    leaves = _selected(named_arrays(tree_of(draws), "x"), names)
    num_chains = _check_leaves(leaves)
    arrays = {name: np.asarray(x).astype(np.float64) for name, x in leaves.items()}
    if not is_samples(draws):
        _warn_swapped(arrays)
    bad = _bad_chains(draws, arrays, num_chains)
    if bad:
        warn(_left_out(bad, num_chains))
    kept = np.array([i for i in range(num_chains) if i not in bad])
    arrays = {name: x[kept] for name, x in arrays.items()}
    still = _still(arrays, kept)
    if still:
        warn(
            f"Scalars that never move: {_shown(still)}. What moves in no chain has no "
            f"ESS and no R-hat; one chain at rest among many can pass both."
        )
    return Usable(arrays, usable_weights(draws, weighted, kept), _streams(draws, kept))


def _streams(draws: Any, kept: np.ndarray) -> np.ndarray | None:
    """Numbers 0, 1, … of the streams of batches that the chains `kept` saw."""
    if not is_samples(draws):
        return None
    numbers, streams = np.unique(draws.streams[kept], return_inverse=True)
    return None if len(numbers) == len(streams) else streams


def _warn_swapped(arrays: dict[str, np.ndarray]) -> None:
    """`[S, d]` is read as S chains of d draws, which no check of shapes can see."""
    num_chains, num_draws = next(iter(arrays.values())).shape[:2]
    if num_chains > num_draws and all(x.ndim == 2 for x in arrays.values()):
        warn(
            f"Arrays [{num_chains}, {num_draws}] are read as {num_chains} chains of "
            f"{num_draws} draws of one scalar. {num_chains} draws of a vector in one "
            f"chain are x[None]."
        )


def _selected(leaves: dict[str, Any], names: Sequence[str] | None) -> dict[str, Any]:
    if names is None:
        return leaves
    names = [names] if isinstance(names, str) else list(names)
    unknown = [name for name in names if name not in leaves]
    if unknown:
        raise ValueError(
            f"names={names}: there is no leaf {_shown(unknown)}, but {_shown(leaves)}."
        )
    return {name: leaves[name] for name in names}


def _check_leaves(leaves: dict[str, Any]) -> int:
    """C, if all leaves are real `[C, S, ...]`, long enough, few enough for ranks."""
    shapes = [np.shape(x) for x in leaves.values()]
    if len({shape[:2] for shape in shapes}) != 1 or len(shapes[0]) < 2:
        listed = _shown([f"{name} {np.shape(x)}" for name, x in leaves.items()])
        raise ValueError(
            f"Expected arrays [C, S, ...], chain and draw first, with one C and one S; "
            f"got {listed or 'a tree without arrays'}. A single chain is x[None]."
        )
    for name, x in leaves.items():
        kinds = (jnp.floating, jnp.integer, np.bool_)
        if not any(jnp.issubdtype(x.dtype, kind) for kind in kinds):
            raise TypeError(f"{name!r} has dtype {x.dtype}: expected real numbers.")
    num_chains, num_draws = shapes[0][:2]
    if num_draws < MIN_DRAWS:
        raise ValueError(
            f"{num_draws} draws of each chain: expected at least {MIN_DRAWS}, since "
            f"R-hat and ESS compare the halves of a chain. Raise num_samples."
        )
    count = sum(int(np.prod(shape[2:])) for shape in shapes)
    if count > MAX_SCALARS:
        raise ValueError(
            f"{count:,} scalars: rank statistics take some 30 ms each for 64 chains of "
            f"500 draws, so at most {MAX_SCALARS:,} are accepted. Keep a few functions "
            f"of the parameters, such as predictions, which mix where weights need "
            f"not: sample(..., collect=lambda params: ...). Or a few leaves: "
            f"summary(draws, names={list(leaves)[:2]})."
        )
    return num_chains


def _bad_chains(
    draws: Any, arrays: dict[str, np.ndarray], num_chains: int
) -> dict[int, str]:
    """The chains that cannot be used, and why."""
    bad: dict[int, str] = {}
    if is_samples(draws):
        for i in np.flatnonzero(draws.failed):
            bad[int(i)] = "went non-finite, see samples.report"
    for name, x in arrays.items():
        finite = np.isfinite(x.reshape(num_chains, -1)).all(axis=1)
        for i in np.flatnonzero(~finite):
            bad.setdefault(int(i), f"has non-finite draws of {name!r}")
    return dict(sorted(bad.items()))


def _left_out(bad: dict[int, str], num_chains: int) -> str:
    reasons = _shown([f"chain {i} {why}" for i, why in bad.items()])
    if len(bad) == num_chains:
        raise ValueError(
            f"None of the {num_chains} chains is finite: {reasons}. Usual causes: a "
            f"step size too large, log(0) or 0/0 in the potential or in collect, data "
            f"with NaN, a density that is 0 somewhere."
        )
    return f"Left out {len(bad)} of {num_chains} chains: {reasons}."


def _still(arrays: dict[str, np.ndarray], kept: np.ndarray) -> list[str]:
    """The scalars that keep one value in some chain, chains by their number."""
    found = []
    for name, x in arrays.items():
        still = (np.ptp(x, axis=1) == 0).reshape(len(kept), -1)
        for label, chains in zip(labels(name, x.shape[2:]), still.T):
            if chains.all():
                found.append(f"{label} in every chain")
            elif chains.any():
                found.append(f"{label} in chains {_shown(kept[chains], ', ')}")
    return found


def _shown(items: Any, separator: str = "; ") -> str:
    texts = [str(item) for item in items]
    more = [f"and {len(texts) - _SHOWN} more"] * (len(texts) > _SHOWN)
    return separator.join(texts[:_SHOWN] + more)
