"""AutoAugment on batches in JAX, every image with its own pair of operations.

A batch holds all operations at once, so all of them are computed and each image keeps its own: one
affine map, one blend, one lookup for each of the two places of a pair, identities where unused.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxnets.data import image_ops
from jaxnets.data.auto_augment_policies import (
    AUTOCONTRAST,
    COLOR,
    CONTRAST,
    EQUALIZE,
    PAIRS,
    SHARPNESS,
    PolicyTables,
    policy_tables,
)


def draw(u: Array, policy: str) -> Array:
    """Rows of the policy's tables for both places, int32 (n, 2), from uniforms u (n, 5).

    Columns of u: the pair, whether each place applies (u <= its probability), the sign of each.
    """
    tables = policy_tables(policy, 1, 1)  # probabilities do not depend on the size
    pair = (u[:, :1] * PAIRS).astype(jnp.int32)
    sign = (u[:, 3:] >= 0.5).astype(jnp.int32)
    row = 4 * pair + np.array([0, 2], np.int32) + sign
    applied = u[:, 1:3] <= jnp.asarray(tables.probability)[pair[:, 0]]
    return jnp.where(applied, row, 4 * PAIRS)


def apply(images: Array, rows: Array, policy: str) -> Array:
    """The operations of `rows`, int32 (n, 2) from `draw`, on uint8 images (n, H, W, 3)."""
    tables = policy_tables(policy, *images.shape[1:3])
    for place in (0, 1):
        row = rows[:, place]
        images = image_ops.affine(images, jnp.asarray(tables.matrix)[row])
        images = _blend(images, row, tables)
        images = _lookup(images, row, tables)
    return images


def _blend(images: Array, row: Array, tables: PolicyTables) -> Array:
    """Pillow's float32 blend with each row's degenerate image, the product read from the table."""
    kind = jnp.asarray(tables.degenerate)[row][:, None, None, None]
    x, luma = images.astype(jnp.int32), image_ops.grey(images)
    other = jnp.where(kind == COLOR, luma, x)
    other = jnp.where(kind == CONTRAST, image_ops.mean_grey(luma), other)
    other = jnp.where(kind == SHARPNESS, image_ops.smooth(images), other)
    product = jnp.asarray(tables.product)[row[:, None, None, None], x - other + 255]
    return jnp.clip(other.astype(jnp.float32) + product, 0, 255).astype(jnp.uint8)


def _lookup(images: Array, row: Array, tables: PolicyTables) -> Array:
    equalize = image_ops.equalize_lookup(images)
    fixed = jnp.broadcast_to(jnp.asarray(tables.lookup)[row][:, None], equalize.shape)
    choices = {0: fixed, AUTOCONTRAST: image_ops.autocontrast_lookup(images), EQUALIZE: equalize}
    # Taken from a stack, which is kept in memory: a `where` would be computed anew for each pixel.
    kind = jnp.asarray(tables.lookup_kind)[row][:, None, None, None]
    stack = jnp.stack([choices[i] for i in range(3)], 1)
    return image_ops.lookup(images, jnp.take_along_axis(stack, kind, 1)[:, 0])
