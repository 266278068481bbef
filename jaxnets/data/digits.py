"""The handwritten digits embedded in scikit-learn, enlarged to the size of CIFAR images."""

import numpy as np

from jaxnets.data.dataset import Dataset

_SEED = 0
_TEST_FRACTION = 0.2


def load_digits() -> Dataset:
    """1,797 handwritten digits as 32x32x3 grey images; a fixed fifth of each class is for testing.

    Each of the 8x8 pixels, 0..16, becomes a 4x4 square of round(255 / 16 * pixel). The split draws
    from numpy's legacy generator, whose stream is frozen, so it is the same everywhere.

    Source: E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI repository, 1998;
    `sklearn.datasets.load_digits`.
    """
    from sklearn.datasets import load_digits as sklearn_digits

    digits = sklearn_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    images = np.repeat(pixels.repeat(4, axis=1).repeat(4, axis=2)[..., None], 3, axis=3)
    labels = digits.target.astype(np.int32)

    random = np.random.RandomState(_SEED)
    test = np.zeros(len(labels), bool)
    for digit in range(10):
        members = random.permutation(np.flatnonzero(labels == digit))
        test[members[: round(_TEST_FRACTION * len(members))]] = True
    return Dataset(
        images[~test],
        labels[~test],
        images[test],
        labels[test],
        tuple(str(name) for name in digits.target_names),
        "scikit-learn's load_digits",
    )
