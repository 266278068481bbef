"""ResNet-18 for 32x32 images, as in kuangliu/pytorch-cifar: the baseline of the other networks."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from torch_ref.models.layers import Classifier, Dropout


class BasicBlock(nn.Module):
    """relu(bn2(conv2(relu(bn1(conv1(x))))) + shortcut(x))."""

    def __init__(self, in_channels: int, channels: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_channels != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False),
                nn.BatchNorm2d(channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class ResNet18(nn.Module):
    """ResNet-18: (N, 3, 32, 32) -> logits (N, num_classes); options as in jaxnets."""

    def __init__(
        self,
        num_classes: int = 10,
        *,
        num_blocks: Sequence[int] = (2, 2, 2, 2),
        num_channels: int = 64,
        drop: float = 0.0,
    ):
        super().__init__()
        self.conv1 = nn.Conv2d(3, num_channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(num_channels)
        in_channels = num_channels
        for stage, blocks in enumerate(num_blocks):
            channels = num_channels * 2**stage
            layer = nn.Sequential()
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                layer.append(BasicBlock(in_channels, channels, stride))
                in_channels = channels
            setattr(self, f"layer{stage + 1}", layer)
        self.dropout = Dropout(drop)
        self.linear = Classifier(in_channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.linear(self.dropout(x.mean((2, 3))))
