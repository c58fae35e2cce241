"""The command `sgld-jax`, also `python -m sgld_jax`."""

import argparse
import importlib.util
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path

from sgld_jax import __version__

_DEMO_NEEDS = {  # module -> what to install
    "flax": "flax",
    "sklearn": "scikit-learn",
    "matplotlib": "matplotlib",
    "arviz": "arviz",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line.

    Args:
      argv: arguments without the name of the command; those of the process if None.

    Returns:
      The exit code: 0; 1 if chains went non-finite or an audit failed; 2 if something
      is missing or misspelt; 130 after Ctrl-C.

    Example:
      >>> from sgld_jax.cli import main
      >>> main(["demo", "--seed", "1", "--out", "results"])  # doctest: +SKIP
      0
    """
    args = _parser().parse_args(argv)
    try:
        return args.run(args)
    except KeyboardInterrupt:
        print("\nInterrupted before there was something to report.", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sgld-jax", description="Stochastic gradient Langevin dynamics for JAX."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="command")
    demo = commands.add_parser(
        "demo",
        help="16 chains of a Flax network on the digits, and a report (a minute)",
        description="Samples 16 Langevin chains of a small Flax network on "
        "scikit-learn's digits, one label in five of them wrong, beside deep ensembles "
        "of the same budget, and writes a report with pictures. It takes about a "
        "minute on two cores.",
    )
    demo.add_argument(
        "--out", type=Path, default=Path("sgld-jax-demo"), help="folder (%(default)s)"
    )
    demo.add_argument("--seed", type=_seed, default=0, help="(%(default)s)")
    demo.add_argument(
        "--prior-scale",
        type=_positive,
        help="hold S of the chains' prior N(0, S²/fan_in) here (learned if not given)",
    )
    demo.add_argument(
        "--quick", action="store_true", help="a tenth of the work, to see it run"
    )
    demo.set_defaults(run=_demo)
    audit = commands.add_parser(
        "audit",
        help="whether an optax transformation is a sampler, and of what (10 s)",
        description="Runs many chains of a transformation on Gaussians, holds them to "
        "their law, and says in words what is wrong.",
    )
    audit.add_argument("sampler", help="such as 'chain(clip(0.1), sgld(1e-2))'")
    audit.add_argument(
        "--temperature", type=_positive, default=1.0, help="of the target (%(default)s)"
    )
    audit.add_argument(
        "--gradient-scale",
        type=_positive,
        default=1.0,
        help="1/N where gradients are those of a mean over N data (%(default)s)",
    )
    audit.add_argument(
        "--prior-precision",
        type=_at_least_0,
        default=0.0,
        help="that weight decay before the kernel means (%(default)s)",
    )
    audit.add_argument("--seed", type=_seed, default=0, help="(%(default)s)")
    audit.set_defaults(run=_audit)
    return parser


def _audit(args: argparse.Namespace) -> int:
    from sgld_jax.expression import transformation
    from sgld_jax.tuning.audit import audit

    try:
        report = audit(
            transformation(args.sampler),
            key=args.seed,
            temperature=args.temperature,
            gradient_scale=args.gradient_scale,
            prior_precision=args.prior_precision,
        )
    except (TypeError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    *table, verdict = str(report).splitlines()
    print(*table, textwrap.fill(verdict, 88), sep="\n")
    return 0 if report.passed else 1


def _demo(args: argparse.Namespace) -> int:
    began = time.perf_counter()
    missing = [
        name
        for module, name in _DEMO_NEEDS.items()
        if importlib.util.find_spec(module) is None
    ]
    if missing:
        needs = ", ".join(missing)
        print(f"The demo needs {needs}: pip install 'sgld-jax[demo]'", file=sys.stderr)
        return 2
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        print(f"--out {args.out}: cannot make this folder: {error}", file=sys.stderr)
        return 2

    from sgld_jax.demo import experiment, page, pictures, report, scoring

    settings = experiment.QUICK if args.quick else experiment.Settings()
    settings = settings._replace(seed=args.seed, prior_scale=args.prior_scale)
    print(report.versions(), end="\n\n", flush=True)
    try:
        results = experiment.run(settings, say=lambda text: print(text, flush=True))
    except FloatingPointError as error:
        print(error, file=sys.stderr)
        return 1
    report.write_draws(results, args.out)
    gains = scoring.gains(results)
    facts = report.summary(results, gains)
    print(
        "", facts[0], *(textwrap.fill(x, 96) for x in facts[1:]), sep="\n", flush=True
    )
    pictures.draw_pictures(results, args.out, report.note(results))
    seconds = time.perf_counter() - began
    page.write_report(results, gains, facts, args.out, _command(args), seconds)
    print(
        f"\nWritten to {args.out}: report.md, with pictures and draws. {seconds:.0f} s."
    )
    return 1 if report.failures(results) else 0


def _command(args: argparse.Namespace) -> str:
    command = f"sgld-jax demo --seed {args.seed}"
    if args.prior_scale is not None:
        command += f" --prior-scale {args.prior_scale:g}"
    return command + (" --quick" if args.quick else "")


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r}: expected 0 to 2**32 - 1.")
    return int(text)


def _positive(text: str) -> float:
    value = _number(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number above 0.")
    return value


def _at_least_0(text: str) -> float:
    value = _number(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number from 0 up.")
    return value


def _number(text: str) -> float:
    """Also a fraction, such as 1/500; NaN for what is none."""
    over, _, under = text.partition("/")
    try:
        return float(over) / float(under or 1)
    except (ValueError, ZeroDivisionError):
        return float("nan")
