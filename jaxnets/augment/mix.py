"""MixUp and CutMix: pairs of images of a batch become one, and so do their labels.

Image i is paired with image i - 1 of the batch, the first with the last.  CutMix (Yun et al. 2019)
replaces a box of it by the pair's, MixUp (Zhang et al. 2018) takes their weighted mean; the loss is
that of the labels with the same weights.  The numbers follow from tables and uniform numbers, which
both frameworks share, so that they mix alike.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxnets.augment.options import MIX_STREAM, Mix
from jaxnets.augment.tables import LEVELS, box_sides, mix_weights


class Drawn(NamedTuple):
    """What is done to each image of a batch.

    box: int32 (n, 4) as (top, bottom, left, right), what CutMix takes of the pair; may be empty.
    blend: (n,) MixUp's weight of the image itself, 1 where there is none.
    weight: (n,) of the image's own label; after clipping, 1 - area of the box / area.
    """

    box: Array
    blend: Array
    weight: Array


def mix_key(seed: ArrayLike, step: ArrayLike) -> Array:
    """The key of training step `step` (from 0)."""
    key = jax.random.key(seed, impl="threefry2x32")
    return jax.random.fold_in(jax.random.fold_in(key, MIX_STREAM), step)


def draw(options: Mix, u: Array, height: int, width: int) -> Drawn:
    """From uniforms u, float32 (n, Mix.columns), a row an image."""
    level = (u[:, 2] * LEVELS).astype(jnp.int32)
    on = u[:, 0] < np.float32(options.p)
    cut = on & ((u[:, 1] < 0.5) if options.name == "either" else options.name == "cutmix")
    edges = []
    for column, side in ((3, height), (4, width)):
        centre = (u[:, column] * side).astype(jnp.int32)
        half = jnp.asarray(box_sides(options.alpha, side))[level] // 2
        edges += [jnp.maximum(centre - half, 0), jnp.minimum(centre + half, side)]
    box = jnp.where(cut[:, None], jnp.stack(edges, 1), 0)
    area = ((box[:, 1] - box[:, 0]) * (box[:, 3] - box[:, 2])).astype(float)
    blend = jnp.where(on & ~cut, jnp.asarray(mix_weights(options.alpha))[level], 1)
    return Drawn(box, blend, jnp.where(cut, 1 - area / (height * width), blend))


def apply(images: Array, pairs: Array, drawn: Drawn) -> Array:
    """The mixed images, floats (n, H, W, C), of images and what each is paired with."""
    top, bottom, left, right = drawn.box.T[..., None]
    y, x = (jnp.arange(side, dtype=jnp.int32) for side in images.shape[1:3])
    rows, columns = (y >= top) & (y < bottom), (x >= left) & (x < right)
    cut = jnp.where((rows[:, :, None] & columns[:, None])[..., None], pairs, images)
    blend = drawn.blend[:, None, None, None].astype(images.dtype)
    return jnp.where(blend < 1, blend * images + (1 - blend) * pairs, cut)
