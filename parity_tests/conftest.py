"""float64 in JAX for every parity test, and only for them."""

import jax
import pytest


@pytest.fixture(scope="module", autouse=True)
def x64():
    """Arrays of 64-bit types stay what they are while these tests run."""
    with jax.enable_x64(True):
        yield
