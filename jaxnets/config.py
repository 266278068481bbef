"""Configurations: the keys that every recipe has, the command line over them, their checks.

A recipe is a file with `get_config(preset)` that starts from `default_config()`.  On the command
line `--config configs/x.py:preset --config.optim.lr=.05` names a recipe and overrides its keys.
Importing this module imports neither jax nor torch: both trainers read the same configurations.
"""

import difflib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from jaxnets.errors import UserError, unknown

# Keys that may differ between a run and its continuation: they do not change its numbers.
FREE_KEYS = ("data.dir", "data.cache", "checkpoint.", "progress", "stop_after_minutes")

CIFAR10_MEAN, CIFAR10_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)

_HELP = """
flags:
  --config FILE[:PRESET]   the recipe, e.g. configs/se_resnet.py (required)
  --config.KEY=VALUE       overrides one key, e.g. --config.optim.lr=.05 --config.num_epochs=3
  --workdir DIR            where everything goes (default: runs/ and the recipe's name)
  --print_config           print the resolved configuration and stop
"""


def default_config() -> Any:
    """Every key with its default, as an ml_collections.ConfigDict; recipes change what differs."""
    from ml_collections import ConfigDict, config_dict

    c = ConfigDict()
    c.name = "run"
    c.model = ConfigDict()

    c.data = data = ConfigDict()
    data.name = "cifar10"  # cifar10, cifar100, digits
    data.dir = config_dict.placeholder(str)  # None: $JAXNETS_DATA, or data/
    data.cache = True  # keep the decoded images in one file beside the data
    data.mean, data.std = CIFAR10_MEAN, CIFAR10_STD  # of the pixels, in 0..1

    c.augment = a = ConfigDict()
    a.ops = ("crop", "flip")  # applied in this order; () for none
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
    o.weight_decay = 5e-4  # coupled for sgd and adam, decoupled for adamw; of every parameter
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

    c.loss = ConfigDict({"label_smoothing": 0.0})
    c.eval_weights = "fast"  # fast; slow: Lookahead's slow weights
    c.batch_size, c.eval_batch_size = 128, 500
    c.num_epochs = 200
    c.seed = 0
    c.dtype = "float32"  # of the computation: float32, bfloat16, float64
    c.progress = ConfigDict({"every_steps": 20})  # between updates of the bar and checks for NaN
    c.checkpoint = ConfigDict({"keep": 2, "every_epochs": 1})
    return c


def check_preset(preset: str, presets: Sequence[str]) -> None:
    """Raises a UserError if a recipe has no such preset."""
    if preset not in presets:
        raise unknown("preset", preset, presets)


def parse(argv: Sequence[str], *, usage: str) -> tuple[Any, str] | None:
    """Reads --config, its overrides and --workdir: (config, workdir), or None where help was shown.

    Raises:
        UserError: a flag, key, value or file that is wrong, with the nearest name.
    """
    from absl import flags
    from ml_collections import config_flags

    if not argv or {"--help", "-h", "-help"} & set(argv):
        print(usage.strip() + "\n" + _HELP.rstrip())
        return None

    def read(args: list[str]) -> flags.FlagValues:
        values = flags.FlagValues()
        config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=["jaxnets", *args])
        flags.DEFINE_string("workdir", None, "where everything goes", flag_values=values)
        flags.DEFINE_bool("print_config", False, "print it and stop", flag_values=values)
        try:
            rest = values(["jaxnets", *args])[1:]
        except flags.Error as e:
            raise UserError(f"{_reason(e)} (--help lists the flags)") from e
        if rest:
            raise UserError(f"unexpected argument {rest[0]!r}: write options as --name=value")
        return values

    # The recipe alone first: an override of a key that it lacks is then answered by name.
    overrides = [a for a in argv if a.lstrip("-").startswith("config.")]
    spec = next((v for v in _values(argv, "config")), None)
    if spec is None:
        raise UserError("no --config: name a recipe, e.g. --config configs/se_resnet.py")
    config = _load(spec, read)
    keys = flatten(config.to_dict())
    for override in overrides:
        key = override.lstrip("-").partition("=")[0].removeprefix("config.")
        if key not in keys:
            raise unknown_key(key, keys)
    values = read(list(argv))
    config = values.config
    validate(config)
    workdir = values.workdir or f"runs/{config.name}"
    if values.print_config:
        print(to_json(config))
        return None
    return config, workdir


def _reason(error: Exception) -> str:
    """The error's text; of one that carries a whole traceback, the last line."""
    text = str(error)
    if "Traceback" not in text:
        return text
    return f"{text.splitlines()[0].split(': ')[0]}: {text.strip().splitlines()[-1]}"


def _values(argv: Sequence[str], flag: str):
    for i, arg in enumerate(argv):
        name, equals, value = arg.lstrip("-").partition("=")
        if arg.startswith("-") and name == flag:
            yield value if equals else (argv[i + 1] if i + 1 < len(argv) else "")


def _load(spec: str, read) -> Any:
    path = spec.partition(":")[0]
    try:
        open(path, "rb").close()
    except OSError as e:
        raise UserError(f"--config {path}: {e.strerror}; name a recipe under configs/") from e
    try:
        config = read([f"--config={spec}"]).config
    except UserError:
        raise
    except Exception as e:
        raise UserError(f"--config {spec}: {type(e).__name__}: {_reason(e)}") from e
    if not hasattr(config, "to_dict") or "model" not in config:
        raise UserError(f"--config {path}: get_config must return a ConfigDict with a model")
    return config


def unknown_key(key: str, keys: Mapping[str, Any]) -> UserError:
    """The error for an override of a key that the configuration does not have."""
    near = difflib.get_close_matches(key, keys, n=1, cutoff=0.5)
    if not near:  # the right last part in the wrong place
        near = [k for k in keys if k.rpartition(".")[2] == key.rpartition(".")[2]][:1]
    hint = f"; did you mean --config.{near[0]}?" if near else ""
    return UserError(f"unknown key --config.{key}{hint} (--print_config shows all keys)")


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
    """The configuration that `to_json` wrote."""
    from ml_collections import ConfigDict

    return ConfigDict(json.loads(text))


def differences(old: Any, new: Any) -> list[str]:
    """What keeps `new` from continuing a run of `old`: "key old -> new", free keys left out."""
    before = flatten(json.loads(to_json(old)))
    after = flatten(json.loads(to_json(new)))
    return [
        f"{key} {before.get(key, 'unset')} -> {after.get(key, 'unset')}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key) and not key.startswith(FREE_KEYS)
    ]


def validate(config: Any) -> None:
    """Checks the keys that no part of the network, optimizer or augmentation checks for itself."""
    from jaxnets.data import DATASETS

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
        value = flatten(config.to_dict())[key]
        if value < least or value > 2**31 - 1:
            raise UserError(f"config.{key}={value}: a whole number from {least} to 2147483647")
    for key, allowed in (
        ("dtype", ("float32", "bfloat16", "float64")),
        ("eval_weights", ("fast", "slow")),
    ):
        if config[key] not in allowed:
            raise unknown(f"config.{key}", config[key], allowed)
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
