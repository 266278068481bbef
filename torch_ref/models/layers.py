"""The few layers of the twins that torch.nn does not have as they are needed here."""

import torch
from torch import Tensor, nn


class Dropout(nn.Dropout):
    """nn.Dropout whose next mask can be given, so that two frameworks drop the same values.

    `forced`, where set, is a bool tensor of the input's shape, True where a value is kept.
    """

    forced: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.forced is None or not self.training or self.p == 0:
            return super().forward(x)
        return torch.where(self.forced, x / (1 - self.p), 0)


class Classifier(nn.Linear):
    """The last layer: its logits are float32 at least, also where autocast computes in less."""

    def forward(self, x: Tensor) -> Tensor:
        device = x.device.type
        if not torch.amp.is_autocast_available(device) or not torch.is_autocast_enabled(device):
            return super().forward(x)  # also of tensors without memory, on "meta"
        with torch.autocast(device, enabled=False):
            return super().forward(x.to(self.weight.dtype))
