"""JAX against PyTorch: the same numbers in, and how far apart the numbers that come out are.

A training step by step, or one network of each layer by layer.  Imports train, port, models and
report's figures, and torch_ref lazily; python -m jaxnets.parity alone calls it.
"""
