"""MishSEResNet18: the CIFAR-10 network of S1."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnets.models.layers import (
    BatchNorm,
    Classifier,
    Conv,
    Dropout,
    GlobalAvgPool,
    Mish,
    ReLU,
    Sequential,
    Sigmoid,
)

ACTIVATIONS = {"mish": Mish, "relu": ReLU}


class SEBlock(nnx.Module):
    """Squeeze-and-excitation (Hu et al. 2018): x * sigmoid(conv(act(conv(mean_hw(x))))).

    (N, H, W, C) -> (N, H, W, C); both convolutions are 1x1 with a bias, C -> C // reduction ->
    C.
    """

    def __init__(self, channels: int, *, activation: str, reduction: int, **kw):
        self.se = Sequential(
            [
                GlobalAvgPool(),
                Conv(channels, channels // reduction, 1, **kw),
                ACTIVATIONS[activation](),
                Conv(channels // reduction, channels, 1, **kw),
                Sigmoid(),
            ]
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        return x * self.se(x)


class BasicBlock(nnx.Module):
    """act(se(bn2(conv2(act(bn1(conv1(x)))))) + shortcut(x)).

    (N, H, W, in) -> (N, H/stride, W/stride, out).  `shortcut` is empty where the shapes agree, a
    1x1 convolution and a BatchNorm otherwise.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int,
        *,
        activation: str,
        se: bool,
        reduction: int,
        rngs: nnx.Rngs,
        **kw,
    ):
        conv = {"bias": False, "rngs": rngs, **kw}
        self.conv1 = Conv(in_channels, channels, 3, stride=stride, **conv)
        self.bn1 = BatchNorm(channels, **kw)
        self.conv2 = Conv(channels, channels, 3, **conv)
        self.bn2 = BatchNorm(channels, **kw)
        self.se = Sequential()
        if se:
            self.se = SEBlock(channels, activation=activation, reduction=reduction, rngs=rngs, **kw)
        self.shortcut = Sequential()
        if stride != 1 or in_channels != channels:
            self.shortcut = Sequential(
                [
                    Conv(in_channels, channels, 1, stride=stride, **conv),
                    BatchNorm(channels, **kw),
                ]
            )
        self.act = ACTIVATIONS[activation]()

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.act(self.bn1(self.conv1(x)))
        y = self.se(self.bn2(self.conv2(y)))
        return self.act(y + self.shortcut(x))


class MishSEResNet18(nnx.Module):
    """ResNet-18 with Mish and excitation: (N, 32, 32, 3) -> (N, num_classes); 4,570,934 parameters.

    A 3x3 stem, stages of basic blocks, four of them at strides 1, 2, 2, 2, the mean over what is
    left, dropout, a linear layer.

    Args:
        num_classes: logits.
        activation: "mish", or "relu" everywhere in its place.
        se: an excitation in every block (35,340 parameters), or none.
        se_reduction: of an excitation's channels: it squeezes C to C // se_reduction.
        widths: channels of each stage, the first one also of the stem; with `se` at least
            `se_reduction`.  One to six stages.
        num_blocks: blocks of each stage.
        drop: dropout rate before the linear layer.
        dtype, param_dtype: as in Flax; logits are at least float32.

    Source: S1.

    >>> model = MishSEResNet18(widths=(16, 16, 32, 32), rngs=nnx.Rngs(0))
    >>> model(jnp.zeros((2, 32, 32, 3))).shape
    (2, 10)
    """

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
        dtype: jnp.dtype | None = None,
        param_dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        kw = {"dtype": dtype, "param_dtype": param_dtype}
        self.conv1 = Conv(3, widths[0], 3, bias=False, rngs=rngs, **kw)
        self.bn1 = BatchNorm(widths[0], **kw)
        self.act = ACTIVATIONS[activation]()
        self.stages = len(widths)
        in_channels = widths[0]
        for stage, (channels, blocks) in enumerate(zip(widths, num_blocks, strict=True)):
            layer = Sequential()
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
                        rngs=rngs,
                        **kw,
                    )
                )
                in_channels = channels
            setattr(self, f"layer{stage + 1}", layer)
        self.dropout = Dropout(drop, rngs=rngs)
        self.fc = Classifier(in_channels, num_classes, rngs=rngs, **kw)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.act(self.bn1(self.conv1(x)))
        for stage in range(self.stages):
            x = getattr(self, f"layer{stage + 1}")(x)
        return self.fc(self.dropout(x.mean((1, 2))))
