"""From `config.optim` and `config.schedule` to an optimizer, every value checked on the way."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import optax

from jaxnets import checks
from jaxnets.checks import Section
from jaxnets.config.loss_scale import LossScaling
from jaxnets.config.muon import kernels, read_muon
from jaxnets.errors import UserError
from jaxnets.optim import schedules, transforms
from jaxnets.optim.loss_scale import loss_scaled
from jaxnets.optim.muon import muon
from jaxnets.optim.schedules import Schedule

OPTIMIZERS = ("sgd", "adam", "adamw", "muon")
SCHEDULES = ("constant", "cosine", "warm_restarts", "multistep", "one_cycle")


class Optimizer(NamedTuple):
    """What a train step and its log need: the transformation, and its curves by step.

    tx: its state is always (EmptyState, EmptyState, SgdState | AdamState | MuonState), of clipping,
    coupled decay and the optimizer proper; with Lookahead, LookaheadState(count, slow, that); and
    under loss scaling that in a LossScaleState.
    lr: step -> learning rate.
    momentum: step -> momentum (Adam: beta1) where it is scheduled, else None.
    """

    tx: optax.GradientTransformation
    lr: Schedule
    momentum: Schedule | None


def make_optimizer(
    optim_config: Any,
    schedule_config: Any,
    *,
    steps_per_epoch: int,
    num_epochs: int,
    scales: Mapping[str, float] | None = None,
    loss_scaling: LossScaling | None = None,
) -> Optimizer:
    """The optimizer of a recipe: clip, add coupled weight decay, momentum, times -lr, Lookahead.

    Semantics are `torch.optim`'s: decay covers every parameter; `sgd` and `adam` add it to the
    clipped gradient, `adamw` shrinks the parameters by lr * decay. `weight_decay=None` is torch's
    default (0; 1e-2 for adamw). `nesterov` and `momentum` concern sgd; `beta1`, `beta2` and `eps`
    the others. `muon` is for the kernels of convolutions, with the options in `optim.muon`; all
    other parameters are left to sgd or adamw, as its `rest` says. Schedules run per step or per
    epoch; `one_cycle` ignores `optim.lr`, and its `cycle_momentum` drives sgd's momentum or Adam's
    beta1. It is planned over `total_epochs`, the run's by default; with `restart_every_epoch` it is
    made anew at the start of each epoch, as S0's published code did, and so never gets beyond its
    first epoch.

    Args:
        scales: factors of the learning rate, by the parameters' names, where they are not 1.
        loss_scaling: what leaves steps out whose gradients overflow; None: nothing does.

    Raises UserError naming the key and its allowed values.
    """
    checks.whole("steps_per_epoch", steps_per_epoch, most=checks.LARGEST)
    checks.whole("config.num_epochs", num_epochs, most=checks.LARGEST)
    optim = Section("config.optim", optim_config)
    name = optim.choice("name", OPTIMIZERS)
    base_lr = optim.number("lr", "[0, inf)")
    lr, momentum = _schedules(
        base_lr, Section("config.schedule", schedule_config), steps_per_epoch, num_epochs
    )

    if name == "muon":
        coupled, core = optax.identity(), _muon(optim, lr, momentum)
    else:
        coupled, core = _decayed(name, optim, lr, momentum)
    if scales:
        core = transforms.scaled(core, scales)
    tx = _lookahead(optim, optax.chain(_clip(optim), coupled, core))
    if loss_scaling is not None:
        tx = loss_scaled(tx, loss_scaling)
    return Optimizer(tx, lr, momentum)


def _decayed(
    name: str, optim: Section, lr: Schedule, momentum: Schedule | None
) -> tuple[optax.GradientTransformation, optax.GradientTransformation]:
    """The coupled weight decay of sgd, adam or adamw, which has no state, and the optimizer."""
    default = 1e-2 if name == "adamw" else 0.0
    decay = optim.number("weight_decay", "[0, inf)", default)
    if name == "adamw":
        return optax.identity(), _adam(optim, lr, momentum, decay)
    core = _sgd(optim, lr, momentum) if name == "sgd" else _adam(optim, lr, momentum, 0.0)
    return optax.add_decayed_weights(decay), core


def _muon(optim: Section, lr: Schedule, momentum: Schedule | None) -> optax.GradientTransformation:
    if momentum is not None:
        raise UserError(
            "config.schedule.cycle_momentum=True: muon's momentum does not cycle; set it to False"
        )
    options = read_muon(optim.config)
    coupled, core = _decayed(
        options.rest, optim, lambda count: options.rest_lr_scale * lr(count), None
    )

    def update(grads, state, params):
        return core.update(coupled.update(grads, optax.EmptyState(), params)[0], state, params)

    return muon(
        lr,
        optax.GradientTransformation(core.init, update),
        lambda ranks: kernels(ranks, options.exclude),
        momentum=options.momentum,
        nesterov=options.nesterov,
        weight_decay=options.weight_decay,
        ns_steps=options.ns_steps,
        ns_dtype=options.ns_dtype,
        adjust_lr=options.adjust_lr,
    )


def _sgd(optim: Section, lr: Schedule, scheduled: Schedule | None) -> optax.GradientTransformation:
    momentum = optim.number("momentum", "[0, 1)", 0.0)
    nesterov = optim.flag("nesterov")
    if nesterov and momentum == 0:
        raise UserError("config.optim.nesterov=True needs config.optim.momentum > 0")
    return transforms.sgd(lr, momentum if scheduled is None else scheduled, nesterov)


def _adam(
    optim: Section, lr: Schedule, scheduled: Schedule | None, decay: float
) -> optax.GradientTransformation:
    beta1 = optim.number("beta1", "[0, 1)", 0.9)
    beta2 = optim.number("beta2", "[0, 1)", 0.999)
    eps = optim.number("eps", "[0, inf)", 1e-8)
    return transforms.adam(lr, beta1 if scheduled is None else scheduled, beta2, eps, decay)


def _clip(optim: Section) -> optax.GradientTransformation:
    kind = optim.choice("clip", ("none", "value", "norm"), "none")
    if kind == "none":
        return optax.identity()
    limit = optim.number("clip_at", "(0, inf)", allowed=f"a number > 0 for clip={kind!r}")
    clip = transforms.clip_by_value if kind == "value" else transforms.clip_by_global_norm
    return clip(limit)


def _lookahead(optim: Section, tx: optax.GradientTransformation) -> optax.GradientTransformation:
    look = Section("config.optim.lookahead", getattr(optim.config, "lookahead", None))
    if not look.flag("enabled"):
        return tx
    k = look.whole("k", 1, default=5)
    alpha = look.number("alpha", "(0, 1]", 0.5)
    first_sync = look.get("first_sync", None)
    allowed = "None (first sync after step k) or 1"
    checks.require(first_sync in (None, 1), look.key("first_sync"), first_sync, allowed)
    return transforms.lookahead(tx, k, alpha, first_sync)


def _schedules(
    base_lr: float, config: Section, steps_per_epoch: int, num_epochs: int
) -> tuple[Schedule, Schedule | None]:
    """The curves of the learning rate and, if it cycles, of the momentum; both by step."""
    name = config.choice("name", SCHEDULES)
    by_epoch = config.choice("per", ("step", "epoch"), "epoch") == "epoch"
    unit = 1 if by_epoch else steps_per_epoch  # positions of the schedule in one epoch
    warm, factor = _warm_up(config, by_epoch, unit, num_epochs)
    planned = num_epochs
    if name == "one_cycle":
        planned = config.whole("total_epochs", math.floor(warm / unit) + 1, default=num_epochs)
    length = planned * unit - warm

    def by_step(schedule: Schedule) -> Schedule:
        return schedules.per_epoch(schedule, steps_per_epoch) if by_epoch else schedule

    def warm_up(main: Schedule, initial_lr: float = base_lr) -> Schedule:
        return by_step(schedules.warm_up(main, initial_lr, warm, factor))

    if name == "one_cycle":
        lr, initial_lr, momentum = _one_cycle(config, length)
        if config.flag("restart_every_epoch"):
            allowed = "False, unless per=step and warmup_epochs=0"
            fits = not by_epoch and warm == 0
            checks.require(fits, config.key("restart_every_epoch"), True, allowed)
            lr = schedules.restarted(lr, unit)
            momentum = momentum and schedules.restarted(momentum, unit)
        if momentum is not None:  # the cycle has not begun while the learning rate warms up
            momentum = by_step(schedules.delay(momentum, warm))
        return warm_up(lr, initial_lr), momentum
    if name == "constant":
        return warm_up(schedules.constant(base_lr)), None
    if name == "multistep":
        milestones = config.get("milestones")
        checks.increasing(config.key("milestones"), milestones, "epochs")
        gamma = config.number("gamma", "(0, inf)", 0.1)
        edges = [m * unit for m in milestones]
        return warm_up(schedules.multistep(base_lr, edges, gamma)), None

    allowed = f"a number from 0 to config.optim.lr={base_lr}"
    end_lr = config.number("end_lr", f"[0, {base_lr}]", 0.0, allowed)
    if name == "cosine":
        epochs = config.whole("T_max", 1, default=None)
        main = schedules.cosine(base_lr, end_lr, length if epochs is None else epochs * unit)
    else:
        T_0, T_mult = config.whole("T_0", 1, default=10), config.whole("T_mult", 1, default=2)
        main = schedules.warm_restarts(base_lr, end_lr, T_0 * unit, T_mult)
    return warm_up(main), None


def _warm_up(config: Section, by_epoch: bool, unit: int, num_epochs: int) -> tuple[int, float]:
    """Length of the warm-up in the schedule's positions, and the factor that it starts at."""
    allowed = f"at least 0 and shorter than the run of {num_epochs} epochs"
    epochs = config.number("warmup_epochs", "[0, inf)", 0.0, f"a number {allowed}")
    warm = round(epochs * unit)
    whole = not by_epoch or warm == epochs
    allowed = f"{'whole, since per=epoch, ' if by_epoch else ''}{allowed}"
    fits = whole and warm < num_epochs * unit
    checks.require(fits, config.key("warmup_epochs"), epochs, allowed)
    factor = config.number("warmup_factor", "(0, 1]", 0.01)
    return warm, factor


def _one_cycle(config: Section, total: int) -> tuple[Schedule, float, Schedule | None]:
    """The learning rate, the one that a warm-up rises to, and the momentum if it cycles."""
    max_lr = config.number("max_lr", "(0, inf)")
    pct_start = config.number("pct_start", "[0, 1]", 0.3)
    if pct_start * total == 1:
        raise UserError(
            f"config.schedule.pct_start={pct_start}: a number in [0, 1] other than "
            f"1/{total}, which leaves the rise of this run's {total} positions no length"
        )
    div_factor = config.number("div_factor", "(0, inf)", 25.0)
    final_div_factor = config.number("final_div_factor", "(0, inf)", 1e4)
    lr = schedules.one_cycle(max_lr, total, pct_start, div_factor, final_div_factor)
    if not config.flag("cycle_momentum", True):
        return lr, max_lr / div_factor, None
    low = config.number("base_momentum", "(0, 1)", 0.85)
    high = config.number("max_momentum", "(0, 1)", 0.95)
    momentum = schedules.one_cycle_momentum(low, high, total, pct_start)
    return lr, max_lr / div_factor, momentum
