"""Samplers written as text, as in 'chain(clip(0.1), sgld(1e-2))': read, not evaluated.

Calls of names that stand in a list, numbers, text, True, False, None, and lists and
dicts of these: nothing else is understood, and so nothing else can run.
"""

import ast
from collections.abc import Callable
from typing import Any

import optax

import sgld_jax

_OURS = """
sgld psgld leimkuhler_matthews baoa sghmc sgnht sglrw identity diagonal dense freeze
rmsprop
""".split()

_OF_OPTAX = """
adam adamw add_decayed_weights add_noise apply_if_finite chain clip clip_by_global_norm
ema masked noisy_sgd scale scale_by_adam scale_by_learning_rate sgd trace
""".split()

_OF_CONTRIB = ["reduce_on_plateau", "schedule_free"]


def _multi_steps(inner: Any, every_k_schedule: int) -> Any:
    return optax.MultiSteps(inner, every_k_schedule).gradient_transformation()


NAMES: dict[str, Callable] = {
    **{name: getattr(sgld_jax, name) for name in _OURS},
    **{name: getattr(optax, name) for name in _OF_OPTAX},
    **{name: getattr(optax.contrib, name) for name in _OF_CONTRIB},
    "MultiSteps": _multi_steps,
}


def transformation(text: str) -> Any:
    """What an expression makes, such as an optax transformation.

    Args:
      text: calls of the names in `NAMES`, with or without the name of their package.

    Raises:
      ValueError: for what is not understood, with the place; and what the functions
        themselves raise for their arguments.

    Example:
      >>> from sgld_jax.expression import transformation
      >>> sampler = transformation("chain(clip(0.1), sgld(1e-2))")
    """
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"{text!r} is no expression: {error}.") from None
    return _value(tree.body)


def _value(node: ast.AST) -> Any:
    if isinstance(node, ast.Call):
        if any(word.arg is None for word in node.keywords):
            raise ValueError(f"{ast.unparse(node)}: ** is not understood.")
        words = {str(word.arg): _value(word.value) for word in node.keywords}
        return _function(node.func)(*map(_value, node.args), **words)
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float, str)):
        return node.value
    if isinstance(node, ast.Constant) and node.value is None:
        return None
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        number = _value(node.operand)
        if isinstance(number, (int, float)):
            return -number
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        over, under = _value(node.left), _value(node.right)  # 1/500 of a mean loss
        if isinstance(over, (int, float)) and isinstance(under, (int, float)) and under:
            return over / under
    if isinstance(node, (ast.Tuple, ast.List)):
        return [_value(x) for x in node.elts]
    if isinstance(node, ast.Dict):
        keys = [getattr(key, "value", None) for key in node.keys]  # None for **
        if all(isinstance(key, str) for key in keys):
            return dict(zip(keys, map(_value, node.values)))
    raise ValueError(
        f"{ast.unparse(node)!r} is not understood: expected calls such as "
        f"chain(clip(0.1), sgld(1e-2)), of {', '.join(sorted(NAMES))}."
    )


def _function(node: ast.AST) -> Callable:
    name = ast.unparse(node).removeprefix("optax.").removeprefix("contrib.")
    name = name.removeprefix("sgld_jax.")
    if name not in NAMES:
        raise ValueError(f"{name!r} is not one of {', '.join(sorted(NAMES))}.")
    return NAMES[name]
