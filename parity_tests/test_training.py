"""Whole training runs agree: every recipe's optimizer, schedule and loss on identical batches."""

import functools
import importlib
from collections.abc import Mapping
from types import MappingProxyType

import jax
import numpy as np
import pytest
import torch
from helpers import (
    NARROW,
    dropout_masks,
    force_masks,
    make_batch,
    make_pair,
    nchw,
    relative_error,
)
from torch.nn import functional as F

import torch_ref.models
import torch_ref.optim
from jaxnets.config import model_options
from jaxnets.optim import make_optimizer
from jaxnets.train.step import init_state, update

STEPS_PER_EPOCH = 3  # so that the per-epoch schedules move within a few steps

# Every schedule reaches its interesting points within 20 steps.
SHORT = {"T_0": 1, "T_mult": 2, "milestones": (2, 4)}
RECIPES = [
    "se_resnet",
    "se_resnet_drop",
    "se_resnet_drop:as_run",
    "se_resnet_fast",
    "se_resnet_small",
    "dense_se_resnet",
    "dense_se_resnet:as_run",
    "mish_se_resnet18",
    "mish_se_resnet18:as_run",
    *(f"cifar100:v{version}" for version in range(1, 6)),
    *(f"cifar100:v{version}_as_run" for version in range(1, 6)),
    "cifar100_fast",
    "resnet18",
    "se_resnet_best",
]
# Their optimizer and schedule are those of se_resnet_best, their networks are above.
OF_OTHER_NETWORKS = [
    "mish_best",
    "dense_best",
    *(f"cifar100_best:v{version}" for version in range(1, 6)),
]


def recipe(spec: str, num_epochs: int = 10):
    """A recipe, shortened, and its network's options, narrowed."""
    name, _, preset = spec.partition(":")
    config = importlib.import_module(f"configs.{name}").get_config(*filter(None, [preset]))
    config.num_epochs = num_epochs
    config.schedule.update(SHORT)
    if config.schedule.T_max is not None:
        config.schedule.T_max = 4  # as_run's cosine turns before the end
    _, options = model_options(config, 0)
    sizes = dict.fromkeys(("conv_kernel_sizes", "shortcut_kernel_sizes") & options.keys())
    return config, options | NARROW[config.model.name] | sizes


def run_both(config, options: dict, steps: int, batch_size: int = 2, spoil=lambda tx: tx):
    """Trains a network and its twin; returns both losses a step, and both final state_dicts."""
    pair = make_pair(config.model.name, "float64", **options)
    optim = make_optimizer(
        config.optim,
        config.schedule,
        steps_per_epoch=STEPS_PER_EPOCH,
        num_epochs=config.num_epochs,
    )
    twin_optim = torch_ref.optim.make_optimizer(
        pair.twin.parameters(),
        config.optim,
        config.schedule,
        steps_per_epoch=STEPS_PER_EPOCH,
        num_epochs=config.num_epochs,
    )
    tx = spoil(optim.tx)
    num_classes = len([*pair.twin.parameters()][-1])
    smoothing = config.loss.label_smoothing

    @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 1})
    def step(state, images, labels, key):
        masks = dropout_masks(pair.network, state.params, state.stats, images, key)
        advance = functools.partial(update, pair.network, tx, label_smoothing=smoothing)
        return *advance(state, images, labels, key=key), masks

    state = init_state(pair.params, pair.stats, tx)
    losses = []
    pair.twin.train()
    for i in range(steps):
        batch = make_batch(batch_size, num_classes, "float64", seed=i)
        state, totals, masks = step(state, *batch)
        force_masks(pair.twin, masks)
        loss = F.cross_entropy(
            pair.twin(nchw(batch.images)), torch.tensor(batch.labels), label_smoothing=smoothing
        )
        twin_optim.zero_grad()
        loss.backward()
        twin_optim.step()
        losses.append((float(totals.loss) / batch_size, loss.item()))
    got = pair.named(state.params) | pair.named(state.stats)
    want = {name: value.detach().numpy() for name, value in pair.twin.state_dict().items()}
    return np.array(losses), got, want


def assert_same_training(
    losses, got, want, bound: float, loose: Mapping[str, float] = MappingProxyType({})
) -> None:
    """Losses and every tensor within the relative bound; the `loose` ones within their own."""
    assert got.keys() == want.keys()
    for name in want:
        error = relative_error(got[name], want[name])
        limit = loose.get(name, bound)
        assert error <= limit, f"{name}: {error:.2g} > {limit}"
    np.testing.assert_allclose(losses[:, 0], losses[:, 1], rtol=bound)


def amplified(config, options: dict) -> dict[str, float]:
    """Bounds for biases whose gradient is rounding alone, and the means that hold them, under Adam.

    A bias in front of a BatchNorm changes nothing, so its gradient is zero but for rounding, and
    Adam divides it by almost nothing: it drifts in steps of the learning rate, 1e-6 at .01.  Loss
    and everything else keep the tight bound.
    """
    if config.optim.name == "sgd":
        return {}
    twin = torch_ref.models.create_model(config.model.name, **options)
    convs = [n for n, module in twin.named_modules() if isinstance(module, torch.nn.Conv2d)]
    means = [name for name in twin.state_dict() if name.endswith("running_mean")]
    names = (*(f"{name}.bias" for name in convs), *means)
    return dict.fromkeys(names, 1e-4 * max(config.schedule.max_lr, 0.01))


@pytest.mark.parametrize(
    "spec", [*RECIPES, *(pytest.param(spec, marks=pytest.mark.slow) for spec in OF_OTHER_NETWORKS)]
)
def test_twenty_steps_of_every_recipe(spec):
    config, options = recipe(spec)
    losses, got, want = run_both(config, options, steps=20)
    assert_same_training(losses, got, want, 1e-8, amplified(config, options))


@pytest.mark.parametrize("se", ["stem", "block", "none"])
def test_ten_steps_of_se_resnet_to_ten_digits(se):
    config, options = recipe("se_resnet")
    losses, got, want = run_both(config, options | {"se": se}, steps=10)
    assert np.ptp(losses[:, 1]) > 0.1  # it does train
    assert_same_training(losses, got, want, 1e-10)


@pytest.mark.slow
def test_ten_steps_of_the_full_se_resnet():
    config, _ = recipe("se_resnet")
    losses, got, want = run_both(config, {}, steps=10)
    assert_same_training(losses, got, want, 1e-10)


def test_a_wrong_optimizer_is_noticed():
    """Decay after momentum, a late Lookahead and a rate off by a step each leave the bound."""
    import optax

    config, options = recipe("se_resnet")
    options["num_blocks"] = (1,)

    unspoiled = run_both(config, options, 6)[2]

    def fails(spoil=lambda tx: tx, **changes):
        spoiled = config.copy_and_resolve_references()
        with spoiled.unlocked():
            spoiled.update_from_flattened_dict(changes)
        losses, got, _ = run_both(spoiled, options, 6, spoil=spoil)
        with pytest.raises(AssertionError):  # some changes reach the twin alike
            assert_same_training(losses, got, unspoiled, 1e-8)

    fails(lambda tx: optax.chain(tx, optax.add_decayed_weights(-1e-6)))
    fails(**{"optim.lookahead.first_sync": 1})
    fails(**{"optim.clip": "none"})
    fails(**{"schedule.per": "step"})
