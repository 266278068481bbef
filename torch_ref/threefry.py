"""JAX's counter-based random numbers in numpy, bit for bit: torch_ref draws what jaxnets draws.

`uniform(fold_in(key(seed), data), shape)` are the float32 numbers of `jax.random.uniform` for a key
of implementation threefry2x32, with `jax_threefry_partitionable` on (the default since JAX 0.5).

Source: Salmon et al. 2011, Parallel Random Numbers: As Easy as 1, 2, 3 (Threefry-2x32, 20 rounds);
how JAX seeds it and counts: jax/_src/random/threefry2x32.py.
"""

import math

import numpy as np

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def key(seed: int) -> np.ndarray:
    """The key of `seed`, 0 <= seed < 2^32: uint32 (2,)."""
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed must be from 0 to 2^32 - 1, not {seed}")
    return np.array([0, seed], np.uint32)


def fold_in(key: np.ndarray, data: int) -> np.ndarray:
    """A new key, uint32 (2,), from a key and an integer 0 <= data < 2^32."""
    return np.concatenate(_threefry(key, np.zeros(1, np.uint32), np.array([data], np.uint32)))


def random_bits(key: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Uniform uint32 of `shape`; element i, in row-major order, depends on key and i alone."""
    index = np.arange(math.prod(shape), dtype=np.uint64)
    high, low = _threefry(key, (index >> 32).astype(np.uint32), index.astype(np.uint32))
    return (high ^ low).reshape(shape)


def uniform(key: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Uniform float32 of `shape` in [0, 1), multiples of 2^-23."""
    return (random_bits(key, shape) >> 9).astype(np.float32) * np.float32(2**-23)


def _threefry(key: np.ndarray, x0: np.ndarray, x1: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Encrypt the pairs (x0, x1), uint32 arrays of one shape, under `key`."""
    keys = (key[0], key[1], key[0] ^ key[1] ^ np.uint32(0x1BD11BDA))
    x0, x1 = x0 + keys[0], x1 + keys[1]
    for block in range(5):
        for rotation in _ROTATIONS[block % 2]:
            x0 = x0 + x1
            x1 = x0 ^ ((x1 << rotation) | (x1 >> (32 - rotation)))
        x0 = x0 + keys[(block + 1) % 3]
        x1 = x1 + keys[(block + 2) % 3] + np.uint32(block + 1)
    return x0, x1
