"""A model's options as text: K=V on a command line."""

import ast
from collections.abc import Sequence

from jaxnets.errors import UserError, unknown
from jaxnets.models.registry import MODELS, model_options


def parse_options(model: str, pairs: Sequence[str]) -> dict[str, object]:
    """The model's options from their K=V text, each of the type of its default.

    Raises:
        UserError: an unknown model or option, or a value of another kind than the default.

    >>> parse_options("se_resnet", ["se=block", "num_blocks=3,3,3"])
    {'se': 'block', 'num_blocks': (3, 3, 3)}
    """
    if model not in MODELS:
        raise unknown("model", model, MODELS)
    defaults = model_options(model)
    options = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise UserError(f"--option {pair}: write it as K=V, for example {_example(defaults)}")
        if key not in defaults:
            raise unknown(f"option of {model}", key, defaults)
        options[key] = _value(key, text, defaults[key])
    return options


def _value(key: str, text: str, default: object) -> object:
    if isinstance(default, str):
        return text
    try:
        value = ast.literal_eval({"true": "True", "false": "False"}.get(text, text))
    except (ValueError, SyntaxError):
        value = text
    if isinstance(default, tuple):
        value = tuple(value) if isinstance(value, list | tuple) else (value,)
        fits = all(type(v) is type(default[0]) for v in value)
    elif isinstance(default, float):
        fits = type(value) in (int, float)
    else:
        fits = default is None or type(value) is type(default)
    if not fits:
        raise UserError(
            f"--option {key}={text}: not of the kind of its default, {as_text(default)}"
        )
    return value


def _example(defaults: dict[str, object]) -> str:
    return next((f"{k}={as_text(v)}" for k, v in defaults.items()), "(this model has no options)")


def as_text(value: object) -> str:
    """An option's value as `parse_options` reads it."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
