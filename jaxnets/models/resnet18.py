"""ResNet-18 for 32x32 images, as in kuangliu/pytorch-cifar: the baseline of the other networks."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnets.extrema import relu
from jaxnets.models.layers import BatchNorm, Classifier, Conv, Dropout, Sequential


class BasicBlock(nnx.Module):
    """relu(bn2(conv2(relu(bn1(conv1(x))))) + shortcut(x)).

    (N, H, W, in) -> (N, H/stride, W/stride, out).  `shortcut` is empty where the shapes agree, a
    1x1 convolution and a BatchNorm otherwise.
    """

    def __init__(self, in_channels: int, channels: int, stride: int, *, rngs: nnx.Rngs, **kw):
        conv = {"bias": False, "rngs": rngs, **kw}
        self.conv1 = Conv(in_channels, channels, 3, stride=stride, **conv)
        self.bn1 = BatchNorm(channels, **kw)
        self.conv2 = Conv(channels, channels, 3, **conv)
        self.bn2 = BatchNorm(channels, **kw)
        self.shortcut = Sequential()
        if stride != 1 or in_channels != channels:
            self.shortcut = Sequential(
                [
                    Conv(in_channels, channels, 1, stride=stride, **conv),
                    BatchNorm(channels, **kw),
                ]
            )

    def __call__(self, x: jax.Array) -> jax.Array:
        y = relu(self.bn1(self.conv1(x)))
        return relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class ResNet18(nnx.Module):
    """ResNet-18: (N, 32, 32, 3) -> logits (N, num_classes); 11,173,962 parameters for 10 classes.

    A 3x3 stem without pooling, four stages of basic blocks at widths c, 2c, 4c, 8c and strides
    1, 2, 2, 2, the mean over what is left, dropout, a linear layer.

    Args:
        num_classes: logits; 11,220,132 parameters for 100.
        num_blocks: blocks of the four stages.
        num_channels: c, the width of the stem and of the first stage.
        drop: dropout rate before the linear layer.
        dtype, param_dtype: as in Flax; logits are at least float32.

    Source: He et al. 2016, in the CIFAR form of https://github.com/kuangliu/pytorch-cifar.

    >>> ResNet18(num_channels=8, rngs=nnx.Rngs(0))(jnp.zeros((2, 32, 32, 3))).shape
    (2, 10)
    """

    def __init__(
        self,
        num_classes: int = 10,
        *,
        num_blocks: Sequence[int] = (2, 2, 2, 2),
        num_channels: int = 64,
        drop: float = 0.0,
        dtype: jnp.dtype | None = None,
        param_dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        kw = {"dtype": dtype, "param_dtype": param_dtype}
        self.conv1 = Conv(3, num_channels, 3, bias=False, rngs=rngs, **kw)
        self.bn1 = BatchNorm(num_channels, **kw)
        in_channels = num_channels
        for stage, blocks in enumerate(num_blocks):
            channels = num_channels * 2**stage
            layer = Sequential()
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                layer.append(BasicBlock(in_channels, channels, stride, rngs=rngs, **kw))
                in_channels = channels
            setattr(self, f"layer{stage + 1}", layer)
        self.dropout = Dropout(drop, rngs=rngs)
        self.linear = Classifier(in_channels, num_classes, rngs=rngs, **kw)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = relu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.linear(self.dropout(x.mean((1, 2))))
