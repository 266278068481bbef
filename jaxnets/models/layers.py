"""PyTorch's layers, exactly, on NHWC arrays.

Attribute names follow PyTorch's state_dict, so that one naming rule ports every model
(`jaxnets.models.torch_names`).  What differs from Flax's own layers: convolutions pad
symmetrically, weights start as PyTorch's do, `BatchNorm` keeps the unbiased running variance and
counts its batches, `Flatten` is channel-major, and `Sequential` numbers its children.
"""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.nn import initializers

from jaxnets import checks
from jaxnets.extrema import max_pool, relu
from jaxnets.models import initial


class Conv(nnx.Conv):
    """Square 2-d convolution, (N, H, W, in) -> (N, H', W', out), zero padding `kernel_size // 2`.

    Of an even kernel the padding is one less at the top and the left, as PyTorch's "same" has it.
    Explicit padding on both sides: XLA's "SAME" pads only right and bottom at stride 2.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int = 3,
        *,
        stride: int = 1,
        bias: bool = True,
        kernel_init: initializers.Initializer = initial.uniform_kernel,
        **kwargs,
    ):
        pad = (kernel_size - 1) // 2, kernel_size // 2
        super().__init__(
            in_features,
            out_features,
            (kernel_size, kernel_size),
            strides=stride,
            padding=(pad, pad),
            use_bias=bias,
            kernel_init=kernel_init,
            bias_init=initial.bias(in_features * kernel_size**2),
            **kwargs,
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        checks.images(x, self.in_features)
        return super().__call__(x)


class Linear(nnx.Linear):
    """Affine map (..., in) -> (..., out) with PyTorch's initialisation."""

    def __init__(self, in_features: int, out_features: int, *, bias: bool = True, **kwargs):
        super().__init__(
            in_features,
            out_features,
            use_bias=bias,
            kernel_init=initial.uniform_kernel,
            bias_init=initial.bias(in_features),
            **kwargs,
        )


class Classifier(Linear):
    """The last layer: its logits are float32 at least, whatever the layers before compute in."""

    def __init__(self, in_features: int, out_features: int, *, dtype=None, **kwargs):
        dtype = dtype and jnp.promote_types(dtype, jnp.float32)
        super().__init__(in_features, out_features, dtype=dtype, **kwargs)


class _Batch(NamedTuple):
    """What a batch is, beyond the array in hand, while a training step is traced."""

    axis_name: str | None = None
    mask: jax.Array | None = None


_WHOLE = _Batch()
_batch: ContextVar[_Batch] = ContextVar("batch", default=_WHOLE)


@contextlib.contextmanager
def batch_scope(axis_name: str | None = None, mask: jax.Array | None = None) -> Iterator[None]:
    """While tracing: BatchNorm averages over all devices of `axis_name`, where `mask` (N,) is 1.

    With it the statistics are those of the true global batch, however it is cut over devices and
    however it is padded to fit them.
    """
    token = _batch.set(_Batch(axis_name, mask))
    try:
        yield
    finally:
        _batch.reset(token)


class BatchNorm(nnx.Module):
    """PyTorch's BatchNorm2d over the last axis: (..., C) -> (..., C).

    Training:    y = (x - m) / sqrt(v + eps) * scale + bias,  m and v the batch's mean and biased
    variance, and mean <- 0.9 mean + 0.1 m,  var <- 0.9 var + 0.1 v n/(n-1)  (flax keeps the biased
    one).  Evaluation: the same with the running mean and var.

    The statistics are computed and kept in float32, or in float64 where the parameters are.  The
    variance is E[(x-c)^2] - E[x-c]^2 with c the channel's first value: one pass over x, as fast
    as E[x^2] - E[x]^2, without its cancellation for inputs far from zero.
    """

    def __init__(
        self,
        num_features: int,
        *,
        momentum: float = 0.1,
        epsilon: float = 1e-5,
        dtype: jnp.dtype | None = None,
        param_dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs | None = None,
    ):
        stat_dtype = jnp.promote_types(param_dtype, jnp.float32)
        self.scale = nnx.Param(jnp.ones(num_features, param_dtype))
        self.bias = nnx.Param(jnp.zeros(num_features, param_dtype))
        self.mean = nnx.BatchStat(jnp.zeros(num_features, stat_dtype))
        self.var = nnx.BatchStat(jnp.ones(num_features, stat_dtype))
        self.num_batches_tracked = nnx.BatchStat(jnp.zeros((), jnp.int32))
        self.momentum = momentum
        self.epsilon = epsilon
        self.dtype = dtype
        self.use_running_average = False

    def __call__(self, x: jax.Array) -> jax.Array:
        scale, bias = self.scale[...], self.bias[...]
        dtype = self.dtype or jnp.result_type(x, scale)
        x = x.astype(jnp.promote_types(x.dtype, self.mean[...].dtype))
        if self.use_running_average:
            mean, var = self.mean[...], self.var[...]
        else:
            mean, var, count = _moments(x)
            unbiased = var * (count / jnp.maximum(count - 1, 1))
            self._track(self.mean, mean)
            self._track(self.var, unbiased)
            # Not `[...] =`, which asks tracers for their sharding: quadratic in the layers.
            self.num_batches_tracked.set_value(self.num_batches_tracked[...] + 1)
        y = (x - mean) * (lax.rsqrt(var + self.epsilon) * scale) + bias
        return y.astype(dtype)

    def _track(self, running: nnx.BatchStat, value: jax.Array) -> None:
        value = lax.stop_gradient(value).astype(running[...].dtype)
        running.set_value((1 - self.momentum) * running[...] + self.momentum * value)


def _moments(x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Mean (C,), biased variance (C,) and number of values a channel of x (N, ..., C)."""
    axis_name, mask = _batch.get()
    axes = tuple(range(x.ndim - 1))
    shift = lax.stop_gradient(x[(0,) * len(axes)])
    count = jnp.asarray(x.size // x.shape[-1], x.dtype)
    if axis_name is not None:
        shift = lax.pmean(shift, axis_name)
    centred = x - shift
    weighted = centred
    if mask is not None:
        mask = mask.astype(x.dtype).reshape((-1,) + (1,) * (x.ndim - 1))
        weighted = jnp.where(mask > 0, centred, 0)
        count = count / x.shape[0] * mask.sum()
    sums = weighted.sum(axes), (weighted * centred).sum(axes), count
    if axis_name is not None:
        total, squares, count = lax.psum(sums, axis_name)
    else:
        total, squares, count = sums
    offset = total / count
    return shift + offset, relu(squares / count - offset**2), count


class Dropout(nnx.Dropout):
    """Zeroes each value with probability `rate` and divides the others by 1 - rate, in training.

    What is dropped is multiplied by 0, as in PyTorch: NaN and Inf become NaN.
    """

    def __call__(self, x: jax.Array) -> jax.Array:
        if self.deterministic or self.rate == 0:
            return x
        x = x / (1 - self.rate)
        return jnp.where(self.mask(x.shape), x, 0 * x)

    def mask(self, shape: tuple[int, ...]) -> jax.Array:
        """The next mask, bool, True where a value is kept.

        Over a mapped axis it is this device's part of the whole batch's mask, so that the masks
        do not depend on how the batch is cut.
        """
        axis_name = _batch.get().axis_name
        if axis_name is None:
            return jax.random.bernoulli(self.rngs(), 1 - self.rate, shape)
        n = shape[0]
        whole = (n * lax.axis_size(axis_name), *shape[1:])
        mask = jax.random.bernoulli(self.rngs(), 1 - self.rate, whole)
        return lax.dynamic_slice_in_dim(mask, lax.axis_index(axis_name) * n, n)


class Sequential(nnx.List):
    """Layers one after another, named "0", "1", ... as in PyTorch."""

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in self:
            x = layer(x)
        return x


class ReLU(nnx.Module):
    """max(x, 0)."""

    def __call__(self, x: jax.Array) -> jax.Array:
        return relu(x)


class Mish(nnx.Module):
    """x tanh(log(1 + e^x)) (Misra 2019)."""

    def __call__(self, x: jax.Array) -> jax.Array:
        return jax.nn.mish(x)


class Sigmoid(nnx.Module):
    """1 / (1 + e^-x)."""

    def __call__(self, x: jax.Array) -> jax.Array:
        return jax.nn.sigmoid(x)


class MaxPool(nnx.Module):
    """Maximum over windows of 2x2, stride 2: (N, H, W, C) -> (N, H//2, W//2, C)."""

    def __call__(self, x: jax.Array) -> jax.Array:
        return max_pool(x)


class GlobalAvgPool(nnx.Module):
    """Mean over height and width, kept as 1x1: (N, H, W, C) -> (N, 1, 1, C)."""

    def __call__(self, x: jax.Array) -> jax.Array:
        return x.mean((1, 2), keepdims=True)


class Flatten(nnx.Module):
    """(N, H, W, C) -> (N, C H W): channel-major, as PyTorch flattens, so no Linear is permuted."""

    def __call__(self, x: jax.Array) -> jax.Array:
        return x.transpose(0, 3, 1, 2).reshape(x.shape[0], -1)
