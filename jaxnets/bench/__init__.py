"""How fast the networks train, evaluate and classify one image, beside their PyTorch twins.

Imports train, devices and models, and torch_ref lazily; python -m jaxnets.bench alone calls it.
"""
