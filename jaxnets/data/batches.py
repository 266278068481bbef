"""Which images make which batch: decided by (seed, epoch) alone, in numpy, for both frameworks."""

import math

import numpy as np

# Keeps the order of the images apart from every other use of the same seed.
_ORDER_STREAM = 0x0D0E


def epoch_order(seed: int, epoch: int, num_images: int) -> np.ndarray:
    """The order in which epoch `epoch` (from 0) visits the images: a permutation (N,) int32."""
    bits = np.random.Philox(np.random.SeedSequence((_ORDER_STREAM, seed, epoch)))
    return np.random.Generator(bits).permutation(num_images).astype(np.int32)


def steps_per_epoch(num_images: int, batch_size: int) -> int:
    """Batches an epoch, the last and smaller one included.

    >>> steps_per_epoch(50_000, 128)
    391
    """
    return math.ceil(num_images / batch_size)
