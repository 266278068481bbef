"""The parts that the CIFAR-100 networks of S0 are made of; every convolution has a bias."""

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnets.extrema import relu
from jaxnets.models.layers import BatchNorm, Classifier, Conv, Dropout, Flatten, ReLU, Sequential


def conv_bn_relu(in_channels: int, channels: int, kernel_size: int = 3, **kw) -> list[nnx.Module]:
    """Three layers of a Sequential: (N, H, W, in) -> (N, H, W, out)."""
    return [Conv(in_channels, channels, kernel_size, **kw), BatchNorm(channels, **kw), ReLU()]


class FireModule(nnx.Module):
    """concat(expand1x1(s), expand3x3(s)), s = squeeze(x) (Iandola et al. 2016); + x if `residual`.

    (N, H, W, in) -> (N, H, W, e1 + e3); each of the three is a convolution, a BatchNorm and a ReLU.
    No activation follows the addition.
    """

    def __init__(
        self,
        in_channels: int,
        squeeze: int,
        expand1x1: int,
        expand3x3: int,
        *,
        residual: bool = False,
        **kw,
    ):
        self.squeeze = Sequential(conv_bn_relu(in_channels, squeeze, 1, **kw))
        self.expand1x1 = Sequential(conv_bn_relu(squeeze, expand1x1, 1, **kw))
        self.expand3x3 = Sequential(conv_bn_relu(squeeze, expand3x3, 3, **kw))
        self.residual = residual

    def __call__(self, x: jax.Array) -> jax.Array:
        s = self.squeeze(x)
        y = jnp.concatenate([self.expand1x1(s), self.expand3x3(s)], axis=-1)
        return y + x if self.residual else y


class ResidualBlock(nnx.Module):
    """relu(conv(x) + x), (N, H, W, C) -> (N, H, W, C).

    `conv` is a 1x1 convolution, a BatchNorm, a ReLU, a 1x1 convolution and a BatchNorm.
    """

    def __init__(self, channels: int, **kw):
        self.conv = Sequential(
            [
                *conv_bn_relu(channels, channels, 1, **kw),
                Conv(channels, channels, 1, **kw),
                BatchNorm(channels, **kw),
            ]
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        return relu(self.conv(x) + x)


def classifier(features: int, num_classes: int, drop: float, **kw) -> Sequential:
    """(N, H, W, C) -> (N, num_classes), H W C = features: flatten, dropout, linear."""
    return Sequential(
        [Flatten(), Dropout(drop, rngs=kw["rngs"]), Classifier(features, num_classes, **kw)]
    )
