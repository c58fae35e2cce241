"""The public surface, the house (imports point down), and what an import loads."""

import ast
import inspect
import pathlib
import subprocess
import sys

import pytest

import sgld_jax

PACKAGE = pathlib.Path(sgld_jax.__file__).parent

SURFACE = """
Chain Constrained Cyclical Estimator Exchange Network Preconditioner Samples StepSize Unseeded WarmUp audit auroc auto_step_size baoa bias_check blocks brier check_potential compare_steps constrained control_variate crps csgld cyclical dense diagonal early_stopped entropy_split error_at_coverage ess
expected_calibration_error fan_in_prior freeze from_linen from_log_density from_nnx from_numpyro full_batch
gaussian_prior hierarchical identity leimkuhler_matthews likelihoods load log_gamma_prior mala mcse minibatch_potential nll own_diagonal plots position_dependent predict
predictive_interval predictive_log_density predictive_probs psgld replica_exchange resume rhat rmsprop saga sample samples_from_draws seed sghmc sgld sglrw sgnht sgrld shuffled stacked start step stop_when summary svrg tabular_classification tabular_regression to_arviz
variance_split warm_up welling_teh_schedule with_replacement
""".split()

# From the ground up. A file may import from its own floor and from those below it.
FLOORS = [
    {
        "adaptive",
        "archive",
        "arguments",
        "generator",
        "leaves",
        "noise",
        "fingerprint",
        "keys",
        "parameters",
        "preconditioners",
        "program",
        "schedules",
        "seeding",
        "settings",
        "states",
        "warn",
    },
    {"kernels"},
    {"potentials"},
    {"engine"},
    {"analysis"},
    {"tuning"},
    {"cli", "demo", "expression", "sklearn", "__main__", "__init__"},
]
# What an import of the package may load; everything else stays inside functions.
CORE = {"jax", "numpy", "optax", "sgld_jax"}


def modules():
    return sorted(PACKAGE.rglob("*.py"))


def floor_of(path):
    part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    (floor,) = (i for i, names in enumerate(FLOORS) if part in names)
    return floor


def imports(path, top_level_only=False):
    """Dotted names a file imports."""
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_the_surface_is_the_recorded_one():
    assert sorted(sgld_jax.__all__) == sorted(SURFACE)
    assert all(hasattr(sgld_jax, name) for name in SURFACE)


def signatures():
    return {
        name: list(inspect.signature(getattr(sgld_jax, name)).parameters)
        for name in ("sgld", "sample", "start", "step", "resume", "seed", "stacked")
    }


def test_the_signatures_of_the_engine():
    assert signatures() == {
        "sgld": ["step_size", "temperature", "preconditioner", "key"],
        "sample": "key sampler potential init num_samples num_chains data batches loader "
        "num_data burn_in thinning collect keep groups progress until".split(),
        "start": "key sampler init num_chains data batches".split(),
        "step": "chain sampler potential data batches batch".split(),
        "resume": "chain sampler potential num_samples data batches loader num_data burn_in "
        "thinning collect keep groups progress until".split(),
        "seed": ["state", "key"],
        "stacked": ["params", "scale"],
    }


def public_functions():
    return [n for n in SURFACE if inspect.isfunction(getattr(sgld_jax, n))]


@pytest.mark.parametrize("name", public_functions())
def test_public_functions_have_an_executable_example_and_types(name):
    function = getattr(sgld_jax, name)
    assert ">>> " in (function.__doc__ or ""), f"{name} has no example"
    annotated = inspect.signature(function)
    assert annotated.return_annotation is not inspect.Signature.empty
    for parameter in annotated.parameters.values():
        assert parameter.annotation is not inspect.Parameter.empty, parameter


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down_the_house(path):
    for name in imports(path):
        parts = (name or "").split(".")
        if parts[0] != "sgld_jax" or len(parts) == 1:
            continue
        target = PACKAGE.joinpath(*parts[1:2])
        target = target if target.is_dir() else target.with_suffix(".py")
        assert floor_of(target) <= floor_of(path), f"{path.name} imports {name}"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_kernels_potentials_and_analysis_keep_to_themselves(path):
    """The engine knows no kernel, the analysis no engine, the ground no one."""
    floor = path.relative_to(PACKAGE).parts[0]
    barred = {
        "engine": ("sgld_jax.kernels",),
        "analysis": ("sgld_jax.engine", "sgld_jax.kernels"),
        "potentials": ("sgld_jax.kernels",),
    }.get(floor, ())
    for name in imports(path):
        assert not (name or "").startswith(barred or ("-",)), f"{path} imports {name}"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_optional_imports_stay_inside_functions(path):
    core = CORE | {"sklearn"} if path.parent.name == "sklearn" else CORE
    for name in imports(path, top_level_only=True):
        top = (name or "").split(".")[0]
        assert top in core or top in sys.stdlib_module_names, f"{path} imports {name}"


def test_importing_the_package_loads_jax_numpy_and_optax_only():
    code = "import sys, sgld_jax; print(*{m.split('.')[0] for m in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    optional = {
        "flax",
        "arviz",
        "matplotlib",
        "pandas",
        "sklearn",
        "orbax",
        "tqdm",
        "chex",
        "numpyro",
    }
    assert not loaded & optional


def test_files_and_functions_stay_small():
    for path in modules():
        lines = path.read_text().splitlines()
        limit = 150 if path.parent.name == "kernels" else 300
        assert len(lines) <= limit, f"{path.name} has {len(lines)} lines"
        for node in ast.walk(ast.parse("\n".join(lines))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                doc = ast.get_docstring(node, clean=False)
                length = node.end_lineno - node.lineno - len((doc or "").splitlines())
                assert length <= 60, f"{path.name}: {node.name} has {length} lines"
