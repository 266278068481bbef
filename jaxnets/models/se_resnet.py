"""SE-ResNet: the CIFAR-10 network of S2 ("SE-ResNet, 300 epochs") and S3 ("Basic SE-ResNet")."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnets.extrema import relu
from jaxnets.models.layers import BatchNorm, Classifier, Conv, Dropout, ReLU, Sequential


class SEBlock(nnx.Module):
    """Squeeze-and-excitation (Hu et al. 2018): x * sigmoid(conv2(relu(conv1(mean_hw(x))))).

    (N, H, W, C) -> (N, H, W, C); both convolutions are 1x1 with a bias, C -> C // reduction -> C.
    """

    def __init__(self, channels: int, *, reduction: int, **kw):
        self.conv1 = Conv(channels, channels // reduction, 1, **kw)
        self.conv2 = Conv(channels // reduction, channels, 1, **kw)

    def __call__(self, x: jax.Array) -> jax.Array:
        s = x.mean((1, 2), keepdims=True)
        s = jax.nn.sigmoid(self.conv2(relu(self.conv1(s))))
        return x * s


class BasicBlock(nnx.Module):
    """relu(bn2(conv2(relu(bn1(conv1(x))))) + shortcut(x)), dropout after it.

    (N, H, W, in) -> (N, H/stride, W/stride, out).  `shortcut` is empty where the shapes agree, a
    convolution and a BatchNorm otherwise.  With `se` the excitation stands before the addition.
    """

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
        rngs: nnx.Rngs,
        **kw,
    ):
        conv = {"bias": False, "rngs": rngs, **kw}
        self.conv1 = Conv(in_channels, channels, kernel_size, stride=stride, **conv)
        self.bn1 = BatchNorm(channels, **kw)
        self.conv2 = Conv(channels, channels, kernel_size, **conv)
        self.bn2 = BatchNorm(channels, **kw)
        self.shortcut = Sequential()
        if stride != 1 or in_channels != channels:
            self.shortcut = Sequential(
                [
                    Conv(in_channels, channels, shortcut_kernel_size, stride=stride, **conv),
                    BatchNorm(channels, **kw),
                ]
            )
        self.seblock = Sequential()
        if se:
            self.seblock = SEBlock(channels, reduction=reduction, rngs=rngs, **kw)
        self.dropout = Dropout(drop, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        y = relu(self.bn1(self.conv1(x)))
        y = self.seblock(self.bn2(self.conv2(y)))
        return self.dropout(relu(y + self.shortcut(x)))


class SEResNet(nnx.Module):
    """SE-ResNet [4, 4, 3]: (N, 32, 32, 3) -> logits (N, num_classes); 4,697,742 parameters.

    A 3x3 stem, three stages of basic blocks at widths c, 2c, 4c and strides 1, 2, 2, the mean over
    what is left, dropout, a linear layer.

    Args:
        num_classes: logits.
        num_blocks: blocks a stage; its length is the number of stages.
        num_channels: c, the width of the stem and of the first stage.
        conv_kernel_sizes, shortcut_kernel_sizes: odd sizes, one a stage; 3 and 1 if left out.
        se: "stem" - one excitation after the stem, the published 4,697,742 parameters; "block" -
            one in every block (4,733,610); "none" (4,697,162).
        se_reduction: of an excitation's channels: it squeezes C to C // se_reduction.
        drop: dropout rate after every block and before the linear layer.
        avg_pool_kernel_size: only checked: 32 / 2^(stages - 1).
        whiten: a convolution of 2x2 pixels to 24 channels, and a ReLU, before the stem: 4,710,126
            parameters.  Training gives it `jaxnets.data.whitening`'s kernel.
        dtype, param_dtype: as in Flax; logits are at least float32.

    Source: S2 and S3.

    >>> SEResNet(num_channels=16, rngs=nnx.Rngs(0))(jnp.zeros((2, 32, 32, 3))).shape
    (2, 10)
    """

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
        dtype: jnp.dtype | None = None,
        param_dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        conv_kernel_sizes = conv_kernel_sizes or [3] * len(num_blocks)
        shortcut_kernel_sizes = shortcut_kernel_sizes or [1] * len(num_blocks)
        kw = {"dtype": dtype, "param_dtype": param_dtype}
        width = num_channels
        if whiten:
            self.whiten = Sequential([Conv(3, 24, 2, bias=False, rngs=rngs, **kw), ReLU()])
        else:
            self.whiten = None
        self.conv1 = Conv(24 if whiten else 3, width, 3, bias=False, rngs=rngs, **kw)
        self.bn1 = BatchNorm(width, **kw)
        self.seblock = Sequential()
        if se == "stem":
            self.seblock = SEBlock(width, reduction=se_reduction, rngs=rngs, **kw)
        self.residual_layers = nnx.List()
        in_channels = width
        for stage, blocks in enumerate(num_blocks):
            channels = width * 2**stage
            layer = Sequential()
            for block in range(blocks):
                layer.append(
                    BasicBlock(
                        in_channels,
                        channels,
                        stride=2 if stage > 0 and block == 0 else 1,
                        kernel_size=conv_kernel_sizes[stage],
                        shortcut_kernel_size=shortcut_kernel_sizes[stage],
                        se=se == "block",
                        reduction=se_reduction,
                        drop=drop,
                        rngs=rngs,
                        **kw,
                    )
                )
                in_channels = channels
            self.residual_layers.append(layer)
        self.dropout = Dropout(drop, rngs=rngs)
        self.linear = Classifier(in_channels, num_classes, rngs=rngs, **kw)

    def __call__(self, x: jax.Array) -> jax.Array:
        if self.whiten is not None:
            x = self.whiten(x)
        x = relu(self.bn1(self.conv1(x)))
        x = self.seblock(x)
        for layer in self.residual_layers:
            x = layer(x)
        return self.linear(self.dropout(x.mean((1, 2))))
