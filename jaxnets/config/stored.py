"""Configurations as a run's folder keeps them, and what of two of them decides numbers."""

import json
from collections.abc import Mapping
from typing import Any

from jaxnets.config.keys import default_config, flatten
from jaxnets.files.regular import parse_json

# Keys that may differ between a run and its continuation: they do not change its numbers.
FREE_KEYS = (
    "checkpoint.",
    "data.cache",
    "data.dir",
    "devices",
    "epoch_in_one_call",
    "on_nan",
    "parallel",
    "progress.",
    "stop_after_minutes",
)

# What a default is, and what JSON may have in its place.
_ALIKE = (
    (bool, bool),
    (int, int),
    (float, int | float),
    (str, str),
    (tuple, list | tuple),
    (type(None), bool | int | float | str | None),
)


def to_json(config: Any) -> str:
    """The configuration as indented JSON."""
    return json.dumps(config.to_dict(), indent=2, sort_keys=True)


def from_json(text: str) -> Any:
    """The configuration that `to_json` wrote; a key that was not there yet has its default."""
    from ml_collections import ConfigDict

    given = parse_json(text)
    model = given.get("model") if isinstance(given, dict) else None
    if not isinstance(model, dict) or not isinstance(model.get("name"), str):
        raise ValueError("no configuration with a model in it")
    # Prefixes, which are keys too, have dots.
    return ConfigDict(_merged(default_config().to_dict(), given), allow_dotted_keys=True)


def _merged(default: dict[str, Any], given: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Raises a ValueError where a value is of another kind than its default."""
    merged = default | dict(given)
    for key in default.keys() & given.keys():
        usual, value = default[key], given[key]
        if isinstance(usual, dict) and isinstance(value, Mapping):
            merged[key] = _merged(usual, value, f"{prefix}{key}.")
        elif not any(isinstance(usual, a) and isinstance(value, b) for a, b in _ALIKE):
            raise ValueError(f"{prefix}{key} is {value!s:.60}")
    return merged


def differences(old: Any, new: Any) -> list[str]:
    """What keeps `new` from continuing a run of `old`: "key old -> new", free keys left out."""
    before, after = decisive_keys(old), decisive_keys(new)
    return [
        f"{key} {before.get(key, 'unset')} -> {after.get(key, 'unset')}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]


def planned_over(config: Any) -> str | None:
    """Why the rate in an epoch depends on how many epochs there are; None if it does not."""
    schedule = config.schedule
    if schedule.name == "cosine" and schedule.T_max is None:
        return "schedule.name=cosine is planned over them (schedule.T_max=None)"
    if schedule.name == "one_cycle" and schedule.total_epochs is None:
        return "schedule.name=one_cycle is planned over them (schedule.total_epochs=None)"
    return None


def decisive_keys(config: Any) -> dict[str, Any]:
    """The keys that decide a run's numbers, flat, with the values that JSON has for them."""
    values = flatten(json.loads(to_json(config)))
    return {key: value for key, value in values.items() if not key.startswith(FREE_KEYS)}
