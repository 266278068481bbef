"""The images that exports are compared on: real ones where they are at hand, else random ones."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnets.data import Dataset, load
from jaxnets.data.identity import differing_classes
from jaxnets.errors import UserError

COUNT = 500
TRIED = 256  # training images that layers are left in float by
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


class Labelled(NamedTuple):
    """The whole of a split."""

    images: np.ndarray
    """uint8 (N, size, size, 3)."""
    labels: np.ndarray
    split: str
    """"validation" or "test"."""
    what: str
    """For people: where they are from."""


class Int8Images(NamedTuple):
    """What it takes to make a network of int8: training images, and others to judge it on."""

    calibration: np.ndarray
    """uint8 (N, size, size, 3): what the ranges of the activations are taken from."""
    tried: np.ndarray
    """What layers are left in float by; apart from the others where there are enough."""
    judged: Labelled
    what: str
    """For people: where the training images are from."""


def int8_images(config: Any, class_names: Sequence[str], calibration: int) -> Int8Images:
    """Images of the data of `config`, the training images drawn at random, always the same ones.

    Args:
        class_names: of the network.
        calibration: how many training images to calibrate on, if there are as many.

    Raises:
        UserError: the data is not at hand, or of other classes; nothing is downloaded.
    """
    data = load(config, download=False)
    judged = _judged(data, class_names)
    order = np.random.Generator(np.random.PCG64(0)).permutation(len(data.train_images))
    calibrated, rest = np.split(order, [min(calibration, len(order))])
    tried = (rest if len(rest) >= TRIED else order[::-1])[:TRIED]
    return Int8Images(
        data.train_images[calibrated],
        data.train_images[tried],
        judged,
        f"training images of {_name(data)}",
    )


def judged_images(config: Any, class_names: Sequence[str]) -> Labelled:
    """The validation split where the recipe takes one, else the test set.  Raises: as above."""
    return _judged(load(config, download=False), class_names)


def _judged(data: Dataset, class_names: Sequence[str]) -> Labelled:
    named = tuple(class_names) != tuple(map(str, range(len(class_names))))
    if named and tuple(class_names) != data.class_names:
        difference = differing_classes(class_names, data.class_names)
        raise UserError(f"{data.source}: other classes than the network's: {difference}")
    if len(data.class_names) > len(class_names):
        raise UserError(
            f"{data.source}: {len(data.class_names)} classes, and the network tells "
            f"{len(class_names)} apart"
        )
    if data.val_images is not None:
        split, images, labels = "validation", data.val_images, data.val_labels
    else:
        split, images, labels = "test", data.test_images, data.test_labels
    return Labelled(images, labels, split, f"{split} images of {_name(data)}")


def _name(data: Dataset) -> str:
    """Of the data, without the folders above: it is told in files that go to other people."""
    return Path(data.source).name


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
