"""Weights that come with the project, by name: their index, their files, and what a file says.

    index      weights/index.json: what there is, with test figures and sums
    fetch      files that lie elsewhere, by their address, once
    weights    tensors with the configuration, the classes and the preprocessing they belong to

A file holds tensors by PyTorch's names and in its layouts, so that both frameworks read it.
Imports config and files, and neither jax nor torch: models, torch_ref, inference, port and commands
call it.
"""

from jaxnets.pretrained.index import list_pretrained
from jaxnets.pretrained.weights import Weights, load

__all__ = ["Weights", "list_pretrained", "load"]
