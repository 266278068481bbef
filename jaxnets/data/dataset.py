"""What every data source yields, and what it is before it is read."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxnets.errors import UserError


class Dataset(NamedTuple):
    """Two or three splits of labelled images in memory.

    train_images, test_images, val_images: uint8 (N, H, W, 3), NHWC, 0..255.
    train_labels, test_labels, val_labels: int32 (N,), each an index into `class_names`.
    source: what was read, for people, such as 'data/cifar-10-batches-py'.
    notes: what people should know about the reading of it, a line each.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: tuple[str, ...]
    source: str
    val_images: np.ndarray | None = None
    val_labels: np.ndarray | None = None
    notes: tuple[str, ...] = ()


class Source(NamedTuple):
    """A data set found on disk: `read()` reads it, and `files` change whenever its content does.

    `options` stands for everything else that the result of `read()` depends on.
    """

    path: Path
    files: tuple[Path, ...]
    read: Callable[[], Dataset]
    options: str = ""


def checked_labels(labels: object, count: int, classes: int, where: object) -> np.ndarray:
    """`labels` as int32 (count,) if they are `count` integers in 0..classes-1; UserError if not."""
    # Looked at before it is converted: of nested lists that share their parts numpy makes copies.
    flat = isinstance(labels, list | tuple) and all(isinstance(x, int | np.integer) for x in labels)
    array = np.asarray(labels if flat or isinstance(labels, np.ndarray) else None)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise UserError(f"{where}: labels are not a flat list of integers; fetch it again")
    if len(array) != count:
        raise UserError(f"{where}: {count} images but {len(array)} labels; fetch it again")
    wrong = array[(array < 0) | (array >= classes)]
    if wrong.size:
        raise UserError(
            f"{where}: label {wrong[0]} is outside 0..{classes - 1}; fetch it again, or name the "
            "data set that it belongs to"
        )
    return array.astype(np.int32)
