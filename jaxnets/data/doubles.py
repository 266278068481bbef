"""Images that are in train and are tested on too."""

import hashlib
from collections.abc import Iterator

import numpy as np

from jaxnets.data.dataset import Dataset


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
