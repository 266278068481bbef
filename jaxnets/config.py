"""Configurations: the keys that every recipe has, the command line over them, their checks.

A recipe is a file with `get_config(preset)` that starts from `default_config()`.  On the command
line `--config configs/x.py:preset --config.optim.lr=.05` names a recipe and overrides its keys.
Importing this module imports neither jax nor torch: both trainers read the same configurations.
"""

import difflib
import json
import math
import re
import runpy
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxnets.errors import UserError, unknown
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
_LARGEST = 2**31 - 1  # of an int32, which counters and indices are
CIFAR10_MEAN, CIFAR10_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


class _Operation(NamedTuple):
    """What ml_collections applies when a reference is read: fn(its own value, *args)."""

    fn: Callable[..., Any]
    args: list[Any]


def default_decay(optimizer: str) -> float:
    """The weight decay where nobody sets one: AdamW's, decoupled, is of another scale."""
    return 1e-2 if optimizer == "adamw" else 5e-4


def default_config() -> Any:
    """Every key with its default, as an ml_collections.ConfigDict; recipes change what differs.

    Other keys cannot be added, but to `model`: the options of its network.
    """
    from ml_collections import ConfigDict, config_dict

    c = ConfigDict()
    c.name = "run"
    c.model = ConfigDict()  # name, and the model's options
    c.model.num_classes = config_dict.placeholder(int)  # None: the data's

    c.data = data = ConfigDict()
    data.name = "cifar10"  # cifar10, cifar100, digits, folder
    data.dir = config_dict.placeholder(str)  # None: $JAXNETS_DATA, or data/
    data.cache = True  # keep the decoded images in one file beside the data
    data.val_fraction = 0.0  # of each class, taken out of train; chooses the best checkpoint
    data.test_fraction = 0.0  # folder: of each class of DIR/CLASS/; 0: DIR/test/CLASS/ is there
    data.image_size = 32  # folder: its images are resized to squares of so many pixels
    data.skip_bad = False  # folder: leave out images that cannot be read, instead of stopping
    data.mean, data.std = CIFAR10_MEAN, CIFAR10_STD  # of the pixels, in 0..1

    c.augment = a = ConfigDict()
    a.ops = ("crop", "flip")  # applied in this order; none for none
    a.random_resized_crop = ConfigDict({"scale": (0.95, 1.0), "ratio": (0.9, 1.1)})
    a.rotation = ConfigDict({"degrees": 10.0})
    a.crop = ConfigDict({"padding": 4})
    a.flip = ConfigDict({"p": 0.5})
    a.jitter = ConfigDict({"brightness": 0.1, "contrast": 0.1, "saturation": 0.1, "hue": 0.1})
    a.auto_augment = ConfigDict({"policy": "cifar10"})  # cifar10, imagenet
    a.erasing = ConfigDict({"p": 0.5, "scale": (0.02, 0.33), "ratio": (0.3, 3.3)})

    c.optim = o = ConfigDict()
    o.name = "sgd"  # sgd, adam, adamw
    o.lr = 0.1
    o.momentum, o.nesterov = 0.9, False  # sgd
    o.beta1, o.beta2, o.eps = 0.9, 0.999, 1e-8  # adam, adamw
    # Coupled for sgd and adam, 5e-4; decoupled for adamw, 1e-2; of every parameter.
    by_name = _Operation(lambda _, name: default_decay(name), [o.get_ref("name")])
    o.weight_decay = config_dict.FieldReference(0.0, op=by_name)
    o.clip, o.clip_at = "none", 0.1  # none, value, norm
    o.lookahead = ConfigDict({"enabled": False, "k": 5, "alpha": 0.5})
    o.lookahead.first_sync = config_dict.placeholder(int)  # None: after step k; 1: after step 1

    c.schedule = s = ConfigDict()
    s.name = "constant"  # constant, cosine, warm_restarts, multistep, one_cycle
    s.per = "epoch"  # epoch, step
    s.warmup_epochs, s.warmup_factor = 0.0, 0.01
    s.end_lr = 0.0  # cosine, warm_restarts
    s.T_max = config_dict.placeholder(int)  # cosine, epochs; None: all after the warm-up
    s.T_0, s.T_mult = 10, 2  # warm_restarts, epochs
    s.milestones, s.gamma = (60, 120, 160), 0.1  # multistep, epochs
    s.max_lr, s.pct_start, s.div_factor, s.final_div_factor = 0.1, 0.3, 25.0, 1e4  # one_cycle
    s.cycle_momentum, s.base_momentum, s.max_momentum = True, 0.85, 0.95
    s.total_epochs = config_dict.placeholder(int)  # one_cycle, planned over; None: num_epochs
    s.restart_every_epoch = False  # one_cycle, made anew at the start of each epoch

    c.loss = ConfigDict({"label_smoothing": 0.0})
    c.eval_weights = "fast"  # fast; slow: Lookahead's slow weights
    c.batch_size, c.eval_batch_size = 128, 500
    c.num_epochs = 200
    c.seed = 0
    c.dtype = "float32"  # of the computation: float32, bfloat16, float64
    c.parallel = "jit"  # jit; pmap: the same numbers, for code that still needs it
    c.devices = config_dict.placeholder(int)  # None: all of this machine's
    c.epoch_in_one_call = config_dict.placeholder(bool)  # many steps; None: not on a CPU
    c.progress = ConfigDict({"every_steps": 20})  # between checks for NaN
    c.on_nan = "stop"  # stop; restore: back to the last checkpoint, skip those batches
    c.stop_after_minutes = config_dict.placeholder(float)  # then save and end; None: never
    c.checkpoint = ConfigDict({"keep": 2, "every_epochs": 1})
    c.lock()  # a mistyped key in a recipe is an error; the options of a model, it checks itself
    c.model.unlock()
    return c


def check_preset(preset: str, presets: Sequence[str]) -> None:
    """Raises a UserError if a recipe has no such preset."""
    if preset not in presets:
        raise unknown("preset", preset, presets)


def read(spec: str, overrides: Sequence[str] = ()) -> Any:
    """The configuration of "FILE" or "FILE:PRESET".

    Args:
        overrides: "--config.KEY=VALUE" each, as on a command line.

    Raises:
        UserError: a file, key or value that is wrong, with the nearest name.

    >>> read("configs/quickstart.py", ["--config.optim.lr=.05"]).optim.lr  # doctest: +SKIP
    0.05
    """
    config = _load(spec)
    recipe = config.optim.to_dict()
    _override(config, overrides)
    validate(config)
    if not any("config.optim.weight_decay" in override for override in overrides):
        _note_decay(recipe, config.optim)
    return config


def _override(config: Any, overrides: Sequence[str]) -> None:
    import absl.flags
    from ml_collections import config_flags

    keys = flatten(config.to_dict())
    for override in overrides:
        key = re.match(r"--?(?:no)?config\.([^=]*)", override)
        if key and key[1] not in keys:
            raise unknown_key(key[1], keys)
    values, argv = absl.flags.FlagValues(), ["jaxnets", *overrides]
    config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=argv)
    try:
        unexpected = values(argv)[1:]
    except absl.flags.Error as e:
        raise UserError(f"{e} (--print-config shows all keys)") from e
    if unexpected:
        raise UserError(f"unexpected argument {unexpected[0]!r}: write options as --name=value")
    config.augment.ops = _listed(config.augment.ops)


def _note_decay(recipe: Mapping[str, Any], optim: Any) -> None:
    """Says that a weight decay, which a recipe sets for one optimizer, stays for another one."""
    decay, usual = optim.weight_decay, default_decay(optim.name)
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


def _load(spec: str) -> Any:
    """The configuration of "FILE" or "FILE:PRESET"."""
    path, colon, preset = spec.partition(":")
    if not Path(path).is_file():
        raise UserError(f"--config {path}: no such file; name a recipe under configs/")
    try:
        get_config = runpy.run_path(path)["get_config"]
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
    return config


# What ml_collections says of a key that cannot be added, and the nearest one if it knows one.
_LOCKED = re.compile(
    r'Key "(.*?)" does not exist and cannot be added(?:.*Did you mean "(.*?)" instead)?', re.S
)


def _check_keys(path: str, config: Any) -> None:
    """Raises a UserError unless a recipe, which may replace whole sections, has every key."""
    known = flatten(default_config().to_dict())
    keys = flatten(config.to_dict())
    for key in keys.keys() - known.keys():
        if not key.startswith("model."):
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            raise _no_such_key(path, key, near[0] if near else None)
    for key in sorted(known.keys() - keys.keys()):
        if not key.startswith("model."):
            raise UserError(f"--config {path}: lacks the key {key}; start from default_config()")


def _no_such_key(path: str, key: str, near: str | None) -> UserError:
    hint = f"; did you mean {near!r}?" if near else ""
    return UserError(f"--config {path}: sets {key!r}, a key that no recipe has{hint}")


def unknown_key(key: str, keys: Mapping[str, Any]) -> UserError:
    """The error for an override of a key that the configuration does not have."""
    near = difflib.get_close_matches(key, keys, n=1, cutoff=0.5)
    if not near:  # the right last part in the wrong place
        near = [k for k in keys if k.rpartition(".")[2] == key.rpartition(".")[2]][:1]
    hint = f"; did you mean --config.{near[0]}?" if near else ""
    return UserError(f"unknown key --config.{key}{hint} (--print-config shows all keys)")


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, keys joined with dots.

    >>> flatten({"optim": {"lr": 0.1}, "seed": 0})
    {'optim.lr': 0.1, 'seed': 0}
    """
    out = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            out |= flatten(value, f"{prefix}{key}.")
        else:
            out[prefix + key] = value
    return out


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
    return ConfigDict(_merged(default_config().to_dict(), given))


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


def model_options(config: Any, data_classes: int) -> tuple[int, dict[str, Any]]:
    """The class count of `config.model` and the options that its model takes.

    Raises:
        UserError: fewer classes than the data has.
    """
    options = config.model.to_dict()
    del options["name"]
    num_classes = options.pop("num_classes", None)
    if num_classes is None:
        num_classes = data_classes
    if num_classes < data_classes:
        raise UserError(
            f"config.model.num_classes={num_classes}: at least {data_classes}, the classes of "
            f"{config.data.name}"
        )
    return num_classes, options


def validate(config: Any) -> None:
    """Checks the keys that no part of the network, optimizer or augmentation checks for itself."""
    from jaxnets.data import DATASETS

    values = flatten(config.to_dict())
    if config.data.name not in DATASETS:
        raise unknown("config.data.name", config.data.name, DATASETS)
    for key, least in (
        ("batch_size", 1),
        ("eval_batch_size", 1),
        ("num_epochs", 1),
        ("seed", 0),
        ("progress.every_steps", 1),
        ("checkpoint.keep", 1),
        ("checkpoint.every_epochs", 1),
    ):
        value = values[key]
        if value < least or value > _LARGEST:
            raise UserError(f"config.{key}={value}: a whole number from {least} to {_LARGEST}")
    for key, value in values.items():
        numbers = value if isinstance(value, tuple | list) else (value,)
        if any(isinstance(v, int) and abs(v) > _LARGEST for v in numbers):
            raise UserError(f"config.{key}={value}: whole numbers up to {_LARGEST}")
    for key, allowed in (
        ("dtype", ("float32", "bfloat16", "float64")),
        ("eval_weights", ("fast", "slow")),
        ("on_nan", ("stop", "restore")),
    ):
        if config[key] not in allowed:
            raise unknown(f"config.{key}", config[key], allowed)
    for key in ("val_fraction", "test_fraction"):
        if not 0 <= config.data[key] < 1:
            raise UserError(f"config.data.{key}={config.data[key]}: at least 0, below 1")
    if config.data.test_fraction and config.data.name != "folder":
        raise UserError(
            f"config.data.test_fraction={config.data.test_fraction}: only for "
            f"config.data.name=folder; {config.data.name} has a test set"
        )
    size = config.data.image_size
    if not 1 <= size <= 1024:
        raise UserError(f"config.data.image_size={size}: 1 to 1024 pixels")
    if size != 32 and config.data.name != "folder":
        raise UserError(
            f"config.data.image_size={size}: only for config.data.name=folder; the images of "
            f"{config.data.name} are 32x32"
        )
    minutes = config.stop_after_minutes
    if minutes is not None and not 0 < minutes < math.inf:
        raise UserError(f"config.stop_after_minutes={minutes}: more than 0")
    if config.eval_weights == "slow" and not config.optim.lookahead.enabled:
        raise UserError("config.eval_weights=slow: only with config.optim.lookahead.enabled=True")
    if not 0 <= config.loss.label_smoothing < 1:
        raise UserError(
            f"config.loss.label_smoothing={config.loss.label_smoothing}: at least 0, below 1"
        )
    for key in ("mean", "std"):
        values = config.data[key]
        fits = len(values) == 3 and all(isinstance(v, int | float) for v in values)
        if not fits or not all(math.isfinite(v) and (key == "mean" or v > 0) for v in values):
            raise UserError(f"config.data.{key}={values}: three numbers, those of std above 0")
