"""The options of the augmentations: read from a configuration, checked, and made immutable.

Shared by `pipeline` and its PyTorch twin; imports neither framework. Each class stands for one
operation and says in `columns` how many uniform numbers an image costs it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxnets.errors import UserError, unknown

AUGMENT_STREAM = 0x617567  # "aug": keeps these random bits apart from those of dropout
ATTEMPTS = 10  # rectangles tried by random_resized_crop and erasing, as in torchvision
POLICIES = ("cifar10", "imagenet")


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
        if op not in OPERATIONS:
            raise unknown("operation in config.augment.ops", op, OPERATIONS)
    if len(set(ops)) < len(ops):
        raise UserError(
            f"config.augment.ops names an operation twice: {', '.join(ops)}; name each once"
        )
    return {op: _read(config, op, OPERATIONS[op]) for op in ops}


def _read(config: Any, op: str, kind: type) -> Options:
    values = {}
    for field in kind._fields:
        key = f"config.augment.{op}.{field}"
        try:
            value = getattr(getattr(config, op), field)
        except AttributeError:
            raise UserError(
                f"{key} is missing, and config.augment.ops names {op!r}; set it"
            ) from None
        is_valid, allowed = _RULES[field]
        try:
            valid = is_valid(value)
        except TypeError:
            valid = False
        if not valid:
            raise UserError(f"{key} must be {allowed}, not {value!r}")
        values[field] = tuple(map(float, value)) if field in ("scale", "ratio") else value
    return kind(**values)


def _within(low: float, high: float) -> Callable[[Any], bool]:
    return lambda value: not isinstance(value, bool) and low <= value <= high


def _ordered(low: float, high: float) -> Callable[[Any], bool]:
    return lambda pair: len(pair) == 2 and low < pair[0] <= pair[1] <= high


def _is_padding(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 1024


_STRENGTH = (_within(0, 3), "a number from 0 (off) to 3")
_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "scale": (_ordered(0, 1), "(low, high) with 0 < low <= high <= 1"),
    "ratio": (_ordered(0, 100), "(low, high) with 0 < low <= high <= 100"),
    "degrees": (_within(0, 180), "a number from 0 to 180"),
    "padding": (_is_padding, "a whole number of pixels from 0 to 1024"),
    "p": (_within(0, 1), "a probability from 0 to 1"),
    "brightness": _STRENGTH,
    "contrast": _STRENGTH,
    "saturation": _STRENGTH,
    "hue": (_within(0, 0.5), "a number from 0 (off) to 0.5"),
    "policy": (POLICIES.__contains__, f"one of {', '.join(POLICIES)}"),
}
