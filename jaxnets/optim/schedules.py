"""Schedules: pure functions from a count to a value, in closed form.

A count is the number of finished steps (or epochs): a Python int, or an int array of any shape,
traced or not. The value is an array of that shape in the widest enabled float (float64 under
`jax_enable_x64`, else float32). Every curve is that of its counterpart in
`torch.optim.lr_scheduler`, beyond its end too.
"""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

Schedule = Callable[[int | jax.Array], jax.Array]

_MAX_COUNT = 2**31 - 1  # counts are int32


def constant(value: float) -> Schedule:
    """Value `value` at every count."""
    return lambda count: jnp.full(jnp.shape(count), value, float)


def cosine(lr: float, end_lr: float, T_max: int) -> Schedule:
    """Half a cosine from `lr` at 0 to `end_lr` at `T_max`, and back up beyond it.

    end_lr + (lr - end_lr) (1 + cos(pi t / T_max)) / 2, the closed form of `CosineAnnealingLR`,
    whose recursion differs by rounding alone. A run longer than `T_max` therefore ends on a rising
    rate, as S2's published one did (300 epochs, `T_max` 200).
    """
    return lambda count: _half_cosine(lr, end_lr, jnp.asarray(count, float) / T_max)


def warm_restarts(lr: float, end_lr: float, T_0: int, T_mult: int) -> Schedule:
    """Cosine from `lr` towards `end_lr` in cycles of T_0, T_0 T_mult, T_0 T_mult^2, ..., for ever.

    `CosineAnnealingWarmRestarts` (SGDR, Loshchilov and Hutter 2017). The cycle is looked up in
    integers, so that rounding cannot move a restart.
    """
    if T_mult == 1:
        return lambda count: _half_cosine(lr, end_lr, jnp.asarray(count % T_0, float) / T_0)
    starts, lengths = [0], [T_0]
    while starts[-1] + lengths[-1] <= _MAX_COUNT:
        starts.append(starts[-1] + lengths[-1])
        lengths.append(lengths[-1] * T_mult)

    def schedule(count):
        cycle = jnp.searchsorted(jnp.asarray(starts), count, side="right") - 1
        position = jnp.asarray(count - jnp.asarray(starts)[cycle], float)
        return _half_cosine(lr, end_lr, position / jnp.asarray(lengths, float)[cycle])

    return schedule


def multistep(lr: float, milestones: Sequence[int], gamma: float) -> Schedule:
    """`lr` times `gamma` for every milestone reached (`MultiStepLR`); milestones increase."""
    edges = tuple(milestones)
    return lambda count: (
        lr * jnp.asarray(gamma, float) ** jnp.searchsorted(jnp.asarray(edges), count, side="right")
    )


def one_cycle(
    max_lr: float, total: int, pct_start: float, div_factor: float, final_div_factor: float
) -> Schedule:
    """Learning rate of `OneCycleLR` with two cosine phases (Smith and Topin 2018).

    Rises from max_lr / div_factor to `max_lr` at pct_start * total - 1, then falls to
    max_lr / div_factor / final_div_factor at total - 1, and stays there (PyTorch would raise).
    """
    start = max_lr / div_factor
    return _two_phases(start, max_lr, start / final_div_factor, total, pct_start)


def one_cycle_momentum(
    base_momentum: float, max_momentum: float, total: int, pct_start: float
) -> Schedule:
    """Momentum (Adam: beta1) of `OneCycleLR`: from `max_momentum` to `base_momentum` and back."""
    return _two_phases(max_momentum, base_momentum, max_momentum, total, pct_start)


def delay(main: Schedule, length: int) -> Schedule:
    """main(0) for `length` counts, then `main` from its 0."""
    return lambda count: main(jnp.maximum(count - length, 0))


def warm_up(main: Schedule, initial_lr: float, length: int, factor: float) -> Schedule:
    """Linear rise from factor * initial_lr to initial_lr over `length` counts, then `main` from 0.

    `SequentialLR([LinearLR(start_factor=factor, total_iters=length), main], [length])`: `main`'s
    milestones and periods are counted from the end of the warm-up. `initial_lr` is torch's: for
    `one_cycle` max_lr / div_factor, for the others their `lr`.
    """
    if length == 0:
        return main
    later = delay(main, length)

    def schedule(count):
        ramp = factor + (1 - factor) * jnp.asarray(count, float) / length
        return jnp.where(count < length, initial_lr * ramp, later(count))

    return schedule


def per_epoch(schedule: Schedule, steps_per_epoch: int) -> Schedule:
    """`schedule` of epochs as a function of steps: constant within an epoch."""
    return lambda count: schedule(count // steps_per_epoch)


def restarted(schedule: Schedule, period: int) -> Schedule:
    """`schedule` made anew every `period` counts: it never gets beyond its first `period`."""
    return lambda count: schedule(count % period)


def _half_cosine(start: float, end: float, fraction: jax.Array) -> jax.Array:
    return end + (start - end) * (1 + jnp.cos(math.pi * fraction)) / 2


def _two_phases(start: float, peak: float, end: float, total: int, pct_start: float) -> Schedule:
    turn, last = pct_start * total - 1, total - 1

    def schedule(count):
        t = jnp.minimum(jnp.asarray(count, float), last)
        first = _half_cosine(start, peak, t / turn)
        second = _half_cosine(peak, end, (t - turn) / (last - turn))
        return jnp.where(t <= turn, first, second)

    return schedule
