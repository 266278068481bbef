"""The five CIFAR-100 networks of S0, from a plain CNN to a Fire and convolution hybrid."""

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnets.checks import scaled
from jaxnets.models.fire import FireModule, ResidualBlock, classifier, conv_bn_relu
from jaxnets.models.layers import Conv, Dropout, GlobalAvgPool, MaxPool, Sequential


class Cifar100v1(nnx.Module):
    """The baseline CNN: (N, 32, 32, 3) -> (N, num_classes); 7,856,868 parameters.

    Six 3x3 convolutions, two poolings, a linear layer on the flattened 8x8 map.

    Args:
        num_classes: logits.
        drop: dropout rate before the linear layer.
        width: factor on every channel count; it must keep them whole.
        dtype, param_dtype: as in Flax; logits are at least float32.

    Source: S0.
    """

    def __init__(
        self,
        num_classes: int = 100,
        *,
        drop: float = 0.3,
        width: float = 1.0,
        dtype: jnp.dtype | None = None,
        param_dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        c = scaled(width)
        kw = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        self.conv_block1 = Sequential(
            [*conv_bn_relu(3, c(128), **kw), *conv_bn_relu(c(128), c(128), **kw)]
        )
        self.conv_block2 = Sequential(
            [*conv_bn_relu(c(128), c(256), **kw), MaxPool(), *conv_bn_relu(c(256), c(256), **kw)]
        )
        self.conv_block3 = Sequential(
            [*conv_bn_relu(c(256), c(512), **kw), *conv_bn_relu(c(512), c(512), **kw), MaxPool()]
        )
        self.classifier = classifier(c(512) * 8 * 8, num_classes, drop, **kw)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.classifier(self.conv_block3(self.conv_block2(self.conv_block1(x))))


class Cifar100v2(nnx.Module):
    """Fire modules throughout: (N, 32, 32, 3) -> (N, num_classes); 1,283,684 parameters.

    Args:
        num_classes, drop, width, dtype, param_dtype: as in `Cifar100v1`.

    Source: S0.
    """

    def __init__(
        self,
        num_classes: int = 100,
        *,
        drop: float = 0.3,
        width: float = 1.0,
        dtype: jnp.dtype | None = None,
        param_dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        c = scaled(width)
        kw = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        self.conv1 = Sequential([*conv_bn_relu(3, c(96), **kw), MaxPool()])
        self.fire2 = FireModule(c(96), c(16), c(32), c(32), **kw)
        self.fire3 = FireModule(c(64), c(16), c(32), c(32), **kw)
        self.fire4 = Sequential([FireModule(c(64), c(16), c(64), c(64), **kw), MaxPool()])
        self.fire5 = FireModule(c(128), c(16), c(128), c(128), **kw)
        self.conv6 = Sequential([*conv_bn_relu(c(256), c(512), **kw), MaxPool()])
        self.adp_avg_pool = GlobalAvgPool()
        self.classifier = classifier(c(512), num_classes, drop, **kw)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.fire4(self.fire3(self.fire2(self.conv1(x))))
        return self.classifier(self.adp_avg_pool(self.conv6(self.fire5(x))))


class Cifar100v3(nnx.Module):
    """Fire modules and projections: (N, 32, 32, 3) -> (N, num_classes); 2,847,476 parameters.

    Skips are the identity where widths agree and a 1x1 convolution where they do not; no activation
    follows an addition.

    Args:
        num_classes, drop, width, dtype, param_dtype: as in `Cifar100v1`.
        use_fire8: add fire8(x) to proj8(x).  S0 declares fire8 and never calls it: its 91,744
            parameters are there either way.

    Source: S0.
    """

    def __init__(
        self,
        num_classes: int = 100,
        *,
        use_fire8: bool = False,
        drop: float = 0.3,
        width: float = 1.0,
        dtype: jnp.dtype | None = None,
        param_dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        c = scaled(width)
        kw = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        self.conv1 = Sequential([*conv_bn_relu(3, c(64), **kw), MaxPool()])
        self.fire2 = FireModule(c(64), c(8), c(32), c(32), residual=True, **kw)
        self.fire3 = FireModule(c(64), c(8), c(48), c(48), **kw)
        self.proj2to3 = Conv(c(64), c(96), 1, **kw)
        self.fire4 = Sequential([FireModule(c(96), c(16), c(48), c(48), **kw), MaxPool()])
        self.fire5 = FireModule(c(96), c(16), c(64), c(64), **kw)
        self.proj4to5 = Conv(c(96), c(128), 1, **kw)
        self.fire6 = Sequential([FireModule(c(128), c(32), c(128), c(128), **kw), MaxPool()])
        self.fire7 = FireModule(c(256), c(32), c(128), c(128), **kw)
        self.proj6to7 = Conv(c(256), c(256), 1, **kw)
        self.fire8 = FireModule(c(256), c(32), c(256), c(256), **kw)
        self.proj8 = Conv(c(256), c(512), 1, **kw)
        self.conv8 = Sequential(conv_bn_relu(c(512), c(512), **kw))
        self.global_avg_pool = GlobalAvgPool()
        self.classifier = classifier(c(512), num_classes, drop, **kw)
        self.use_fire8 = use_fire8
        self.unused = () if use_fire8 else ("fire8",)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.fire2(self.conv1(x))
        x = self.fire4(self.fire3(x) + self.proj2to3(x))
        x = self.fire6(self.fire5(x) + self.proj4to5(x))
        x = self.fire7(x) + self.proj6to7(x)
        x = self.fire8(x) + self.proj8(x) if self.use_fire8 else self.proj8(x)
        return self.classifier(self.global_avg_pool(self.conv8(x)))


class Cifar100v4(nnx.Module):
    """Convolutions and residual blocks: (N, 32, 32, 3) -> (N, num_classes); 3,235,460 parameters.

    Args:
        num_classes, drop, width, dtype, param_dtype: as in `Cifar100v1`.
        conv_drop: dropout rate after the last convolutions.

    Source: S0.
    """

    def __init__(
        self,
        num_classes: int = 100,
        *,
        drop: float = 0.3,
        conv_drop: float = 0.2,
        width: float = 1.0,
        dtype: jnp.dtype | None = None,
        param_dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        c = scaled(width)
        kw = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        self.conv1 = Sequential(
            [*conv_bn_relu(3, c(96), **kw), *conv_bn_relu(c(96), c(96), **kw), MaxPool()]
        )
        self.stage1 = Sequential([ResidualBlock(c(96), **kw)])
        self.conv2 = Sequential(
            [*conv_bn_relu(c(96), c(128), **kw), *conv_bn_relu(c(128), c(256), **kw), MaxPool()]
        )
        self.stage2 = Sequential([ResidualBlock(c(256), **kw)])
        self.conv3 = Sequential(
            [
                *conv_bn_relu(c(256), c(256), **kw),
                *conv_bn_relu(c(256), c(512), **kw),
                MaxPool(),
                Dropout(conv_drop, rngs=rngs),
            ]
        )
        self.classifier = classifier(c(512) * 4 * 4, num_classes, drop, **kw)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.stage2(self.conv2(self.stage1(self.conv1(x))))
        return self.classifier(self.conv3(x))


class Cifar100v5(nnx.Module):
    """The hybrid: (N, 32, 32, 3) -> (N, num_classes); 3,657,440 parameters.

    Three stages of convolution, cell, convolution, dropout and pooling.  The documented cell is one
    Fire module.

    Args:
        num_classes, drop, width, dtype, param_dtype: as in `Cifar100v1`.
        cell: its blocks in order, joined with "+": "fire" is a Fire module, "residual" a residual
            block of 1x1 convolutions, which keeps the width.
        residual: add the input of a Fire module to its output where their widths agree, which is
            documented of the first two; False is what the published code does.
        conv_drop: dropout rate at the end of each stage.

    Source: S0.
    """

    def __init__(
        self,
        num_classes: int = 100,
        *,
        cell: str = "fire",
        residual: bool = True,
        drop: float = 0.3,
        conv_drop: float = 0.2,
        width: float = 1.0,
        dtype: jnp.dtype | None = None,
        param_dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        c = scaled(width)
        kw = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}

        def stage(
            in_channels: int, channels: int, squeeze: int, expand: int, out: int
        ) -> Sequential:
            layers = conv_bn_relu(in_channels, channels, **kw)
            for block in cell.split("+"):
                if block == "residual":
                    layers.append(ResidualBlock(channels, **kw))
                    continue
                skip = residual and channels == 2 * expand
                layers.append(FireModule(channels, squeeze, expand, expand, residual=skip, **kw))
                channels = 2 * expand
            layers += conv_bn_relu(channels, out, **kw)
            return Sequential([*layers, Dropout(conv_drop, rngs=rngs), MaxPool()])

        self.conv1 = stage(3, c(96), c(12), c(48), c(128))
        self.conv2 = stage(c(128), c(128), c(12), c(64), c(256))
        self.conv3 = stage(c(256), c(256), c(28), c(256), c(512))
        self.adp_pool = GlobalAvgPool()
        self.classifier = classifier(c(512), num_classes, drop, **kw)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.classifier(self.adp_pool(self.conv3(self.conv2(self.conv1(x)))))
