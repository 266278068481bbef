"""Dynamic loss scaling around an optimizer, step by step as `torch.amp.GradScaler` does it.

`flax.training.dynamic_scale` lets the scale grow one step later, casts gradients to float32, and
averages them over devices, where this training sums them.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxnets.config.loss_scale import LEAST, LossScaling


class LossScaleState(NamedTuple):
    """The scale beside the state of the optimizer.

    scale: float32, of the loss; growth_tracker: int32, steps without overflow since it last
    changed; overflowed: int32, steps that were left out, of all.
    """

    scale: jax.Array
    growth_tracker: jax.Array
    overflowed: jax.Array
    inner: optax.OptState


def loss_scaled(
    inner: optax.GradientTransformation, options: LossScaling
) -> optax.GradientTransformation:
    """`inner` under a dynamic scale; `update` takes gradients that `unscaled` has divided.

    Where one of them is not finite, nothing is updated and `inner` keeps its state, the position of
    its schedule included.  Gradients that are summed over devices overflow on all of them alike.
    """

    def init(params):
        # Each an array of its own: a train state is donated.
        scale, tracker, overflowed = jnp.float32(options.init_scale), jnp.int32(0), jnp.int32(0)
        return LossScaleState(scale, tracker, overflowed, inner.init(params))

    def update(grads, state, params=None):
        finite = jnp.all(jnp.stack([jnp.isfinite(g).all() for g in jax.tree.leaves(grads)]))
        updates, after = inner.update(grads, state.inner, params)
        updates = jax.tree.map(lambda u: jnp.where(finite, u, 0), updates)
        after = jax.tree.map(lambda new, old: jnp.where(finite, new, old), after, state.inner)
        tracker = state.growth_tracker + 1
        due = tracker == options.growth_interval
        grown = state.scale * jnp.float32(options.growth_factor)
        grown = jnp.where(due & jnp.isfinite(grown), grown, state.scale)
        scale = jnp.where(finite, grown, state.scale * jnp.float32(options.backoff_factor))
        tracker = jnp.where(finite & ~due, tracker, 0)
        excused = ~finite & (state.scale >= LEAST)
        return updates, LossScaleState(scale, tracker, state.overflowed + excused, after)

    return optax.GradientTransformation(init, update)


def scaled(opt_state: optax.OptState, loss: jax.Array) -> jax.Array:
    """The loss to differentiate."""
    if not isinstance(opt_state, LossScaleState):
        return loss
    return loss * opt_state.scale.astype(loss.dtype)


def unscaled(opt_state: optax.OptState, grads: optax.Updates) -> optax.Updates:
    """The gradients of the loss itself, from those of the scaled one."""
    if not isinstance(opt_state, LossScaleState):
        return grads
    return jax.tree.map(lambda g: g * (1 / opt_state.scale).astype(g.dtype), grads)


def logged_norm(before: optax.OptState, after: optax.OptState, norm: jax.Array) -> jax.Array:
    """The norm of a step's gradients, 0 where it was left out; `before` and `after` that step."""
    if not isinstance(after, LossScaleState):
        return norm
    return jnp.where(after.overflowed > before.overflowed, 0, norm)


def inner_state(opt_state: Any) -> Any:
    """The state, or as a checkpoint has it, of the optimizer that is scaled."""
    if isinstance(opt_state, Mapping):
        return opt_state["inner"] if "growth_tracker" in opt_state else opt_state
    return opt_state.inner if isinstance(opt_state, LossScaleState) else opt_state


def figures(opt_state: optax.OptState) -> dict[str, float]:
    """The scale, and the steps left out so far; empty where there is no scaling."""
    if not isinstance(opt_state, LossScaleState):
        return {}
    return {"loss_scale": float(opt_state.scale), "overflowed_steps": int(opt_state.overflowed)}
