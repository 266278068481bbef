"""The images that exports are compared on: real ones where they are at hand, else random ones."""

from typing import Any, NamedTuple

import numpy as np

from jaxnets.data import load
from jaxnets.errors import UserError

COUNT = 500
_SQUARES = 4  # a side: random squares differ as far as an untrained network can tell


class Images(NamedTuple):
    """What to compare on."""

    images: np.ndarray
    """uint8 (N, size, size, 3)."""
    what: str
    """For people: where they are from."""


def real_images(config: Any) -> Images:
    """So many test images, spread evenly over all of them; with others of the data if too few.

    Raises:
        UserError: the data of `config` is not at hand; nothing is downloaded.
    """
    data = load(config, download=False)
    images, what = data.test_images, f"test images of {data.source}"
    if len(images) < COUNT:
        images = np.concatenate([images, data.train_images[: COUNT - len(images)]])
        what = f"test and training images of {data.source}"
    chosen = np.linspace(0, len(images) - 1, min(COUNT, len(images))).round().astype(int)
    return Images(images[chosen], what)


def random_images(count: int, size: int, seed: int = 0) -> np.ndarray:
    """Images of random squares, uint8 (count, size, size, 3): the same ones everywhere, for ever.

    From the raw numbers of a generator, which numpy promises not to change.
    """
    values = np.random.PCG64(seed).random_raw(count * _SQUARES * _SQUARES * 3) & 255
    squares = values.astype(np.uint8).reshape(count, _SQUARES, _SQUARES, 3)
    index = np.arange(size) * _SQUARES // size
    return squares[:, index][:, :, index]


def images_at_hand(config: Any) -> tuple[Images, str | None]:
    """Real images, or random ones and a note that says why."""
    try:
        return real_images(config), None
    except UserError as e:
        images = random_images(COUNT, config.data.image_size)
        return Images(images, "random images"), f"no test images at hand: {e}"
