"""Muon against its twin, against torch.optim.Muon, and against singular values."""

import copy
from collections.abc import Mapping
from types import MappingProxyType, SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from helpers import make_batch, make_pair, nchw, relative_error
from torch.nn import functional as F

import torch_ref.muon
import torch_ref.optim
from jaxnets.config import default_config
from jaxnets.models.torch_names import parameters
from jaxnets.optim import make_optimizer
from jaxnets.optim.muon import orthogonalize
from jaxnets.train.step import init_state, update
from torch_ref.muon import Muon
from torch_ref.optim import groups

STEPS, LENGTH = 200, {"steps_per_epoch": 10, "num_epochs": 20}
NETWORK = {"num_channels": 4, "num_blocks": (1, 1), "se": "none"}
CASES = {
    "sgd": {"optim.nesterov": True, "schedule.name": "cosine"},
    "adamw": {
        "optim.muon.rest": "adamw",
        "optim.muon.rest_lr_scale": 0.1,
        "optim.muon.adjust_lr": "match_rms_adamw",
        "optim.muon.weight_decay": 0.1,
        "optim.clip": "norm",
        "optim.clip_at": 3.0,
        "schedule.name": "multistep",
        "schedule.milestones": (5, 15),
    },
    "airbench": {  # the settings of airbench94_muon.py
        "optim.muon.momentum": 0.6,
        "optim.muon.adjust_lr": "none",
        "optim.muon.rest_lr_scale": 0.04,
        "optim.muon.ns_steps": 3,
        "optim.muon.exclude": ("conv1",),
        "schedule.name": "one_cycle",
        "schedule.per": "step",
        "schedule.max_lr": 0.05,
        "schedule.cycle_momentum": False,
    },
    "lookahead": {
        "optim.muon.nesterov": False,
        "optim.momentum": 0.0,
        "optim.lookahead.enabled": True,
        "optim.lookahead.first_sync": 1,
        "schedule.warmup_epochs": 2.0,
    },
}


def configured(**changes):
    c = default_config()
    c.update_from_flattened_dict({"optim.name": "muon", "optim.lr": 0.02, **changes})
    return c


class Sides:
    """The same narrow network under both optimizers."""

    def __init__(self, config, scales: Mapping[str, float] = MappingProxyType({}), **options):
        self.pair = make_pair("se_resnet", "float64", **NETWORK | options)
        paths = {s.path: scales[s.name] for s in self.pair.slots if s.name in scales}
        self.tx = make_optimizer(config.optim, config.schedule, **LENGTH, scales=paths).tx
        parted = groups(dict(self.pair.twin.named_parameters()), scales)
        self.twin = torch_ref.optim.make_optimizer(parted, config.optim, config.schedule, **LENGTH)

    def errors(self, params) -> dict[str, float]:
        """How far the parameters are apart, relative to the largest value of each."""
        got = self.pair.named(params)
        named = self.pair.twin.named_parameters()
        return {k: relative_error(got[k], v.detach().numpy()) for k, v in named}


def gradient(xp, p, target):
    """Of (p - target)^2 - cos(2 p): nonlinear, and never at rest since the targets differ."""
    return 2 * (p - target) + 2 * xp.sin(2 * p)


def follow(sides: Sides, steps: int = STEPS):
    """Both sides after so many targets, another one at every step."""
    rng = np.random.default_rng(0)
    slots, named = parameters(sides.pair.slots), dict(sides.pair.twin.named_parameters())
    targets = {s.name: rng.normal(size=(steps, *s.shape)) for s in slots}
    by_path = {s.path: np.stack([s.from_torch(t) for t in targets[s.name]]) for s in slots}

    def step(carry, target):
        params, state = carry
        grads = {k: gradient(jnp, p, target[k]) for k, p in params.items()}
        updates, state = sides.tx.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), None

    start = sides.pair.params, sides.tx.init(sides.pair.params)
    quick = {"xla_backend_optimization_level": 0}  # to compile
    run = jax.jit(lambda c, t: jax.lax.scan(step, c, t), compiler_options=quick)
    params, _ = run(start, by_path)[0]
    for i in range(steps):
        for name, p in named.items():
            p.grad = gradient(torch, p.detach(), torch.from_numpy(targets[name][i]))
        sides.twin.step()
    return params


@pytest.mark.parametrize("case", CASES)
def test_two_hundred_steps_agree(case):
    sides = Sides(configured(**CASES[case]))
    errors = sides.errors(follow(sides))
    assert max(errors.values()) <= 1e-10, errors


def test_parts_at_rates_of_their_own_agree():
    scales = {"conv1.weight": 0.1, "linear.weight": 5.0, "linear.bias": 5.0}
    sides = Sides(configured(**{"optim.muon.rest_lr_scale": 0.3}), scales)
    errors = sides.errors(follow(sides, 20))
    assert max(errors.values()) <= 1e-10, errors
    rates = [group["lr_scale"] for group in sides.twin.optimizer.param_groups]
    assert rates == [0.1, 1.0, 0.3, 1.5]  # the kernels' come first


def train(sides: Sides, steps: int):
    """Both sides after so many steps of training on the same batches."""
    pair, tx, losses = sides.pair, sides.tx, []
    step = jax.jit(lambda s, images, labels: update(pair.network, tx, s, images, labels))
    state = init_state(pair.params, pair.stats, tx)
    pair.twin.train()
    for i in range(steps):
        images, labels, _ = make_batch(4, 10, "float64", seed=i % 5)
        state, totals = step(state, images, labels)
        loss = F.cross_entropy(pair.twin(nchw(images)), torch.tensor(labels))
        sides.twin.zero_grad()
        loss.backward()
        sides.twin.step()
        losses.append((float(totals.loss) / 4, loss.item()))
    return state.params, np.array(losses)


def test_a_training_agrees():
    sides = Sides(configured(**{"schedule.name": "cosine"}), num_blocks=(1,))
    params, losses = train(sides, 30)
    assert losses[-5:, 1].mean() < losses[:5, 1].mean()  # it does train
    np.testing.assert_allclose(losses[:, 0], losses[:, 1], rtol=1e-10)
    assert max(sides.errors(params).values()) <= 1e-10


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_hundred_steps_of_training_agree():
    sides = Sides(configured(**{"schedule.name": "cosine"}))
    params, losses = train(sides, STEPS)
    np.testing.assert_allclose(losses[:, 0], losses[:, 1], rtol=1e-10)
    assert max(sides.errors(params).values()) <= 1e-10


@pytest.mark.parametrize(
    "changes",
    [
        {"optim.muon.momentum": 0.9501},
        {"optim.muon.nesterov": False},
        {"optim.muon.weight_decay": 1e-6},
        {"optim.muon.ns_steps": 4},
        {"optim.muon.ns_dtype": "bfloat16"},
        {"optim.muon.adjust_lr": "none"},
        {"optim.muon.rest_lr_scale": 1.001},
        {"optim.muon.exclude": ("conv1",)},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_each_option_is_noticed(changes):
    """The bound is left where one side alone has another option: none is without effect."""
    sides, other = Sides(configured()), configured(**changes)
    sides.tx = make_optimizer(other.optim, other.schedule, **LENGTH).tx
    assert max(sides.errors(follow(sides, 3)).values()) > 1e-8


@pytest.mark.parametrize("shape", [(4, 4), (5, 12), (12, 5), (1, 7), (6, 1)], ids=str)
@pytest.mark.parametrize("steps", [1, 5])
def test_singular_values_go_through_the_quintic(shape, steps):
    """Against a written-out reference: the singular value decomposition, its values iterated."""
    matrix = np.random.default_rng(0).normal(size=shape)
    u, values, v = np.linalg.svd(matrix, full_matrices=False)
    values = values / np.sqrt((values**2).sum())
    for _ in range(steps):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    want = (u * values) @ v
    np.testing.assert_allclose(orthogonalize(jnp.asarray(matrix), steps), want, atol=1e-13)
    twin = torch_ref.muon.orthogonalize(torch.tensor(matrix), steps)
    np.testing.assert_allclose(twin, want, atol=1e-13)


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_nothing_and_what_is_not_finite(value):
    matrix = np.full((2, 3), value)
    want = torch_ref.muon.orthogonalize(torch.tensor(matrix)).numpy()
    np.testing.assert_array_equal(orthogonalize(jnp.asarray(matrix)), want)
    assert np.isfinite(want).all() == (value == 0)


def test_in_bfloat16_both_are_near_float64():
    matrix = np.random.default_rng(0).normal(size=(8, 27))
    want = np.asarray(orthogonalize(jnp.asarray(matrix)))
    got = np.asarray(orthogonalize(jnp.asarray(matrix, jnp.bfloat16)), np.float64)
    twin = torch_ref.muon.orthogonalize(torch.tensor(matrix).bfloat16()).double().numpy()
    assert 1e-4 < np.abs(got - want).max() < 0.1
    assert 1e-4 < np.abs(twin - want).max() < 0.1


@pytest.mark.parametrize("adjust", ["original", "match_rms_adamw"])
@pytest.mark.parametrize("shape", [(16, 3, 3, 3), (4, 8, 1, 1), (40, 2, 3, 3)], ids=str)
def test_the_twin_is_torchs_muon(shape, adjust):
    """Bit for bit, with the kernel as a matrix: torch's own takes no other, and bfloat16 alone."""
    torch.manual_seed(0)
    kernel = torch.nn.Parameter(torch.randn(shape).contiguous(memory_format=torch.channels_last))
    matrix = torch.nn.Parameter(kernel.detach().flatten(1).clone())
    options = {"lr": 0.02, "weight_decay": 0.1}
    ours = Muon([kernel], _nothing(), ns_dtype="bfloat16", adjust_lr=adjust, **options)
    theirs = torch.optim.Muon([matrix], adjust_lr_fn=adjust, **options)
    for _ in range(5):
        kernel.grad = torch.randn(shape)
        matrix.grad = kernel.grad.flatten(1)
        ours.step()
        theirs.step()
    assert torch.equal(kernel.flatten(1), matrix)


def _nothing() -> torch.optim.Optimizer:
    return torch.optim.SGD([{"params": []}], lr=0.1)


def test_the_twin_resumes_from_its_state_dict():
    config = configured(**CASES["adamw"], **{"optim.lookahead.enabled": True})
    sides, other = Sides(config), Sides(config)

    def go(sides, steps):
        for i in steps:
            torch.manual_seed(i)
            for p in sides.pair.twin.parameters():
                p.grad = torch.randn_like(p)
            sides.twin.step()

    go(sides, range(7))
    other.twin.load_state_dict(copy.deepcopy(sides.twin.state_dict()))
    other.pair.twin.load_state_dict(sides.pair.twin.state_dict())
    for one in (sides, other):
        go(one, range(7, 12))
    assert other.twin.lr == sides.twin.lr
    for a, b in zip(*(s.pair.twin.parameters() for s in (sides, other)), strict=True):
        assert torch.equal(a, b)


def test_one_scheduler_drives_both_and_the_rest_is_scaled():
    config = configured(**{"optim.muon.rest_lr_scale": 0.5, "schedule.name": "cosine"})
    twin = Sides(config).twin
    kernels, rest = twin.optimizer.param_groups
    assert kernels["lr"] == rest["lr"] == 0.02
    for _ in range(LENGTH["steps_per_epoch"]):
        twin.step()
    assert kernels["lr"] == rest["lr"] == twin.lr < 0.02
    assert rest is twin.optimizer.rest.param_groups[0]


def test_without_names_nothing_is_excluded():
    """The trainers ask for learning rates with a single parameter of no name."""
    config = configured(**{"optim.muon.exclude": ("conv1",)})
    twin = torch_ref.optim.make_optimizer(
        [torch.nn.Parameter(torch.zeros(()))], config.optim, config.schedule, **LENGTH
    )
    assert [len(group["params"]) for group in twin.optimizer.param_groups] == [0, 1]
    assert SimpleNamespace(lr=twin.lr) == SimpleNamespace(lr=0.02)
