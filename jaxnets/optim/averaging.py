"""Averages of the weights over steps, kept beside the optimizer's state."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxnets.config.averaging import KINDS, Averaging
from jaxnets.errors import UserError
from jaxnets.optim import loss_scale
from jaxnets.optim.transforms import slow_weights

Arrays = dict[str, jax.Array]


class Average(NamedTuple):
    """One average; before it has taken any weights, the weights themselves.

    n_averaged: int32, the weights in it; params: of what is trained; stats: of every BatchNorm.
    """

    n_averaged: jax.Array
    params: Arrays
    stats: Arrays


class AveragedState(NamedTuple):
    """averages: by kind, "ema" and "swa"; inner: the optimizer's state."""

    averages: dict[str, Average]
    inner: optax.OptState


def begin(
    averaging: Averaging | None, params: Arrays, stats: Arrays, inner: optax.OptState
) -> optax.OptState:
    """The state before the first step; without averages that of the optimizer."""
    if averaging is None:
        return inner

    def average() -> Average:  # with buffers of its own, since a train state is donated
        return Average(jnp.int32(0), *jax.tree.map(jnp.copy, (params, stats)))

    return AveragedState({kind: average() for kind in averaging.kinds}, inner)


def follow(
    averaging: Averaging,
    averages: Mapping[str, Average],
    step: jax.Array,
    params: Arrays,
    stats: Arrays,
) -> dict[str, Average]:
    """The averages after step `step` (from 1), which led to these weights and statistics."""
    return {
        kind: _follow(averaging, kind, averages[kind], step, params, stats) for kind in averages
    }


def _follow(
    averaging: Averaging,
    kind: str,
    average: Average,
    step: jax.Array,
    params: Arrays,
    stats: Arrays,
) -> Average:
    n, due = average.n_averaged, averaging.is_due(kind, step)
    share = averaging.share(kind, n.astype(float), jnp.minimum)

    def mean(old: jax.Array, new: jax.Array) -> jax.Array:
        if not jnp.issubdtype(old.dtype, jnp.floating):
            return latest(old, new)
        moved = old + jnp.asarray(share, old.dtype) * (new - old)
        return jnp.where(n == 0, new, jnp.where(due, moved, old))

    def latest(old: jax.Array, new: jax.Array) -> jax.Array:
        return jnp.where((n == 0) | due, new, old)

    of_stats = mean if averaging.statistics == "average" else latest
    return Average(
        n + due,
        jax.tree.map(mean, average.params, params),
        jax.tree.map(of_stats, average.stats, stats),
    )


def inner_state(opt_state: Any) -> Any:
    """The optimizer's state, or as a checkpoint has it, without averages."""
    if isinstance(opt_state, Mapping):
        return opt_state["inner"] if "averages" in opt_state else opt_state
    return opt_state.inner if isinstance(opt_state, AveragedState) else opt_state


def averages_of(opt_state: Any) -> Mapping[str, Any]:
    """The averages by kind; of a checkpoint, each a dictionary of the fields of `Average`."""
    if isinstance(opt_state, Mapping):
        return opt_state.get("averages", {})
    return opt_state.averages if isinstance(opt_state, AveragedState) else {}


def evaluated(
    kind: str, params: optax.Params, stats: Arrays, opt_state: Any
) -> tuple[optax.Params, Arrays]:
    """The weights that `config.eval_weights` names, and the statistics that go with them.

    Args:
        kind: "fast"; "slow", Lookahead's; "ema" or "swa", an average.
        opt_state: of the optimizer, or as a checkpoint has it; it has none of frozen parameters.

    Raises:
        UserError: the run keeps no such weights.
    """
    if kind in KINDS:
        average = averages_of(opt_state).get(kind)
        if average is None:
            raise UserError(f"there is no average {kind!r} of the weights: set config.optim.{kind}")
        stored = isinstance(average, Mapping)
        mine = (average["params"], average["stats"]) if stored else average[1:]
        return {**params, **mine[0]}, mine[1]
    if kind == "slow":
        return {**params, **slow_weights(loss_scale.inner_state(inner_state(opt_state)))}, stats
    return params, stats
