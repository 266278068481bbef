"""The networks: Flax NNX modules whose attribute names are PyTorch's."""

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
