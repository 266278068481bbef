"""Whose a workdir is: which runs go on in it, which may take it over, which are refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from jaxnets import config as configs
from jaxnets.data import load_dataset
from jaxnets.errors import UserError
from jaxnets.optim import make_optimizer
from jaxnets.runs.log import first_start
from jaxnets.runs.workdir import CHECKPOINTS, begin, check_workdir, read_config
from jaxnets.train import task
from tests.runs import assert_same_run

CONFIG = str(Path(__file__).parent / "tiny_config.py")
JAX, TWIN = CHECKPOINTS
HELD = {JAX: "checkpoints/4", TWIN: "last.pt"}
CONSTANT = "--config.schedule.name=constant"
SCHEDULES = {
    "constant": {},
    "multistep": {"milestones": (2, 5)},
    "warm_restarts": {"T_0": 2},
    "cosine": {},
    "cosine with T_max": {"T_max": 4},
    "one_cycle": {},
    "one_cycle over total_epochs": {"total_epochs": 8},
    "one_cycle with restarts": {"restart_every_epoch": True},
}


def config_of(*args: str):
    return configs.read(CONFIG, list(args))


@pytest.mark.parametrize("per", ["step", "epoch"])
@pytest.mark.parametrize("warm", [0, 1])
@pytest.mark.parametrize("name", SCHEDULES)
def test_what_is_planned_over_the_epochs_is_known(name, warm, per):
    """By the curves themselves, of a run of 6 epochs and of one of 9."""
    config = configs.default_config()
    keys = {"name": name.split()[0], "warmup_epochs": float(warm), "per": per, **SCHEDULES[name]}
    if "restart_every_epoch" in keys:  # which goes with these alone
        keys |= {"warmup_epochs": 0.0, "per": "step"}
    config.schedule.update(keys)
    short, long = (
        make_optimizer(config.optim, config.schedule, steps_per_epoch=3, num_epochs=epochs)
        for epochs in (6, 9)
    )
    steps = np.arange(18)
    same = np.array_equal(short.lr(steps), long.lr(steps))
    if short.momentum is not None:
        same = same and np.array_equal(short.momentum(steps), long.momentum(steps))
    assert (configs.planned_over(config) is None) == same


def hold(workdir: Path, *args: str, log: str = "", checkpoint: str | None = None) -> Path:
    """A workdir as a trainer leaves it."""
    for name in CHECKPOINTS[JAX]:
        (workdir / name).mkdir(parents=True, exist_ok=True)
    (workdir / "config.json").write_text(configs.to_json(config_of(*args)))
    (workdir / "metrics.jsonl").write_text(log)
    if checkpoint is not None:
        path = workdir / checkpoint
        path.touch() if path.suffix == ".pt" else path.mkdir(parents=True)
    return workdir


@pytest.mark.parametrize("left", [None, "checkpoints/4.new", "best/4.orbax-checkpoint-tmp"])
def test_a_run_that_trained_nothing_is_taken_over(tmp_path, left):
    workdir = hold(tmp_path / "x", checkpoint=left)
    (workdir / "starts.jsonl").write_text("{}\n")
    other = config_of("--config.seed=7", "--config.optim.lr=0.5")
    assert not check_workdir(workdir, other, JAX)
    assert not check_workdir(workdir, other, TWIN)
    begin(workdir, other)
    assert read_config(workdir).seed == 7
    assert not (workdir / "starts.jsonl").exists()
    assert check_workdir(workdir, other, JAX)


def test_a_configuration_that_cannot_be_read(tmp_path):
    workdir = hold(tmp_path / "x")
    (workdir / "config.json").write_text("{")
    assert not check_workdir(workdir, config_of(), JAX)
    (workdir / "best" / "4").mkdir()
    with pytest.raises(UserError, match="cannot be read"):
        check_workdir(workdir, config_of(), JAX)


@pytest.mark.parametrize(
    "kept",
    [{"checkpoint": "checkpoints/4"}, {"checkpoint": "best/4"}, {"checkpoint": "last.pt"},
     {"checkpoint": "checkpoints/4.damaged"}, {"log": '{"step": 4, "epoch": 1}\n'}],
)  # fmt: skip
def test_a_run_that_trained_something_is_not(tmp_path, kept):
    workdir = hold(tmp_path / "x", **kept)
    trainer = TWIN if "last.pt" in kept.values() else JAX
    assert check_workdir(workdir, config_of(), trainer)
    with pytest.raises(UserError, match="holds a run of another configuration: seed 0 -> 7"):
        check_workdir(workdir, config_of("--config.seed=7"), trainer)
    begin(workdir, config_of())
    assert (workdir / "metrics.jsonl").read_text() == kept.get("log", "")


@pytest.mark.parametrize(
    ("was", "now", "says"),
    [
        ([CONSTANT], ["--config.num_epochs=5", CONSTANT], None),
        ([], ["--config.num_epochs=5"], r"num_epochs 3 -> 5: schedule.name=cosine is planned over"),
        (["--config.schedule.T_max=3"], ["--config.num_epochs=5", "--config.schedule.T_max=3"],
         None),
        ([CONSTANT], ["--config.num_epochs=2", CONSTANT], r"num_epochs 3 -> 2\. Choose another"),
        ([CONSTANT], ["--config.num_epochs=5", "--config.seed=1", CONSTANT],
         r"num_epochs 3 -> 5; seed 0 -> 1\. Choose"),
        ([], ["--config.num_epochs=5", CONSTANT], r"num_epochs 3 -> 5; schedule.name cosine"),
    ],
)  # fmt: skip
def test_which_runs_can_be_made_longer(tmp_path, was, now, says):
    workdir = hold(tmp_path / "x", *was, checkpoint="checkpoints/4")
    if says is None:
        assert not check_workdir(workdir, config_of(*now), JAX)
        return
    with pytest.raises(UserError, match=says):
        check_workdir(workdir, config_of(*now), JAX)


@pytest.mark.parametrize(
    ("trainer", "key", "says"),
    [
        (JAX, "optim.lr=-1", "config.optim.lr=-1"),
        (JAX, "model.se=all", "config.model: unknown se 'all'"),
        (JAX, "batch_size=5000", "config.batch_size=5000: at most the 1438 images"),
        (JAX, "optim.lr=0.5", "another configuration: optim.lr 0.1 -> 0.5"),
        (TWIN, "optim.lr=-1", "config.optim or config.schedule: Invalid learning rate: -1"),
        (TWIN, "batch_size=5000", "config.batch_size=5000: at most the 1438 images"),
        (TWIN, "optim.lr=0.5", "another configuration: optim.lr 0.1 -> 0.5"),
    ],
)
def test_an_invalid_value_is_called_so_first(tmp_path, refused, trainer, key, says):
    if trainer == TWIN:
        pytest.importorskip("torch")
    workdir = hold(tmp_path / "x", checkpoint=HELD[trainer])
    args = ("--config", CONFIG, "--workdir", workdir, f"--config.{key}")
    assert says in refused(trainer, *args)


def test_taken_over_and_made_longer(tmp_path, command, monkeypatch):
    """A run that diverged at once, another in its place, an epoch more: as one of two epochs."""
    digits = load_dataset("digits")
    few = digits._replace(
        train_images=digits.train_images[:80], train_labels=digits.train_labels[:80]
    )
    monkeypatch.setattr(task, "load", lambda *_, **__: few)

    def train(workdir: Path, *args: str):
        args = ("--config.batch_size=40", CONSTANT, "--workdir", workdir, *args)
        return command("jaxnets.train", "--config", CONFIG, *args)

    one, whole = tmp_path / "one", tmp_path / "whole"
    assert train(one, "--config.optim.lr=1e30", "--config.num_epochs=1").code == 2
    assert train(one, "--config.num_epochs=1").code == 0
    assert first_start(one)["command"].endswith("--config.num_epochs=1")
    longer = train(one, "--config.num_epochs=2")
    assert longer.code == 0, longer.err
    assert "resuming" in longer.out
    assert train(whole, "--config.num_epochs=2").code == 0
    assert_same_run(one, whole)
    assert read_config(one).num_epochs == 2
    rows = [json.loads(line) for line in (one / "starts.jsonl").read_text().splitlines()]
    assert [row["epochs"] for row in rows] == [1, 2]
    assert first_start(one)["command"].endswith("--config.num_epochs=2")
    assert "already trained" in train(one, "--config.num_epochs=2").out
    again = train(one, "--config.num_epochs=1")
    assert (again.code, "num_epochs 2 -> 1" in again.err) == (2, True)
