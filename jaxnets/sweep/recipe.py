"""A configuration as the text of a recipe, which trains as it stands."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from jaxnets.config import default_config


def text(config: Any, about: str) -> str:
    """A recipe of what differs from `default_config()`, and of the whole network.

    Args:
        about: its docstring: a line, and more after a blank one.

    >>> config = default_config()
    >>> config.model.name, config.optim.lr = "resnet18", 0.05
    >>> print(text(config, "An example.").partition("()\\n")[2], end="")
        c.model.name = "resnet18"
        c.optim.lr = 0.05
        return c
    """
    usual = default_config()
    usual.optim.name = config.optim.name  # which decides the usual weight decay
    usual.model = type(usual.model)()
    first = (
        [] if config.optim.name == "sgd" else [f"    c.optim.name = {_source(config.optim.name)}"]
    )
    lines = [
        *first,
        *(f"    c.{key} = {_source(value)}" for key, value in _different(config, usual)),
    ]
    quotes = about.replace("\\", "\\\\").replace('"""', "'''").strip()
    return "\n".join(
        [
            f'"""{quotes}\n"""' if "\n" in quotes else f'"""{quotes}"""',
            "",
            "from jaxnets.config import default_config",
            "",
            "",
            'def get_config(preset: str = "documented"):',
            "    c = default_config()",
            *lines,
            "    return c",
            "",
        ]
    )


def _different(config: Any, usual: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Keys and values of `config` that `usual` has not, section by section."""
    for key in config:
        value = config[key]
        known = key in usual
        if known and isinstance(value, type(usual)) and isinstance(usual[key], type(usual)):
            yield from _different(value, usual[key], f"{prefix}{key}.")
        elif value is not None and (not known or _plain(value) != _plain(usual[key])):
            yield f"{prefix}{key}", _plain(value)


def _source(value: Any) -> str:
    """A value as Python's source has it, texts in double quotes."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, tuple):
        return f"({', '.join(map(_source, value))}{',' * (len(value) == 1)})"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_source(k)}: {_source(v)}' for k, v in value.items())}}}"
    return repr(value)


def _plain(value: Any) -> Any:
    """As Python writes it: lists, which JSON has for tuples, are tuples."""
    if isinstance(value, list | tuple):
        return tuple(map(_plain, value))
    return value.to_dict() if hasattr(value, "to_dict") else value
