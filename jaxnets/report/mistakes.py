"""Which mistakes to look at: the usual ones, the most confident, the worst calibrated."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxnets.report.calibration import bin_of
from jaxnets.report.confusion import normalise_rows


class Pair(NamedTuple):
    """Images of class `true` that are taken for `predicted`: their number, and share of `true`."""

    true: int
    predicted: int
    count: int
    share: float


def confused_pairs(matrix: np.ndarray, most: int = 10) -> list[Pair]:
    """The largest entries beside the diagonal of a confusion matrix (K, K), largest first.

    Of equal counts the larger share of the true class comes first, then the first class.
    """
    shares = normalise_rows(matrix)
    pairs = [
        Pair(int(i), int(j), int(matrix[i, j]), float(shares[i, j]))
        for i, j in np.argwhere(matrix > 0)
        if i != j
    ]
    return sorted(pairs, key=lambda p: (-p.count, -p.share, p.true, p.predicted))[:most]


def examples(
    probabilities: np.ndarray, labels: np.ndarray, pair: Pair, most: int = 6
) -> np.ndarray:
    """Indices of images that make up `pair`, the most confident first."""
    is_pair = (labels == pair.true) & (probabilities.argmax(1) == pair.predicted)
    return _by_confidence(probabilities, np.flatnonzero(is_pair))[:most]


def most_confident(probabilities: np.ndarray, labels: np.ndarray, most: int = 24) -> np.ndarray:
    """Indices of the mistakes with the highest probability for the wrong class, highest first."""
    wrong = np.flatnonzero(probabilities.argmax(1) != labels)
    return _by_confidence(probabilities, wrong)[:most]


def worst_calibrated(
    probabilities: np.ndarray, labels: np.ndarray, found: Mapping[str, Any], most: int = 24
) -> np.ndarray:
    """Indices of mistakes where the network promises too much, bin by bin of the calibration.

    First those of the bin that adds most to the calibration error by more confidence than accuracy,
    n_b (conf(b) - acc(b)); within a bin the most confident first.

    Args:
        found: what `calibration` found of these.
    """
    excess = np.array(
        [b["count"] * (b["confidence"] - b["accuracy"]) if b["count"] else 0 for b in found["bins"]]
    )
    wrong = _by_confidence(probabilities, np.flatnonzero(probabilities.argmax(1) != labels))
    bins = bin_of(probabilities[wrong].max(1), len(excess))
    return wrong[np.argsort(-excess[bins], kind="stable")][:most]


def _by_confidence(probabilities: np.ndarray, indices: np.ndarray) -> np.ndarray:
    return indices[np.argsort(-probabilities[indices].max(1), kind="stable")]
