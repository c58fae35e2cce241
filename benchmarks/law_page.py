"""The page `docs/laws.md`, made of the results that were kept."""

import itertools
import math
import pathlib

HEAD = """# The law of every kernel, measured

`python -m benchmarks laws law-peers` measures, and writes this page ({when}).

Each row is 20,000 chains (for `sgnht` 40 chains of 1,000 coordinates) on U = λθ²/2,
whose gradient comes with noise of variance V. Chains start in the law, run until
another start would be forgotten, and z is what their variance differs by, in standard
errors. Of {count} settings the largest |z| is {largest:.2f}; the root mean square is
{rms:.2f}, where chance alone has 1. The formulas are those of
[`samplers.md`](samplers.md).
"""

METHODS = pathlib.Path(__file__).parent / "method_laws.md"  # held to by tests

PEERS = """## Other libraries, in the same loop

{versions}. U = θ²/2 and full gradients; 20,000 chains, every sampler with its
defaults but for the friction of `blackjax.sgnht`, which is 1; the last column is
against the law of an Euler step where the sampler is one, else against T/λ.
`blackjax.sgld` and `optax.add_noise` (seeded chain by chain) are such steps, as
`sgld` is, and have its law. `optax.noisy_sgd` is made for optimisation: its noise
fades, and no temperature goes into it. `blackjax.sghmc` draws its momentum anew for
every ten steps, at temperature 1 whatever T is, and begins with a whole step where a
half would be right, which leaves 10/9 of the variance at small steps.
`blackjax.sgnht` (40 chains of 1,000 coordinates) has a bias of first order, which
goes to 0 with its step.
"""


def page(laws: dict, peers: dict) -> str:
    """The page, of the kept results of the cases `laws` and `law-peers`."""
    rows = laws["rows"]
    z = [row["z"] for row in rows]
    head = HEAD.format(
        when=_versions(laws, "jax", "optax", "python"),
        count=len(rows),
        largest=max(map(abs, z)),
        rms=math.sqrt(sum(x * x for x in z) / len(z)),
    )
    parts = [head]
    for kernel, group in itertools.groupby(rows, lambda row: row["kernel"]):
        parts.append(f"## {kernel}\n\n{_table(list(group))}")
    versions = _versions(peers, "jax", "optax", "blackjax")
    parts += [
        METHODS.read_text(),
        PEERS.format(versions=versions),
        _peers_table(peers["rows"]),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _versions(result: dict, *names: str) -> str:
    return ", ".join(f"{name} {result[name]}" for name in names)


def _table(rows: list[dict]) -> str:
    has_friction = any(row["α"] != 1 for row in rows)
    names = [n for n in rows[0] if n != "kernel" and (n != "α" or has_friction)]
    lines = [names, ["---:"] * len(names)]
    lines += [[_cell(name, row[name]) for name in names] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(name: str, value: float) -> str:
    return f"{value:.2f}" if name == "z" else f"{value:.4g}"


def _peers_table(rows: list[dict]) -> str:
    lines = [list(rows[0]), ["---"] + ["---:"] * (len(rows[0]) - 1)]
    lines += [[_peer_cell(value) for value in row.values()] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _peer_cell(value: float | str | None) -> str:
    return value if isinstance(value, str) else "" if value is None else f"{value:.3g}"
