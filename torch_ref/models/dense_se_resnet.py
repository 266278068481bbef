"""Dense SE-ResNet: the CIFAR-10 network of S3 whose blocks share one kernel a stage."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from torch_ref.models.layers import Classifier, Dropout

STEM_WIDTH = 16
SHARED_STAGES = {"none": (), "third": (2,), "second_third": (1, 2), "all": (0, 1, 2)}


class SELayer(nn.Module):
    """x * sigmoid(W2 relu(W1 mean_hw(x))), (N, C, H, W) -> (N, C, H, W)."""

    def __init__(self, channels: int, reduction: int):
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(channels, channels // reduction, bias=False),
            nn.ReLU(),
            nn.Linear(channels // reduction, channels, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.fc(x.mean((2, 3)))[:, :, None, None]


class SEBasicBlock(nn.Module):
    """relu(se(bn2(conv2(relu(bn1(conv1(x)))))) + downsample(x)), dropout after it."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int,
        *,
        downsample: bool,
        reduction: int,
        drop: float,
    ):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.se = SELayer(channels, reduction)
        self.downsample = nn.Sequential()
        if downsample:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False),
                nn.BatchNorm2d(channels),
            )
        self.dropout = Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.se(self.bn2(self.conv2(y)))
        return self.dropout(F.relu(y + self.downsample(x)))


class DenseSEResNet(nn.Module):
    """Dense SE-ResNet: (N, 3, 32, 32) -> logits (N, num_classes); options as in jaxnets.

    A shared kernel is one nn.Parameter under several names: `state_dict` writes it under each of
    them, `parameters` yields it once.
    """

    def __init__(
        self,
        num_classes: int = 10,
        *,
        depth: int = 6,
        widths: Sequence[int] = (64, 128, 256),
        share: str = "third",
        se_reduction: int = 16,
        drop: float = 0.0,
    ):
        super().__init__()
        self.conv1 = nn.Conv2d(3, STEM_WIDTH, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM_WIDTH)
        in_channels = STEM_WIDTH
        for stage, channels in enumerate(widths):
            layer = nn.Sequential()
            for block in range(depth):
                stride = 2 if stage > 0 and block == 0 else 1
                layer.append(
                    SEBasicBlock(
                        in_channels,
                        channels,
                        stride,
                        downsample=block == 0,
                        reduction=se_reduction,
                        drop=drop,
                    )
                )
                in_channels = channels
            if stage in SHARED_STAGES[share]:
                _share_kernel(layer)
            setattr(self, f"layer{stage + 1}", layer)
        self.dropout = Dropout(drop)
        self.fc = Classifier(in_channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(self.dropout(x.mean((2, 3))))


def _share_kernel(blocks: nn.Sequential) -> None:
    kernel = blocks[0].conv2.weight
    for block in blocks[1:]:
        block.conv1.weight = kernel
        block.conv2.weight = kernel
