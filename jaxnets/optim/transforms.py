"""Gradient transformations where optax differs from PyTorch.

`sgd` and `adam` keep ONE counter, from which the learning rate, a scheduled momentum and the bias
corrections all follow. State arrays have the dtype of their parameters and the names of
`torch.optim`'s state; gradients have the dtype of the parameters too.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxnets import extrema
from jaxnets.errors import UserError
from jaxnets.optim.schedules import Schedule


class SgdState(NamedTuple):
    """count: int32, finished steps; momentum_buffer: like the parameters, () without momentum."""

    count: jax.Array
    momentum_buffer: optax.Params


class AdamState(NamedTuple):
    """count: int32, finished steps; exp_avg, exp_avg_sq: like the parameters."""

    count: jax.Array
    exp_avg: optax.Params
    exp_avg_sq: optax.Params


class LookaheadState(NamedTuple):
    """count: int32, finished steps; slow: like the parameters; inner: the fast one's state."""

    count: jax.Array
    slow: optax.Params
    inner: optax.OptState


def clip_by_value(limit: float) -> optax.GradientTransformation:
    """Each g cut to [-limit, limit]: `torch.nn.utils.clip_grad_value_`, which keeps NaN."""

    def update(grads, state, params=None):
        del params
        return jax.tree.map(lambda g: extrema.clip(g, limit), grads), state

    return optax.GradientTransformation(optax.init_empty_state, update)


def clip_by_global_norm(max_norm: float) -> optax.GradientTransformation:
    """g * min(1, max_norm / (|g| + 1e-6)), |g| over all leaves: `torch.nn.utils.clip_grad_norm_`.

    optax divides by |g| alone. The norm is accumulated in float32 at least.
    """

    def squares(g):
        return jnp.sum(jnp.square(g.astype(jnp.promote_types(g.dtype, jnp.float32))))

    def update(grads, state, params=None):
        del params
        norm = jnp.sqrt(sum(squares(g) for g in jax.tree.leaves(grads)))
        scale = extrema.clip(max_norm / (norm + 1e-6), 1)
        return jax.tree.map(lambda g: g * scale.astype(g.dtype), grads), state

    return optax.GradientTransformation(optax.init_empty_state, update)


def sgd(
    lr: Schedule, momentum: float | Schedule = 0.0, nesterov: bool = False
) -> optax.GradientTransformation:
    """Gradient descent with momentum, `torch.optim.SGD` without its weight decay.

    buffer = m * buffer + g;  update = -lr * (g + m * buffer if nesterov else buffer).
    m = 0 keeps no buffer. A scheduled m is that of `torch.optim.lr_scheduler.OneCycleLR`.
    """
    has_buffer = callable(momentum) or momentum > 0

    def init(params):
        return SgdState(jnp.int32(0), _zeros_like(params) if has_buffer else ())

    def update(grads, state, params=None):
        del params
        count, buffer, direction = state.count, state.momentum_buffer, grads
        if has_buffer:
            m = _at(momentum, count)
            buffer = jax.tree.map(lambda b, g: _cast(m, b) * b + g, buffer, grads)
            direction = buffer
            if nesterov:
                direction = jax.tree.map(lambda g, b: g + _cast(m, b) * b, grads, buffer)
        step = -lr(count)
        updates = jax.tree.map(lambda d: _cast(step, d) * d, direction)
        return updates, SgdState(count + 1, buffer)

    return optax.GradientTransformation(init, update)


def adam(
    lr: Schedule,
    beta1: float | Schedule = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    decoupled_weight_decay: float = 0.0,
) -> optax.GradientTransformation:
    """Adam (Kingma and Ba 2015); with a decay AdamW (Loshchilov and Hutter 2019). As `torch.optim`.

    m = b1 m + (1-b1) g;  v = b2 v + (1-b2) g^2;
    update = -lr (m / (1-b1^t) / (sqrt(v / (1-b2^t)) + eps) + decay * p).
    A scheduled b1 (`OneCycleLR`) is corrected as torch corrects it: by the current b1 to the t.
    `update` needs the parameters if there is a decay.
    """

    def init(params):
        return AdamState(jnp.int32(0), _zeros_like(params), _zeros_like(params))

    def update(grads, state, params=None):
        t = state.count + 1
        step, b1 = lr(state.count), _at(beta1, state.count)
        first = jax.tree.map(lambda m, g: m + _cast(1 - b1, m) * (g - m), state.exp_avg, grads)
        second = jax.tree.map(
            lambda v, g: beta2 * v + (1 - beta2) * jnp.square(g), state.exp_avg_sq, grads
        )
        scale = step / _bias_correction(b1, t)
        root = jnp.sqrt(_bias_correction(beta2, t))

        def direction(m, v):
            return -_cast(scale, m) * m / (jnp.sqrt(v) / _cast(root, v) + eps)

        updates = jax.tree.map(direction, first, second)
        if decoupled_weight_decay:
            shrink = step * decoupled_weight_decay
            updates = jax.tree.map(lambda u, p: u - _cast(shrink, p) * p, updates, params)
        return updates, AdamState(t, first, second)

    return optax.GradientTransformation(init, update)


def scaled(
    inner: optax.GradientTransformation, scales: Mapping[str, float]
) -> optax.GradientTransformation:
    """`inner` with its updates times a factor each: learning rates of single parameters.

    Args:
        inner: on a flat dictionary; its updates are proportional to the learning rate.
        scales: factors by key; 1 for every other one.
    """

    def update(grads, state, params=None):
        updates, state = inner.update(grads, state, params)
        return {k: u * scales[k] if k in scales else u for k, u in updates.items()}, state

    return optax.GradientTransformation(inner.init, update)


def lookahead(
    inner: optax.GradientTransformation, k: int, alpha: float, first_sync: int | None = None
) -> optax.GradientTransformation:
    """Every k steps, slow += alpha * (fast - slow) and fast = slow (Zhang et al. 2019).

    Slow weights start at the initial weights and sync after steps k, 2k, ...; with `first_sync=1`
    they start at the weights after step 1 and sync after steps 1, 1+k, ..., as the published code
    of S2 and S3 does. A sync keeps the inner optimizer's state, momentum included. The parameters
    stay plain fast weights, unlike in `optax.lookahead`; `update` needs them.
    """

    def init(params):
        # A copy of its own: a donated train state must not hold one buffer twice.
        slow = jax.tree.map(lambda p: jnp.array(p, copy=True), params)
        return LookaheadState(jnp.int32(0), slow, inner.init(params))

    def update(grads, state, params):
        updates, inner_state = inner.update(grads, state.inner, params)
        count = state.count + 1
        is_sync = (count - (first_sync or 0)) % k == 0

        def sync(slow, p, u):
            fast = p + u
            moved = slow + alpha * (fast - slow)
            if first_sync:
                moved = jnp.where(count == first_sync, fast, moved)
            return jnp.where(is_sync, moved, slow)

        slow = jax.tree.map(sync, state.slow, params, updates)
        updates = jax.tree.map(lambda s, p, u: jnp.where(is_sync, s - p, u), slow, params, updates)
        return updates, LookaheadState(count, slow, inner_state)

    return optax.GradientTransformation(init, update)


def slow_weights(opt_state: optax.OptState | Mapping[str, Any] | None) -> optax.Params:
    """Lookahead's slow weights, of what it trains.

    Args:
        opt_state: of the optimizer, or as a checkpoint has it.

    Raises UserError if the optimizer runs without Lookahead.
    """
    stored = isinstance(opt_state, Mapping)
    slow = opt_state.get("slow") if stored else getattr(opt_state, "slow", None)
    if slow is None:
        raise UserError(
            "the optimizer has no slow weights: set config.optim.lookahead.enabled=True, "
            "or evaluate the fast ones"
        )
    return slow


def advance(opt_state: optax.OptState, steps: int) -> optax.OptState:
    """The state with its counters `steps` further: schedules go on as if steps had been made."""
    counter = jax.tree_util.GetAttrKey("count")  # of a state; a parameter's is a DictKey

    def move(path, value):
        return value + steps if path[-1] == counter else value

    return jax.tree_util.tree_map_with_path(move, opt_state)


def _zeros_like(params: optax.Params) -> optax.Params:
    return jax.tree.map(jnp.zeros_like, params)


def _at(value: float | Callable, count: jax.Array) -> float | jax.Array:
    return value(count) if callable(value) else value


def _cast(scalar: float | jax.Array, like: jax.Array) -> jax.Array:
    """Schedules compute in the widest float; what they scale keeps its dtype."""
    return jnp.asarray(scalar, like.dtype)


def _bias_correction(beta: float | jax.Array, t: jax.Array) -> jax.Array:
    """1 - beta^t; through expm1, since float32 would lose 1e-5 of 1 - 0.999."""
    t = jnp.asarray(t, float)
    if isinstance(beta, jax.Array):
        return -jnp.expm1(t * jnp.log(beta))
    return -jnp.expm1(t * (math.log(beta) if beta else -math.inf))
