"""Averages of the weights, against torch.optim.swa_utils: after every step, and evaluated."""

import functools
import shutil

import jax
import numpy as np
import pytest
import torch
from helpers import few_digits, little_effort
from torch.optim.swa_utils import AveragedModel

import torch_ref.loop
import torch_ref.step
import torch_ref.task
import torch_ref.train
from jaxnets import config as configs
from jaxnets.data.batches import epoch_order
from jaxnets.inference.network import load_member
from jaxnets.models.torch_names import to_state_dict
from jaxnets.optim import averaging, evaluated
from jaxnets.port import start
from jaxnets.port.adapters import compare
from jaxnets.port.runs.convert import port_run
from jaxnets.port.runs.read import read
from jaxnets.runs.log import read_rows as rows_of
from jaxnets.train import __main__ as train
from jaxnets.train import task as tasks
from jaxnets.train.evaluator import Statistics
from jaxnets.train.step import Totals, train_step
from tests.runs import assert_same_run

CONFIG = "tests/tiny_config.py"
TINY = ("--config.dtype=float64", "--config.batch_size=16", "--config.model.drop=0")
EMA = ("--config.optim.ema.decay=.9",)
SWA = ("--config.optim.swa.from_epoch=2", "--config.optim.swa.every=2")
STEPS = 4  # an epoch of 60 images


@pytest.fixture(scope="module", autouse=True)
def quick():
    with little_effort():
        yield


@pytest.fixture(scope="module")
def digits():
    return few_digits(60, 10)


def both(config, digits):
    """A run and its twin with the same weights."""
    run = tasks.build(config, digits)
    weights = to_state_dict(run.task.network.merge(run.state.params, run.state.stats))
    tensors = {name: torch.tensor(value) for name, value in weights.items()}
    return run, torch_ref.task.build(config, digits, tensors)


def assert_alike(run, twin, state, kind):
    params, stats = evaluated(kind, state.params, state.stats, state.opt_state)
    ours = to_state_dict(run.task.network.merge(params, stats))
    with torch_ref.loop._evaluated(twin_config(kind), twin) as theirs:
        for name, value in theirs.net.state_dict().items():
            np.testing.assert_allclose(ours[name], value.numpy(), rtol=0, atol=1e-11, err_msg=name)


def twin_config(kind):
    with (config := configs.default_config()).unlocked():
        config.eval_weights = kind
    return config


@pytest.mark.parametrize("statistics", ["average", "recompute"])
def test_after_every_step_for_five_epochs(digits, statistics):
    frozen = "--config.optim.freeze=conv1,bn1"
    mode = f"--config.optim.average_statistics={statistics}"
    config = configs.read(CONFIG, [*TINY, *EMA, *SWA, frozen, mode, "--config.num_epochs=5"])
    run, twin = both(config, digits)
    step = jax.jit(functools.partial(train_step, run.task), static_argnames="size")
    state, totals = run.state, Totals.zero()
    taken, arrays = [], jax.device_put((digits.train_images, digits.train_labels))
    for epoch in range(5):
        order = epoch_order(config.seed, epoch, 60)
        for index in range(STEPS):
            images, labels = torch_ref.loop.batch(twin, digits, order, index)
            state, totals = step(state, totals, *arrays, order, size=len(labels))
            torch_ref.step.train_step(twin, epoch * STEPS + index, images, labels)
            for kind, average in averaging.averages_of(state.opt_state).items():
                assert int(average.n_averaged) == int(twin.averages[kind].n_averaged)
                assert_alike(run, twin, state, kind)
        taken.append(int(twin.averages["swa"].n_averaged))
    assert taken == [0, 1, 1, 2, 2]
    assert "conv1.kernel" not in averaging.averages_of(state.opt_state)["ema"].params
    if statistics == "average":
        return
    again = Statistics(run.task, digits.train_images, 60, 25)
    for kind in ("ema", "swa"):
        config.eval_weights, config.eval_batch_size = kind, 25
        before = averaging.averages_of(state.opt_state)[kind].stats
        assert again.refreshed(kind, state, lambda: True) is None
        state = again.refreshed(kind, state)
        after = averaging.averages_of(state.opt_state)[kind].stats
        assert not np.allclose(
            before["residual_layers.0.0.bn2.mean"], after["residual_layers.0.0.bn2.mean"]
        )
        np.testing.assert_array_equal(before["bn1.mean"], after["bn1.mean"])
        kept = {k: v.clone() for k, v in twin.averages[kind].state_dict().items()}
        assert not torch_ref.loop._refresh(config, twin, digits, lambda: True)
        assert all(torch.equal(v, kept[k]) for k, v in twin.averages[kind].state_dict().items())
        assert torch_ref.loop._refresh(config, twin, digits, lambda: False)
        assert_alike(run, twin, state, kind)


RUN = (
    "--config", CONFIG, "--config.batch_size=30", "--config.num_epochs=3",
    "--config.eval_weights=swa", "--config.optim.ema.decay=.9", "--config.optim.swa.from_epoch=2",
    "--config.checkpoint.keep=9",
)  # fmt: skip


@pytest.mark.parametrize("trainer", [train, torch_ref.train], ids=["jaxnets", "torch_ref"])
def test_a_run_moves_to_the_other_trainer_and_back(tmp_path, monkeypatch, digits, trainer):
    """With its averages; there it is evaluated as here, and what came back is what went."""
    monkeypatch.setattr("jaxnets.data.sources.load_dataset", lambda *_, **__: digits)
    here, there, back = (tmp_path / name for name in "abc")
    assert trainer.main([*RUN, f"--workdir={here}"]) == 0
    ours, theirs = (here, there / "last.pt") if trainer is train else (here / "last.pt", there)
    port_run(ours, theirs)
    port_run(theirs, back if trainer is train else back / "last.pt")
    runs = [read(p).run for p in (ours, theirs, back if trainer is train else back / "last.pt")]
    for other in runs[1:]:
        for kind, average in runs[0].averages.items():
            compare(other.averages[kind].weights, average.weights)
            assert other.averages[kind].count == average.count
    assert {k: a.count for k, a in runs[0].averages.items()} == {"ema": 6, "swa": 2}
    row = rows_of(here / "metrics.jsonl")[-1]
    member = load_member(here if trainer is train else there, "last")
    logits = member.logits(digits.test_images)
    assert np.mean(logits.argmax(1) == digits.test_labels) == pytest.approx(row["eval/accuracy"])
    loss = np.logaddexp.reduce(logits, 1) - logits[np.arange(10), digits.test_labels]
    assert loss.mean() == pytest.approx(row["eval/loss"], rel=1e-5)
    # A file of torch's own class is a network's weights.
    last = there / "last.pt" if trainer is train else here / "last.pt"
    swa = torch.load(last, weights_only=True)["averages"]["swa"]
    torch.save(swa, tmp_path / "swa.pt")
    model = AveragedModel(torch_ref.task._network(member.config, 10))
    model.load_state_dict(swa)
    for name, value in start.read(tmp_path / "swa.pt").weights.items():
        np.testing.assert_array_equal(value, model.module.state_dict()[name].numpy())


def test_a_resumed_run_ends_as_one_that_was_not_interrupted(tmp_path, monkeypatch, digits):
    monkeypatch.setattr("jaxnets.data.sources.load_dataset", lambda *_, **__: digits)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert train.main([*RUN, f"--workdir={whole}"]) == 0
    shutil.copytree(whole, cut)
    shutil.rmtree(cut / "checkpoints" / "6")  # both averages have taken weights in that of step 4
    assert train.main([*RUN, f"--workdir={cut}"]) == 0
    assert_same_run(cut, whole)
