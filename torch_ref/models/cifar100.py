"""The five CIFAR-100 networks of S0, from a plain CNN to a Fire and convolution hybrid.

All take (N, 3, 32, 32) to logits (N, num_classes); options as in jaxnets.
"""

from torch import Tensor, nn

from jaxnets.checks import scaled
from torch_ref.models.fire import FireModule, ResidualBlock, classifier, conv_bn_relu
from torch_ref.models.layers import Dropout


def _pool() -> nn.MaxPool2d:
    return nn.MaxPool2d(2, 2)


class Cifar100v1(nn.Module):
    """The baseline CNN."""

    def __init__(self, num_classes: int = 100, *, drop: float = 0.3, width: float = 1.0):
        super().__init__()
        c = scaled(width)
        self.conv_block1 = nn.Sequential(*conv_bn_relu(3, c(128)), *conv_bn_relu(c(128), c(128)))
        self.conv_block2 = nn.Sequential(
            *conv_bn_relu(c(128), c(256)), _pool(), *conv_bn_relu(c(256), c(256))
        )
        self.conv_block3 = nn.Sequential(
            *conv_bn_relu(c(256), c(512)), *conv_bn_relu(c(512), c(512)), _pool()
        )
        self.classifier = classifier(c(512) * 8 * 8, num_classes, drop)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.conv_block3(self.conv_block2(self.conv_block1(x))))


class Cifar100v2(nn.Module):
    """Fire modules throughout."""

    def __init__(self, num_classes: int = 100, *, drop: float = 0.3, width: float = 1.0):
        super().__init__()
        c = scaled(width)
        self.conv1 = nn.Sequential(*conv_bn_relu(3, c(96)), _pool())
        self.fire2 = FireModule(c(96), c(16), c(32), c(32))
        self.fire3 = FireModule(c(64), c(16), c(32), c(32))
        self.fire4 = nn.Sequential(FireModule(c(64), c(16), c(64), c(64)), _pool())
        self.fire5 = FireModule(c(128), c(16), c(128), c(128))
        self.conv6 = nn.Sequential(*conv_bn_relu(c(256), c(512)), _pool())
        self.adp_avg_pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = classifier(c(512), num_classes, drop)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fire4(self.fire3(self.fire2(self.conv1(x))))
        return self.classifier(self.adp_avg_pool(self.conv6(self.fire5(x))))


class Cifar100v3(nn.Module):
    """Fire modules with projections; fire8 is called only with `use_fire8`."""

    def __init__(
        self,
        num_classes: int = 100,
        *,
        use_fire8: bool = False,
        drop: float = 0.3,
        width: float = 1.0,
    ):
        super().__init__()
        c = scaled(width)
        self.conv1 = nn.Sequential(*conv_bn_relu(3, c(64)), _pool())
        self.fire2 = FireModule(c(64), c(8), c(32), c(32), residual=True)
        self.fire3 = FireModule(c(64), c(8), c(48), c(48))
        self.proj2to3 = nn.Conv2d(c(64), c(96), 1)
        self.fire4 = nn.Sequential(FireModule(c(96), c(16), c(48), c(48)), _pool())
        self.fire5 = FireModule(c(96), c(16), c(64), c(64))
        self.proj4to5 = nn.Conv2d(c(96), c(128), 1)
        self.fire6 = nn.Sequential(FireModule(c(128), c(32), c(128), c(128)), _pool())
        self.fire7 = FireModule(c(256), c(32), c(128), c(128))
        self.proj6to7 = nn.Conv2d(c(256), c(256), 1)
        self.fire8 = FireModule(c(256), c(32), c(256), c(256))
        self.proj8 = nn.Conv2d(c(256), c(512), 1)
        self.conv8 = nn.Sequential(*conv_bn_relu(c(512), c(512)))
        self.global_avg_pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = classifier(c(512), num_classes, drop)
        self.use_fire8 = use_fire8

    def forward(self, x: Tensor) -> Tensor:
        x = self.fire2(self.conv1(x))
        x = self.fire4(self.fire3(x) + self.proj2to3(x))
        x = self.fire6(self.fire5(x) + self.proj4to5(x))
        x = self.fire7(x) + self.proj6to7(x)
        x = self.fire8(x) + self.proj8(x) if self.use_fire8 else self.proj8(x)
        return self.classifier(self.global_avg_pool(self.conv8(x)))


class Cifar100v4(nn.Module):
    """Convolutions and residual blocks."""

    def __init__(
        self,
        num_classes: int = 100,
        *,
        drop: float = 0.3,
        conv_drop: float = 0.2,
        width: float = 1.0,
    ):
        super().__init__()
        c = scaled(width)
        self.conv1 = nn.Sequential(*conv_bn_relu(3, c(96)), *conv_bn_relu(c(96), c(96)), _pool())
        self.stage1 = nn.Sequential(ResidualBlock(c(96)))
        self.conv2 = nn.Sequential(
            *conv_bn_relu(c(96), c(128)), *conv_bn_relu(c(128), c(256)), _pool()
        )
        self.stage2 = nn.Sequential(ResidualBlock(c(256)))
        self.conv3 = nn.Sequential(
            *conv_bn_relu(c(256), c(256)),
            *conv_bn_relu(c(256), c(512)),
            _pool(),
            Dropout(conv_drop),
        )
        self.classifier = classifier(c(512) * 4 * 4, num_classes, drop)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stage2(self.conv2(self.stage1(self.conv1(x))))
        return self.classifier(self.conv3(x))


class Cifar100v5(nn.Module):
    """The hybrid: three stages of convolution, cell, convolution, dropout and pooling."""

    def __init__(
        self,
        num_classes: int = 100,
        *,
        cell: str = "fire",
        residual: bool = True,
        drop: float = 0.3,
        conv_drop: float = 0.2,
        width: float = 1.0,
    ):
        super().__init__()
        c = scaled(width)

        def stage(
            in_channels: int, channels: int, squeeze: int, expand: int, out: int
        ) -> nn.Sequential:
            layers = nn.Sequential(*conv_bn_relu(in_channels, channels))
            for block in cell.split("+"):
                if block == "residual":
                    layers.append(ResidualBlock(channels))
                    continue
                skip = residual and channels == 2 * expand
                layers.append(FireModule(channels, squeeze, expand, expand, residual=skip))
                channels = 2 * expand
            return layers.extend([*conv_bn_relu(channels, out), Dropout(conv_drop), _pool()])

        self.conv1 = stage(3, c(96), c(12), c(48), c(128))
        self.conv2 = stage(c(128), c(128), c(12), c(64), c(256))
        self.conv3 = stage(c(256), c(256), c(28), c(256), c(512))
        self.adp_pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = classifier(c(512), num_classes, drop)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.adp_pool(self.conv3(self.conv2(self.conv1(x)))))
