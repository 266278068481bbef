"""The images that a page offers: of the test set, one class after the other, or drawn ones."""

from typing import Any, NamedTuple

import numpy as np

from jaxnets.data import load
from jaxnets.errors import UserError
from jaxnets.export.images import random_images

COUNT = 8


class Samples(NamedTuple):
    """Images with what is known of them."""

    images: np.ndarray
    """uint8 (N, size, size, 3)."""
    names: tuple[str, ...]
    """The true class of each, or what it is called."""
    origin: str
    """For people: where they are from."""


def samples(config: Any) -> Samples:
    """Eight images of classes spread evenly over all, where the data is at hand.

    Of each class they are the first ones of the test set: nobody has chosen them.
    """
    try:
        data = load(config, download=False)
    except UserError:
        images = random_images(COUNT, config.data.image_size)
        names = tuple(f"squares {i + 1}" for i in range(COUNT))
        return Samples(images, names, "Random squares: no test images were at hand.")
    classes = np.unique(data.test_labels)
    wanted = [classes[i * len(classes) // COUNT] for i in range(COUNT)]
    of_class = {c: iter(np.flatnonzero(data.test_labels == c)) for c in wanted}
    chosen = [i for i in (next(of_class[c], None) for c in wanted) if i is not None]
    return Samples(
        data.test_images[chosen],
        tuple(data.class_names[data.test_labels[i]] for i in chosen),
        "Test images and their true classes.",
    )
