"""The PyTorch twin with the preprocessing before it, and torch's program of it."""

import warnings
from typing import TYPE_CHECKING

import numpy as np

from jaxnets.export.source import Source
from jaxnets.port.verify import build_twin

if TYPE_CHECKING:
    import torch

_EXAMPLES = 2  # a batch of one would be taken for a network that takes no other


def program(source: Source, kind: str) -> "torch.export.ExportedProgram":
    """The network from `images` to (logits, probabilities), for any number of images.

    Args:
        kind: one of `jaxnets.export.about.INPUTS`.
    """
    import torch

    size = source.image_size
    module = _module(source, kind).eval().requires_grad_(False)
    if kind == "uint8-nhwc":
        example = torch.zeros((_EXAMPLES, size, size, 3), dtype=torch.uint8)
    else:
        example = torch.zeros((_EXAMPLES, 3, size, size))
    with torch.no_grad(), warnings.catch_warnings(action="ignore"):
        batch = torch.export.Dim("batch", min=1)
        made = torch.export.export(module, (example,), dynamic_shapes=({0: batch},))
    for node in made.graph.nodes:  # where this project lies is nobody's business
        node.meta.pop("stack_trace", None)
    return made


def _module(source: Source, kind: str) -> "torch.nn.Module":
    import torch

    class Deployed(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = build_twin(source.model, source.weights, "float32")
            mean, std = (np.array(x, np.float64) for x in (source.mean, source.std))
            # As jaxnets.augment.pipeline.normalize does it, to the bit.
            self.register_buffer("shift", torch.tensor(255 * mean, dtype=torch.float32))
            self.register_buffer("scale", torch.tensor(1 / (255 * std), dtype=torch.float32))

        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            if kind == "uint8-nhwc":
                images = (images.to(torch.float32) - self.shift) * self.scale
                images = images.permute(0, 3, 1, 2)
            logits = self.net(images)
            return logits, torch.softmax(logits, -1)

    return Deployed()
