"""Fine-tuning in both frameworks: the same start, frozen parts and learning rates of their own."""

import json

import numpy as np
import pytest
import torch
from helpers import few_digits, little_effort

import torch_ref.start
import torch_ref.task
import torch_ref.train
from jaxnets import config as configs
from jaxnets.models.torch_names import to_state_dict
from jaxnets.parity import trainings as parity
from jaxnets.port import start
from jaxnets.port.files import to_tensors
from jaxnets.port.runs.read import read
from jaxnets.train import __main__ as train
from jaxnets.train import task

CONFIG = "tests/tiny_config.py"
TINY = ("--config.dtype=float64", "--config.batch_size=8", "--config.model.drop=0")
FROZEN = "--config.optim.freeze=conv1,bn1,residual_layers.0.0.bn2.bias"
SCALED = ("--config.optim.lr_scale.linear=10", "--config.optim.lr_scale.residual_layers.0.0=.3")
MUON = ("--config.optim.name=muon", "--config.optim.lr=.02", "--config.optim.muon.rest=adamw")
ADAMW = ("--config.optim.name=adamw", "--config.optim.lr=.01", "--config.optim.clip=norm")


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Programs that run a few times on tiny arrays."""
    with little_effort():
        yield


@pytest.fixture(scope="module")
def digits():
    return few_digits(60, 10)


@pytest.mark.parametrize(
    "options",
    [
        (FROZEN, "--config.eval_weights=slow"),
        (FROZEN, *SCALED, *ADAMW, "--config.schedule.per=step"),
        (FROZEN, *SCALED, *MUON),
    ],
    ids=["sgd with Lookahead", "adamw at rates of its own", "muon at rates of its own"],
)
def test_twenty_steps_are_the_same(monkeypatch, digits, options):
    config = configs.read(CONFIG, [*TINY, *options])
    monkeypatch.setattr(parity, "build", lambda config: task.build(config, digits))
    rows = parity.compare(config, 20)
    assert max(max(row.parameters, row.statistics) for row in rows) < 1e-10
    assert rows[-1].jax.grad_norm == pytest.approx(rows[-1].torch.grad_norm, rel=1e-9)
    assert rows[-1].parameters > 0  # two computations, not one


def test_parts_are_the_same_in_both(digits):
    """What is frozen, at which rates, which BatchNorms, and that no memory is spent on it."""
    config = configs.read(CONFIG, [*TINY, FROZEN, *SCALED])
    ours, theirs = task.build(config, digits), torch_ref.task.build(config, digits)
    frozen = {"conv1.weight", "bn1.weight", "bn1.bias", "residual_layers.0.0.bn2.bias"}
    assert {n for n, p in theirs.net.named_parameters() if not p.requires_grad} == frozen
    assert ours.task.network.fixed_norms == ("bn1",)
    assert theirs.fixed_norms == (theirs.net.bn1,)
    kept = ours.state.opt_state.slow.keys()
    assert len(kept) == len(ours.state.params) - len(frozen)
    assert kept == ours.state.opt_state.inner[-1].momentum_buffer.keys()
    groups = {g["lr_scale"]: set(g["param_names"]) for g in theirs.optimizer.optimizer.param_groups}
    assert groups == {
        0.3: {n for n, _ in theirs.net.named_parameters() if n.startswith("resid")} - frozen,
        10.0: {"linear.weight", "linear.bias"},
    }


def test_both_start_from_a_file_with_a_head_of_their_own(tmp_path, digits):
    """Three classes instead of ten: the same tensors are taken, and the same are drawn anew."""
    known = to_state_dict(task.build_model(configs.read(CONFIG, TINY[:1]), 10))
    file = tmp_path / "wrapped.pt"
    torch.save({"net": {f"module.{k}": v for k, v in to_tensors(known).items()}}, file)
    config = configs.read(CONFIG, ["--config.seed=1", TINY[0]])

    model = task.build_model(config, 3)
    own, begun = to_state_dict(model), start.read(file)
    assert begun.fill(model) == ["linear.weight", "linear.bias"]
    filled = to_state_dict(model)
    assert begun.origin["file"] == str(file)
    for name, value in filled.items():
        assert np.array_equal(value, (own if "linear" in name else known)[name]), name

    net = torch_ref.task._network(config, 3).double()
    head = net.linear.weight.detach().clone()
    weights = torch_ref.start.read(file)
    assert torch_ref.start.fill(net, file, weights, strict=False) == begun.fill(model)
    assert torch.equal(net.linear.weight, head)
    for name, value in net.state_dict().items():
        if "linear" not in name:
            np.testing.assert_array_equal(value.numpy(), known[name], err_msg=name)


def runs_of(trainer, workdir, *args):
    found = ["--config", CONFIG, "--config.num_epochs=1", f"--workdir={workdir}", *args]
    return trainer.main(found)


@pytest.fixture(scope="module")
def first(tmp_path_factory, digits):
    """A run of each trainer on ten classes."""
    folder = tmp_path_factory.mktemp("first")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jaxnets.data.sources.load_dataset", lambda *_, **__: digits)
        assert runs_of(train, folder / "jax", "--config.batch_size=30") == 0
        assert runs_of(torch_ref.train, folder / "torch", "--config.batch_size=30") == 0
    return folder


@pytest.mark.parametrize("source", ["jax", "torch"])
@pytest.mark.parametrize("trainer", [train, torch_ref.train], ids=["jaxnets", "torch_ref"])
def test_a_run_starts_from_another_and_resumes_by_itself(
    tmp_path, capsys, monkeypatch, digits, first, trainer, source
):
    """The frozen part keeps its weights; the run record knows them; a resumed run reads none."""
    three = digits.train_labels < 3
    few = digits._replace(
        train_images=digits.train_images[three],
        train_labels=digits.train_labels[three],
        test_images=digits.test_images[digits.test_labels < 3],
        test_labels=digits.test_labels[digits.test_labels < 3],
        class_names=digits.class_names[:3],
    )
    monkeypatch.setattr("jaxnets.data.sources.load_dataset", lambda *_, **__: few)
    args = (f"--init={first / source}", "--config.batch_size=10", FROZEN)
    assert runs_of(trainer, tmp_path / "x", *args) == 0
    assert "linear.weight, linear.bias drawn anew" in capsys.readouterr().out
    (record,) = map(json.loads, (tmp_path / "x" / "starts.jsonl").read_text().splitlines())
    assert record["init"]["drawn_anew"] == ["linear.weight", "linear.bias"]
    assert str(first / source) in str(record["init"])
    begun = torch_ref.start.read(first / source)
    ended = read(tmp_path / "x" if trainer is train else tmp_path / "x" / "last.pt").run
    assert "conv1.weight" not in ended.optimizer.slow
    for name in ("conv1.weight", "bn1.bias", "bn1.running_mean", "residual_layers.0.0.bn2.bias"):
        np.testing.assert_array_equal(ended.weights[name], begun[name].numpy(), err_msg=name)
    for name in ("linear.weight", "residual_layers.0.0.bn2.running_mean"):
        assert ended.weights[name].shape != begun[name].shape or not np.array_equal(
            ended.weights[name], begun[name].numpy()
        )
    args = ("--init=gone.pt", *args[1:])
    assert runs_of(trainer, tmp_path / "x", *args) == 0
    assert "--init gone.pt is not read" in capsys.readouterr().out
