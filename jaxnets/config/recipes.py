"""Recipes: finding one by path or name, and the command line over its keys."""

import difflib
import functools
import re
import runpy
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxnets import checks
from jaxnets.config.keys import default_config, default_decay, flatten, validate
from jaxnets.config.networks import check_options, options
from jaxnets.errors import UserError

_PACKAGE = Path(__file__).parent.parent


def read(spec: str, overrides: Sequence[str] = ()) -> Any:
    """The configuration of "RECIPE" or "RECIPE:PRESET".

    Args:
        spec: the recipe's file, or the name of one that comes with jaxnets.
        overrides: "--config.KEY=VALUE" each, as on a command line.

    Raises:
        UserError: a file, key or value that is wrong, with the nearest name.

    >>> read("quickstart", ["--config.optim.lr=.05"]).optim.lr
    0.05
    """
    config = _load(spec)
    recipe = config.optim.to_dict()
    note = _override(config, overrides)
    validate(config)
    check_options(config.model.name, config.model.to_dict().keys() - {"name", "num_classes"})
    if note:
        print(note, file=sys.stderr)
    if not any("config.optim.weight_decay" in override for override in overrides):
        _note_decay(recipe, config.optim)
    return config


def _override(config: Any, overrides: Sequence[str]) -> str | None:
    """Sets the keys given; returns a note where the recipe's options do not fit the new model."""
    given = list(_given(overrides))
    name = dict(given).get("model.name") or config.model.name
    note = _switch_model(config.model, name)
    _list_options(config.model, dict(given))
    usual = flatten(default_config().to_dict())
    usual |= {f"model.{k}": o.default for k, o in options(config.model.name).items()}
    keys = flatten(config.to_dict())
    for key, text in given:
        if key.startswith(_SCALE):
            _set_scale(config.optim, key, text)
            continue
        if key not in keys:
            raise _unknown_key(key, {*keys, *usual})
        *sections, leaf = key.split(".")
        section = functools.reduce(getattr, sections, config)
        kind, default = section.get_type(leaf), usual.get(key, keys[key])
        if text is None and kind is not bool:
            raise UserError(f"--config.{key}: give it a value, --config.{key}=VALUE")
        value = checks.parsed(f"--config.{key}", "true" if text is None else text, kind, default)
        with section.ignore_type():  # a recipe may have set what is None by default
            section[leaf] = value
    return note


def _given(overrides: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """Each override's key and its text, which may stand in the argument that follows."""
    left = [*overrides]
    while left:
        override = left.pop(0)
        parts = re.fullmatch(r"--?(no)?config\.([^=]*)(?:=(.*))?", override, re.S)
        if parts is None or (parts[1] and parts[3]):
            raise UserError(f"unexpected argument {override!r}: write options as --name=value")
        no, key, text = parts.groups()
        if text is None and not no and left and not left[0].startswith("--"):
            text = left.pop(0)
        yield key, "false" if no else text


_SCALE = "optim.lr_scale"


def _set_scale(optim: Any, key: str, text: str | None) -> None:
    """--config.optim.lr_scale.PREFIX=FACTOR: a prefix may have dots, which no other key has."""
    prefix = key.removeprefix(_SCALE).removeprefix(".")
    try:
        factor = float(text or "")
    except ValueError:
        prefix = factor = None
    if not prefix:
        given = key if text is None else f"{key}={text}"
        raise UserError(f"--config.{given}: write it as --config.{_SCALE}.linear=10")
    optim.lr_scale = {**flatten(optim.lr_scale), prefix: factor}


def _switch_model(model: Any, name: str) -> str | None:
    """Leaves out what the model called `name` does not take of the options of the recipe's model.

    Returns a note that names those that are not at their default.
    """
    if name == model.name:
        return None
    known, before = options(name, "config.model.name"), options(model.name)
    fits = [k for k in known if k not in before or known[k].type is before[k].type]
    foreign = model.to_dict().keys() - {"name", "num_classes", *fits}
    defaults = {k: before[k].default for k in foreign & before.keys()}
    lost = ", ".join(f"{k}={model[k]}" for k in sorted(foreign) if model[k] != defaults.get(k))
    note = f"note: {name} does not take what the recipe sets for {model.name}, so it is left out: "
    for key in foreign:
        del model[key]
    model.name = name
    return note + lost if lost else None


def _list_options(model: Any, given: Iterable[str]) -> None:
    """Adds the options that are overridden and that the recipe leaves at their defaults."""
    from ml_collections import config_dict

    for name, option in options(model.name, "config.model.name").items():
        if f"model.{name}" in given and name not in model:
            unset = option.default is None
            model[name] = config_dict.placeholder(option.type) if unset else option.default


def _note_decay(recipe: Mapping[str, Any], optim: Any) -> None:
    """Says that a weight decay, which a recipe sets for one optimizer, stays for another one."""
    decay, usual = optim.weight_decay, default_decay(optim.name, optim.muon.rest)
    if optim.name != recipe["name"] and decay != usual:
        print(
            f"note: config.optim.weight_decay={decay} is what the recipe sets for {recipe['name']};"
            f" the default for {optim.name} is {usual}",
            file=sys.stderr,
        )


def recipes() -> dict[str, Path]:
    """The recipes that come with jaxnets, by name: installed with it, or beside its checkout."""
    installed = _PACKAGE / "recipes"
    folder = installed if installed.is_dir() else _PACKAGE.parent / "configs"
    return {path.stem: path for path in sorted(folder.glob("[!_]*.py"))}


def _find(name: str) -> Path:
    """The file of a recipe that is given by its name or path."""
    known = recipes()
    if name in known or Path(name).is_file():
        return known.get(name, Path(name))
    near = difflib.get_close_matches(Path(name).stem, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else "."
    raise UserError(
        f"--config {name}: no such file, and no recipe of that name{hint} Known: {', '.join(known)}"
    )


def _load(spec: str) -> Any:
    """The configuration of "RECIPE" or "RECIPE:PRESET"."""
    name, colon, preset = spec.partition(":")
    path = _find(name)
    try:
        get_config = runpy.run_path(str(path))["get_config"]
        config = get_config(preset) if colon else get_config()
    except UserError as e:
        raise UserError(f"--config {spec}: {e}") from e
    except Exception as e:
        if (locked := _LOCKED.search(str(e))) is not None:
            raise _no_such_key(path, *locked.groups()) from e
        if isinstance(e, KeyError):
            raise UserError(f"--config {path}: {e} is not defined there; see configs/") from e
        raise UserError(f"--config {spec}: {type(e).__name__}: {e}") from e
    if not hasattr(config, "to_dict") or "model" not in config:
        raise UserError(f"--config {path}: get_config must return a ConfigDict with a model")
    _check_keys(path, config)
    if "name" not in config.model:
        raise UserError(f"--config {path}: lacks the key model.name; see python -m jaxnets.models")
    return config


# What ml_collections says of a key that cannot be added, and the nearest one if it knows one.
_LOCKED = re.compile(
    r'Key "(.*?)" does not exist and cannot be added(?:.*Did you mean "(.*?)" instead)?', re.S
)


def _check_keys(path: Path, config: Any) -> None:
    """Raises a UserError unless a recipe, which may replace whole sections, has every key."""
    known = flatten(default_config().to_dict())
    keys = flatten(config.to_dict())
    for key in keys.keys() - known.keys():
        if not key.startswith(("model.", "optim.lr_scale.")):
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            raise _no_such_key(path, key, near[0] if near else None)
    for key in sorted(known.keys() - keys.keys()):
        if not key.startswith("model."):
            raise UserError(f"--config {path}: lacks the key {key}; start from default_config()")


def _no_such_key(path: Path, key: str, near: str | None) -> UserError:
    hint = f"; did you mean {near!r}?" if near else ""
    return UserError(f"--config {path}: sets {key!r}, a key that no recipe has{hint}")


def _unknown_key(key: str, keys: Collection[str]) -> UserError:
    """The error for an override of a key that is none of `keys`: the nearest one, and its peers."""
    near = difflib.get_close_matches(key, keys, n=1, cutoff=0.5)
    if not near:  # the right last part in the wrong place
        near = [k for k in keys if k.rpartition(".")[2] == key.rpartition(".")[2]][:1]
    hint = f"; did you mean --config.{near[0]}?" if near else "."
    section = f"{key}."
    while section and not any(k.startswith(section) for k in keys):
        section = re.sub(r"[^.]*\.$", "", section)
    peers = sorted({k[len(section) :].partition(".")[0] for k in keys if k.startswith(section)})
    return UserError(
        f"unknown key --config.{key}{hint} Known: {', '.join(peers)} (--print-config shows all)"
    )
