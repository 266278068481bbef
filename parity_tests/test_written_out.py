"""Where no figure from outside reaches: what both frameworks share, against values written out."""

import itertools
import math
from types import SimpleNamespace
from unittest import mock

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from torch import nn

import jaxnets.models.layers
import torch_ref.augment
import torch_ref.models
import torch_ref.models.layers
import torch_ref.optim
from jaxnets.augment.pipeline import make_augment, normalize
from jaxnets.augment.tables import FACTOR_BITS
from jaxnets.config import default_config
from jaxnets.data.batches import epoch_order, steps_per_epoch
from jaxnets.optim import make_optimizer
from jaxnets.runs.log import epoch_row
from jaxnets.train.step import Totals
from torch_ref.step import Evaluation

SIDES = ["jax", "torch"]
both = pytest.mark.parametrize("side", SIDES)


def test_order_of_the_images():
    """Another one in every epoch and for every seed, drawn from numpy's Philox, and frozen."""
    orders = {at: tuple(epoch_order(*at, 8).tolist()) for at in itertools.product((0, 7), range(3))}
    assert len(set(orders.values())) == len(orders)
    assert all(sorted(order) == list(range(8)) for order in orders.values())
    assert orders == ORDERS


# (seed, epoch): the order of eight images.
ORDERS = {
    (0, 0): (3, 6, 5, 1, 4, 7, 2, 0),
    (0, 1): (1, 3, 2, 6, 5, 4, 7, 0),
    (0, 2): (0, 5, 2, 3, 6, 7, 1, 4),
    (7, 0): (2, 5, 6, 0, 7, 4, 1, 3),
    (7, 1): (6, 7, 5, 1, 2, 4, 3, 0),
    (7, 2): (7, 0, 2, 5, 3, 1, 4, 6),
}


def test_a_smaller_last_batch_is_kept():
    assert [steps_per_epoch(n, 128) for n in (128, 129, 50_000, 256)] == [1, 2, 391, 2]


def test_a_row_of_the_log():
    """Losses and hits are means over images, gradient norms over steps."""
    totals = Totals(loss=30.0, correct=5.0, images=20.0, grad_norm=12.0, steps=4.0)
    row = epoch_row(
        step=8, epoch=2, lr=0.1, totals=totals, test=Evaluation(0.5, 0.75), seconds=3, speed=7
    )
    assert row == {
        "step": 8,
        "epoch": 2,
        "lr": 0.1,
        "train/loss": 1.5,
        "train/accuracy": 0.25,
        "eval/loss": 0.5,
        "eval/accuracy": 0.75,
        "grad_norm": 3.0,
        "seconds": 3,
        "images_per_second": 7,
    }


def rates(side: str, schedule: dict, steps: int, epochs: int, count: int) -> list[float]:
    """The learning rate of the first `count` steps, from lr .1."""
    optim = SimpleNamespace(name="sgd", lr=0.1, momentum=0.9)
    configs, length = (
        (optim, SimpleNamespace(**schedule)),
        {"steps_per_epoch": steps, "num_epochs": epochs},
    )
    if side == "jax":
        return [float(make_optimizer(*configs, **length).lr(i)) for i in range(count)]
    p = nn.Parameter(torch.zeros(1))
    twin, found = torch_ref.optim.make_optimizer([p], *configs, **length), []
    for _ in range(count):
        found.append(twin.lr)
        twin.step()
    return found


ROOT_HALF = 0.5**0.5
FALL = [8e-7 + (0.2 - 8e-7) * (1 + math.cos(math.pi * i / 7)) / 2 for i in range(1, 8)]
# Schedule, steps an epoch, epochs, and the rate of each step.
RATES = {
    "two epochs up from a tenth, a cosine over the four that are left": (
        {"name": "cosine", "warmup_epochs": 2, "warmup_factor": 0.1}, 1, 6,
        [0.01, 0.055, 0.1, 0.05 * (1 + ROOT_HALF), 0.05, 0.05 * (1 - ROOT_HALF)],
    ),
    "the same by step, from the default, a hundredth": (
        {"name": "cosine", "per": "step", "warmup_epochs": 1}, 2, 3,
        [0.001, 0.0505, 0.1, 0.05 * (1 + ROOT_HALF), 0.05, 0.05 * (1 - ROOT_HALF)],
    ),
    "per epoch a rate holds for all of its steps": (
        {"name": "multistep", "milestones": (1, 3)}, 2, 4, [0.1] * 2 + [0.01] * 4 + [0.001] * 2,
    ),
    "milestones are counted from the end of the warm-up": (
        {"name": "multistep", "milestones": (2, 3), "warmup_epochs": 1}, 1, 5,
        [0.001, 0.1, 0.1, 0.01, 0.001],
    ),
    "cycles of two epochs": (
        {"name": "warm_restarts", "T_0": 2, "T_mult": 1}, 2, 3, [0.1, 0.1, 0.05, 0.05, 0.1, 0.1],
    ),
    "cycles of one, two, four epochs": (
        {"name": "warm_restarts", "T_0": 1, "T_mult": 2, "end_lr": 0.02}, 1, 7,
        [0.1, 0.1, 0.06, 0.1, 0.06 + 0.04 * ROOT_HALF, 0.06, 0.06 - 0.04 * ROOT_HALF],
    ),
    # Up from max_lr / 25 to position .3 * 10 - 1, down to max_lr / 25 / 10,000.
    "one cycle of ten steps, of which the defaults rise for two": (
        {"name": "one_cycle", "per": "step", "max_lr": 0.2}, 5, 2, [0.008, 0.104, 0.2, *FALL],
    ),
    "one cycle made anew every epoch": (
        {"name": "one_cycle", "per": "step", "max_lr": 0.2, "restart_every_epoch": True}, 2, 5,
        [0.008, 0.104] * 5,
    ),
    "one cycle planned for longer": (
        {"name": "one_cycle", "per": "step", "max_lr": 0.2, "total_epochs": 5}, 2, 2,
        [0.008, 0.104, 0.2, FALL[0]],
    ),
}  # fmt: skip


@both
@pytest.mark.parametrize("case", RATES)
def test_rates(case, side):
    *run, want = RATES[case]
    assert rates(side, *run, len(want)) == pytest.approx(want, rel=1e-6)


@both
def test_momentum_of_one_cycle(side):
    """From .95 down to .85 while the rate rises, and back."""
    schedule = SimpleNamespace(name="one_cycle", per="step", max_lr=0.2)
    optim = SimpleNamespace(name="sgd", lr=0.1, momentum=0.9)
    length = {"steps_per_epoch": 10, "num_epochs": 1}
    if side == "jax":
        momentum = make_optimizer(optim, schedule, **length).momentum
        assert momentum is not None
        found = momentum(jnp.arange(10)).tolist()
    else:
        twin = torch_ref.optim.make_optimizer(
            [nn.Parameter(torch.zeros(1))], optim, schedule, **length
        )
        found = []
        for _ in range(10):
            found.append(twin.momentum)
            twin.step()
    rise = [0.85 + 0.1 * (1 - math.cos(math.pi * i / 7)) / 2 for i in range(8)]
    assert found == pytest.approx([0.95, 0.9, *rise], rel=1e-6)


@both
def test_normalized_pixels(side):
    images, mean, std = np.array([[[[0, 255, 51]]]], np.uint8), (0.5, 0.25, 0.1), (0.5, 0.25, 0.4)
    if side == "jax":
        got = normalize(jnp.asarray(images), mean, std, jnp.float64)
    else:
        got = torch_ref.augment.normalize(torch.from_numpy(images), mean, std, torch.float64)
    np.testing.assert_allclose(got, [[[[-1, 3, 0.25]]]], rtol=1e-12)


@both
def test_what_dropout_keeps_is_scaled(side):
    """One in four is kept, times four."""
    x, kept = np.ones((4, 2), np.float32), np.arange(8).reshape(4, 2) % 4 == 1
    if side == "jax":
        layer = jaxnets.models.layers.Dropout(0.75, rngs=nnx.Rngs(0))
        with mock.patch.object(layer, "mask", return_value=jnp.asarray(kept)):
            got = layer(jnp.asarray(x))
    else:
        layer = torch_ref.models.layers.Dropout(0.75)
        layer.forced = torch.from_numpy(kept)
        got = layer(torch.from_numpy(x))
    np.testing.assert_allclose(got, np.where(kept, 4, 0))


def drawn(side: str, op: str, rows: list) -> dict[str, list]:
    """What an operation with its default options makes of rows of uniform numbers."""
    config = default_config().augment
    config.ops = (op,)
    u = np.array(rows, np.float32)
    if side == "jax":
        params = make_augment(config).draw(jnp.asarray(u))
    else:
        params = torch_ref.augment.make_augment(config).draw(torch.from_numpy(u))
    return {name: np.asarray(value).tolist() for name, value in params[op].items()}


HIGH = 0.9999


@both
def test_ranges_of_crop_flip_and_rotation(side):
    assert drawn(side, "crop", [[0, 0], [0.5, 0.5], [HIGH, 0]])["offset"] == [
        [0, 0],
        [4, 4],
        [8, 0],
    ]
    assert drawn(side, "flip", [[0], [0.4999], [0.5], [HIGH]])["flipped"] == [
        True,
        True,
        False,
        False,
    ]
    angles = drawn(side, "rotation", [[0], [0.25], [0.75], [HIGH]])["angle"]
    assert angles == pytest.approx([-10, -5, 5, 10], abs=0.01)


@both
def test_ranges_of_jitter(side):
    """Factors of .9 to 1.1, turns of -.1 to .1, in the order in which the first columns rise."""
    params = drawn(side, "jitter", [[0.4, 0.3, 0.2, 0.1, 0, 0, 0, 0], [0] * 4 + [HIGH] * 4])
    assert params["order"] == [[3, 2, 1, 0], [0, 1, 2, 3]]
    one = 2**FACTOR_BITS
    for name in ("brightness", "contrast", "saturation"):
        assert params[name] == pytest.approx([0.9 * one, 1.1 * one], abs=1)
    assert params["hue"] == pytest.approx([-0.1 * one, 0.1 * one], abs=1)


@both
def test_ten_boxes_are_tried(side):
    """Nine that do not fit, then one that does; where none does, the whole image, or nothing."""
    large, small = [HIGH] * 9, [0.0]
    # Shares .9999 of [.95, 1], ratios at 1.1: 33.6 pixels wide. Then .95 and 1: 31.2 squared.
    crop = [*large, *small, *large, 0.5, 0, 0]
    never = [HIGH] * 20 + [0, 0]
    assert drawn(side, "random_resized_crop", [crop, never])["box"] == [
        [0, 0, 31, 31],
        [0, 0, 32, 32],
    ]
    # .33 of the image at 3.3 is 33.4 high; .02 at .995 is 4.5 by 4.5.
    erased = [0, *large, *small, *large, 0.5, 0, 0]
    rows = [erased, [0, *never], [0.4999, *erased[1:]], [0.5, *erased[1:]]]
    assert drawn(side, "erasing", rows)["box"] == [[0, 0, 5, 5], [0] * 4, [0, 0, 5, 5], [0] * 4]


@both
@pytest.mark.parametrize("policy", ["cifar10", "imagenet"])
def test_auto_augment_draws(side, policy):
    """The pair, whether each place applies (up to its probability), the sign of each."""
    first, second = {"cifar10": (0.1, 0.2), "imagenet": (0.4, 0.6)}[policy]
    config = SimpleNamespace(ops=("auto_augment",), auto_augment=SimpleNamespace(policy=policy))
    rows = [
        [0, first, second, 0, 0], [0, first, second, 0.5, 0.5], [0, first + 0.01, 0, 0, HIGH],
        [0.0399, 0, second + 0.01, 0, 0], [0.04, 0, 0, 0, 0.5], [HIGH, 0, 0, HIGH, 0],
    ]  # fmt: skip
    u = np.array(rows, np.float32)
    if side == "jax":
        found = make_augment(config).draw(jnp.asarray(u))
    else:
        found = torch_ref.augment.make_augment(config).draw(torch.from_numpy(u))
    want = [[0, 2], [1, 3], [100, 3], [0, 100], [4, 7], [97, 98]]
    assert np.asarray(found["auto_augment"]["rows"]).tolist() == want


NARROW = {
    "se_resnet": {"num_channels": 16, "num_blocks": (1, 1)},
    "mish_se_resnet18": {"widths": (16, 16, 32, 32)},
    "dense_se_resnet": {"depth": 2, "widths": (16, 32, 64)},
    "resnet18": {"num_channels": 8},
    **{f"cifar100_v{n}": {"width": 1 / 4} for n in range(1, 6)},
}


@pytest.mark.parametrize("name", torch_ref.models.MODELS)
def test_first_weights_of_the_twins(name):
    """Uniform in +-1 / sqrt(fan_in); Dense's convolutions normal of variance 2 / fan_in.

    The same of the JAX networks is in tests/test_models.py.
    """
    torch.manual_seed(1)
    gaussian = []
    for module in torch_ref.models.create_model(name, **NARROW[name]).modules():
        if isinstance(module, nn.BatchNorm2d):
            for value, filled in (
                ("weight", 1),
                ("bias", 0),
                ("running_mean", 0),
                ("running_var", 1),
            ):
                assert (getattr(module, value) == filled).all()
            assert (module.eps, module.momentum, module.num_batches_tracked) == (1e-5, 0.1, 0)
        if not isinstance(module, nn.Conv2d | nn.Linear):
            continue
        weight = module.weight.detach() * module.weight[0].numel() ** 0.5
        normal = name == "dense_se_resnet" and isinstance(module, nn.Conv2d)
        std = 2**0.5 if normal else 3**-0.5
        assert (weight.abs().max() > 1) == normal
        assert weight.mean().abs() < 5 * std / weight.numel() ** 0.5
        assert (weight.std() - std).abs() < 5 * std / (2 * weight.numel()) ** 0.5
        if module.bias is not None:
            assert (module.bias * module.weight[0].numel() ** 0.5).abs().max() <= 1
        if normal:
            gaussian.append(weight.abs().max())
    if gaussian:  # a uniform of the same variance ends at sqrt(6) = 2.45
        assert max(gaussian) > 2.5
