"""The keys that every recipe has, their defaults and checks."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from jaxnets import checks
from jaxnets.config import averaging, loss_scale
from jaxnets.errors import UserError, unknown

# The dtypes to compute in, and those of the parameters then.
PARAM_DTYPES = {
    "float32": "float32",
    "bfloat16": "float32",
    "float16": "float32",
    "float64": "float64",
}
# config.optim.muon, as torch.optim.Muon has it but for the weight decay.
MUON = {
    "momentum": 0.95,
    "nesterov": True,
    "weight_decay": 0.0,  # decoupled, of the kernels; optim.weight_decay is for the rest
    "ns_steps": 5,
    "ns_dtype": "float32",  # float32 (float64 where the parameters are), bfloat16
    "adjust_lr": "original",  # original, match_rms_adamw, none
    "rest": "sgd",  # sgd, adamw: of all other parameters, with their options in optim
    "rest_lr_scale": 1.0,  # the rest's learning rate is optim.lr times this
    "exclude": (),  # modules whose kernels belong to the rest, such as "conv1"
}


class _Operation(NamedTuple):
    """What ml_collections applies when a reference is read: fn(its own value, *args)."""

    fn: Callable[..., Any]
    args: list[Any]


def default_decay(optimizer: str, rest: str) -> float:
    """The weight decay where nobody sets one: AdamW's, decoupled, is of another scale.

    Args:
        rest: what muon leaves its other parameters to.
    """
    return 1e-2 if "adamw" in (optimizer, optimizer == "muon" and rest) else 5e-4


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
    data.mean = (0.4914, 0.4822, 0.4465)  # of the pixels, in 0..1
    data.std = (0.2023, 0.1994, 0.2010)

    c.augment = a = ConfigDict()
    a.ops = ("crop", "flip")  # applied in this order; none for none
    a.random_resized_crop = ConfigDict({"scale": (0.95, 1.0), "ratio": (0.9, 1.1)})
    a.rotation = ConfigDict({"degrees": 10.0})
    a.crop = ConfigDict({"padding": 4})
    a.flip = ConfigDict({"p": 0.5})
    a.jitter = ConfigDict({"brightness": 0.1, "contrast": 0.1, "saturation": 0.1, "hue": 0.1})
    a.auto_augment = ConfigDict({"policy": "cifar10"})  # cifar10, imagenet
    a.erasing = ConfigDict({"p": 0.5, "scale": (0.02, 0.33), "ratio": (0.3, 3.3)})
    # none, cutmix, mixup, either: with probability p a batch, or each image, is mixed
    a.mix = ConfigDict({"name": "none", "alpha": 1.0, "p": 0.5, "per_image": False})

    c.optim = o = ConfigDict(convert_dict=False)  # prefixes have dots, which no section has
    o.name = "sgd"  # sgd, adam, adamw; muon: for the kernels of convolutions
    o.lr = 0.1
    o.momentum, o.nesterov = 0.9, False  # sgd
    o.beta1, o.beta2, o.eps = 0.9, 0.999, 1e-8  # adam, adamw
    o.muon = ConfigDict(MUON)
    # Coupled for sgd and adam, 5e-4; decoupled for adamw, 1e-2; of every parameter but muon's.
    names = [o.get_ref("name"), o.muon.get_ref("rest")]
    by_name = _Operation(lambda _, name, rest: default_decay(name, rest), names)
    o.weight_decay = config_dict.FieldReference(0.0, op=by_name)
    o.clip, o.clip_at = "none", 0.1  # none, value, norm
    o.lookahead = ConfigDict({"enabled": False, "k": 5, "alpha": 0.5})
    o.lookahead.first_sync = config_dict.placeholder(int)  # None: after step k; 1: after step 1
    # Averages of the weights, for eval_weights; None: not kept.
    o.ema = ConfigDict({"decay": config_dict.placeholder(float), "warmup": True})
    o.swa = ConfigDict({"from_epoch": config_dict.placeholder(int), "every": 1})  # ends of epochs
    o.average_statistics = "recompute"  # of their BatchNorms: recompute, average
    o.loss_scale = ConfigDict(loss_scale.LossScaling()._asdict())  # with dtype=float16
    o.freeze = ()  # prefixes of PyTorch's names: conv1, residual_layers.0; what begins so stays
    o.lr_scale = {}  # of the same prefixes, factors of the learning rate: {"linear": 10.0}

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
    c.eval_weights = "fast"  # fast; slow: Lookahead's; ema, swa: averages, in optim
    c.batch_size, c.eval_batch_size = 128, 500
    c.num_epochs = 200
    c.seed = 0
    c.dtype = "float32"  # of the computation: float32, bfloat16, float16, float64
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


_WHOLE = {
    "batch_size": 1,
    "eval_batch_size": 1,
    "num_epochs": 1,
    "seed": 0,
    "progress.every_steps": 1,
    "checkpoint.keep": 1,
    "checkpoint.every_epochs": 1,
}
"""The least of each."""
_SHARES = ("data.val_fraction", "data.test_fraction", "loss.label_smoothing")
_CHOICES = {
    "dtype": tuple(PARAM_DTYPES),
    "eval_weights": ("fast", "slow", *averaging.KINDS),
    "on_nan": ("stop", "restore"),
}


def validate(config: Any) -> None:
    """Checks the keys that no part of the network, optimizer or augmentation checks for itself."""
    from jaxnets.data import DATASETS

    values, largest = flatten(config.to_dict()), checks.LARGEST
    checks.choice("config.data.name", config.data.name, DATASETS)
    for key, least in _WHOLE.items():
        checks.whole(f"config.{key}", values[key], least, largest)
    for key, value in values.items():
        numbers = value if isinstance(value, tuple | list) else (value,)
        fits = not any(isinstance(v, int) and abs(v) > largest for v in numbers)
        checks.require(fits, f"config.{key}", value, f"whole numbers up to {largest}")
    for key, allowed in _CHOICES.items():
        checks.choice(f"config.{key}", values[key], allowed)
    for key in _SHARES:
        checks.number(f"config.{key}", values[key], "[0, 1)")
    data, size = config.data, config.data.image_size
    checks.whole("config.data.image_size", size, 1, 1024)
    for key, usual, why in (
        ("test_fraction", 0, f"{data.name} has a test set"),
        ("image_size", 32, f"the images of {data.name} are 32x32"),
    ):
        fits = data[key] == usual or data.name == "folder"
        only = f"only for config.data.name=folder; {why}"
        checks.require(fits, f"config.data.{key}", data[key], only)
    if config.stop_after_minutes is not None:
        checks.number("config.stop_after_minutes", config.stop_after_minutes, "(0, inf)")
    _check_parts(config.optim)
    averaging.check(config)
    loss_scale.read_loss_scaling(config)
    if config.eval_weights == "slow" and not config.optim.lookahead.enabled:
        raise UserError("config.eval_weights=slow: only with config.optim.lookahead.enabled=True")
    for key in ("mean", "std"):
        numbers = data[key]
        fits = len(numbers) == 3 and all(isinstance(v, int | float) for v in numbers)
        fits = fits and all(math.isfinite(v) and (key == "mean" or v > 0) for v in numbers)
        allowed = "three numbers, those of std above 0"
        checks.require(fits, f"config.data.{key}", numbers, allowed)


def _check_parts(optim: Any) -> None:
    """Raises a UserError unless freeze lists prefixes and lr_scale gives each a factor."""
    fits = all(isinstance(prefix, str) and prefix for prefix in optim.freeze)
    allowed = "prefixes of PyTorch's names, such as conv1"
    checks.require(fits, "config.optim.freeze", optim.freeze, allowed)
    for prefix, factor in flatten(optim.lr_scale).items():
        allowed = "a number > 0; config.optim.freeze holds parameters fixed"
        checks.number(f"config.optim.lr_scale.{prefix}", factor, "(0, inf)", allowed)
