"""The learned policies of AutoAugment as tables of per-image constants.

A policy is 25 pairs of (operation, probability, magnitude 0-9). An operation is an affine map, a
blend with a degenerate image, or a lookup table for each channel: its `kind` says which. The tables
have a row for every (pair, place, sign) and a last one that does nothing.

Imports numpy alone.

Sources: Cubuk et al. 2019, AutoAugment (arXiv 1805.09501), the tables of its appendix; magnitudes
as in torchvision.transforms.AutoAugment.
"""

import functools
from typing import NamedTuple

import numpy as np

from jaxnets.augment.tables import fixed_point, rotation_matrices

PAIRS = 25
# Kinds: an affine map; blends with grey, mean grey, a blurred image; lookup tables that are fixed
# or made from the image.
AFFINE, COLOR, CONTRAST, SHARPNESS, LOOKUP, AUTOCONTRAST, EQUALIZE = range(7)
_KINDS = {
    "color": COLOR,
    "contrast": CONTRAST,
    "sharpness": SHARPNESS,
    "brightness": LOOKUP,
    "posterize": LOOKUP,
    "solarize": LOOKUP,
    "invert": LOOKUP,
    "autocontrast": AUTOCONTRAST,
    "equalize": EQUALIZE,
}
_SIGNED = {"shear_x", "shear_y", "translate_x", "translate_y", "rotate"}
_SIGNED |= {"brightness", "color", "contrast", "sharpness"}

_POLICIES = {
    "cifar10": """
        invert .1      | contrast .2 6
        rotate .7 2    | translate_x .3 9
        sharpness .8 1 | sharpness .9 3
        shear_y .5 8   | translate_y .7 9
        autocontrast .5| equalize .9
        shear_y .2 7   | posterize .3 7
        color .4 3     | brightness .6 7
        sharpness .3 9 | brightness .7 9
        equalize .6    | equalize .5
        contrast .6 7  | sharpness .6 5
        color .7 7     | translate_x .5 8
        equalize .3    | autocontrast .4
        translate_y .4 3 | sharpness .2 6
        brightness .9 6 | color .2 8
        solarize .5 2  | invert 0
        equalize .2    | autocontrast .6
        equalize .2    | equalize .6
        color .9 9     | equalize .6
        autocontrast .8| solarize .2 8
        brightness .1 3 | color .7 0
        solarize .4 5  | autocontrast .9
        translate_y .9 9 | translate_y .7 9
        autocontrast .9| solarize .8 3
        equalize .8    | invert .1
        translate_y .7 9 | autocontrast .9
    """,
    "imagenet": """
        posterize .4 8 | rotate .6 9
        solarize .6 5  | autocontrast .6
        equalize .8    | equalize .6
        posterize .6 7 | posterize .6 6
        equalize .4    | solarize .2 4
        equalize .4    | rotate .8 8
        solarize .6 3  | equalize .6
        posterize .8 5 | equalize 1
        rotate .2 3    | solarize .6 8
        equalize .6    | posterize .4 6
        rotate .8 8    | color .4 0
        rotate .4 9    | equalize .6
        equalize 0     | equalize .8
        invert .6      | equalize 1
        color .6 4     | contrast 1 8
        rotate .8 8    | color 1 2
        color .8 8     | solarize .8 7
        sharpness .4 7 | invert .6
        shear_x .6 5   | equalize 1
        color .4 0     | equalize .6
        equalize .4    | solarize .2 4
        solarize .6 5  | autocontrast .6
        invert .6      | equalize 1
        color .6 4     | contrast 1 8
        equalize .8    | equalize .6
    """,
}


class Step(NamedTuple):
    """One operation of a pair; `magnitude` is signed, in the operation's own unit, 0 if unused."""

    name: str
    magnitude: float


class PolicyTables(NamedTuple):
    """What row `4 pair + 2 place + sign` does (sign 0: negative); row 100 does nothing."""

    steps: tuple[Step, ...]
    probability: np.ndarray  # float32 (25, 2)
    kind: np.ndarray  # int32 (101,)
    matrix: np.ndarray  # int32 (101, 6), see fixed_point
    product: np.ndarray  # float32 (101, 511): factor * d for d = -255..255
    lookup: np.ndarray  # uint8 (101, 256)


@functools.cache
def policy_tables(policy: str, height: int, width: int) -> PolicyTables:
    """The tables of `policy` ("cifar10" or "imagenet") for images of height x width."""
    pairs = [line.split("|") for line in _POLICIES[policy].strip().splitlines()]
    probability = np.array([[float(op.split()[1]) for op in pair] for pair in pairs], np.float32)
    steps = []
    for op in (op.split() for pair in pairs for op in pair):
        name, level = op[0], int(op[2]) if len(op) > 2 else 0
        size = height if name.endswith("_y") else width
        magnitude = float(_magnitudes(name, size)[level])
        steps.append(Step(name, -magnitude if name in _SIGNED else magnitude))
        steps.append(Step(name, magnitude))
    steps.append(Step("identity", 0.0))

    # Products are rounded to float32 here: a device may fuse them with the addition that follows.
    factor = np.array([[np.float32(1 + step.magnitude)] for step in steps], np.float32)
    return PolicyTables(
        tuple(steps),
        probability,
        np.array([_KINDS.get(step.name, AFFINE) for step in steps], np.int32),
        fixed_point(np.array([_matrix(step, height, width) for step in steps])),
        factor * np.arange(-255, 256, dtype=np.float32),
        np.array([_lookup(step) for step in steps], np.uint8),
    )


def _magnitudes(name: str, size: int) -> np.ndarray:
    """The ten magnitudes of an operation, float32, evenly spaced as torch.linspace rounds them."""
    if name == "posterize":  # bits kept
        return 8 - np.round(np.arange(10) / 2.25)
    start, end = {
        "shear_x": (0, 0.3),
        "shear_y": (0, 0.3),
        "translate_x": (0, 150 / 331 * size),
        "translate_y": (0, 150 / 331 * size),
        "rotate": (0, 30),
        "solarize": (255, 0),
    }.get(name, (0, 0.9) if name in _SIGNED else (0, 0))
    start, end = np.float32(start), np.float32(end)
    step, i = (end - start) / np.float32(9), np.arange(10, dtype=np.float32)
    return np.where(i < 5, start + step * i, end - step * (9 - i))


def _matrix(step: Step, height: int, width: int) -> np.ndarray:
    """The map from output to input coordinates, float64 (6,)."""
    name, m = step
    if name == "rotate":
        return rotation_matrices(np.array(m), height, width)
    if name.startswith("translate"):
        shift = float(int(m))
        return np.array([1, 0, -shift * (name[-1] == "x"), 0, 1, -shift * (name[-1] == "y")])
    # The centre of a shear is the corner (0, 0).
    return np.array([1, m * (name == "shear_x"), 0, m * (name == "shear_y"), 1, 0], np.float64)


def _lookup(step: Step) -> np.ndarray:
    """The fixed table of an operation on single channels, (256,)."""
    x = np.arange(256)
    match step.name:
        case "brightness":
            product = np.float32(1 + step.magnitude) * x.astype(np.float32)
            return np.clip(product, 0, 255).astype(np.uint8)
        case "invert":
            return 255 - x
        case "posterize":
            return x & ~((1 << (8 - int(step.magnitude))) - 1)
        case "solarize":
            return np.where(x < step.magnitude, x, 255 - x)
        case _:
            return x
