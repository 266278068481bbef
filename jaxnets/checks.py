"""The one way to check a value: a UserError names its key, the value and what it may be.

Of one value, of one section of a configuration, and of a network's options.  The same for both
frameworks: this module imports neither jax nor torch.
"""

import ast
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, NamedTuple

from jaxnets.errors import UserError, unknown

# Channels or classes of a layer: more is a slip of the finger, and would end the process in C++.
MOST = 65_536
LARGEST = 2**31 - 1  # of an int32, which counters and indices are
BLOCKS = 1_000
# What a block has at least: two BatchNorms of five; kernels may be shared.
_TENSORS_OF_A_BLOCK, _FEW_BLOCKS = 10, 64
MOST_PARAMETERS = 1_000_000_000
SWITCH = dict.fromkeys(("true", "t", "1", "yes"), True)
SWITCH |= dict.fromkeys(("false", "f", "0", "no"), False)
"""What switches a thing on or off on a command line."""
_KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    tuple: "numbers, as 1,2",
}
_MISSING = object()


def require(ok: bool, key: str, value: Any, allowed: str) -> None:
    """Raises the error unless `ok`."""
    if not ok:
        raise UserError(f"{key}={value!r}: {allowed}")


def number(key: str, value: float, interval: str, allowed: str = "") -> float:
    """A finite number of an interval such as "[0, 1)" or "(0, inf)", as a float.

    Args:
        allowed: what the error calls it; the interval if left out.

    >>> number("config.optim.lr", 0.1, "[0, inf)")
    0.1
    """
    low, high = map(float, interval[1:-1].split(","))
    fits = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    fits = fits and (low < value or (interval[0] == "[" and low == value))
    fits = fits and (value < high or (interval[-1] == "]" and value == high))
    open_ended = {"[0, inf)": ">= 0", "(0, inf)": "> 0"}
    require(fits, key, value, allowed or f"a number {open_ended.get(interval, f'in {interval}')}")
    return float(value)


def flag(key: str, value: bool) -> bool:
    """True or False."""
    require(isinstance(value, bool), key, value, "True or False")
    return value


def choice(key: str, value: str, choices: Iterable[str]) -> str:
    """One of a few words; the error has the nearest."""
    allowed = tuple(choices)
    if value not in allowed:
        raise unknown(key, value, allowed)
    return value


def whole(key: str, value: int, least: int = 1, most: int = MOST) -> int:
    """A whole number from `least` to `most`."""
    allowed = f"a whole number, at least {least}, at most {most}"
    require(_is_whole(value, least, most), key, value, allowed)
    return int(value)


def wholes(key: str, values: Sequence[int], length: int, least: int = 1, most: int = MOST) -> None:
    """`length` whole numbers, each from `least` to `most`."""
    listed = isinstance(values, Sequence) and not isinstance(values, str)
    fits = listed and len(values) == length and all(_is_whole(v, least, most) for v in values)
    allowed = f"{length} whole numbers, one a stage, each at least {least}, at most {most}"
    require(fits, key, tuple(values) if listed else values, allowed)


def increasing(key: str, values: Sequence[int], unit: str) -> Sequence[int]:
    """Whole numbers above 0, of which each is larger than the one before."""
    fits = isinstance(values, Sequence) and len(values) > 0
    fits = fits and all(_is_whole(v, 1, LARGEST) for v in values)
    fits = fits and all(a < b for a, b in itertools.pairwise(values))
    require(fits, key, values, f"strictly increasing whole numbers of {unit} > 0")
    return values


def bounds(key: str, pair: Sequence[float], most: float) -> tuple[float, float]:
    """(low, high) with 0 < low <= high <= most."""
    try:
        fits = len(pair) == 2 and 0 < pair[0] <= pair[1] <= most
    except TypeError:
        fits = False
    require(fits, key, pair, f"(low, high) with 0 < low <= high <= {most:g}")
    return float(pair[0]), float(pair[1])


def parsed(key: str, text: str, kind: type, default: Any) -> Any:
    """A value from its text on a command line; None is taken where that is the default.

    Args:
        kind: bool, int, float, str, or tuple: of names where the default has names or nothing, of
            whole numbers where it has no others, else of numbers.

    >>> parsed("--option widths", "16,32", tuple, (64, 128))
    (16, 32)
    >>> parsed("--config.augment.ops", "crop,flip", tuple, ("flip",))
    ('crop', 'flip')
    """
    if default is None and text.lower() == "none":
        return None
    names = isinstance(default, tuple) and not any(map(_is_number, default))
    try:
        if kind is tuple:
            return _names(text) if names else _numbers(text, default)
        return SWITCH[text.lower()] if kind is bool else kind(text)
    except (LookupError, MemoryError, RecursionError, SyntaxError, TypeError, ValueError) as e:
        allowed = "names, as a,b, or none" if names else _KINDS[kind]
        shown = ",".join(map(str, default)) if isinstance(default, tuple) else default
        raise UserError(f"{key}={text}: {allowed} (default: {shown})") from e


def _names(text: str) -> tuple[str, ...]:
    listed = ast.literal_eval(text) if text.startswith(("(", "[")) else text.split(",")
    found = tuple(name.strip() for name in listed)
    return () if found == ("none",) else _all(found, map(bool, found))


def _numbers(text: str, default: Sequence[float] | None) -> tuple[float, ...]:
    """Whole ones where the default has no others."""
    value = ast.literal_eval(text)
    found = tuple(value) if isinstance(value, list | tuple) else (value,)
    whole_alone = all(isinstance(x, int) for x in default or ())
    return _all(found, ((type(x) is int if whole_alone else _is_number(x)) for x in found))


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _all(values: tuple, fit: Iterable[bool]) -> tuple:
    if not all(fit):
        raise ValueError
    return values


class Section(NamedTuple):
    """One section of a configuration, whose keys are read with the checks of this module.

    A key that is absent or None has the default that is given; without one that is an error.

    path: how errors name it, such as config.optim.
    """

    path: str
    config: Any

    def key(self, name: str) -> str:
        """How errors name a key."""
        return f"{self.path}.{name}"

    def get(self, name: str, default: Any = _MISSING) -> Any:
        """A key's value, unchecked."""
        value = getattr(self.config, name, None)
        if value is None:
            value = default
        if value is _MISSING:
            raise UserError(f"{self.key(name)} is missing: give it a value")
        return value

    def choice(self, name: str, choices: Iterable[str], default: Any = _MISSING) -> str:
        return choice(self.key(name), self.get(name, default), choices)

    def flag(self, name: str, default: bool = False) -> bool:
        return flag(self.key(name), self.get(name, default))

    def number(self, name: str, interval: str, default: Any = _MISSING, allowed: str = "") -> float:
        return number(self.key(name), self.get(name, default), interval, allowed)

    def whole(
        self, name: str, least: int, most: int = LARGEST, *, default: Any = _MISSING
    ) -> int | None:
        """None only where that is the default."""
        value = self.get(name, default)
        return None if value is None else whole(self.key(name), value, least, most)


def parameters(name: str, count: int) -> None:
    """So many parameters of a network, counted before any memory is asked for."""
    if count > MOST_PARAMETERS:
        raise UserError(
            f"{name} would have {count:,} parameters: at most {MOST_PARAMETERS:,}; choose smaller "
            "widths"
        )


def scaled(width: float) -> Callable[[int], int]:
    """The function channels -> width * channels; it refuses a width that leaves a fraction.

    >>> scaled(0.25)(96)
    24
    """

    def scale(channels: int) -> int:
        value = channels * width if isinstance(width, Real) else 0
        allowed = "a positive factor that keeps every channel count whole, such as 0.25, 0.5, 1"
        require(0 < value <= MOST and value == int(value), "width", width, f"{allowed} or 2")
        return int(value)

    return scale


def held(options: Mapping[str, object], tensors: int) -> None:
    """Options that a file of so many tensors says: to trace blocks that it lacks takes minutes."""
    for key in ("num_blocks", "depth"):
        value = options.get(key)
        counts = value if isinstance(value, Sequence) else [value]
        blocks = sum(n for n in counts if isinstance(n, Integral))
        fits = blocks <= max(_FEW_BLOCKS, tensors / _TENSORS_OF_A_BLOCK)
        require(fits, key, value, f"far more blocks than {tensors:,} tensors can be of")


def images(x: Any, channels: int) -> None:
    """What a convolution of `channels` input channels takes: floats (N, H, W, channels)."""
    if x.dtype.kind in "biu":
        raise UserError(
            f"the network takes floats, not {x.dtype} images: jaxnets.normalize(images, mean, std) "
            "makes them, and jaxnets.load(workdir).predict(images) does it all"
        )
    if x.ndim != 4 or x.shape[-1] != channels:
        hint = (
            "; images.transpose(0, 2, 3, 1) makes it of NCHW" if x.shape[1:2] == (channels,) else ""
        )
        raise UserError(f"an input of shape {x.shape}, not (N, H, W, {channels}){hint}")


def _is_whole(value: int, least: int, most: int) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and least <= value <= most


def _stages(num_blocks: Sequence[int]) -> int:
    """How many stages there are blocks of: six leave one pixel of 32."""
    stages = len(num_blocks) if isinstance(num_blocks, Sequence) else 0
    allowed = "the blocks of each of one to six stages"
    require(1 <= stages <= 6, "num_blocks", num_blocks, allowed)
    wholes("num_blocks", num_blocks, stages, most=BLOCKS)
    return stages


def _se_resnet(
    *,
    num_blocks: Sequence[int],
    num_channels: int,
    conv_kernel_sizes: Sequence[int] | None,
    shortcut_kernel_sizes: Sequence[int] | None,
    se: str,
    se_reduction: int,
    drop: float,
    avg_pool_kernel_size: int | None,
    whiten: bool,
) -> None:
    flag("whiten", whiten)
    choice("se", se, ("stem", "block", "none"))
    number("drop", drop, "[0, 1)")
    whole("se_reduction", se_reduction)
    # An excitation squeezes to a part of the channels.
    whole("num_channels", num_channels, least=1 if se == "none" else se_reduction)
    stages = _stages(num_blocks)
    for key, sizes in (
        ("conv_kernel_sizes", conv_kernel_sizes),
        ("shortcut_kernel_sizes", shortcut_kernel_sizes),
    ):
        if sizes is not None:
            wholes(key, sizes, stages)
            odd = all(k % 2 for k in sizes)
            require(odd, key, tuple(sizes), "odd sizes, so that padding is symmetric")
    left = 32 // 2 ** (stages - 1)
    allowed = f"{stages} stages leave {left}x{left} pixels; give {left} or leave it out"
    fits = avg_pool_kernel_size in (None, left)
    require(fits, "avg_pool_kernel_size", avg_pool_kernel_size, allowed)


def _mish_se_resnet18(
    *,
    activation: str,
    se: bool,
    se_reduction: int,
    widths: Sequence[int],
    num_blocks: Sequence[int],
    drop: float,
) -> None:
    choice("activation", activation, ("mish", "relu"))
    flag("se", se)
    whole("se_reduction", se_reduction)
    wholes("widths", widths, _stages(num_blocks), least=se_reduction if se else 1)
    number("drop", drop, "[0, 1)")


def _dense_se_resnet(
    *, depth: int, widths: Sequence[int], share: str, se_reduction: int, drop: float
) -> None:
    whole("depth", depth, most=BLOCKS)
    whole("se_reduction", se_reduction)
    wholes("widths", widths, 3, least=se_reduction)
    choice("share", share, ("none", "third", "second_third", "all"))
    number("drop", drop, "[0, 1)")


def _cifar100(
    *, drop: float, width: float, conv_drop: float = 0.0, cell: str = "fire", **flags: bool
) -> None:
    # The width is checked where it meets the channels, by `scaled`.
    for key, value in flags.items():
        flag(key, value)
    blocks = cell.split("+") if isinstance(cell, str) else []
    fits = blocks and {*blocks} <= {"fire", "residual"} and len(blocks) <= BLOCKS
    require(bool(fits), "cell", cell, "blocks joined with +, each fire or residual")
    number("drop", drop, "[0, 1)")
    number("conv_drop", conv_drop, "[0, 1)")


def _resnet18(*, num_blocks: Sequence[int], num_channels: int, drop: float) -> None:
    wholes("num_blocks", num_blocks, 4, most=BLOCKS)
    whole("num_channels", num_channels)
    number("drop", drop, "[0, 1)")


_OPTIONS: dict[str, Callable[..., None]] = {
    "se_resnet": _se_resnet,
    "mish_se_resnet18": _mish_se_resnet18,
    "dense_se_resnet": _dense_se_resnet,
    **{f"cifar100_v{i}": _cifar100 for i in range(1, 6)},
    "resnet18": _resnet18,
}


def network(name: str, num_classes: int | None, options: Mapping[str, object]) -> None:
    """The values of all options of the network `name`, defaults included."""
    if num_classes is not None:
        whole("num_classes", num_classes)
    _OPTIONS[name](**options)
