"""JAX against PyTorch: given the same numbers, how far apart are their results.

Two trainings, step by step, or two networks, layer by layer.  Imports train, port, models and
report's figures, and torch_ref lazily; python -m jaxnets.parity alone calls it.
"""
