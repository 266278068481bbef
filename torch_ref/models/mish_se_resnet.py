"""MishSEResNet18: the CIFAR-10 network of S1."""

from collections.abc import Sequence

from torch import Tensor, nn

from torch_ref.models.layers import Classifier, Dropout

ACTIVATIONS = {"mish": nn.Mish, "relu": nn.ReLU}


class SEBlock(nn.Module):
    """x * sigmoid(conv(act(conv(mean_hw(x))))), (N, C, H, W) -> (N, C, H, W)."""

    def __init__(self, channels: int, activation: str, reduction: int):
        super().__init__()
        self.se = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, channels // reduction, 1),
            ACTIVATIONS[activation](),
            nn.Conv2d(channels // reduction, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.se(x)


class BasicBlock(nn.Module):
    """act(se(bn2(conv2(act(bn1(conv1(x)))))) + shortcut(x))."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int,
        *,
        activation: str,
        se: bool,
        reduction: int,
    ):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.se = SEBlock(channels, activation, reduction) if se else nn.Sequential()
        self.shortcut = nn.Sequential()
        if stride != 1 or in_channels != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False),
                nn.BatchNorm2d(channels),
            )
        self.act = ACTIVATIONS[activation]()

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.bn1(self.conv1(x)))
        y = self.se(self.bn2(self.conv2(y)))
        return self.act(y + self.shortcut(x))


class MishSEResNet18(nn.Module):
    """ResNet-18 with Mish and excitation, (N, 3, 32, 32) -> (N, K); options as in jaxnets."""

    def __init__(
        self,
        num_classes: int = 10,
        *,
        activation: str = "mish",
        se: bool = True,
        se_reduction: int = 16,
        widths: Sequence[int] = (32, 64, 256, 256),
        num_blocks: Sequence[int] = (2, 2, 2, 2),
        drop: float = 0.5,
    ):
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.act = ACTIVATIONS[activation]()
        self.stages = len(widths)
        in_channels = widths[0]
        for stage, (channels, blocks) in enumerate(zip(widths, num_blocks, strict=True)):
            layer = nn.Sequential()
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                layer.append(
                    BasicBlock(
                        in_channels,
                        channels,
                        stride,
                        activation=activation,
                        se=se,
                        reduction=se_reduction,
                    )
                )
                in_channels = channels
            setattr(self, f"layer{stage + 1}", layer)
        self.dropout = Dropout(drop)
        self.fc = Classifier(in_channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.bn1(self.conv1(x)))
        for stage in range(self.stages):
            x = getattr(self, f"layer{stage + 1}")(x)
        return self.fc(self.dropout(x.mean((2, 3))))
