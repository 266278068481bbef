"""MixUp and CutMix: both frameworks mix alike, and as a reference that is written out."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from helpers import few_digits, little_effort
from torch.nn import functional as F

import jaxnets.train.task
import torch_ref.task
from jaxnets.augment import mix, tables
from jaxnets.augment.options import Mix
from jaxnets.config import read
from jaxnets.data.batches import epoch_order
from jaxnets.models.torch_names import to_state_dict
from jaxnets.train.step import Totals, cross_entropy, train_step
from torch_ref import mix as twin
from torch_ref import step as twin_step
from torch_ref.loop import batch

N, HEIGHT, WIDTH = 64, 8, 6
CASES = [
    Mix(name, alpha, p, per_image=True)
    for name, alpha, p in [("cutmix", 1.0, 0.7), ("mixup", 0.2, 0.7), ("either", 2.0, 1.0)]
]


def uniforms() -> np.ndarray:
    return np.random.default_rng(0).random((N, Mix.columns), np.float32)


def written_out(options: Mix, u, images, labels, classes):
    """Images, targets and the weight of each label, one image after another, in plain numpy."""
    mixed, targets, weights = images.copy(), np.zeros((N, classes)), []
    for i in range(N):
        weight, pair = 1.0, (i - 1) % N
        if u[i, 0] < options.p:
            weight = tables.mix_weights(options.alpha)[int(u[i, 2] * np.float32(4096))]
            if options.name == "mixup" or (options.name == "either" and u[i, 1] >= 0.5):
                mixed[i] = weight * images[i] + (1 - weight) * images[pair]
            else:
                half = [int(side * np.sqrt(1 - weight)) // 2 for side in (HEIGHT, WIDTH)]
                y, x = int(u[i, 3] * np.float32(HEIGHT)), int(u[i, 4] * np.float32(WIDTH))
                rows = [r for r in range(HEIGHT) if y - half[0] <= r < y + half[0]]
                columns = [c for c in range(WIDTH) if x - half[1] <= c < x + half[1]]
                for r in rows:
                    for c in columns:
                        mixed[i, r, c] = images[pair, r, c]
                weight = 1 - len(rows) * len(columns) / (HEIGHT * WIDTH)  # after clipping
        targets[i, labels[i]] += weight
        targets[i, labels[pair]] += 1 - weight
        weights.append(weight)
    return mixed, targets, np.array(weights)


@pytest.mark.parametrize("options", CASES, ids=lambda options: options.name)
def test_images_and_loss_are_the_written_out_ones(options):
    rng, u = np.random.default_rng(1), uniforms()
    images, labels = rng.normal(size=(N, HEIGHT, WIDTH, 3)), rng.integers(5, size=N)
    logits = rng.normal(size=(N, 5))
    want, targets, weights = written_out(options, u, images, labels, 5)
    assert np.mean(weights < 1) > 0.2 and len(set(weights)) > 8  # noqa: PT018

    drawn = mix.draw(options, jnp.asarray(u), HEIGHT, WIDTH)
    got = mix.apply(jnp.asarray(images), jnp.asarray(np.roll(images, 1, 0)), drawn)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-15)
    np.testing.assert_allclose(drawn.weight, weights, atol=1e-15)
    theirs = twin.draw(options, torch.tensor(u), HEIGHT, WIDTH)
    np.testing.assert_allclose(twin.apply(torch.tensor(images), theirs), want, rtol=0, atol=1e-15)
    np.testing.assert_allclose(twin.targets(torch.tensor(labels), theirs, 5), targets, atol=1e-15)

    smoothed = 0.9 * targets + 0.1 / 5
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    expected = -(smoothed * log_p).sum(1)
    own, other = (cross_entropy(jnp.asarray(logits), x, 0.1) for x in (labels, np.roll(labels, 1)))
    np.testing.assert_allclose(
        drawn.weight * own + (1 - drawn.weight) * other, expected, rtol=1e-12
    )
    torchs = F.cross_entropy(
        torch.tensor(logits), torch.tensor(targets), label_smoothing=0.1, reduction="none"
    )
    np.testing.assert_allclose(torchs, expected, rtol=1e-12)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_the_table_has_the_distributions_moments(alpha):
    table = tables.mix_weights(alpha)
    assert table.mean() == pytest.approx(0.5, abs=1e-9)
    assert table.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=2e-3)
    if alpha == 1:
        np.testing.assert_allclose(table, (np.arange(4096) + 0.5) / 4096, rtol=1e-9)


@pytest.mark.parametrize("per_image", [False, True])
def test_steps_of_both_trainers_agree(per_image):
    """Whole steps, the smaller last batch too, with smoothing, in float64."""
    data = few_digits(20)
    keys = {
        "dtype": "float64", "batch_size": 8, "model.drop": 0, "model.num_channels": 4,
        "loss.label_smoothing": 0.1, "augment.mix.name": "either", "augment.mix.p": 0.8,
        "augment.mix.per_image": per_image, "optim.lr": 0.02,
    }  # fmt: skip
    config = read("tests/tiny_config.py", [f"--config.{k}={v}" for k, v in keys.items()])
    config.parallel, config.devices = "jit", 1
    with little_effort():
        run = jaxnets.train.task.build(config, data)
        state, task = run.state, run.task
        weights = to_state_dict(task.network.merge(state.params, state.stats))
        other = torch_ref.task.build(config, data, {k: torch.tensor(v) for k, v in weights.items()})
        step = jax.jit(functools.partial(train_step, task), static_argnames="size")
        zero = jax.tree.map(lambda x: x.astype(float), Totals.zero())
        for i in range(6):
            epoch, index = divmod(i, task.steps_per_epoch)
            order = epoch_order(task.seed, epoch, 20)
            images, labels = batch(other, data, order, index)
            state, ours = step(
                state, zero, data.train_images, jnp.asarray(data.train_labels), order,
                size=len(labels),
            )  # fmt: skip
            theirs = twin_step.train_step(other, i, images, labels).read()
            np.testing.assert_allclose(ours.loss, theirs.loss, rtol=1e-10)
            assert ours.correct == theirs.correct
    got = to_state_dict(task.network.merge(state.params, state.stats))
    for name, value in other.net.state_dict().items():
        np.testing.assert_allclose(got[name], value.numpy(), rtol=1e-10, atol=1e-12, err_msg=name)
