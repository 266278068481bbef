"""AutoAugment on batches in JAX, every image with its own pair of operations.

A batch holds all operations at once: for either place of a pair, an affine map, a blend and a
lookup are computed for all images, and each image keeps the one that is its own.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxnets.augment import image_ops
from jaxnets.augment.policies import (
    AFFINE,
    CONTRAST,
    LOOKUP,
    PAIRS,
    SHARPNESS,
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

    def step(images: Array, row: Array) -> tuple[Array, None]:
        kind = jnp.asarray(tables.kind)[row][:, None, None, None]
        mapped = image_ops.affine(images, jnp.asarray(tables.matrix)[row])
        blended = _blend(images, row, kind, jnp.asarray(tables.product))
        looked_up = _look_up(images, kind, jnp.asarray(tables.lookup)[row])
        blended = jnp.where(kind >= LOOKUP, looked_up, blended)
        return jnp.where(kind == AFFINE, mapped, blended), None

    # A loop, for unrolled the first step would be fused into the second and computed several times.
    return jax.lax.scan(step, images, rows.T)[0]


def _blend(images: Array, row: Array, kind: Array, product: Array) -> Array:
    """Pillow's float32 blend with each image's degenerate, the product read from the table."""
    x, luma = images.astype(jnp.int32), image_ops.grey(images)
    other = jnp.where(kind == CONTRAST, image_ops.mean_grey(luma), luma)
    other = jnp.where(kind == SHARPNESS, image_ops.smooth(images), other)
    product = product[row[:, None, None, None], x - other + 255]
    # By way of int32, which truncates: XLA's YNNPACK code rounds float32 to the nearest uint8.
    return image_ops.to_uint8((other.astype(jnp.float32) + product).astype(jnp.int32))


def _look_up(images: Array, kind: Array, fixed: Array) -> Array:
    """Each image through its own tables: `fixed`, uint8 (n, 256), or made from the image."""
    equalize = image_ops.equalize_lookup(images)
    autocontrast = image_ops.autocontrast_lookup(images)
    fixed = jnp.broadcast_to(fixed[:, None], equalize.shape)
    # Taken from a stack, which is kept in memory: a `where` would be computed anew for each pixel.
    tables = jnp.stack([fixed, autocontrast, equalize], 1)
    choice = jnp.maximum(kind - LOOKUP, 0)
    return image_ops.lookup(images, jnp.take_along_axis(tables, choice, 1)[:, 0])
