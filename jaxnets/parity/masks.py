"""The dropout masks that a model draws, given to its PyTorch twin."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import jax
import numpy as np
from flax import nnx

from jaxnets.models.functional import Arrays, Network
from jaxnets.models.layers import Dropout
from jaxnets.models.trace import named_modules

if TYPE_CHECKING:
    import torch


def nchw(array: np.ndarray | jax.Array) -> "torch.Tensor":
    """(N, H, W, C) -> a tensor (N, C, H, W); other ranks as they are."""
    import torch

    array = np.asarray(array)
    return torch.tensor(array.transpose(0, 3, 1, 2) if array.ndim == 4 else array)


@contextlib.contextmanager
def recorded_masks(model: nnx.Module) -> Iterator[dict[str, jax.Array]]:
    """The dropout masks that the model draws meanwhile, by the layer's path; tracers if traced."""
    names = {id(module): name for name, module in named_modules(model)}
    masks: dict[str, jax.Array] = {}
    draw = Dropout.mask

    def mask(self: Dropout, shape: tuple[int, ...]) -> jax.Array:
        masks[names[id(self)]] = kept = draw(self, shape)
        return kept

    Dropout.mask = mask
    try:
        yield masks
    finally:
        Dropout.mask = draw


def dropout_masks(
    network: Network, params: Arrays, stats: Arrays, images: jax.Array, key: jax.Array
) -> dict[str, jax.Array]:
    """The masks that `network.apply(..., train=True, key=key)` draws, by the layer's path.

    Inside jit this costs next to nothing: the masks need none of the network's values.
    """
    model = network.merge(params, stats, key)
    if not any(isinstance(m, Dropout) and m.rate > 0 for _, m in named_modules(model)):
        return {}
    model.train()
    with recorded_masks(model) as masks:
        model(images)
    return masks


def force_masks(twin: "torch.nn.Module", masks: Mapping[str, jax.Array]) -> None:
    """Makes the twin's dropout layers keep what the masks keep, until the next ones are forced."""
    for name, mask in masks.items():
        layer = twin.get_submodule(name)
        layer.forced = nchw(mask).to(next(twin.parameters()).device)
