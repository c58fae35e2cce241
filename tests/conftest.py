"""What all tests share: how hard XLA compiles, and where keys may be used twice."""

import contextlib

import jax
import pytest

# Modules about bits, programs and keys compile as users do, and so do long runs. The
# rest is about laws and behaviour, which no optimization changes: there, most of the
# time would go into compiling small programs well.
AS_USERS_DO = {
    "test_demo",
    "test_engine",
    "test_keys",
    "test_reductions",
    "test_kernel_input",
    "test_linear_regression",
    "test_reference_posterior",
    "test_stationary_law",
}


@pytest.fixture(autouse=True, scope="module")
def quick_compilation(request):
    name = request.module.__name__.rpartition(".")[2]
    jax.config.update("jax_disable_most_optimizations", name not in AS_USERS_DO)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


# JAX's checker takes a key for consumed after any `where(p, new, old)`, which is how
# optax's `MultiSteps` chooses between states, and `lax.cond` under `vmap`.
SELECTS = ("MultiSteps", "multi_steps", "if_finite", "conditionally")
# These look at keys, or draw from one key twice, to compare streams; some mutants
# share keys, and a law must find that without the checker.
COMPARES = ("nobody_elses", "levels", "mutants", "add_noise as a sampler")


@pytest.fixture(autouse=True)
def reuse_checker(request):
    exempt = any(word in request.node.name for word in SELECTS + COMPARES)
    with jax.debug_key_reuse(False) if exempt else contextlib.nullcontext():
        yield
