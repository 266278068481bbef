"""The networks: Flax NNX modules whose attribute names are PyTorch's.

Layers, initial weights, the naming rule, the registry and an audit of parameters and operations.
Imports config and errors; training, inference, port and parity call it.
"""

from jaxnets import lazily

__getattr__, __all__ = lazily(
    __name__,
    {"registry": "MODELS create_abstract create_empty create_model list_models model_options"},
)
