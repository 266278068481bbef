"""How fast the networks train, evaluate and answer, here and now, beside their PyTorch twins.

Imports train, devices and models, and torch_ref lazily; python -m jaxnets.bench alone calls it.
"""
