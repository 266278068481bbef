"""MixUp and CutMix: pairs of images of a batch become one, and so do their labels.

Image i is paired with image i - 1 of the batch, the first with the last.  CutMix (Yun et al. 2019)
replaces a box of it by the pair's, MixUp (Zhang et al. 2018) takes their weighted mean; the loss is
that of the labels with the same weights.  The numbers follow from three tables and uniform numbers,
so that both frameworks, which share them, mix alike: this module imports neither.
"""

import functools
from typing import Any, NamedTuple

import numpy as np

from jaxnets.augment.tables import LEVELS
from jaxnets.checks import Section
from jaxnets.errors import UserError

MIX_STREAM = 0x6D6978  # "mix": keeps these random bits apart from the others
NAMES = ("none", "cutmix", "mixup", "either")
COLUMNS = 5  # uniform numbers of a draw: whether, which, lambda, top, left


class Mix(NamedTuple):
    """`config.augment.mix`."""

    name: str
    alpha: float
    p: float
    per_image: bool


def read_mix(config: Any, batch_size: int | None = None) -> Mix | None:
    """The options in `config.augment.mix`; None where nothing is mixed.

    Raises:
        UserError: a value that is not allowed, or a batch of one image, which has no pair.
    """
    section = Section("config.augment.mix", getattr(config, "mix", None))
    name = section.choice("name", NAMES, "none")
    mix = Mix(
        name=name,
        alpha=section.number("alpha", "(0, inf)", 1.0),
        p=section.number("p", "[0, 1]", 0.5),
        per_image=section.flag("per_image", False),
    )
    if name == "none":
        return None
    if batch_size == 1:
        raise UserError(
            f"config.augment.mix.name={name}: an image of a batch of 1 has no pair; raise "
            "config.batch_size"
        )
    return mix


@functools.cache
def weights(alpha: float) -> np.ndarray:
    """Quantiles of Beta(alpha, alpha) in the middle of LEVELS equal steps, float64 (LEVELS,)."""
    from scipy.stats import beta

    return beta.ppf((np.arange(LEVELS) + 0.5) / LEVELS, alpha, alpha)


def box_sides(alpha: float, side: int) -> np.ndarray:
    """Of each of those weights the side of CutMix's box, int32: side sqrt(1 - lambda), floored."""
    return np.floor(side * np.sqrt(1 - weights(alpha))).astype(np.int32)
