"""float64 in JAX for every parity test."""

import jax

jax.config.update("jax_enable_x64", True)
