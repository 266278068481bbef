"""Both frameworks' optimizers against torch.optim and the published Lookahead, step by step."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from golden_figures import load

import torch_ref.optim
from jaxnets.optim import make_optimizer

WANT = load("optimizers")
STEPS = 24
C = np.arange(1.0, 6.0)
SGD = {"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4}
CONSTANT = {"name": "constant"}
CLIP = {"clip": "value", "clip_at": 0.1}

# What a file's entry is called, optimizer, Lookahead, schedule, steps an epoch, epochs.
CASES = {
    "published Lookahead (k 5, alpha .5) over SGD .1 momentum .9 decay 5e-4, "
    "first sync at step 1": (
        SGD, {"k": 5, "alpha": 0.5}, CONSTANT, 24, 1,
    ),
    "the same with k 4, alpha .3": (SGD, {"k": 4, "alpha": 0.3}, CONSTANT, 24, 1),
    "the same (k 5, alpha .5), clipped by value .1": (
        SGD | CLIP, {"k": 5, "alpha": 0.5}, CONSTANT, 24, 1,
    ),
    "the same (k 5, alpha .5), cosine .1 -> 0, T_max 6 epochs of 4 steps": (
        SGD, {"k": 5, "alpha": 0.5}, {"name": "cosine", "T_max": 6}, 4, 6,
    ),
    "SGD .05 momentum .9 decay 1e-3, warm restarts T_0 2 T_mult 2, epochs of 3 steps": (
        SGD | {"lr": 0.05, "weight_decay": 1e-3}, None,
        {"name": "warm_restarts", "T_0": 2, "T_mult": 2}, 3, 8,
    ),
    "SGD .01 momentum .9 decay 5e-4 nesterov, clipped by value .1, "
    "x .1 at epochs 2, 4, 5 of 4 steps": (
        SGD | CLIP | {"lr": 0.01, "nesterov": True}, None,
        {"name": "multistep", "milestones": (2, 4, 5)}, 4, 6,
    ),
    "SGD .001 momentum .9 decay 5e-4, one-cycle to .1 over 25 steps": (
        SGD | {"lr": 0.001}, None, {"name": "one_cycle", "per": "step", "max_lr": 0.1}, 25, 1,
    ),
    "AdamW .01 decay .01, one-cycle to .01 over 25 steps": (
        {"name": "adamw", "lr": 0.01, "weight_decay": 0.01}, None,
        {"name": "one_cycle", "per": "step", "max_lr": 0.01}, 25, 1,
    ),
}  # fmt: skip


def arguments(case: str) -> tuple[tuple, dict]:
    """The arguments of both frameworks' make_optimizer."""
    optim, look, schedule, steps_per_epoch, num_epochs = CASES[case]
    lookahead = SimpleNamespace(enabled=look is not None, first_sync=1, **(look or {}))
    configs = SimpleNamespace(**optim, lookahead=lookahead), SimpleNamespace(**schedule)
    return configs, {"steps_per_epoch": steps_per_epoch, "num_epochs": num_epochs}


def in_jax(case: str) -> np.ndarray:
    configs, length = arguments(case)
    tx = make_optimizer(*configs, **length).tx

    def step(carry, t):
        p, state = carry
        updates, state = tx.update(C * (p - jnp.sin(t + C)), state, p)
        p = optax.apply_updates(p, updates)
        return (p, state), p

    start = jnp.array(WANT["start"], float)
    run = jax.jit(lambda p: jax.lax.scan(step, (p, tx.init(p)), jnp.arange(float(STEPS))))
    return np.asarray(run(start)[1])


def in_torch(case: str) -> np.ndarray:
    configs, length = arguments(case)
    p = torch.nn.Parameter(torch.tensor(WANT["start"], dtype=torch.float64))
    c = torch.tensor(C)
    optimizer = torch_ref.optim.make_optimizer([p], *configs, **length)
    path = []
    for t in range(STEPS):
        optimizer.zero_grad()
        p.grad = c * (p.detach() - torch.sin(t + c))
        optimizer.step()
        path.append(p.detach().numpy().copy())
    return np.array(path)


def test_every_figure_is_held():
    assert CASES.keys() == WANT["parameters_after_each_step"].keys()


@pytest.mark.parametrize("run", [in_jax, in_torch], ids=["jax", "torch"])
@pytest.mark.parametrize("case", CASES)
def test_parameters_after_each_step(case, run):
    want = np.array(WANT["parameters_after_each_step"][case])
    error = np.abs(run(case) - want).max(1) / np.abs(want).max(1)
    assert error.max() <= 1e-12, f"step {error.argmax() + 1}: relative error {error.max():.2g}"
