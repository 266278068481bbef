"""AutoAugment's tables against torchvision's: operations, probabilities, ranges of magnitudes."""

import numpy as np
import pytest
from golden_figures import load

from jaxnets.augment.policies import PAIRS, policy_tables

POLICIES = load("autoaugment_policies")
SIDE = 32
# What the ten magnitudes of an operation begin and end with, evenly spaced between.
RANGES = {
    "ShearX": (0, 0.3),
    "ShearY": (0, 0.3),
    "TranslateX": (0, 150 / 331 * SIDE),
    "TranslateY": (0, 150 / 331 * SIDE),
    "Rotate": (0, 30),
    "Brightness": (0, 0.9),
    "Color": (0, 0.9),
    "Contrast": (0, 0.9),
    "Sharpness": (0, 0.9),
    "Solarize": (255, 0),
}
UNSIGNED = {"Posterize", "Solarize", "AutoContrast", "Equalize", "Invert"}
POSTERIZE_BITS = [8, 8, 7, 7, 6, 6, 5, 5, 4, 4]


def magnitude(operation: str, level: int | None) -> float:
    if operation == "Posterize":
        return POSTERIZE_BITS[level]
    if operation not in RANGES:
        assert level is None
        return 0.0
    first, last = RANGES[operation]
    return first + (last - first) * level / 9


@pytest.mark.parametrize("policy", ["cifar10", "imagenet"])
def test_tables_are_torchvisions(policy):
    tables = policy_tables(policy, SIDE, SIDE)
    wanted = POLICIES[policy]
    assert len(wanted) == PAIRS == 25
    for i, pair in enumerate(wanted):
        for place, (operation, probability, level) in enumerate(pair):
            where = f"pair {i}, place {place}: {operation} {probability} {level}"
            negative, positive = tables.steps[4 * i + 2 * place :][:2]
            size = magnitude(operation, level)
            assert negative.name.replace("_", "") == operation.lower(), where
            assert negative.name == positive.name, where
            assert tables.probability[i, place] == np.float32(probability), where
            assert positive.magnitude == pytest.approx(size, rel=1e-6), where
            less = size if operation in UNSIGNED else -size
            assert negative.magnitude == pytest.approx(less, rel=1e-6), where
    assert len(tables.steps) == 4 * PAIRS + 1
    assert tables.steps[-1].name == "identity"


def test_lookups_by_hand():
    """Posterize 8 keeps four bits; solarize 5 inverts from 255 (1 - 5/9) = 113.3 on."""
    tables = policy_tables("imagenet", SIDE, SIDE)
    posterize, solarize = tables.lookup[0], tables.lookup[4]
    assert (tables.steps[0].name, tables.steps[4].name) == ("posterize", "solarize")
    np.testing.assert_array_equal(posterize[[0, 15, 16, 200, 255]], [0, 0, 16, 192, 240])
    np.testing.assert_array_equal(solarize[[0, 113, 114, 255]], [0, 113, 141, 0])
