"""Pillow's image operations on batches in JAX: images uint8 (n, H, W, 3) in, the same shape out.

Every image has its own parameters, the batch is their first axis. Arithmetic is on integers, so
that the result is Pillow's to the last bit on any device. Pure, jittable, and local to each image,
hence free of communication where the batch is sharded.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxnets.augment.tables import (
    AFFINE_BITS,
    FACTOR_BITS,
    RESIZE_BITS,
    autocontrast_ties,
    hue_ties,
    resize_taps,
)


def flip(images: Array, flipped: Array) -> Array:
    """Mirror left to right where `flipped`, bool (n,)."""
    return jnp.where(flipped[:, None, None, None], images[:, :, ::-1], images)


def crop(images: Array, offset: Array, padding: int) -> Array:
    """The H x W window at `offset`, int32 (n, 2) as (top, left), of images padded with black."""
    height, width = images.shape[1:3]
    padded = jnp.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    rows = offset[:, :1] + jnp.arange(height, dtype=jnp.int32)
    columns = offset[:, 1:] + jnp.arange(width, dtype=jnp.int32)
    return _take_columns(_take_rows(padded, rows), columns)


def resized_crop(images: Array, box: Array) -> Array:
    """The `box`, int32 (n, 4) as (top, left, height, width), resized bilinearly to H x W.

    Columns first, each direction rounded to uint8, as in Pillow's resize.
    """
    height, width = images.shape[1:3]
    top, left, box_height, box_width = box.T
    taps = jnp.asarray(resize_taps(width))[box_width]
    first = left[:, None] + taps[..., 0]
    a, b = (_take_columns(images, x) for x in (first, jnp.minimum(first + 1, width - 1)))
    images = _weigh(a, b, taps[:, None, :, None])

    taps = jnp.asarray(resize_taps(height))[box_height]
    first = top[:, None] + taps[..., 0]
    a, b = (_take_rows(images, y) for y in (first, jnp.minimum(first + 1, height - 1)))
    return _weigh(a, b, taps[:, :, None, None])


def _weigh(a: Array, b: Array, taps: Array) -> Array:
    total = a.astype(jnp.int32) * taps[..., 1] + b.astype(jnp.int32) * taps[..., 2]
    return ((total + (1 << (RESIZE_BITS - 1))) >> RESIZE_BITS).astype(jnp.uint8)


def affine(images: Array, matrix: Array) -> Array:
    """Nearest pixel under `matrix`, int32 (n, 6) as from `fixed_point`; black outside."""
    n, height, width, _ = images.shape
    y, x = np.mgrid[:height, :width].astype(np.int32).reshape(2, 1, -1)
    m = matrix.T[:, :, None]
    source_x = (m[0] * x + m[1] * y + m[2]) >> AFFINE_BITS
    source_y = (m[3] * x + m[4] * y + m[5]) >> AFFINE_BITS
    inside = (source_x >= 0) & (source_x < width) & (source_y >= 0) & (source_y < height)
    source = jnp.where(inside, source_y * width + source_x, 0)
    pixels = _take_rows(images.reshape(n, -1, 3), source)
    return jnp.where(inside[..., None], pixels, 0).reshape(images.shape)


def erase(images: Array, box: Array) -> Array:
    """Blacken the `box`, int32 (n, 4) as (top, left, height, width), which may be empty."""
    top, left, box_height, box_width = box.T[..., None]
    y, x = (jnp.arange(size, dtype=jnp.int32) for size in images.shape[1:3])
    rows = (y >= top) & (y < top + box_height)
    columns = (x >= left) & (x < left + box_width)
    return jnp.where((rows[:, :, None] & columns[:, None])[..., None], 0, images)


def grey(images: Array) -> Array:
    """ITU-R 601 luma, int32 (n, H, W, 1)."""
    r, g, b = _channels(images)
    return ((r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16)[..., None]


def mean_grey(luma: Array) -> Array:
    """The rounded mean of each image's `grey`, int32 (n, 1, 1, 1)."""
    area = luma.shape[1] * luma.shape[2]
    return (2 * luma.sum((1, 2, 3), dtype=jnp.int32, keepdims=True) + area) // (2 * area)


def smooth(images: Array) -> Array:
    """A rounded 3 x 3 blur, centre 5/13, others 1/13, int32 (n, H, W, 3); the border is kept."""
    x = images.astype(jnp.int32)
    height, width = x.shape[1:3]
    if min(height, width) < 3:
        return x
    rows = x[:, :-2] + x[:, 1:-1] + x[:, 2:]
    around = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]
    blurred = (2 * (around + 4 * x[:, 1:-1, 1:-1]) + 13) // 26
    return x.at[:, 1:-1, 1:-1].set(blurred)


def blend(images: Array, other: Array, factor: Array) -> Array:
    """other + factor (images - other), floored, clipped; `factor` int32 (n,) in 2^-FACTOR_BITS."""
    other = other.astype(jnp.int32)
    product = factor[:, None, None, None] * (images.astype(jnp.int32) - other)
    return to_uint8(other + (product >> FACTOR_BITS))


def shift_hue(images: Array, shift: Array) -> Array:
    """Add `shift`, int32 (n,) in 1/256 turns, to the hue, by way of 8-bit HSV as Pillow has it."""
    r, g, b = _channels(images)
    value = jnp.maximum(jnp.maximum(r, g), b)
    chroma = value - jnp.minimum(jnp.minimum(r, g), b)
    saturation = _divide(255 * chroma, jnp.maximum(value, 1))
    sixths = jnp.where(
        r == value, g - b, jnp.where(g == value, 2 * chroma + b - r, 4 * chroma + r - g)
    )
    turn = 85 * jnp.where(sixths < 0, sixths + 6 * chroma, sixths)
    unit = 2 * jnp.maximum(chroma, 1)
    hue = _divide(turn, unit)
    # A test of bits, for a lookup would keep the whole of this function from being vectorised.
    words = np.packbits(hue_ties(), bitorder="little").view("<i4")
    is_tie = (_select(hue >> 5, words) >> (hue & 31)) & (turn == hue * unit)
    hue = (hue - is_tie + shift[:, None, None]) & 255

    sector = 6 * hue // 255
    rest = 6 * hue - 255 * sector  # of 255
    p, q, t = (
        (2 * value * (255 * 255 - saturation * part) + 255 * 255) // (2 * 255 * 255)
        for part in (255, rest, 255 - rest)
    )
    sector = sector % 6
    order = ((value, q, p, p, t, value), (t, value, value, q, p, p), (p, p, t, value, value, q))
    return jnp.stack([_select(sector, channel) for channel in order], -1).astype(jnp.uint8)


def autocontrast_lookup(images: Array) -> Array:
    """Tables (n, 3, 256) uint8 that stretch the range of each channel's values to 0..255."""
    low, high = images.min((1, 2))[..., None], images.max((1, 2))[..., None]
    low, high = low.astype(jnp.int32), high.astype(jnp.int32)
    spread = jnp.maximum(high - low, 1)
    x = jnp.arange(256, dtype=jnp.int32)
    above = jnp.clip(x - low, 0, spread)
    stretched = 255 * above // spread
    divisors, starts, downs = (jnp.asarray(table) for table in autocontrast_ties())
    divisor = divisors[spread]
    tie = starts[spread] + low * (divisor + 1) + above * divisor // spread
    is_whole = stretched * spread == 255 * above
    stretched -= is_whole & downs[jnp.minimum(tie, len(downs) - 1)]
    return jnp.where(high > low, stretched, x).astype(jnp.uint8)


def equalize_lookup(images: Array) -> Array:
    """Tables (n, 3, 256) uint8 that flatten each channel's histogram."""
    counts = _histogram(images)
    total = images.shape[1] * images.shape[2]
    last = jnp.take_along_axis(counts, images.max((1, 2)).astype(jnp.int32)[..., None], -1)
    step = (total - last) // 255
    below = jnp.cumsum(counts, -1, dtype=jnp.int32) - counts
    flat = (step // 2 + below) // jnp.maximum(step, 1)
    flat = jnp.where(step > 0, jnp.minimum(flat, 255), jnp.arange(256, dtype=jnp.int32))
    return flat.astype(jnp.uint8)


def lookup(images: Array, table: Array) -> Array:
    """Replace each value by its entry in the image's and channel's `table`, (n, 3, 256)."""
    flat = images.reshape(len(images), -1, 3).astype(jnp.int32) + 256 * np.arange(3, dtype=np.int32)
    values = _take_rows(table.reshape(len(table), -1), flat.reshape(len(images), -1))
    return values.reshape(images.shape)


def _histogram(images: Array) -> Array:
    """How often each value occurs in each channel, int32 (n, 3, 256)."""

    def count(values: Array) -> Array:
        bins = values.reshape(-1, 3).astype(jnp.int32) + 256 * np.arange(3, dtype=np.int32)
        return jnp.zeros(3 * 256, jnp.int32).at[bins.reshape(-1)].add(1, mode="promise_in_bounds")

    return jax.vmap(count)(images).reshape(-1, 3, 256)


def _take_rows(x: Array, index: Array) -> Array:
    """x[i, index[i]] for every image i."""
    return jax.vmap(lambda image, i: image.at[i].get(mode="promise_in_bounds"))(x, index)


def _take_columns(x: Array, index: Array) -> Array:
    """x[i, :, index[i]] for every image i."""
    return jax.vmap(lambda image, i: image.at[:, i].get(mode="promise_in_bounds"))(x, index)


def _channels(images: Array) -> tuple[Array, Array, Array]:
    x = images.astype(jnp.int32)
    return x[..., 0], x[..., 1], x[..., 2]


def _divide(a: Array, b: Array) -> Array:
    """floor(a / b) for integers 0 <= a < 2^18, 0 < b < 2^10, a / b < 2^9, by float32 division.

    (a + 1/2) / b is at least 1/(2 b) away from any integer, which is more than float32 errs by.
    """
    return jnp.floor((a + jnp.float32(0.5)) / b.astype(jnp.float32)).astype(jnp.int32)


def _select(index: Array, choices: Sequence[ArrayLike]) -> Array:
    """choices[index], element by element."""
    out = choices[0]
    for i, choice in enumerate(choices[1:], 1):
        out = jnp.where(index == i, choice, out)
    return out


def to_uint8(x: Array) -> Array:
    """Integers clipped to 0..255."""
    return jnp.clip(x, 0, 255).astype(jnp.uint8)
