"""Initial weights: the numbers that jax's own initializers draw, from few compiled programs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.nn import initializers

from jaxnets.models import create_model, initial

KEY = jax.random.key(3)
# At 4096 numbers XLA begins to round otherwise.
UNIFORM = [(27, 16), (468, 150)]
NORMAL = [(3, 3, 5, 7), (4095, 1), (4096, 1)]


@pytest.mark.parametrize("shape", UNIFORM)
def test_uniform_kernels_are_jaxs(shape):
    wanted = initializers.variance_scaling(1 / 3, "fan_in", "uniform")(KEY, shape, jnp.float32)
    assert bytes_of(initial.uniform_kernel(KEY, shape, jnp.float32)) == bytes_of(wanted)


@pytest.mark.parametrize("shape", NORMAL)
def test_normal_kernels_are_jaxs(shape):
    wanted = initializers.variance_scaling(2.0, "fan_in", "normal")(KEY, shape, jnp.float32)
    assert bytes_of(initial.normal_kernel(KEY, shape, jnp.float32)) == bytes_of(wanted)


@pytest.mark.parametrize("count", [10, 4096])
def test_biases_are_jaxs(count):
    wanted = jax.random.uniform(KEY, (count,), jnp.float32, -1 / 3, 1 / 3)
    drawn = initial.bias(9)(KEY, (count,), jnp.float32)
    assert drawn.shape == (count,)
    assert bytes_of(drawn) == bytes_of(wanted)


def test_float64():
    with jax.enable_x64(True):
        wanted = initializers.variance_scaling(1 / 3, "fan_in", "uniform")(KEY, (9, 5), float)
        drawn = initial.uniform_kernel(KEY, (9, 5), float)
        assert drawn.dtype == jnp.float64
        assert bytes_of(drawn) == bytes_of(wanted)


@pytest.mark.parametrize("key", [jax.random.key(3, impl="unsafe_rbg"), "not by place"])
def test_numbers_that_depend_on_the_shape_are_drawn_in_it(key):
    with jax.threefry_partitionable(key != "not by place"):
        key = KEY if isinstance(key, str) else key
        wanted = jax.random.uniform(key, (5,), jnp.float32, -1.0, 1.0)
        assert bytes_of(initial.bias(1)(key, (5,), jnp.float32)) == bytes_of(wanted)


def test_few_programs_draw_a_whole_network(monkeypatch):
    shapes, uniform = set(), jax.random.uniform
    monkeypatch.setattr(
        jax.random, "uniform", lambda key, shape, *a: shapes.add(shape) or uniform(key, shape, *a)
    )
    create_model("se_resnet", num_channels=32, rngs=nnx.Rngs(0))
    assert len(shapes) <= 3


def bytes_of(array: jax.Array) -> bytes:
    return np.asarray(array).tobytes()
