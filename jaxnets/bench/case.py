"""What is measured: a recipe with one batch size and one type, on images that need no file."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxnets import config as configs
from jaxnets.data import Dataset
from jaxnets.errors import UserError, unknown

TRAIN_IMAGES, TEST_IMAGES = 50_000, 10_000
_CLASSES = {"cifar100": 100}


class Case(NamedTuple):
    """One row of the result."""

    config: str
    """Of the recipe, as JSON, `batch_size` and `dtype` included: it goes to another process."""
    spec: str
    """The recipe as the command names it."""


class Budget(NamedTuple):
    """How long to measure."""

    repeats: int
    seconds: float
    """Of a repeat."""
    compile_limit: float
    """Seconds that torch.compile may take for one program."""


def cases(config: Any, spec: str, batches: Sequence[int], dtypes: Sequence[str]) -> list[Case]:
    """A recipe's cases: every type, every batch size, on one device."""
    found = []
    for dtype in dtypes:
        for batch in batches:
            config.dtype, config.batch_size = dtype, batch
            if config.devices is None:
                config.devices = 1
            found.append(Case(configs.to_json(config), spec))
    return found


def numbers(flag: str, text: str) -> list[int]:
    """The batch sizes of "128,512"."""
    parts = text.split(",")
    if not all(p.isdecimal() and 1 <= int(p) <= TRAIN_IMAGES for p in parts):
        raise UserError(
            f"{flag} {text}: whole numbers from 1 to {TRAIN_IMAGES:,}, such as 128,512,2048"
        )
    return list(dict.fromkeys(map(int, parts)))


def dtypes(flag: str, text: str) -> list[str]:
    """The types of "float32,bfloat16"."""
    for name in text.split(","):
        if name not in configs.PARAM_DTYPES:
            raise unknown(flag, name, configs.PARAM_DTYPES)
    return list(dict.fromkeys(text.split(",")))


def classes(config: Any) -> int:
    """How many classes a recipe's network tells apart."""
    return config.model.num_classes or _CLASSES.get(config.data.name, 10)


def synthetic(config: Any, on_cpu: bool) -> Dataset:
    """Random images of the shape that the recipe's data set has, all batches full.

    How long a step takes does not depend on what the images show. On an accelerator there are as
    many as in CIFAR, so that an epoch is one; a CPU, where every step is a call, needs only
    eight batches, and one to evaluate.
    """
    batch = config.batch_size
    train, test = (8 * batch, batch) if on_cpu else (TRAIN_IMAGES, max(TEST_IMAGES, batch))
    train, test = train // batch * batch, test // batch * batch
    count = classes(config)
    random, size = np.random.default_rng(0), config.data.image_size

    def images(number: int) -> np.ndarray:
        return random.integers(0, 256, (number, size, size, 3), np.uint8)

    def labels(number: int) -> np.ndarray:
        return random.integers(0, count, number, np.int32)

    return Dataset(
        train_images=images(train),
        train_labels=labels(train),
        test_images=images(test),
        test_labels=labels(test),
        class_names=tuple(map(str, range(count))),
        source="random images",
    )
