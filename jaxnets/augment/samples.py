"""What augmentation makes of images: the very ones that training sees."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.augment.pipeline import Augment, augment_key
from jaxnets.data.batches import epoch_order, steps_per_epoch


class Samples(NamedTuple):
    """Training images beside what augmentation makes of them."""

    rows: np.ndarray
    """(M,) int, their places in the training set."""
    labels: np.ndarray
    """(M,) int."""
    originals: np.ndarray
    """uint8 (M, H, W, 3)."""
    augmented: np.ndarray
    """uint8 (M, E, H, W, 3), a column an epoch."""
    ops: tuple[str, ...]

    @property
    def heads(self) -> list[str]:
        """What the columns are: the original, then an epoch each."""
        return ["original", *(f"epoch {e + 1}" for e in range(self.augmented.shape[1]))]

    @property
    def table(self) -> list[list[np.ndarray]]:
        """The images under `heads`, a row for each original."""
        return [[o, *a] for o, a in zip(self.originals, self.augmented, strict=True)]


def read_samples(
    augment: Augment, images: np.ndarray, labels: np.ndarray, config: Any, most: int = 8
) -> Samples:
    """One training image of each of the first `most` classes, and what six epochs make of it."""
    rows = one_of_each(labels, most)
    made = augmented(augment, images, rows, seed=config.seed, batch_size=config.batch_size)
    return Samples(rows, labels[rows], images[rows], made, tuple(op for op, _ in augment.ops))


def one_of_each(labels: np.ndarray, most: int = 8) -> np.ndarray:
    """Indices of the first image of each class, of the first `most` classes that occur."""
    return np.unique(labels, return_index=True)[1][:most]


def augmented(
    augment: Augment,
    images: np.ndarray,
    rows: np.ndarray,
    *,
    seed: int,
    batch_size: int,
    epochs: Sequence[int] = range(6),
) -> np.ndarray:
    """The chosen images as training is fed them, uint8 (len(rows), len(epochs), H, W, 3).

    An image's random numbers are those of its place in its batch of each epoch (from 0), so these
    are the images of that run, whether it has come so far or not.

    Args:
        images: the whole training set, uint8 (N, H, W, 3).
        rows: which of them.
    """
    count, steps = len(images), steps_per_epoch(len(images), batch_size)
    draws = np.empty((len(rows), len(epochs), augment.size), np.float32)
    for e, epoch in enumerate(epochs):
        place = np.argsort(epoch_order(seed, epoch, count))[rows]
        for i, (batch, at) in enumerate(zip(*np.divmod(place, batch_size), strict=True)):
            size = min(batch_size, count - batch * batch_size)
            key = augment_key(seed, epoch * steps + int(batch))
            draws[i, e] = jax.random.uniform(key, (size, augment.size), jnp.float32)[at]
    repeated = np.repeat(images[rows], len(epochs), 0)
    made = _apply(augment, jnp.asarray(draws.reshape(len(repeated), -1)), repeated)
    return np.asarray(made).reshape(len(rows), len(epochs), *images.shape[1:])


@functools.partial(jax.jit, static_argnums=0)
def _apply(augment: Augment, u: jax.Array, images: jax.Array) -> jax.Array:
    return augment.apply(images, augment.draw(u, *images.shape[1:3]))
