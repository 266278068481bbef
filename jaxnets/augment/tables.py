"""Constants of the augmentations, computed once on the host in float64 as Pillow computes them.

Pillow rounds in double precision; a device may lack it, and fuses multiplications with additions
as it likes. Everything that would depend on such rounding is therefore a table made here, drawn
parameters live on fine grids (`LEVELS`, `FACTOR_BITS`), and the device computes with integers. So
one draw gives the same image on every device, in both frameworks and in Pillow.

Imports numpy alone.
"""

import functools
import math
from typing import Any

import numpy as np

LEVELS = 4096  # steps of the grids of angles, areas and aspect ratios; 10 degrees: 0.005 a step
FACTOR_BITS = 13  # fractional bits of blend factors, few enough for Pillow's float32 to be exact
RESIZE_BITS = 22  # fractional bits of Pillow's resampling coefficients
AFFINE_BITS = 16  # fractional bits of Pillow's source coordinates


def _grid(low: float, high: float) -> np.ndarray:
    """The midpoints of LEVELS equal steps from low to high, float64 (LEVELS,)."""
    return low + (high - low) * (np.arange(LEVELS) + 0.5) / LEVELS


def areas(scale: tuple[float, float]) -> np.ndarray:
    """Uniform shares of the image's area, float32 (LEVELS,)."""
    return _grid(*scale).astype(np.float32)


def aspect_ratios(ratio: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Log-uniform aspect ratios and their reciprocals, float32 (LEVELS,) each."""
    logs = _grid(*map(math.log, ratio))
    return np.exp(logs).astype(np.float32), np.exp(-logs).astype(np.float32)


def side_thresholds(side: int, area: int) -> np.ndarray:
    """The shares s of `area` from which on sqrt(area * s) rounds to 1, 2, ... side + 1, float32.

    The rounded root is the number of thresholds reached: no root on the device.
    """
    return (((np.arange(side + 1) + 0.5) ** 2) / area).astype(np.float32)


def central_box(ratio: tuple[float, float], height: int, width: int) -> tuple[int, int, int, int]:
    """(top, left, height, width) of the largest central box with width/height within `ratio`."""
    box_height, box_width = height, width
    if width / height < ratio[0]:
        box_height = round(width / ratio[0])
    elif width / height > ratio[1]:
        box_width = round(height * ratio[1])
    return (height - box_height) // 2, (width - box_width) // 2, box_height, box_width


def jitter_range(name: str, strength: float) -> tuple[int, int]:
    """The least and greatest factor (or turn, for "hue"), in units of 2^-FACTOR_BITS."""
    one = 1 << FACTOR_BITS
    reach = round(strength * one)
    return (-reach, reach) if name == "hue" else (max(0, one - reach), one + reach)


def hue_shift(turn: Any) -> Any:
    """Turns in 2^-FACTOR_BITS, integers of any array library -> 1/256 turns, cut towards zero."""
    return (255 * abs(turn) >> FACTOR_BITS) * (2 * (turn > 0) - 1)


@functools.cache
def resize_taps(size: int) -> np.ndarray:
    """Bilinear taps from 1, 2, ... `size` pixels to `size` pixels; int32 (size + 1, size, 3).

    Row [n, x] is (first source pixel, its weight, the next one's weight), weights in units of
    2^-RESIZE_BITS. A box is never larger than the image, so Pillow's filter never widens and two
    taps are all. Row 0 is unused. Source: Pillow, Resample.c, precompute_coeffs.
    """
    n = np.arange(size + 1)[:, None]
    centre = (np.arange(size) + 0.5) * (n / size)
    first = np.maximum(np.trunc(centre - 0.5), 0)
    end = np.minimum(np.trunc(centre + 1.5), n)
    pixel = first[..., None] + np.arange(2)
    weight = np.maximum(1 - np.abs(pixel - centre[..., None] + 0.5), 0) * (pixel < end[..., None])
    weight /= np.maximum(weight.sum(-1, keepdims=True), 1e-9)
    weight = np.floor(weight * (1 << RESIZE_BITS) + 0.5)
    return np.concatenate([first[..., None], weight], -1).astype(np.int32)


def fixed_point(matrices: np.ndarray) -> np.ndarray:
    """Affine maps from output to input coordinates, (..., 6) -> int32 in units of 2^-AFFINE_BITS.

    The half-pixel shift of pixel centres goes into the constant terms: the source column of pixel
    (x, y) is (m[0] x + m[1] y + m[2]) >> AFFINE_BITS. Source: Pillow, Geometry.c, affine_fixed.
    """
    fixed = np.array(matrices, np.float64)
    fixed[..., 2] += (fixed[..., 0] + fixed[..., 1]) * 0.5
    fixed[..., 5] += (fixed[..., 3] + fixed[..., 4]) * 0.5
    return np.floor(fixed * (1 << AFFINE_BITS) + 0.5).astype(np.int32)


def rotation_matrices(angles: np.ndarray, height: int, width: int) -> np.ndarray:
    """Affine maps, float64 (..., 6), that turn counter-clockwise by `angles` degrees."""
    radians = np.radians(np.asarray(angles, np.float64))
    cos, sin = np.cos(radians), np.sin(radians)
    x, y = width / 2, height / 2
    shift_x, shift_y = x - cos * x + sin * y, y - sin * x - cos * y
    return np.stack([cos, -sin, shift_x, sin, cos, shift_y], -1)


@functools.cache
def rotations(degrees: float, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The grid of angles, float32 (LEVELS,), and their maps, int32 (LEVELS, 6) as `fixed_point`."""
    angles = _grid(-degrees, degrees).astype(np.float32)
    return angles, fixed_point(rotation_matrices(angles, height, width))


@functools.cache
def hue_ties() -> np.ndarray:
    """bool (256,): whether Pillow gives k - 1 to a colour whose hue is exactly k/255 of a turn.

    Pillow floors 255 h; only where that is a whole number does its float32 rounding decide, and it
    depends on k alone. Source: Pillow, Convert.c, rgb2hsv_row.
    """
    k = np.arange(256)
    sector = np.round(k / 85) * 170  # sixths of a turn in units of 1/85: red 0 or 510, 170, 340
    offset = 2 * k - sector
    up = ((85 + np.minimum(offset, 0)) / 85).astype(np.float32)
    down = ((85 - np.maximum(offset, 0)) / 85).astype(np.float32)
    sixths = (sector % 510 / 85 + up - down).astype(np.float32).astype(np.float64)
    hue = np.fmod(sixths / 6 + 1, 1).astype(np.float32).astype(np.float64)
    return np.trunc(hue * 255) < np.where(k == 255, 0, k)


@functools.cache
def autocontrast_ties() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where Pillow's autocontrast rounds a whole number down to the one below.

    Stretching lo..hi to 0..255 maps i to floor(255 (i - lo) / (hi - lo)). With r = hi - lo and
    g = gcd(r, 255) the quotient is whole for i = lo + j r / g, j = 0..g; there float64 rounding
    decides. Returns g int32 (256,), start int32 (256,) and bools, of which the one at
    start[r] + lo (g[r] + 1) + j tells. Source: Pillow, ImageOps.autocontrast.
    """
    divisors, starts, downs, size = [1], [0], [], 0
    for r in range(1, 256):
        g = math.gcd(r, 255)
        lo = np.arange(256 - r)[:, None]
        j = np.arange(g + 1)
        scale = 255.0 / r
        value = np.trunc((lo + j * (r // g)) * scale + -lo * scale)
        divisors.append(g)
        starts.append(size)
        downs.append((value < 255 // g * j).ravel())
        size += downs[-1].size
    return np.array(divisors, np.int32), np.array(starts, np.int32), np.concatenate(downs)


@functools.cache
def mix_weights(alpha: float) -> np.ndarray:
    """Quantiles of Beta(alpha, alpha) in the middle of LEVELS equal steps, float64 (LEVELS,)."""
    from scipy.stats import beta

    return beta.ppf(_grid(0, 1), alpha, alpha)


def box_sides(alpha: float, side: int) -> np.ndarray:
    """Of each of those weights the side of CutMix's box, int32: side sqrt(1 - lambda), floored."""
    return np.floor(side * np.sqrt(1 - mix_weights(alpha))).astype(np.int32)
