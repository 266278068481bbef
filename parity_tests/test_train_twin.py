"""Whole trainings, JAX against PyTorch, and the PyTorch trainer by itself."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import torch
from helpers import little_effort
from safetensors.numpy import save_file

import jaxnets.parity.__main__ as parity
import jaxnets.parity.trainings
import jaxnets.train.__main__
import jaxnets.train.task
import torch_ref.loop
import torch_ref.step
import torch_ref.task
import torch_ref.train
from jaxnets import cli
from jaxnets import config as configs
from jaxnets.data.sources import load_digits
from jaxnets.errors import UserError
from jaxnets.port import to_state_dict
from jaxnets.runs.log import read_rows
from tests.stopping import stop_after

CONFIG = str(Path(__file__).parents[1] / "tests" / "tiny_config.py")
AUGMENT = "--config.augment.ops=('random_resized_crop','rotation','crop','flip','jitter')"
# 90 images: three steps an epoch, the last one of 10.
COMMON = ("--config", CONFIG, "--config.batch_size=40")
WITHOUT_JAX = """
import sys

class Absent:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in {"jax", "jaxlib", "flax", "optax", "orbax"}:
            raise ImportError(name)

sys.meta_path.insert(0, Absent())
from jaxnets import cli
from torch_ref import train
cli.run(train.main)
"""


@pytest.fixture(autouse=True)
def quick():
    """Programs that run a few times on tiny arrays."""
    with little_effort():
        yield


@pytest.fixture(autouse=True)
def few_images(monkeypatch):
    """Some of the digits, coloured, so that jitter has something to do."""
    digits, rng = load_digits(), np.random.default_rng(0)

    def colour(images):
        tint = rng.uniform(0.3, 1, (len(images), 1, 1, 3))
        return np.round(images * tint + rng.uniform(0, 40, images.shape) * (1 - tint)).astype("u1")

    few = digits._replace(
        train_images=colour(digits.train_images[:90]),
        train_labels=digits.train_labels[:90],
        test_images=colour(digits.test_images[:30]),
        test_labels=digits.test_labels[:30],
    )
    monkeypatch.setattr("jaxnets.data.sources.load_dataset", lambda *_, **__: few)


def compare(out: Path, *args: str) -> tuple[int, dict]:
    """The exit code and the report of a float64 comparison."""
    code = parity.main([*COMMON, "--config.dtype=float64", f"--out={out}", *args])
    return code, json.loads((out / "parity.json").read_text())


def rows_of(workdir: Path) -> list[dict]:
    """The log without what depends on the clock."""
    clock = ("seconds", "images_per_second")
    rows = read_rows(workdir / "metrics.jsonl")
    return [{k: v for k, v in row.items() if k not in clock} for row in rows]


def train_twin(workdir: Path, *args: str) -> tuple[list[dict], dict]:
    """The rows and the last checkpoint of a run of the twin."""
    assert torch_ref.train.main([*COMMON, f"--workdir={workdir}", *args]) == 0
    last = torch.load(workdir / "last.pt", weights_only=True)
    del last["progress"]["seconds"]
    return rows_of(workdir), last


def assert_same(a, b) -> None:
    """Nested containers of tensors, bit for bit."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)


def test_trainings_are_equal_in_float64(tmp_path, capsys):
    """Eight steps: all augmentations, dropout, Lookahead, two small batches, two new epochs."""
    code, report = compare(tmp_path, AUGMENT, "--steps=8", "--config.optim.clip=norm")
    out = capsys.readouterr().out
    assert code == 0
    assert report["ok"]
    assert report["verdict"] in out.splitlines()
    assert report["verdict"].startswith("EQUAL within 1e-08")
    assert [row["step"] for row in report["rows"]] == [*range(1, 9)]
    for row in report["rows"]:
        assert max(row["parameters"], row["statistics"]) < 1e-11
        for key in ("loss", "lr", "grad_norm"):
            assert row["jax"][key] == pytest.approx(row["torch"][key], rel=1e-10)
    assert len({row["jax"]["lr"] for row in report["rows"]}) == 3  # a rate an epoch
    assert (tmp_path / "parity.png").read_bytes().startswith(b"\x89PNG")


def late_augmentation(monkeypatch):
    key = torch_ref.step.augment_key
    monkeypatch.setattr(torch_ref.step, "augment_key", lambda seed, step: key(seed, step + 1))


def own_masks(monkeypatch):
    monkeypatch.setattr(jaxnets.parity.trainings, "force_masks", lambda net, masks: None)


def other_order(monkeypatch):
    batch = torch_ref.loop.batch
    monkeypatch.setattr(
        torch_ref.loop, "batch", lambda task, data, order, i: batch(task, data, order[::-1], i)
    )


@pytest.mark.parametrize("mutate", [late_augmentation, own_masks, other_order])
def test_a_broken_pairing_is_caught(tmp_path, monkeypatch, capsys, mutate):
    mutate(monkeypatch)
    code, report = compare(tmp_path, "--steps=1")
    assert code == 1
    assert report["verdict"].startswith("DIFFERENT: beyond 1e-08 from step 1 on")


def test_logs_lie_side_by_side(tmp_path, capsys):
    """From the same weights, without dropout: whose masks each trainer draws for itself."""
    args = [*COMMON, AUGMENT, "--config.num_epochs=1", "--config.model.drop=0"]
    args += ["--config.data.val_fraction=0.2"]
    ours, theirs = tmp_path / "jax", tmp_path / "torch"
    config = configs.read(CONFIG, args[2:])
    weights = to_state_dict(jaxnets.train.task.build_model(config, 10))
    start = tmp_path / "start.pt"
    torch.save({name: torch.tensor(value) for name, value in weights.items()}, start)

    assert jaxnets.train.__main__.main([*args, f"--workdir={ours}"]) == 0
    jax_out = capsys.readouterr().out
    assert torch_ref.train.main([*args, f"--workdir={theirs}", f"--init={start}"]) == 0
    torch_out = capsys.readouterr().out
    (jax_row,), (torch_row,) = rows_of(ours), rows_of(theirs)
    assert list(jax_row) == list(torch_row)
    assert "val/accuracy" in jax_row
    for key, value in jax_row.items():
        assert torch_row[key] == pytest.approx(value, rel=1e-3), key
    for out in (jax_out, torch_out):
        assert "epoch     step         lr  train loss" in out
        assert "done: 1 epochs in" in out


def test_a_time_budget_ends_the_twin(tmp_path, capsys):
    args = [*COMMON, "--config.stop_after_minutes=0.00001", f"--workdir={tmp_path / 'x'}"]
    assert torch_ref.train.main(args) == 0
    assert "stopped and saved at step 1 of" in capsys.readouterr().out
    assert torch_ref.train.main(args) == 0
    assert "stopped and saved at step 2 of" in capsys.readouterr().out


RECIPES = {
    "lookahead": [AUGMENT, "--config.schedule.name=cosine"],
    "one cycle after a warm-up": [
        "--config.optim.name=adamw",
        "--config.optim.lookahead.enabled=False",
        "--config.schedule.name=one_cycle",
        "--config.schedule.per=step",
        "--config.schedule.warmup_epochs=1",
        "--config.dtype=bfloat16",
    ],
    "multistep": ["--config.schedule.name=multistep", "--config.schedule.milestones=(1,2)"],
    "warm restarts": ["--config.schedule.name=warm_restarts", "--config.schedule.T_0=1"],
}


@pytest.mark.parametrize("stop_at", [2, 6], ids=["within an epoch", "between two"])
@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES.keys())
def test_a_stopped_twin_goes_on_bit_for_bit(tmp_path, capsys, monkeypatch, recipe, stop_at):
    with monkeypatch.context() as patch:
        patch.setattr(torch_ref.loop, "StopSignal", stop_after(stop_at))
        args = [*COMMON, *recipe, f"--workdir={tmp_path / 'stopped'}"]
        assert torch_ref.train.main(args) == 128 + signal.SIGTERM
    assert "stopped and saved" in capsys.readouterr().out
    rows, last = train_twin(tmp_path / "stopped", *recipe)
    assert "resuming" in capsys.readouterr().out
    whole_rows, whole_last = train_twin(tmp_path / "whole", *recipe)
    assert rows == whole_rows
    assert len(rows) == 3
    assert_same(last, whole_last)


@pytest.mark.parametrize("stop_at", [4, 16], ids=["the first", "the last"])
def test_an_evaluation_of_the_twin_is_given_up_and_made_again(
    tmp_path, capsys, monkeypatch, stop_at
):
    """Asked after each of three steps, between three batches, and after the evaluation."""
    recipe = ("--config.eval_batch_size=10", "--config.schedule.name=cosine")
    with monkeypatch.context() as patch:
        patch.setattr(torch_ref.loop, "StopSignal", stop_after(stop_at))
        args = [*COMMON, *recipe, f"--workdir={tmp_path / 'stopped'}"]
        assert torch_ref.train.main(args) == 128 + signal.SIGTERM
    step = 3 if stop_at == 4 else 9
    assert f"stopped and saved at step {step} of 9" in capsys.readouterr().out
    rows, last = train_twin(tmp_path / "stopped", *recipe)
    assert f"at step {step} of 9, before its evaluation" in capsys.readouterr().out
    whole_rows, whole_last = train_twin(tmp_path / "whole", *recipe)
    assert rows == whole_rows
    assert_same(last, whole_last)


def test_the_checkpoint_is_a_published_one(tmp_path, capsys):
    rows, last = train_twin(tmp_path / "x")
    assert last["acc"] == pytest.approx(100 * rows[-1]["eval/accuracy"])
    assert (last["epoch"], last["step"]) == (3, 9)
    assert last["config"]["model"]["num_channels"] == 4
    best = torch.load(tmp_path / "x" / "best.pt", weights_only=True)
    assert best["acc"] == pytest.approx(100 * max(row["eval/accuracy"] for row in rows))
    # It is a start for another run.
    args = ("--config.num_epochs=1", f"--init={tmp_path / 'x' / 'last.pt'}")
    assert train_twin(tmp_path / "y", *args)[0][0]["train/loss"] < rows[0]["train/loss"]


def test_slow_weights_are_evaluated_and_put_back(tmp_path, capsys):
    rows, fast = train_twin(tmp_path / "fast")
    slow_rows, slow = train_twin(tmp_path / "slow", "--config.eval_weights=slow")
    assert_same(slow["net"], fast["net"])
    assert [r["train/loss"] for r in slow_rows] == [r["train/loss"] for r in rows]
    # The first epoch ends on step 3, between two syncs; the second one on a sync.
    assert slow_rows[0]["eval/loss"] != rows[0]["eval/loss"]
    assert slow_rows[1]["eval/loss"] == rows[1]["eval/loss"]


def test_the_twin_trains_without_jax(tmp_path):
    args = ["--config", CONFIG, f"--workdir={tmp_path}", "--config.num_epochs=1"]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_JAX, *args, "--config.batch_size=1438"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert len(rows_of(tmp_path)) == 1


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("se_resnet", {"se": "all"}),
        ("se_resnet", {"num_channels": 8}),
        ("se_resnet", {"num_channels": 65_536}),
        ("se_resnet", {"num_blocks": (1,) * 7}),
        ("se_resnet", {"conv_kernel_sizes": (2, 3, 3)}),
        ("se_resnet", {"avg_pool_kernel_size": 4}),
        ("se_resnet", {"share": "all"}),
        ("se_resnet", {"num_classes": 70_000}),
        ("mish_se_resnet18", {"activation": "gelu"}),
        ("dense_se_resnet", {"share": "first"}),
        ("cifar100_v1", {"width": 0.3}),
        ("cifar100_v3", {"use_fire8": 1}),
        ("cifar100_v5", {"conv_drop": 1.5}),
        ("resnet18", {"num_blocks": (2, 2)}),
        ("resnet", {}),
    ],
)
def test_options_of_a_network_are_refused_in_the_same_line(name, options):
    config = configs.read(CONFIG, ["--config.batch_size=40"])
    with config.unlocked():
        config.model = {"name": name, "num_classes": None, **options}
    data = jaxnets.train.task.load(config)
    lines = []
    for build in (jaxnets.train.task.build, torch_ref.task.build):
        with pytest.raises(UserError, match=r"^config\.model: ") as refusal:
            build(config, data)
        lines.append(str(refusal.value))
    assert lines[0] == lines[1]


@pytest.mark.parametrize(
    ("module", "arg", "message"),
    [
        (torch_ref.train, "--workdi=x", "did you mean --workdir?"),
        (torch_ref.train, "--config.optim.lrr=1", "did you mean --config.optim.lr?"),
        (torch_ref.train, "--config.schedule.name=cosin", "unknown schedule 'cosin'"),
        (torch_ref.train, "--config.model.se=all", "config.model: unknown se 'all'. Known: block"),
        (torch_ref.train, "--config.batch_size=91", "at most the 90 images"),
        (torch_ref.train, "--config.on_nan=restore", "torch_ref.train only knows stop"),
        (torch_ref.train, "--config.optim.lr=1e30", "the loss or the gradients are not finite"),
        (torch_ref.train, "--init=absent.pt", "--init absent.pt: no such file"),
        (torch_ref.train, f"--init={CONFIG}", "not a .pt or .safetensors file"),
        (torch_ref.train, "--init=other.safetensors", "do not fit the model: Error(s) in loading"),
        (parity, "--steps=0", "--steps 0: a whole number, at least 1"),
        (parity, "--steps=few", "--steps"),
        (parity, "--step=3", "did you mean --steps?"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, capsys, monkeypatch, module, arg, message):
    monkeypatch.chdir(tmp_path)
    save_file({"conv1.weight": np.zeros(1)}, "other.safetensors")
    monkeypatch.setattr(sys, "argv", ["", *COMMON, arg])
    with pytest.raises(SystemExit) as stop:
        cli.run(module.main)
    err = capsys.readouterr().err
    assert stop.value.code == 2
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err
    assert not list(tmp_path.rglob("*.pt"))


def test_a_run_of_the_other_trainer_is_left_alone(tmp_path, capsys):
    workdir = tmp_path / "x"
    train_twin(workdir, "--config.num_epochs=1")
    args = [*COMMON, "--config.num_epochs=1", f"--workdir={workdir}"]
    with pytest.raises(jaxnets.UserError, match=r"a run of torch_ref\.train"):
        jaxnets.train.__main__.main(args)
    (workdir / "last.pt").unlink()
    (workdir / "best.pt").rename(workdir / "best")
    with pytest.raises(jaxnets.UserError, match=r"a run of jaxnets\.train"):
        torch_ref.train.main(args)
