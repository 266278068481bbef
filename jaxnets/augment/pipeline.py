"""Random augmentation of a batch, on the device, inside the jitted training step.

    augment = make_augment(config.augment)
    images = augment(augment_key(seed, step), images)         # uint8 (n, H, W, 3) in and out
    inputs = normalize(images, mean, std, jnp.float32)

Semantics are torchvision's transforms on PIL images, uint8 after every operation. All randomness of
a batch is one matrix of uniform numbers, a row an image: `draw` turns it into parameters and
`apply` uses them, so that another framework given the same matrix makes the same images.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from jaxnets.augment import auto_augment, image_ops, tables
from jaxnets.augment.options import (
    ATTEMPTS,
    AUGMENT_STREAM,
    AutoAugment,
    Crop,
    Erasing,
    Flip,
    Jitter,
    Options,
    RandomResizedCrop,
    Rotation,
    read_options,
)

Params = dict[str, dict[str, Array]]
_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE = range(4)


@dataclass(frozen=True)
class Augment:
    """The augmentations of one configuration; made by `make_augment`, hashable, without state."""

    ops: tuple[tuple[str, Options], ...]

    @property
    def size(self) -> int:
        """Uniform numbers an image needs: the columns of u."""
        return sum(options.columns for _, options in self.ops)

    def draw(self, u: Array, height: int = 32, width: int = 32) -> Params:
        """Parameters {operation: {name: (n, ...)}} from uniforms u, float32 (n, size) in [0, 1).

        Row i belongs to image i and every operation owns some of the columns.
        """
        params, start = {}, 0
        for op, options in self.ops:
            columns = u[:, start : start + options.columns]
            params[op] = _OPERATIONS[type(options)][0](columns, options, height, width)
            start += options.columns
        return params

    def apply(self, images: Array, params: Params) -> Array:
        """The augmented images, uint8 (n, H, W, 3); `params` were drawn for their H and W."""
        for op, options in self.ops:
            images = _OPERATIONS[type(options)][1](images, params[op], options)
        return images

    def __call__(self, key: Array, images: Array) -> Array:
        """Draw from `key` and apply to uint8 images (n, H, W, 3)."""
        n, height, width, _ = images.shape
        u = jax.random.uniform(key, (n, self.size), jnp.float32)
        return self.apply(images, self.draw(u, height, width))


def make_augment(config: Any) -> Augment:
    """The augmentations `config.ops` names, in that order, with the options in `config.<name>`.

    Example:
        >>> from types import SimpleNamespace as Config
        >>> config = Config(ops=("crop", "flip"), crop=Config(padding=4), flip=Config(p=0.5))
        >>> make_augment(config).size
        3

    Raises:
        UserError: an unknown or repeated operation, or a value that is missing or out of range.
    """
    return Augment(tuple(read_options(config).items()))


def augment_key(seed: ArrayLike, step: ArrayLike) -> Array:
    """The key of training step `step` (from 0), for `0 <= seed < 2^32`; either may be traced."""
    key = jax.random.key(seed, impl="threefry2x32")
    return jax.random.fold_in(jax.random.fold_in(key, AUGMENT_STREAM), step)


def normalize(
    images: Array, mean: Sequence[float], std: Sequence[float], dtype: DTypeLike = jnp.float32
) -> Array:
    """(images / 255 - mean) / std as `dtype`, of uint8 images (..., C); mean and std in 0..1 units.

    Computed as (images - 255 mean) * (1 / (255 std)) in at least float32: no two operations that a
    compiler could fuse, hence the same bits on every device and in both frameworks.
    """
    wide = jnp.promote_types(dtype, jnp.float32)
    shift = jnp.asarray(255 * np.asarray(mean, np.float64), wide)
    scale = jnp.asarray(1 / (255 * np.asarray(std, np.float64)), wide)
    return ((images.astype(wide) - shift) * scale).astype(dtype)


def _integers(u: Array, count: ArrayLike) -> Array:
    """Uniform integers 0..count - 1, int32, from u in [0, 1); `count` up to 2^15."""
    return (u * jnp.asarray(count, jnp.float32)).astype(jnp.int32)


def _draw_sides(
    u: Array, scale: tuple[float, float], ratio: tuple[float, float], first: int, second: int
) -> tuple[Array, Array]:
    """Rounded sqrt(area * ratio) and sqrt(area / ratio) of the draws, int32 (n, ATTEMPTS) each.

    `first` and `second` are the sides of the image; a longer one is returned as one more.
    """
    area = jnp.asarray(tables.areas(scale))[_integers(u[:, :ATTEMPTS], tables.LEVELS)]
    level = _integers(u[:, ATTEMPTS:], tables.LEVELS)
    sides = []
    for factors, side in zip(tables.aspect_ratios(ratio), (first, second), strict=True):
        share = (area * jnp.asarray(factors)[level])[..., None]
        reached = share >= tables.side_thresholds(side, first * second)
        sides.append(reached.sum(-1, dtype=jnp.int32))
    return sides[0], sides[1]


def _draw_box(u: Array, box_height: Array, box_width: Array, height: int, width: int) -> Array:
    """Boxes int32 (n, 4), (top, left, height, width), uniform among the places where they fit."""
    top = _integers(u[:, 0], height - box_height + 1)
    left = _integers(u[:, 1], width - box_width + 1)
    return jnp.stack([top, left, box_height, box_width], -1)


def _first(fits: Array, values: Array) -> Array:
    """values[i, j] for the first j with fits[i, j], (n,)."""
    return jnp.take_along_axis(values, jnp.argmax(fits, 1)[:, None], 1)[:, 0]


def _draw_resized_crop(
    u: Array, options: RandomResizedCrop, height: int, width: int
) -> dict[str, Array]:
    widths, heights = _draw_sides(u[:, :-2], options.scale, options.ratio, width, height)
    fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
    box = _draw_box(u[:, -2:], _first(fits, heights), _first(fits, widths), height, width)
    fallback = np.array(tables.central_box(options.ratio, height, width), np.int32)
    return {"box": jnp.where(fits.any(1)[:, None], box, fallback)}


def _draw_rotation(u: Array, options: Rotation, height: int, width: int) -> dict[str, Array]:
    angles, matrices = tables.rotations(float(options.degrees), height, width)
    level = _integers(u[:, 0], tables.LEVELS)
    return {"angle": jnp.asarray(angles)[level], "matrix": jnp.asarray(matrices)[level]}


def _draw_crop(u: Array, options: Crop, height: int, width: int) -> dict[str, Array]:
    return {"offset": _integers(u, 2 * options.padding + 1)}


def _draw_flip(u: Array, options: Flip, height: int, width: int) -> dict[str, Array]:
    return {"flipped": u[:, 0] < np.float32(options.p)}


def _draw_jitter(u: Array, options: Jitter, height: int, width: int) -> dict[str, Array]:
    """Factors and hue turns in units of 2^-FACTOR_BITS, and the order to apply them in."""
    params = {"order": jnp.argsort(u[:, :4], 1).astype(jnp.int32)}
    for i, (name, strength) in enumerate(options._asdict().items()):
        low, high = tables.jitter_range(name, strength)
        params[name] = low + _integers(u[:, 4 + i], high - low + 1)
    return params


def _draw_erasing(u: Array, options: Erasing, height: int, width: int) -> dict[str, Array]:
    heights, widths = _draw_sides(u[:, 1:-2], options.scale, options.ratio, height, width)
    fits = (heights < height) & (widths < width)
    box = _draw_box(u[:, -2:], _first(fits, heights), _first(fits, widths), height, width)
    erased = (u[:, 0] < np.float32(options.p)) & fits.any(1)
    return {"box": jnp.where(erased[:, None], box, 0)}


def _draw_auto_augment(u: Array, options: AutoAugment, height: int, width: int) -> dict[str, Array]:
    return {"rows": auto_augment.draw(u, options.policy)}


def _jitter(images: Array, params: dict[str, Array], options: Jitter) -> Array:
    """The three blends and the hue turn in each image's own order.

    The costly hue turn is done once: first the blends that come before it in the order, then the
    turn, then the blends that come after. A blend of factor 1 leaves an image as it is.
    """
    order = params["order"]
    turn_place = jnp.argmax(order == _HUE, 1)
    factors = jnp.stack([params["brightness"], params["contrast"], params["saturation"]], 1)

    def blend(images: Array, place: int, active: Array) -> Array:
        op = order[:, place]
        kind = op[:, None, None, None]
        luma = image_ops.grey(images)
        other = jnp.where(kind == _CONTRAST, image_ops.mean_grey(luma), luma)
        other = jnp.where(kind == _BRIGHTNESS, 0, other)
        factor = jnp.take_along_axis(factors, jnp.minimum(op, _SATURATION)[:, None], 1)[:, 0]
        return image_ops.blend(images, other, jnp.where(active, factor, 1 << tables.FACTOR_BITS))

    for place in (0, 1, 2):
        images = blend(images, place, place < turn_place)
    if options.hue > 0:
        images = image_ops.shift_hue(images, tables.hue_shift(params["hue"]))
    for place in (1, 2, 3):
        images = blend(images, place, place > turn_place)
    return images


_OPERATIONS: dict[type, tuple[Callable[..., dict[str, Array]], Callable[..., Array]]] = {
    RandomResizedCrop: (_draw_resized_crop, lambda x, p, _: image_ops.resized_crop(x, p["box"])),
    Rotation: (_draw_rotation, lambda x, p, _: image_ops.affine(x, p["matrix"])),
    Crop: (_draw_crop, lambda x, p, options: image_ops.crop(x, p["offset"], options.padding)),
    Flip: (_draw_flip, lambda x, p, _: image_ops.flip(x, p["flipped"])),
    Jitter: (_draw_jitter, _jitter),
    Erasing: (_draw_erasing, lambda x, p, _: image_ops.erase(x, p["box"])),
    AutoAugment: (
        _draw_auto_augment,
        lambda x, p, options: auto_augment.apply(x, p["rows"], options.policy),
    ),
}
