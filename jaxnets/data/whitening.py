"""The kernel of a first layer that whitens patches of 2x2 pixels, from training images."""

from collections.abc import Sequence

import numpy as np

IMAGES = 5000
"""So many of the first ones are looked at."""
EPS = 5e-4
"""Is added to a variance: directions with less than that are noise."""


def whitening_kernel(images: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """The kernel (2, 2, 3, 24), float64, of uint8 images (N, H, W, 3).

    Its outputs on normalised patches have variance 1 and are uncorrelated: twelve principal
    directions, largest variance first, each divided by its deviation, and the same negated, since
    a ReLU follows (Jordan 2024, https://arxiv.org/abs/2404.00498).  A direction that no patch has
    stays 0.  The same images give the same kernel: a direction points to where its sum weighted by
    1 ... 12, channels first, is positive.
    """
    total, count = np.zeros((12, 12)), 0
    images = images[:IMAGES]
    for start in range(0, len(images), 500):
        x = images[start : start + 500] / 255.0
        x = ((x - np.asarray(mean)) / np.asarray(std)).transpose(0, 3, 1, 2)
        corners = [x[:, :, :-1, :-1], x[:, :, :-1, 1:], x[:, :, 1:, :-1], x[:, :, 1:, 1:]]
        patches = np.stack(corners, 2).reshape(len(x), 12, -1).transpose(1, 0, 2).reshape(12, -1)
        total, count = total + patches @ patches.T, count + patches.shape[1]
    variances, directions = np.linalg.eigh(total / count)
    variances, directions = variances[::-1], directions.T[::-1]
    directions = directions * np.sign(directions @ np.arange(1, 13))[:, None]
    directions = directions / np.sqrt(np.abs(variances) + EPS)[:, None]
    directions[variances < 1e-10 * variances[0]] = 0
    kernel = np.concatenate([directions, -directions]).reshape(24, 3, 2, 2)
    return kernel.transpose(2, 3, 1, 0)
