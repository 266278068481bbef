"""Checks of the networks' options: each raises a UserError that names the key and what it allows.

The same ones for both frameworks: this module imports neither jax nor torch.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

from jaxnets.errors import UserError

# Channels or classes of a layer: more is a slip of the finger, and would end the process in C++.
MOST = 65_536
BLOCKS = 1_000
# What a block has at least: two BatchNorms of five; kernels may be shared.
_TENSORS_OF_A_BLOCK, _FEW_BLOCKS = 10, 64
MOST_PARAMETERS = 1_000_000_000


def rate(key: str, value: float) -> None:
    """A dropout rate, in [0, 1)."""
    if not isinstance(value, Real) or not 0 <= value < 1:
        raise UserError(f"{key}={value!r}: a rate from 0 up to, not including, 1")


def flag(key: str, value: bool) -> None:
    """True or False."""
    if not isinstance(value, bool):
        raise UserError(f"{key}={value!r}: True or False")


def choice(key: str, value: str, choices: Iterable[str]) -> None:
    """One of a few words."""
    allowed = tuple(choices)
    if value not in allowed:
        raise UserError(f"{key}={value!r}: choose one of {', '.join(allowed)}")


def whole(key: str, value: int, least: int = 1, most: int = MOST) -> None:
    """A whole number from `least` to `most`."""
    if not _is_whole(value, least, most):
        raise UserError(f"{key}={value!r}: a whole number, at least {least}, at most {most}")


def wholes(key: str, values: Sequence[int], length: int, least: int = 1, most: int = MOST) -> None:
    """`length` whole numbers, each from `least` to `most`."""
    listed = isinstance(values, Sequence) and not isinstance(values, str)
    if not listed or len(values) != length or not all(_is_whole(v, least, most) for v in values):
        shown = tuple(values) if listed else values
        raise UserError(
            f"{key}={shown!r}: {length} whole numbers, one a stage, each at least {least}, at "
            f"most {most}"
        )


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
        if not 0 < value <= MOST or value != int(value):
            raise UserError(
                f"width={width!r}: a positive factor that keeps every channel count whole, such as "
                "0.25, 0.5, 1 or 2"
            )
        return int(value)

    return scale


def held(options: Mapping[str, object], tensors: int) -> None:
    """Options that a file of so many tensors says: to trace blocks that it lacks takes minutes."""
    for key in ("num_blocks", "depth"):
        value = options.get(key)
        counts = value if isinstance(value, Sequence) else [value]
        blocks = sum(n for n in counts if isinstance(n, Integral))
        if blocks > max(_FEW_BLOCKS, tensors / _TENSORS_OF_A_BLOCK):
            raise UserError(f"{key}={value!r}: far more blocks than {tensors:,} tensors can be of")


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


def _se_resnet(
    *,
    num_blocks: Sequence[int],
    num_channels: int,
    conv_kernel_sizes: Sequence[int] | None,
    shortcut_kernel_sizes: Sequence[int] | None,
    se: str,
    drop: float,
    avg_pool_kernel_size: int | None,
) -> None:
    choice("se", se, ("stem", "block", "none"))
    rate("drop", drop)
    # An excitation squeezes to a sixteenth of the channels.
    whole("num_channels", num_channels, least=1 if se == "none" else 16)
    stages = len(num_blocks) if isinstance(num_blocks, Sequence) else 0
    if not 1 <= stages <= 6:
        raise UserError(f"num_blocks={num_blocks!r}: the blocks of each of one to six stages")
    wholes("num_blocks", num_blocks, stages, most=BLOCKS)
    for key, sizes in (
        ("conv_kernel_sizes", conv_kernel_sizes),
        ("shortcut_kernel_sizes", shortcut_kernel_sizes),
    ):
        if sizes is not None:
            wholes(key, sizes, stages)
            if any(k % 2 == 0 for k in sizes):
                raise UserError(f"{key}={tuple(sizes)}: odd sizes, so that padding is symmetric")
    left = 32 // 2 ** (stages - 1)
    if avg_pool_kernel_size not in (None, left):
        raise UserError(
            f"avg_pool_kernel_size={avg_pool_kernel_size}: {stages} stages leave {left}x{left} "
            f"pixels; give {left} or leave it out"
        )


def _mish_se_resnet18(
    *, activation: str, se: bool, widths: Sequence[int], num_blocks: Sequence[int], drop: float
) -> None:
    choice("activation", activation, ("mish", "relu"))
    flag("se", se)
    wholes("widths", widths, 4, least=16 if se else 1)
    wholes("num_blocks", num_blocks, 4, most=BLOCKS)
    rate("drop", drop)


def _dense_se_resnet(*, depth: int, widths: Sequence[int], share: str, drop: float) -> None:
    whole("depth", depth, most=BLOCKS)
    wholes("widths", widths, 3, least=16)
    choice("share", share, ("none", "third", "second_third", "all"))
    rate("drop", drop)


def _cifar100(*, drop: float, width: float, conv_drop: float = 0.0, **flags: bool) -> None:
    # The width is checked where it meets the channels, by `scaled`.
    for key, value in flags.items():
        flag(key, value)
    rate("drop", drop)
    rate("conv_drop", conv_drop)


def _resnet18(*, num_blocks: Sequence[int], num_channels: int, drop: float) -> None:
    wholes("num_blocks", num_blocks, 4, most=BLOCKS)
    whole("num_channels", num_channels)
    rate("drop", drop)


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
