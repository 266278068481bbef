"""SE-ResNet: the CIFAR-10 network of S2 ("SE-ResNet, 300 epochs") and S3 ("Basic SE-ResNet")."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from torch_ref.models.layers import Classifier, Dropout


class SEBlock(nn.Module):
    """x * sigmoid(conv2(relu(conv1(mean_hw(x))))), (N, C, H, W) -> (N, C, H, W)."""

    def __init__(self, channels: int, reduction: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels // reduction, 1)
        self.conv2 = nn.Conv2d(channels // reduction, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        s = x.mean((2, 3), keepdim=True)
        return x * self.conv2(F.relu(self.conv1(s))).sigmoid()


class BasicBlock(nn.Module):
    """relu(bn2(conv2(relu(bn1(conv1(x))))) + shortcut(x)), dropout after it."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int,
        *,
        kernel_size: int,
        shortcut_kernel_size: int,
        se: bool,
        reduction: int,
        drop: float,
    ):
        super().__init__()
        k, s = kernel_size, shortcut_kernel_size
        self.conv1 = nn.Conv2d(in_channels, channels, k, stride, k // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, k, 1, k // 2, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_channels != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, channels, s, stride, s // 2, bias=False),
                nn.BatchNorm2d(channels),
            )
        self.seblock = SEBlock(channels, reduction) if se else nn.Sequential()
        self.dropout = Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.seblock(self.bn2(self.conv2(y)))
        return self.dropout(F.relu(y + self.shortcut(x)))


class SEResNet(nn.Module):
    """SE-ResNet [4, 4, 3]: (N, 3, 32, 32) -> logits (N, num_classes); options as in jaxnets."""

    def __init__(
        self,
        num_classes: int = 10,
        *,
        num_blocks: Sequence[int] = (4, 4, 3),
        num_channels: int = 64,
        conv_kernel_sizes: Sequence[int] | None = None,
        shortcut_kernel_sizes: Sequence[int] | None = None,
        se: str = "stem",
        se_reduction: int = 16,
        drop: float = 0.0,
        avg_pool_kernel_size: int | None = None,
        whiten: bool = False,
    ):
        super().__init__()
        conv_kernel_sizes = conv_kernel_sizes or [3] * len(num_blocks)
        shortcut_kernel_sizes = shortcut_kernel_sizes or [1] * len(num_blocks)
        width = num_channels
        self.whiten = None
        if whiten:
            kernel = nn.Conv2d(3, 24, 2, padding="same", bias=False)
            self.whiten = nn.Sequential(kernel, nn.ReLU())
        self.conv1 = nn.Conv2d(24 if whiten else 3, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.seblock = SEBlock(width, se_reduction) if se == "stem" else nn.Sequential()
        self.residual_layers = nn.ModuleList()
        in_channels = width
        for stage, blocks in enumerate(num_blocks):
            channels = width * 2**stage
            layer = nn.Sequential()
            for block in range(blocks):
                layer.append(
                    BasicBlock(
                        in_channels,
                        channels,
                        2 if stage > 0 and block == 0 else 1,
                        kernel_size=conv_kernel_sizes[stage],
                        shortcut_kernel_size=shortcut_kernel_sizes[stage],
                        se=se == "block",
                        reduction=se_reduction,
                        drop=drop,
                    )
                )
                in_channels = channels
            self.residual_layers.append(layer)
        self.avg_pool = nn.AvgPool2d(avg_pool_kernel_size or 32 // 2 ** (len(num_blocks) - 1))
        self.dropout = Dropout(drop)
        self.linear = Classifier(in_channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        if self.whiten is not None:
            x = self.whiten(x)
        x = self.seblock(F.relu(self.bn1(self.conv1(x))))
        for layer in self.residual_layers:
            x = layer(x)
        return self.linear(self.dropout(self.avg_pool(x).flatten(1)))
