"""What all tests share: how hard XLA compiles, and where keys may be used twice."""

import contextlib
import os

import jax
import pytest

from tests.kernels import KERNELS

# Modules about bits, programs and keys compile as users do, and so do long runs. The
# rest is about laws and behaviour, which no optimization changes: there, most of the
# time would go into compiling small programs well.
AS_USERS_DO = {
    "test_adaptive",
    "test_benchmarks",
    "test_demo",
    "test_engine",
    "test_kernel_input",
    "test_keys",
    "test_linear_regression",
    "test_momentum",
    "test_numpyro",
    "test_reductions",
    "test_reference_posterior",
    "test_sglrw",
    "test_sgnht",
    "test_stationary_law",
    "test_step_size",
}


def pytest_configure(config):
    """Programs are kept from test to test and run to run, in pytest's own cache.

    Most of the suite's time is XLA's, and its programs are often the same.
    `pytest --cache-clear` forgets them.
    """
    settings = {
        "jax_compilation_cache_dir": str(config.cache.mkdir("programs")),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
    }
    for name, value in settings.items():
        jax.config.update(name, value)
        os.environ.setdefault(name.upper(), str(value))  # for tests' own processes


@pytest.fixture(autouse=True, scope="module")
def quick_compilation(request):
    name = request.module.__name__.rpartition(".")[2]
    jax.config.update("jax_disable_most_optimizations", name not in AS_USERS_DO)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(autouse=True)
def key_reuse_checker(request):
    """Under JAX_DEBUG_KEY_REUSE=1, off for tests marked `key_reuse_off(reason)`."""
    off = request.node.get_closest_marker("key_reuse_off")
    with jax.debug_key_reuse(False) if off else contextlib.nullcontext():
        yield


_ONCE = {"test_composition", "test_kernel_input"}


def pytest_collection_modifyitems(items):
    """What is left to the slow run.

    The demo; and of tests marked `shared_by_kernels` all but those of the first kernel.
    They are not run at all where an update is that of another kernel, and derivatives
    only through schedules, which have all that a number has in them. Derivatives,
    compositions and odd input of other kernels than the first are for
    `pytest -m exhaustive`: their laws and keys are not.
    """
    first, *_ = KERNELS
    for item in list(items):
        if "quick" in getattr(item, "fixturenames", ()):  # the demo, in small
            item.add_marker(pytest.mark.slow)
        if item.get_closest_marker("shared_by_kernels") and hasattr(item, "callspec"):
            params = item.callspec.params
            name = params.get("make", params.get("name"))
            if name == first or name not in KERNELS:
                continue
            if KERNELS[name].is_another or params.get("decaying") is False:
                items.remove(item)
                continue
            item.add_marker(pytest.mark.slow)
            derivatives = item.originalname.startswith("test_derivatives")
            if derivatives or item.module.__name__.split(".")[-1] in _ONCE:
                item.add_marker(pytest.mark.exhaustive)


@pytest.fixture(params=KERNELS)
def make(request):
    """The factory of every kernel in the registry, one after the other."""
    return KERNELS[request.param].make
