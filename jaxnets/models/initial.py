"""Initial weights, as PyTorch draws them, from programs that many shapes share.

jax compiles a draw anew for each shape, which takes a hundred times longer than drawing.  But the
i-th number of a draw depends on the key and on i alone, whatever the shape: the first numbers of a
longer flat draw are those of the array, bit for bit, and few lengths serve all shapes.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.nn import initializers

Draw = Callable[[jax.Array, tuple[int, ...], jnp.dtype], jax.Array]

# With the flag of jaxnets.devices.cpu_flags XLA rounds arrays of fewer than 4096 numbers otherwise.
_LENGTHS = (2**12 - 1, 2**16, 2**20, 2**22, 2**24)


def uniform_kernel(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype) -> jax.Array:
    """PyTorch's default, kaiming_uniform(a=sqrt(5)), for (..., in, out): +-1/sqrt(fan_in)."""

    def draw(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -1.0, 1.0)

    variance = np.asarray(1 / 3 / _fan_in(shape), dtype)
    return _drawn(draw, key, shape, dtype, np.sqrt(np.asarray(3, dtype) * variance))


def normal_kernel(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype) -> jax.Array:
    """kaiming_normal, for (..., in, out): of variance 2/fan_in."""
    return _drawn(
        jax.random.normal, key, shape, dtype, np.sqrt(np.asarray(2.0 / _fan_in(shape), dtype))
    )


def bias(fan_in: int) -> initializers.Initializer:
    """PyTorch's default: uniform in +-1/sqrt(fan_in)."""
    bound = fan_in**-0.5

    def draw(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return lambda key, shape, dtype: _drawn(draw, key, shape, dtype)


def _fan_in(shape: tuple[int, ...]) -> int:
    return math.prod(shape[:-1])


def _drawn(
    draw: Draw, key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype, scale: Any = None
) -> jax.Array:
    """draw(key, shape, dtype) * scale: the beginning of a longer draw, where that is the same."""
    count = math.prod(shape)
    length = next((length for length in _LENGTHS if length >= count), None)
    if length is None or isinstance(key, jax.core.Tracer) or not _by_place(key):
        drawn = draw(key, shape, dtype)
        return drawn if scale is None else drawn * scale
    flat = np.asarray(draw(key, (length,), dtype))[:count]
    return jax.device_put((flat if scale is None else flat * scale).reshape(shape))


def _by_place(key: jax.Array) -> bool:
    """Whether numbers drawn with this key depend on their place alone."""
    return jax.config.jax_threefry_partitionable and jax.random.key_impl(key) == "threefry2x32"
