"""Maximum and minimum that keep NaN.

XLA's own do not on a CPU (jaxlib 0.10): `jnp.maximum`, `jax.nn.relu` and `jnp.clip` of large arrays
turn NaN into a number under the flag of `cpu_flags`, `nnx.max_pool` and `jnp.max` even without.
A network would give finite logits for an image of NaN, and training that diverged would not stop.
Comparisons are exact under every setting; a gradient goes where PyTorch lets it go.
"""

import jax
import jax.numpy as jnp


def relu(x: jax.Array) -> jax.Array:
    """max(x, 0); the gradient is that of x where x is NaN, and 0 where x is 0."""
    return jnp.where(x <= 0, 0, x)


def clip(x: jax.Array, limit: float) -> jax.Array:
    """x cut to [-limit, limit], as `torch.clamp` does."""
    return jnp.where(x > limit, limit, jnp.where(x < -limit, -limit, x))


def max_pool(x: jax.Array) -> jax.Array:
    """Maximum over windows of 2x2, stride 2: (N, H, W, C) -> (N, H//2, W//2, C).

    The gradient goes to the first of equal values, and to the last NaN.
    """
    n, h, w, c = x.shape
    windows = x[:, : h // 2 * 2, : w // 2 * 2].reshape(n, h // 2, 2, w // 2, 2, c)
    best, *others = (windows[:, :, i, :, j] for i in range(2) for j in range(2))
    for other in others:
        best = jnp.where((other > best) | (other != other), other, best)
    return best
