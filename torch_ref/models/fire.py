"""The parts that the CIFAR-100 networks of S0 are made of; every convolution has a bias."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from torch_ref.models.layers import Classifier, Dropout


def conv_bn_relu(in_channels: int, channels: int, kernel_size: int = 3) -> list[nn.Module]:
    """Three layers of a Sequential: (N, in, H, W) -> (N, out, H, W)."""
    return [
        nn.Conv2d(in_channels, channels, kernel_size, padding=kernel_size // 2),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
    ]


class FireModule(nn.Module):
    """concat(expand1x1(s), expand3x3(s)), s = squeeze(x); + x if `residual`."""

    def __init__(
        self,
        in_channels: int,
        squeeze: int,
        expand1x1: int,
        expand3x3: int,
        *,
        residual: bool = False,
    ):
        super().__init__()
        self.squeeze = nn.Sequential(*conv_bn_relu(in_channels, squeeze, 1))
        self.expand1x1 = nn.Sequential(*conv_bn_relu(squeeze, expand1x1, 1))
        self.expand3x3 = nn.Sequential(*conv_bn_relu(squeeze, expand3x3, 3))
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        s = self.squeeze(x)
        y = torch.cat([self.expand1x1(s), self.expand3x3(s)], dim=1)
        return y + x if self.residual else y


class ResidualBlock(nn.Module):
    """relu(conv(x) + x), conv = 1x1, BatchNorm, ReLU, 1x1, BatchNorm."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Sequential(
            *conv_bn_relu(channels, channels, 1),
            nn.Conv2d(channels, channels, 1),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x) + x)


def classifier(features: int, num_classes: int, drop: float) -> nn.Sequential:
    """(N, C, H, W) -> (N, num_classes), C H W = features: flatten, dropout, linear."""
    return nn.Sequential(nn.Flatten(), Dropout(drop), Classifier(features, num_classes))
