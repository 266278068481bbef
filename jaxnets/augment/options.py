"""The options of the augmentations: read from a configuration, checked, and made immutable.

Shared by `pipeline` and its PyTorch twin; imports neither framework. Each class stands for one
operation and says in `columns` how many uniform numbers an image costs it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxnets import checks
from jaxnets.checks import Section
from jaxnets.errors import UserError

AUGMENT_STREAM = 0x617567  # "aug": keeps these random bits apart from those of dropout
MIX_STREAM = 0x6D6978  # "mix": and these from both
ATTEMPTS = 10  # rectangles tried by random_resized_crop and erasing, as in torchvision
POLICIES = ("cifar10", "imagenet")
MIXES = ("none", "cutmix", "mixup", "either")


class RandomResizedCrop(NamedTuple):
    """Cut a box of `scale` of the area, width/height in `ratio`; resize it to the image's size."""

    scale: tuple[float, float]
    ratio: tuple[float, float]
    columns = 2 * ATTEMPTS + 2


class Rotation(NamedTuple):
    """Turn about the centre by a uniform angle within +-`degrees`; nearest pixel, black outside."""

    degrees: float
    columns = 1


class Crop(NamedTuple):
    """Pad with `padding` black pixels on each side, keep a random window of the original size."""

    padding: int
    columns = 2


class Flip(NamedTuple):
    """Mirror left to right with probability `p`."""

    p: float
    columns = 1


class Jitter(NamedTuple):
    """Factors of 1 +- brightness, contrast, saturation; turns of +- hue; in random order."""

    brightness: float
    contrast: float
    saturation: float
    hue: float
    columns = 8


class Erasing(NamedTuple):
    """With probability `p`, blacken a box of `scale` of the area and height/width in `ratio`."""

    p: float
    scale: tuple[float, float]
    ratio: tuple[float, float]
    columns = 2 * ATTEMPTS + 3


class AutoAugment(NamedTuple):
    """Apply one of the 25 learned pairs of operations of `policy`."""

    policy: str
    columns = 5


Options = RandomResizedCrop | Rotation | Crop | Flip | Jitter | Erasing | AutoAugment

OPERATIONS: dict[str, type] = {
    "random_resized_crop": RandomResizedCrop,
    "rotation": Rotation,
    "crop": Crop,
    "flip": Flip,
    "jitter": Jitter,
    "erasing": Erasing,
    "auto_augment": AutoAugment,
}


def read_options(config: Any) -> dict[str, Options]:
    """Check `config`, the `augment` part of a configuration; return {operation: options} in order.

    Only the options of the operations named in `config.ops` are read.

    Raises:
        UserError: an unknown or repeated operation, or a value that is missing or out of range.
    """
    ops = config.ops
    if isinstance(ops, str) or not all(isinstance(op, str) for op in ops):
        raise UserError(f"config.augment.ops must be a tuple of operation names, not {ops!r}")
    for op in ops:
        checks.choice("operation in config.augment.ops", op, OPERATIONS)
    if len(set(ops)) < len(ops):
        raise UserError(
            f"config.augment.ops names an operation twice: {', '.join(ops)}; name each once"
        )
    return {op: _read(config, op, OPERATIONS[op]) for op in ops}


def _read(config: Any, op: str, kind: type) -> Options:
    section = Section(f"config.augment.{op}", getattr(config, op, None))
    return kind(*(_FIELDS[field](section, field) for field in kind._fields))


def _bounds(most: float) -> Callable[[Section, str], tuple[float, float]]:
    return lambda section, name: checks.bounds(section.key(name), section.get(name), most)


def _number(interval: str) -> Callable[[Section, str], float]:
    return lambda section, name: section.number(name, interval)


_STRENGTH = _number("[0, 3]")  # 0: off
_FIELDS: dict[str, Callable[[Section, str], Any]] = {
    "scale": _bounds(1),
    "ratio": _bounds(100),
    "degrees": _number("[0, 180]"),
    "padding": lambda section, name: section.whole(name, 0, 1024),
    "p": _number("[0, 1]"),
    "brightness": _STRENGTH,
    "contrast": _STRENGTH,
    "saturation": _STRENGTH,
    "hue": _number("[0, 0.5]"),
    "policy": lambda section, name: section.choice(name, POLICIES),
}


class Mix(NamedTuple):
    """`config.augment.mix`: MixUp and CutMix, for a whole batch or each image with probability `p`.

    The columns: whether, which, lambda, top, left.
    """

    name: str
    alpha: float
    p: float
    per_image: bool
    columns = 5


def read_mix(config: Any, batch_size: int | None = None) -> Mix | None:
    """The options in `config.augment.mix`; None where nothing is mixed.

    Raises:
        UserError: a value that is not allowed, or a batch of one image, which has no pair.
    """
    section = Section("config.augment.mix", getattr(config, "mix", None))
    mix = Mix(
        name=section.choice("name", MIXES, "none"),
        alpha=section.number("alpha", "(0, inf)", 1.0),
        p=section.number("p", "[0, 1]", 0.5),
        per_image=section.flag("per_image", False),
    )
    if mix.name == "none":
        return None
    if batch_size == 1:
        raise UserError(
            f"config.augment.mix.name={mix.name}: an image of a batch of 1 has no pair; raise "
            "config.batch_size"
        )
    return mix
