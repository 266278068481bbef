"""Muon (Jordan et al. 2024): momentum whose singular values are all drawn towards 1.

The kernel of a convolution, (kh, kw, in, out), is the matrix (out, in kh kw).  `torch.optim.Muon`
has the same formulas for matrices, in bfloat16 alone; `optax.contrib.muon` corrects the bias of the
momentum and adds epsilon to the norm, so that its numbers are others.

Source: Jordan et al., Muon: An optimizer for hidden layers in neural networks, 2024; for kernels of
convolutions Jordan, airbench94_muon.py.
"""

import math
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxnets.optim.schedules import Schedule

_A, _B, _C = 3.4445, -4.7750, 2.0315
_EPSILON = 1e-7

Arrays = dict[str, jax.Array]


class MuonState(NamedTuple):
    """momentum_buffer: like the kernels; rest: SgdState or AdamState of all other parameters.

    The counter of finished steps is that of `rest`.
    """

    momentum_buffer: Arrays
    rest: optax.OptState


def muon(
    lr: Schedule,
    rest: optax.GradientTransformation,
    kernels: Callable[[Mapping[str, int]], Collection[str]],
    *,
    momentum: float = 0.95,
    nesterov: bool = True,
    weight_decay: float = 0.0,
    ns_steps: int = 5,
    ns_dtype: str = "float32",
    adjust_lr: str = "original",
) -> optax.GradientTransformation:
    """Muon for the parameters that `kernels` picks, `rest` for all others.

    buffer = m buffer + (1-m) g;  d = m buffer + (1-m) g if nesterov else buffer;
    update = -lr (scale orthogonalize(d) + weight_decay p).  As `torch.optim.Muon`.

    Args:
        rest: an optimizer whose state has a `count`.
        kernels: from the number of axes of each parameter, by its path, to the paths that are
            Muon's; the last axis of each is the output.
        ns_dtype: bfloat16, or float32: then it is the kernel's own dtype, float32 at least.
        adjust_lr: the scale of a matrix (out, fan_in): original, sqrt(max(1, out / fan_in));
            match_rms_adamw, 0.2 sqrt(max(out, fan_in)); none, 1.
    """

    def init(params: Arrays) -> MuonState:
        own = set(kernels({name: p.ndim for name, p in params.items()}))
        others = {name: p for name, p in params.items() if name not in own}
        buffer = {name: jnp.zeros_like(p) for name, p in params.items() if name in own}
        return MuonState(buffer, rest.init(others))

    def update(grads: Arrays, state: MuonState, params: Arrays) -> tuple[Arrays, MuonState]:
        rate = lr(state.rest.count)
        updates, buffers = {}, {}
        for name, old in state.momentum_buffer.items():
            g, p = grads[name], params[name]
            buffers[name] = buffer = old + (1 - momentum) * (g - old)
            direction = g + momentum * (buffer - g) if nesterov else buffer
            step = _orthogonal(direction, ns_steps, ns_dtype) * _scale(p.shape, adjust_lr)
            updates[name] = -jnp.asarray(rate, p.dtype) * (step + weight_decay * p)
        others = [name for name in grads if name not in buffers]
        rest_updates, rest_state = rest.update(
            {name: grads[name] for name in others},
            state.rest,
            {name: params[name] for name in others},
        )
        return updates | rest_updates, MuonState(buffers, rest_state)

    return optax.GradientTransformation(init, update)


def _orthogonal(kernel: jax.Array, steps: int, dtype: str) -> jax.Array:
    """The kernel (..., in, out), orthogonalised as a matrix, in its own shape and dtype."""
    wide = jnp.promote_types(kernel.dtype, jnp.float32) if dtype == "float32" else jnp.dtype(dtype)
    matrix = kernel.reshape(-1, kernel.shape[-1]).astype(wide)
    return orthogonalize(matrix, steps).reshape(kernel.shape).astype(kernel.dtype)


def orthogonalize(matrix: jax.Array, steps: int = 5) -> jax.Array:
    """U S' V^T for a matrix U S V^T: `steps` Newton-Schulz iterations draw S towards 1.

    The quintic a x + b x^3 + c x^5 is steep at 0 and does not converge: after five iterations, all
    but the smallest singular values are between 0.7 and 1.2.  The result of the transposed matrix
    is the transposed result.  Computed in the matrix's dtype, float32 without TF32.
    """
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    norm = jnp.linalg.norm(x)
    x = x / jnp.where(norm < _EPSILON, jnp.asarray(_EPSILON, x.dtype), norm)  # NaN stays NaN

    def multiply(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)

    for _ in range(steps):
        gram = multiply(x, x.T)
        x = _A * x + multiply(_B * gram + _C * multiply(gram, gram), x)
    return x.T if matrix.shape[0] > matrix.shape[1] else x


def _scale(shape: tuple[int, ...], adjust_lr: str) -> float:
    out, fan_in = shape[-1], math.prod(shape[:-1])
    if adjust_lr == "original":
        return math.sqrt(max(1, out / fan_in))
    return 0.2 * math.sqrt(max(out, fan_in)) if adjust_lr == "match_rms_adamw" else 1.0
