"""Checks of the models' options: each raises a UserError that names the key and what it allows."""

from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

from jaxnets.errors import UserError

# Channels or classes of a layer: more is a slip of the finger, and would end the process in C++.
MOST = 65_536
BLOCKS = 1_000
# What a block has at least: two BatchNorms of five; kernels may be shared.
_TENSORS_OF_A_BLOCK, _FEW_BLOCKS = 10, 64


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
