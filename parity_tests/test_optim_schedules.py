"""Every schedule against the genuine `torch.optim.lr_scheduler`, float64, beyond its horizon."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.optim import lr_scheduler as torch_schedules

from jaxnets.config import default_config
from jaxnets.optim import make_optimizer, schedules

LR = 0.1


def _torch_curve(make_scheduler, length, group_key="lr", every=1):
    """What torch's optimizer holds before each step; its scheduler steps after `every` steps."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR, momentum=0.9)
    scheduler = make_scheduler(optimizer)
    curve = []
    for step in range(length):
        curve.append(optimizer.param_groups[0][group_key])
        optimizer.step()
        if (step + 1) % every == 0 and step + 1 < length:
            scheduler.step()
    return np.array(curve)


def _assert_same(schedule, expected):
    """The schedule at all counts at once, traced, and at single Python ints."""
    counts = jnp.arange(len(expected))
    assert schedule(0).dtype == jnp.float64
    at = 1e-12 * np.abs(expected).max()
    np.testing.assert_allclose(jax.jit(schedule)(counts), expected, rtol=1e-12, atol=at)
    some = [0, len(expected) // 2, len(expected) - 1]
    np.testing.assert_allclose([schedule(n) for n in some], expected[some], rtol=1e-12, atol=at)


CASES = {
    "constant": (
        schedules.constant(LR),
        lambda o: torch_schedules.LambdaLR(o, lambda _: 1.0),
    ),
    "cosine, three times its T_max": (
        schedules.cosine(LR, 0.001, 50),
        lambda o: torch_schedules.CosineAnnealingLR(o, 50, eta_min=0.001),
    ),
    "cosine of one step": (
        schedules.cosine(LR, 0.0, 1),
        lambda o: torch_schedules.CosineAnnealingLR(o, 1),
    ),
    "warm restarts, T_mult 1": (
        schedules.warm_restarts(LR, 0.0, 7, 1),
        lambda o: torch_schedules.CosineAnnealingWarmRestarts(o, 7, 1),
    ),
    "warm restarts, T_mult 2": (
        schedules.warm_restarts(LR, 0.002, 10, 2),
        lambda o: torch_schedules.CosineAnnealingWarmRestarts(o, 10, 2, eta_min=0.002),
    ),
    "warm restarts, T_mult 3": (
        schedules.warm_restarts(LR, 0.0, 1, 3),
        lambda o: torch_schedules.CosineAnnealingWarmRestarts(o, 1, 3),
    ),
    "multistep": (
        schedules.multistep(LR, (60, 85, 100), 0.1),
        lambda o: torch_schedules.MultiStepLR(o, [60, 85, 100], 0.1),
    ),
}


@pytest.mark.parametrize("warm", [0, 1, 9])
@pytest.mark.parametrize("case", CASES)
def test_curve_is_torchs(case, warm):
    schedule, scheduler = CASES[case]

    def make(optimizer):
        main = scheduler(optimizer)
        if warm == 0:
            return main
        rise = torch_schedules.LinearLR(optimizer, start_factor=0.05, total_iters=warm)
        return torch_schedules.SequentialLR(optimizer, [rise, main], milestones=[warm])

    _assert_same(schedules.warm_up(schedule, LR, warm, 0.05), _torch_curve(make, 160))


def test_per_epoch_is_constant_within_an_epoch():
    schedule, scheduler = CASES["warm restarts, T_mult 2"]
    expected = _torch_curve(scheduler, 160, every=3)
    assert len(set(expected)) < 160 / 2
    _assert_same(schedules.per_epoch(schedule, 3), expected)


@pytest.mark.parametrize("warm", [0, 6])
@pytest.mark.parametrize(("total", "pct_start"), [(100, 0.3), (1, 0.3), (37, 0.0), (40, 1.0)])
def test_one_cycle_is_torchs_and_then_holds(total, pct_start, warm):
    def make(optimizer):
        main = torch_schedules.OneCycleLR(
            optimizer, max_lr=0.3, total_steps=total, pct_start=pct_start, div_factor=20.0,
            final_div_factor=500.0, base_momentum=0.8, max_momentum=0.97,
        )  # fmt: skip
        if warm == 0:
            return main
        rise = torch_schedules.LinearLR(optimizer, start_factor=0.05, total_iters=warm)
        return torch_schedules.SequentialLR(optimizer, [rise, main], milestones=[warm])

    lr = schedules.one_cycle(0.3, total, pct_start, 20.0, 500.0)
    momentum = schedules.one_cycle_momentum(0.8, 0.97, total, pct_start)
    for schedule, key in [
        (schedules.warm_up(lr, 0.3 / 20.0, warm, 0.05), "lr"),
        (schedules.delay(momentum, warm), "momentum"),
    ]:
        expected = _torch_curve(make, warm + total, key)
        _assert_same(schedule, np.append(expected, [expected[-1]] * 5))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_one_cycle_made_anew_every_epoch_is_torchs(optimizer):
    """As S0's published code does: a new OneCycleLR, over the whole run, on the same optimizer."""
    epochs, steps, curve = 5, 7, []
    weights = [torch.nn.Parameter(torch.zeros(1))]
    if optimizer == "sgd":
        torch_optim = torch.optim.SGD(weights, lr=0.001, momentum=0.9)
    else:
        torch_optim = torch.optim.AdamW(weights, lr=0.01)
    for _ in range(epochs):
        scheduler = torch_schedules.OneCycleLR(
            torch_optim, max_lr=0.1, epochs=epochs, steps_per_epoch=steps
        )
        for _ in range(steps):
            (group,) = torch_optim.param_groups
            curve.append((group["lr"], group.get("momentum") or group["betas"][0]))
            torch_optim.step()
            scheduler.step()

    config = default_config()
    config.optim.name = optimizer
    config.schedule.update({"name": "one_cycle", "per": "step", "restart_every_epoch": True})
    ours = make_optimizer(config.optim, config.schedule, steps_per_epoch=steps, num_epochs=epochs)
    _assert_same(ours.lr, np.array(curve)[:, 0])
    _assert_same(ours.momentum, np.array(curve)[:, 1])
    assert curve[0][0] == curve[steps][0] < curve[steps - 1][0] < 0.1


def test_warm_restarts_go_on_for_ever():
    """Cycle 25 of doubling length: the restart is exact, the count before it at the bottom."""
    schedule = schedules.warm_restarts(LR, 0.0, 10, 2)
    restart = 10 * (2**25 - 1)
    assert float(schedule(jnp.int32(restart))) == LR
    assert float(schedule(jnp.int32(restart - 1))) < 1e-12
