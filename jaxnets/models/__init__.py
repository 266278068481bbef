"""The networks: Flax NNX modules whose attribute names are PyTorch's.

Layers, initial weights, the naming rule, the registry and an audit of parameters and operations.
Imports config and errors; training, inference, port and parity call it.
"""

from jaxnets.models.registry import (
    MODELS,
    create_abstract,
    create_empty,
    create_model,
    list_models,
    model_options,
)

__all__ = [
    "MODELS",
    "create_abstract",
    "create_empty",
    "create_model",
    "list_models",
    "model_options",
]
