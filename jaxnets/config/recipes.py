"""Recipes: finding one by path or name, and the command line over its keys."""

import difflib
import re
import runpy
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

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
    import absl.flags
    from ml_collections import config_flags

    overrides = _set_parts(config.optim, overrides)
    given = dict(_keys_given(overrides))
    note = _switch_model(config.model, given.get("model.name") or config.model.name)
    _list_options(config.model, given)
    keys = flatten(config.to_dict())
    for key in given:
        if key not in keys:
            raise _unknown_key(key, {*keys, *(f"model.{o}" for o in options(config.model.name))})
    values, argv = absl.flags.FlagValues(), ["jaxnets", *overrides]
    config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=argv)
    try:
        unexpected = values(argv)[1:]
    except absl.flags.Error as e:
        raise UserError(f"{e} (--print-config shows all keys)") from e
    if unexpected:
        raise UserError(f"unexpected argument {unexpected[0]!r}: write options as --name=value")
    config.augment.ops = _listed(config.augment.ops)
    config.optim.muon.exclude = _listed(config.optim.muon.exclude)
    config.optim.freeze = _listed(config.optim.freeze)
    return note


def _set_parts(optim: Any, overrides: Sequence[str]) -> list[str]:
    """Sets --config.optim.freeze=PREFIX,... and .lr_scale.PREFIX=FACTOR; returns the others.

    Prefixes have dots, which absl would take for keys within keys.
    """
    rest, left = [], [*overrides]
    while left:
        override = left.pop(0)
        found = re.match(
            r"--?config\.optim\.(freeze|lr_scale)(?:\.([^=]*))?(?:=(.*))?$", override, re.S
        )
        if found is None:
            rest.append(override)
            continue
        kind, prefix, text = found.groups()
        if text is None and left and not left[0].startswith("--"):
            text = left.pop(0)
        if kind == "freeze" and not prefix and text:
            optim.freeze = _listed((text,))
            continue
        try:
            optim.lr_scale = {**flatten(optim.lr_scale), prefix or "": float(text or "")}
        except ValueError:
            prefix = None
        if not prefix or kind == "freeze":
            example = "freeze=conv1,bn1" if kind == "freeze" else "lr_scale.linear=10"
            raise UserError(f"{override}: write it as --config.optim.{example}")
    return rest


def _keys_given(overrides: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """Each override's key and its value, which may stand in the argument that follows."""
    for override, following in zip(overrides, [*overrides[1:], None], strict=False):
        if parts := re.match(r"--?(?:no)?config\.([^=]*)(?:=(.*))?", override, re.S):
            yield parts[1], following if parts[2] is None else parts[2]


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


def _listed(names: Sequence[str]) -> Sequence[str]:
    """Names as a command line gives them: "crop,flip" is two of them, and "none" is none.

    >>> _listed(("crop,flip",)), _listed(("none",))
    (('crop', 'flip'), ())
    """
    if not all(isinstance(name, str) for name in names):
        return names
    parts = tuple(part.strip() for name in names for part in name.split(","))
    return () if parts == ("none",) else parts


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
