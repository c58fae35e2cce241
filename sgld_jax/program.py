"""Compiled programs, kept by what they compute.

A function is traced anew at every call, so that it sees the world as it is: the value
behind a closure, an attribute, an array that was edited in place. What it closes over
becomes arguments, and it is lowered to text. Equal texts compute the same, so they
share one executable, whichever functions they came from. Tracing and lowering take a
fraction of the time of a compilation.
"""

import collections
import hashlib
import re
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.extend.core
import jax.numpy as jnp

PyTree = Any

_MAX_KEPT = 32  # executables
_MAX_DATA = 2**20  # hexadecimal digits in a text, and half as many bytes in its program
_kept: collections.OrderedDict[tuple, Any] = collections.OrderedDict()


def traced(function: Callable, *args: PyTree) -> tuple[Callable, PyTree]:
    """`function` for arguments of these shapes, traced once, and its output's shapes.

    It can be called where other functions are traced, and costs little there.
    """
    closed, out_shape = jax.make_jaxpr(function, return_shape=True)(*args)
    flat, out_tree = jax.extend.core.jaxpr_as_fun(closed), jax.tree.structure(out_shape)

    def call(*args: PyTree) -> PyTree:
        return out_tree.unflatten(flat(*jax.tree.leaves(args)))

    return call, out_shape


class Program:
    """A function compiled for the shapes, types and devices of its arguments.

    Args:
      function: of trees of arrays.
      *args: what it will be called with, or the like.
      donate: which arguments it may use up.
      places: shardings of the first leaves of its output, or None for anywhere.

    Attributes:
      seconds: what it took to trace, to lower and, unless it was kept, to compile.
    """

    def __init__(
        self,
        function: Callable,
        *args: PyTree,
        donate: tuple[int, ...] = (),
        places: list | None = None,
    ):
        began = time.perf_counter()
        closed, out_shape = jax.make_jaxpr(function, return_shape=True)(*args)
        self._out_tree = jax.tree.structure(out_shape)
        self._constants = [jnp.asarray(c) for c in closed.consts]
        lowered = _lowered(closed, self._constants, args, donate, places)
        self._executable = _compiled(lowered, closed, (self._constants, args))
        self.seconds = time.perf_counter() - began

    @property
    def temporary_bytes(self) -> int:
        """Memory beside arguments and outputs; 0 where the device does not say."""
        analysis = self._executable.memory_analysis()
        return 0 if analysis is None else int(analysis.temp_size_in_bytes)

    def __call__(self, *args: PyTree) -> PyTree:
        """The outputs of the function; arguments at `donate` are used up."""
        leaves = map(jax.tree.leaves, args)
        outputs, _ = self._executable(self._constants, *leaves)
        return self._out_tree.unflatten(outputs)


def _lowered(
    closed: Any, constants: list, args: tuple, donate: tuple, places: list | None
) -> Any:
    def flat(constants: list, *parts: list) -> tuple[list, list]:
        function = jax.extend.core.jaxpr_as_fun(closed.replace(consts=constants))
        outputs = function(*(x for part in parts for x in part))
        # Arguments that are not used JAX leaves out of the text; functions of the first
        # and of the second of two arguments would then have equal texts. So nothing of
        # each is an output. (`keep_unused=True` would keep arrays alive on JAX 0.12.)
        return outputs, [x[None][:0] for x in jax.tree.leaves((constants, parts))]

    anywhere = [None] * (len(closed.out_avals) - len(places or []))
    jitted = jax.jit(
        flat,
        donate_argnums=[i + 1 for i in donate],
        out_shardings=None if places is None else (places + anywhere, None),
    )
    return jitted.lower(constants, *map(jax.tree.leaves, args))


def _compiled(lowered: Any, closed: Any, args: PyTree) -> Any:
    """An executable, kept from an earlier run if one computed the same."""
    text = lowered.as_text()
    if not _can_be_shared(text, closed):
        return lowered.compile()
    key = (hashlib.sha256(text.encode()).digest(), *_surroundings(closed, args))
    if key not in _kept:
        _kept[key] = lowered.compile()
        if len(_kept) > _MAX_KEPT:
            _kept.popitem(last=False)
    _kept.move_to_end(key)
    return _kept[key]


def _can_be_shared(text: str, closed: Any) -> bool:
    """Whether the text says all that the program does, and holds no data to speak of.

    It does not say which Python function a callback calls, nor what is in constants
    that JAX itself hands over as arguments, where a user has switched that on.
    """
    hidden = getattr(jax.config, "jax_use_simplified_jaxpr_constants", False)
    callback = "callback" in text or "stablehlo.send" in text
    data = sum(map(len, re.findall('"0x[0-9A-F]*"', text)))
    return not (hidden or callback or closed.effects or data > _MAX_DATA)


def _surroundings(closed: Any, args: PyTree) -> tuple:
    """What an executable depends on beside its text: types, devices, layouts, flags."""
    places = [getattr(x, "format", None) for x in jax.tree.leaves(args)]
    types = [str(aval) for aval in (*closed.in_avals, *closed.out_avals)]
    return str(types), tuple(places), str(jax.config.values)
