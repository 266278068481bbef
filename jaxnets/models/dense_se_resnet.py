"""Dense SE-ResNet: the CIFAR-10 network of S3 whose blocks share one kernel a stage."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnets.extrema import relu
from jaxnets.models import initial
from jaxnets.models.layers import (
    BatchNorm,
    Classifier,
    Conv,
    Dropout,
    Linear,
    ReLU,
    Sequential,
    Sigmoid,
)

STEM_WIDTH = 16
# For each value of `share`, the stages that share their kernel.
SHARED_STAGES = {"none": (), "third": (2,), "second_third": (1, 2), "all": (0, 1, 2)}


class SELayer(nnx.Module):
    """Squeeze-and-excitation (Hu et al. 2018): x * sigmoid(W2 relu(W1 mean_hw(x))), no biases.

    (N, H, W, C) -> (N, H, W, C), C -> C // reduction -> C.
    """

    def __init__(self, channels: int, *, reduction: int, **kw):
        self.fc = Sequential(
            [
                Linear(channels, channels // reduction, bias=False, **kw),
                ReLU(),
                Linear(channels // reduction, channels, bias=False, **kw),
                Sigmoid(),
            ]
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        return x * self.fc(x.mean((1, 2)))[:, None, None, :]


class SEBasicBlock(nnx.Module):
    """relu(se(bn2(conv2(relu(bn1(conv1(x)))))) + downsample(x)), dropout after it.

    (N, H, W, in) -> (N, H/stride, W/stride, out).  `downsample` is empty, or a 1x1 convolution and
    a BatchNorm.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int,
        *,
        downsample: bool,
        reduction: int,
        drop: float,
        rngs: nnx.Rngs,
        **kw,
    ):
        conv = {"bias": False, "kernel_init": initial.normal_kernel, "rngs": rngs, **kw}
        self.conv1 = Conv(in_channels, channels, 3, stride=stride, **conv)
        self.bn1 = BatchNorm(channels, **kw)
        self.conv2 = Conv(channels, channels, 3, **conv)
        self.bn2 = BatchNorm(channels, **kw)
        self.se = SELayer(channels, reduction=reduction, rngs=rngs, **kw)
        self.downsample = Sequential()
        if downsample:
            self.downsample = Sequential(
                [
                    Conv(in_channels, channels, 1, stride=stride, **conv),
                    BatchNorm(channels, **kw),
                ]
            )
        self.dropout = Dropout(drop, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        y = relu(self.bn1(self.conv1(x)))
        y = self.se(self.bn2(self.conv2(y)))
        return self.dropout(relu(y + self.downsample(x)))


class DenseSEResNet(nnx.Module):
    """Dense SE-ResNet: (N, 32, 32, 3) -> logits (N, num_classes); 3,116,378 unique parameters.

    A 3x3 stem, three stages of blocks at strides 1, 2, 2, the mean over what is left, dropout, a
    linear layer.  In a stage that shares, ONE kernel serves conv2 of every block and conv1 of every
    block but the first: one variable under all those names, with one gradient, counted, decayed and
    clipped once.  BatchNorm, excitation and downsampling are each block's own.

    Args:
        num_classes: logits.
        depth: blocks a stage.
        widths: channels of the three stages, each at least `se_reduction`.
        se_reduction: of an excitation's channels: it squeezes C to C // se_reduction.
        share: "third" - the third stage shares (the default); "second_third" (1,641,818 unique
            parameters); "all" (1,273,178); "none" (9,014,618).
        drop: dropout rate after every block and before the linear layer.
        dtype, param_dtype: as in Flax; logits are at least float32.

    Source: S3.

    >>> model = DenseSEResNet(depth=2, widths=(16, 16, 32), rngs=nnx.Rngs(0))
    >>> model(jnp.zeros((2, 32, 32, 3))).shape
    (2, 10)
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
        dtype: jnp.dtype | None = None,
        param_dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        kw = {"dtype": dtype, "param_dtype": param_dtype}
        stem = {"bias": False, "kernel_init": initial.normal_kernel, "rngs": rngs, **kw}
        self.conv1 = Conv(3, STEM_WIDTH, 3, **stem)
        self.bn1 = BatchNorm(STEM_WIDTH, **kw)
        in_channels = STEM_WIDTH
        for stage, channels in enumerate(widths):
            layer = Sequential()
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
                        rngs=rngs,
                        **kw,
                    )
                )
                in_channels = channels
            if stage in SHARED_STAGES[share]:
                _share_kernel(layer)
            setattr(self, f"layer{stage + 1}", layer)
        self.dropout = Dropout(drop, rngs=rngs)
        self.fc = Classifier(in_channels, num_classes, rngs=rngs, **kw)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(self.dropout(x.mean((1, 2))))


def _share_kernel(blocks: Sequential) -> None:
    kernel = blocks[0].conv2.kernel
    for block in blocks[1:]:
        block.conv1.kernel = kernel
        block.conv2.kernel = kernel
