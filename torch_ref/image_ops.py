"""Pillow's image operations on batches of uint8 tensors (n, H, W, 3): jaxnets.data's twin.

Every image has its own parameters, the batch is their first axis. Tensors are on torch's default
device.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from jaxnets.augment.tables import (
    AFFINE_BITS,
    FACTOR_BITS,
    RESIZE_BITS,
    autocontrast_ties,
    hue_ties,
    resize_taps,
)


def flip(images: Tensor, flipped: Tensor) -> Tensor:
    """Mirror left to right where `flipped`, bool (n,)."""
    return torch.where(flipped[:, None, None, None], images.flip(2), images)


def crop(images: Tensor, offset: Tensor, padding: int) -> Tensor:
    """The H x W window at `offset`, (n, 2) as (top, left), of images padded with black."""
    n, height, width, _ = images.shape
    padded = images.new_zeros(n, height + 2 * padding, width + 2 * padding, 3)
    padded[:, padding : padding + height, padding : padding + width] = images
    y = offset[:, :1] + torch.arange(height)
    x = offset[:, 1:] + torch.arange(width)
    return padded[torch.arange(n)[:, None, None], y[:, :, None], x[:, None]]


def resized_crop(images: Tensor, box: Tensor, taps: Sequence[Tensor] | None = None) -> Tensor:
    """The `box`, (n, 4) as (top, left, height, width), resized bilinearly to H x W.

    `taps` are `resize_taps` of H and W where they are at hand as tensors.
    """
    if taps is None:
        taps = [torch.as_tensor(resize_taps(side)) for side in images.shape[1:3]]
    images = _resize_columns(images, box[:, 1], box[:, 3], taps[1])
    return _resize_columns(images.transpose(1, 2), box[:, 0], box[:, 2], taps[0]).transpose(1, 2)


def _resize_columns(images: Tensor, start: Tensor, size: Tensor, taps: Tensor) -> Tensor:
    n, _, width, _ = images.shape
    first, a, b = taps.long()[size].unbind(-1)
    left = start[:, None] + first
    right = (left + 1).clamp(max=width - 1)
    image = torch.arange(n)[:, None]
    columns = images.transpose(1, 2).long()  # (n, width, height, 3)
    total = columns[image, left] * a[..., None, None] + columns[image, right] * b[..., None, None]
    rounded = (total + (1 << (RESIZE_BITS - 1))) >> RESIZE_BITS
    return rounded.to(torch.uint8).transpose(1, 2)


def affine(images: Tensor, matrix: Tensor) -> Tensor:
    """Nearest pixel under `matrix`, (n, 6) as from `fixed_point`; black outside."""
    n, height, width, _ = images.shape
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    m = matrix.T[:, :, None, None]
    source_x = (m[0] * x + m[1] * y + m[2]) >> AFFINE_BITS
    source_y = (m[3] * x + m[4] * y + m[5]) >> AFFINE_BITS
    inside = (source_x >= 0) & (source_x < width) & (source_y >= 0) & (source_y < height)
    image = torch.arange(n)[:, None, None]
    pixels = images[image, source_y.clamp(0, height - 1), source_x.clamp(0, width - 1)]
    return pixels * inside[..., None]


def erase(images: Tensor, box: Tensor) -> Tensor:
    """Blacken the `box`, (n, 4) as (top, left, height, width), which may be empty."""
    images = images.clone()
    for image, (top, left, height, width) in zip(images, box.tolist(), strict=True):
        image[top : top + height, left : left + width] = 0
    return images


def grey(images: Tensor) -> Tensor:
    """ITU-R 601 luma, int64 (n, H, W, 1)."""
    weights = torch.tensor([19595, 38470, 7471])
    return ((images.long() * weights).sum(-1, keepdim=True) + 0x8000) >> 16


def mean_grey(luma: Tensor) -> Tensor:
    """The rounded mean of each image's `grey`, int64 (n, 1, 1, 1)."""
    area = luma[0].numel()
    return (2 * luma.sum((1, 2, 3), keepdim=True) + area) // (2 * area)


def smooth(images: Tensor) -> Tensor:
    """A rounded 3 x 3 blur, centre 5/13, others 1/13, int64 (n, H, W, 3); the border is kept."""
    x = images.long()
    if min(x.shape[1:3]) < 3:
        return x
    inner = (slice(None), slice(1, -1), slice(1, -1))
    around = x.unfold(1, 3, 1).unfold(2, 3, 1).sum((-1, -2))
    blurred = x.clone()
    blurred[inner] = (2 * (around + 4 * x[inner]) + 13) // 26
    return blurred


def blend(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    """other + factor (images - other), floored and clipped; `factor` (n,) in 2^-FACTOR_BITS."""
    product = factor[:, None, None, None] * (images.long() - other)
    return (other + (product >> FACTOR_BITS)).clamp(0, 255).to(torch.uint8)


def blend_float32(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    """The same for any float32 factor (n,): the product is rounded to float32, then the sum."""
    product = factor[:, None, None, None] * (images.long() - other).float()
    return (other.float() + product).clamp(0, 255).to(torch.uint8)


def shift_hue(images: Tensor, shift: Tensor, ties: Tensor | None = None) -> Tensor:
    """Add `shift`, (n,) in 1/256 turns, to the hue, by way of 8-bit HSV as Pillow has it.

    `ties` is `hue_ties` where it is at hand as a tensor.
    """
    ties = torch.as_tensor(hue_ties()) if ties is None else ties
    r, g, b = images.long().unbind(-1)
    value = images.amax(-1).long()
    chroma = value - images.amin(-1).long()
    saturation = 255 * chroma // value.clamp(min=1)
    # The hue in sixths of a turn, times chroma, from the largest channel on.
    sixths = torch.where(
        r == value,
        (g - b) % (6 * chroma.clamp(min=1)),
        torch.where(g == value, 2 * chroma + b - r, 4 * chroma + r - g),
    )
    unit = 2 * chroma.clamp(min=1)
    hue = 85 * sixths // unit
    hue = hue - (ties[hue] & (hue * unit == 85 * sixths)).long()
    hue = (hue + shift[:, None, None]) % 256

    sector, rest = 6 * hue // 255, 6 * hue % 255
    p, q, t = (
        (2 * value * (255**2 - saturation * part) + 255**2) // (2 * 255**2)
        for part in (torch.tensor(255), rest, 255 - rest)
    )
    rgb = torch.stack([value, q, p, t], -1)
    order = torch.tensor([[0, 3, 2], [1, 0, 2], [2, 0, 3], [2, 1, 0], [3, 2, 0], [0, 2, 1]])
    return rgb.gather(-1, order[sector % 6]).to(torch.uint8)


def autocontrast(images: Tensor) -> Tensor:
    """Stretch the range of each channel's values to 0..255."""
    low, high = images.amin((1, 2), True).long(), images.amax((1, 2), True).long()
    spread = (high - low).clamp(min=1)
    above = images.long() - low
    stretched = 255 * above // spread
    divisors, starts, downs = map(torch.as_tensor, autocontrast_ties())
    divisor = divisors.long()[spread]
    tie = starts.long()[spread] + low * (divisor + 1) + above * divisor // spread
    is_whole = 255 * above % spread == 0
    stretched = stretched - (is_whole & downs[tie.clamp(max=len(downs) - 1)]).long()
    return torch.where(high > low, stretched, images.long()).to(torch.uint8)


def equalize(images: Tensor) -> Tensor:
    """Flatten each channel's histogram."""
    n = len(images)
    flat = images.long().flatten(1, 2)  # (n, pixels, 3)
    counts = torch.zeros(n, 256, 3, dtype=torch.long).scatter_add_(1, flat, torch.ones_like(flat))
    last = counts.gather(1, flat.amax(1, keepdim=True))
    step = (flat.shape[1] - last) // 255
    table = (step // 2 + counts.cumsum(1) - counts) // step.clamp(min=1)
    table = torch.where(step > 0, table.clamp(max=255), torch.arange(256)[:, None])
    return table.gather(1, flat).to(torch.uint8).view_as(images)


def lookup(images: Tensor, table: Tensor) -> Tensor:
    """Replace each value by its entry in the image's `table`, (n, 256)."""
    return table.gather(1, images.long().flatten(1)).view_as(images)
