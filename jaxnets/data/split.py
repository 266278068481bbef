"""Splits: one for validation out of the training images, and images that are in two of them."""

import hashlib
from collections.abc import Iterator

import numpy as np

from jaxnets.data.dataset import Dataset
from jaxnets.errors import UserError

# Keeps the choice of the images apart from every other use of the same seed.
_SPLIT_STREAM = 0x5A11D


def split_validation(dataset: Dataset, fraction: float, seed: int) -> Dataset:
    """`dataset` with the share `fraction` of each class moved from train to validation.

    Of a class of n images round(fraction n) move, at least one and at most n - 1. Which ones is
    decided by `seed` and the class alone; the images of either split keep their order.

    Raises:
        UserError: a class with fewer than two training images.

    Example:
        >>> from jaxnets.data import load_dataset
        >>> digits = split_validation(load_dataset("digits"), 0.1, seed=0)
        >>> len(digits.train_images), len(digits.val_images)
        (1295, 143)
    """
    labels = dataset.train_labels
    moved = np.zeros(len(labels), bool)
    for label, name in enumerate(dataset.class_names):
        members = np.flatnonzero(labels == label)
        if len(members) < 2:
            raise UserError(
                f"config.data.val_fraction={fraction}: class {name!r} has {len(members)} training "
                "image(s), and each class needs two; add images, or set it to 0"
            )
        count = min(max(round(fraction * len(members)), 1), len(members) - 1)
        bits = np.random.Philox(np.random.SeedSequence((_SPLIT_STREAM, seed, label)))
        moved[np.random.Generator(bits).permutation(members)[:count]] = True
    return dataset._replace(
        train_images=dataset.train_images[~moved],
        train_labels=labels[~moved],
        val_images=dataset.train_images[moved],
        val_labels=labels[moved],
    )


def doubles(dataset: Dataset) -> tuple[str, ...]:
    """Notes that count the images of validation and test of which train holds a copy.

    Pixel for pixel, as a network sees them: their files may differ in name and size.
    """
    train = set(_digests(dataset.train_images))
    splits = {"validation": dataset.val_images, "test": dataset.test_images}
    counts = {
        split: sum(digest in train for digest in _digests(images))
        for split, images in splits.items()
        if images is not None
    }
    return tuple(
        f"{count:,} of {len(splits[split]):,} {split} images are in train too, pixel for pixel: "
        f"figures on the {split} set will be too good"
        for split, count in counts.items()
        if count
    )


def _digests(images: np.ndarray) -> Iterator[bytes]:
    return (hashlib.blake2b(np.ascontiguousarray(x), digest_size=16).digest() for x in images)
