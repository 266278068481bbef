"""Runs of the real trainers that change the framework half-way, and bad files that want to."""

import json
import resource
import shutil
import signal
from pathlib import Path

import jax
import numpy as np
import pytest
import torch
from helpers import few_digits, little_effort

import jaxnets.train.__main__
import jaxnets.train.task
import torch_ref.loop
import torch_ref.train
from jaxnets import config as configs
from jaxnets.data.identity import identity
from jaxnets.errors import UserError
from jaxnets.port import load, orbax
from jaxnets.port import weights as port_weights
from jaxnets.port.__main__ import main as port
from jaxnets.port.runs import convert
from jaxnets.port.runs.convert import compare_runs
from jaxnets.port.runs.read import read
from jaxnets.port.verify import Differences
from jaxnets.runs.log import read_rows
from jaxnets.runs.workdir import read_config
from jaxnets.train import loop
from tests.conftest import command, refused  # noqa: F401 - fixtures
from tests.stopping import stop_after

CONFIG = str(Path(__file__).parents[1] / "tests" / "tiny_config.py")
# 80 images: two steps an epoch.  No dropout: each framework draws its own masks.
COMMON = (
    *("--config", CONFIG, "--config.batch_size=40", "--config.dtype=float64"),
    *("--config.model.drop=0", "--config.optim.lookahead.k=2", "--config.augment.ops=('crop',)"),
)


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Few images, and programs that are compiled quickly."""
    few = few_digits(80)
    with little_effort() as patch:
        for module in (jaxnets.train.task, torch_ref.train):
            patch.setattr(module, "load", lambda *_, **__: few)
        # In every thread, not in this one alone as for all tests here: steps compile side by side.
        jax.config.update("jax_enable_x64", True)
        yield
        jax.config.update("jax_enable_x64", False)


def train(trainer, workdir: Path, *args: str, stop_at: int | None = None) -> None:
    """Runs a trainer in `workdir`; `stop_at`: until it was asked so often whether to stop."""
    with pytest.MonkeyPatch.context() as patch:
        if stop_at is not None:
            for module in (loop, torch_ref.loop):
                patch.setattr(module, "StopSignal", stop_after(stop_at))
        code = trainer.main([*COMMON, f"--workdir={workdir}", *args])
    assert code == (0 if stop_at is None else 128 + signal.SIGTERM)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory) -> Path:
    """A run of jaxnets.train that was stopped within its second epoch."""
    workdir = tmp_path_factory.mktemp("stopped") / "jax"
    train(jaxnets.train.__main__, workdir, stop_at=4)
    return workdir


@pytest.fixture(scope="module")
def stopped_twin(stopped, tmp_path_factory) -> Path:
    """The same by torch_ref.train, from the same weights."""
    folder = tmp_path_factory.mktemp("twin")
    config = configs.read(COMMON[1], COMMON[2:])
    start = jaxnets.port.to_torch(jaxnets.train.task.build_model(config, 10)).state_dict()
    torch.save(start, folder / "start.pt")
    train(torch_ref.train, folder / "torch", f"--init={folder / 'start.pt'}", stop_at=4)
    return folder / "torch"


@pytest.fixture
def unverified(monkeypatch):
    """Leaves out the logits, which take most of a port's time."""
    none = Differences(0, 0, 1, "not computed")
    monkeypatch.setattr(convert, "differences", lambda *_, **__: none)
    monkeypatch.setattr(port_weights, "differences", lambda *_, **__: none)


@pytest.fixture(scope="module")
def whole(stopped, tmp_path_factory) -> Path:
    """The stopped run, gone on with in JAX."""
    workdir = tmp_path_factory.mktemp("whole") / "jax"
    shutil.copytree(stopped, workdir)
    train(jaxnets.train.__main__, workdir)
    return workdir


def weights(path: Path) -> dict[str, np.ndarray]:
    return load(path, "last") if path.is_dir() else load(path)


def assert_same_run(workdir: Path, whole: Path, last: Path) -> None:
    """Weights within 1e-10, and one log of the same epochs."""
    got, want = weights(last), weights(whole)
    assert got.keys() == want.keys()
    for name, value in want.items():
        assert np.abs(got[name] - value).max() <= 1e-10 * max(1, np.abs(value).max()), name
    rows, others = (read_rows(w / "metrics.jsonl") for w in (workdir, whole))
    assert [row["step"] for row in rows] == [2, 4, 6]
    for row, other in zip(rows, others, strict=True):
        assert row.keys() == other.keys()
        for key in row.keys() - {"seconds", "images_per_second"}:
            assert row[key] == pytest.approx(other[key], rel=1e-5), key


def test_begun_in_jax_ended_in_pytorch(stopped, whole, tmp_path, capsys):
    workdir = tmp_path / "torch"
    assert port([str(stopped), str(workdir / "last.pt"), "--with-optimizer"]) == 0
    out = capsys.readouterr().out
    assert "at step 3" in out
    assert "the best one, of step 2" in out
    assert {p.name for p in workdir.iterdir()} == {
        "config.json",
        "last.pt",
        "best.pt",
        "metrics.jsonl",
    }
    train(torch_ref.train, workdir)
    assert "resuming" in capsys.readouterr().out
    assert_same_run(workdir, whole, workdir / "last.pt")


def test_begun_in_pytorch_ended_in_jax(stopped_twin, whole, tmp_path, capsys):
    workdir = tmp_path / "jax"
    assert port([str(stopped_twin), str(workdir), "--with-optimizer"]) == 0
    assert "python -m jaxnets.train --workdir" in capsys.readouterr().out
    assert read(workdir, "best").run.step == 2
    train(jaxnets.train.__main__, workdir)
    assert "resuming" in capsys.readouterr().out
    assert_same_run(workdir, whole, workdir)


def test_there_and_back_is_the_same_run(stopped, stopped_twin, tmp_path, unverified):
    """Through the other framework, every array, number and note."""
    port([str(stopped), str(tmp_path / "a" / "last.pt"), "--with-optimizer"])
    port([str(tmp_path / "a"), str(tmp_path / "b"), "--with-optimizer"])
    port([str(stopped_twin / "last.pt"), str(tmp_path / "c"), "--with-optimizer"])
    port([str(tmp_path / "c"), str(tmp_path / "d.pt"), "--with-optimizer"])
    for first, last in ((stopped, tmp_path / "b"), (stopped_twin / "last.pt", tmp_path / "d.pt")):
        a, b = read(first).run, read(last).run
        compare_runs(b, a._replace(rest={**a.rest, "acc": b.rest["acc"]}))
    rows = read_rows(stopped / "metrics.jsonl")
    assert read(tmp_path / "b").run.rest["acc"] == 100 * rows[-1]["eval/accuracy"]
    assert (tmp_path / "b" / "metrics.jsonl").read_text() == (stopped / "metrics.jsonl").read_text()


def test_the_identity_of_the_data_goes_along(stopped, stopped_twin, tmp_path, unverified):
    """Both trainers note the same of the same data, and refuse another, ported or not."""
    port([str(stopped), str(tmp_path / "torch" / "last.pt"), "--with-optimizer"])
    port([str(stopped_twin), str(tmp_path / "jax"), "--with-optimizer"])
    shutil.copytree(stopped, tmp_path / "own")
    shutil.copytree(stopped_twin, tmp_path / "twin")
    data = jaxnets.train.task.load()
    assert read(stopped).run.rest["data"] == identity(data)
    assert read(stopped_twin / "last.pt").run.rest["data"] == identity(data)
    labels = data.train_labels.copy()
    labels[7] = (labels[7] + 1) % 10
    other = data._replace(train_labels=labels)
    ours, twin = jaxnets.train.__main__, torch_ref.train
    for name, trainer in (("torch", twin), ("twin", twin), ("jax", ours), ("own", ours)):
        workdir = tmp_path / name
        before = {p: p.read_bytes() for p in workdir.rglob("*") if p.is_file()}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch_ref.train, "load", lambda *_, **__: other)
            patch.setattr(jaxnets.train.task, "load", lambda *_, **__: other)
            with pytest.raises(UserError, match=f"{name} holds a run on other data .*: labels of"):
                train(trainer, workdir)
        assert {p: p.read_bytes() for p in workdir.rglob("*") if p.is_file()} == before


def test_a_workdir_that_trained_nothing_is_taken_over(stopped, tmp_path, unverified):
    workdir = tmp_path / "x"
    workdir.mkdir()
    config = json.loads((stopped / "config.json").read_text())
    (workdir / "config.json").write_text(json.dumps({**config, "seed": 7}))
    (workdir / "metrics.jsonl").touch()
    assert port([str(stopped), str(workdir / "last.pt"), "--with-optimizer"]) == 0
    assert read_config(workdir).seed == 0
    assert (workdir / "metrics.jsonl").read_text() == (stopped / "metrics.jsonl").read_text()


def test_a_run_of_the_twin_is_made_longer(tmp_path, capsys):
    schedule = ("--config.schedule.name=multistep", "--config.schedule.milestones=1,2")
    train(torch_ref.train, tmp_path / "one", *schedule, "--config.num_epochs=2")
    train(torch_ref.train, tmp_path / "one", *schedule)
    assert "resuming" in capsys.readouterr().out
    train(torch_ref.train, tmp_path / "whole", *schedule)
    one, whole = (load(tmp_path / name / "last.pt") for name in ("one", "whole"))
    assert all(np.array_equal(one[name], value) for name, value in whole.items())
    assert read_config(tmp_path / "one").num_epochs == 3


def test_a_workdir_that_exists(stopped, tmp_path, refused, command, unverified):  # noqa: F811
    workdir = tmp_path / "x"
    shutil.copytree(stopped, workdir)
    args = (stopped, workdir / "last.pt", "--with-optimizer")
    assert "a run of jaxnets.train" in refused("jaxnets.port.__main__", *args)
    assert sorted(p.name for p in workdir.iterdir()) == sorted(p.name for p in stopped.iterdir())
    assert "exists" in refused("jaxnets.port.__main__", stopped, workdir, "--with-optimizer")
    args = (stopped, workdir, "--with-optimizer", "--force")
    assert "holds more" in refused("jaxnets.port.__main__", *args)

    workdir = tmp_path / "y"
    workdir.mkdir()
    (workdir / "notes.txt").write_text("mine")
    args = (stopped, workdir / "last.pt", "--with-optimizer")
    assert command("jaxnets.port.__main__", *args).code == 0
    assert (workdir / "notes.txt").read_text() == "mine"
    assert "exists" in refused("jaxnets.port.__main__", *args)
    assert command("jaxnets.port.__main__", *args, "--force").code == 0
    config = json.loads((workdir / "config.json").read_text())
    (workdir / "config.json").write_text(json.dumps({**config, "seed": 7}))
    assert "another configuration" in refused("jaxnets.port.__main__", *args, "--force")
    assert sorted(p.name for p in workdir.iterdir()) == [
        *("best.pt", "config.json", "last.pt", "metrics.jsonl", "notes.txt"),
    ]


def first_state(content):
    return content["optimizer"]["optimizer"]["optimizer"]["state"]


def drop(*path):
    def change(content):
        for key in path[:-1]:
            content = content[key]
        del content[path[-1]]

    return change


def spoil_config(**changes):
    def change(content):
        for key, value in changes.items():
            content["config"]["optim"][key] = value

    return change


def reshape_one(content):
    first_state(content)[0]["momentum_buffer"] = torch.zeros(7, dtype=torch.float64)


def fewer(content):
    content["optimizer"]["optimizer"]["optimizer"]["param_groups"][0]["params"].pop()


def another_net(content):
    content["net"] = {k: v for k, v in content["net"].items() if not k.startswith("linear")}


def nan(content):
    first_state(content)[1]["momentum_buffer"][0] = float("nan")


def single(content):
    state = first_state(content)
    state[0]["momentum_buffer"] = state[0]["momentum_buffer"].float()


def unknown_kind(content):
    first_state(content)[0]["square_avg"] = torch.zeros(1)


def no_slow(content):
    content["optimizer"]["optimizer"]["slow"].pop()


def other_step(content):
    content["step"] += 1


def garbage(content):
    content["optimizer"] = {"state": [1, 2], "param_groups": "ab"}


def two_groups(content):
    content["optimizer"]["optimizer"]["optimizer"]["param_groups"] *= 2


BAD = {
    "optimizer of another kind": (spoil_config(name="adam"), "SGD's (momentum_buffer), but"),
    "no optimizer": (drop("optimizer"), "holds no optimizer"),
    "no Lookahead": (lambda c: spoil_config(lookahead={"enabled": False})(c), "slow weights"),
    "shape": (reshape_one, "momentum_buffer of its optimizer"),
    "parameters": (fewer, "parameters, the model"),
    "another net": (another_net, "- linear.weight"),
    "a state is missing": (lambda c: first_state(c).pop(3), "1 missing"),
    "NaN": (nan, "NaN or infinite"),
    "dtype": (single, "float32, not float64"),
    "unknown moments": (unknown_kind, "keeps 'square_avg'"),
    "slow weights": (no_slow, "slow weights, the model"),
    "steps": (other_step, "at steps 3, 4 at once"),
    "garbage": (garbage, "not recognised"),
    "groups": (two_groups, "not recognised"),
    "totals": (lambda c: c.update(totals=[1, 2]), "five sums"),
    "progress": (drop("progress"), "progress"),
    "precision": (lambda c: c["config"].update(dtype="float32"), "trains in float32"),
    "no section": (lambda c: c["config"].update(optim=3), "cannot be read (optim is 3)"),
    "no type": (lambda c: c["config"].update(dtype=[1]), "cannot be read (dtype is [1])"),
    "no number": (lambda c: c["config"].update(num_epochs="x"), "configuration cannot be read"),
    "rate": (lambda c: c["config"]["optim"].update(lr="x"), "cannot be read (optim.lr is x)"),
    "configuration": (lambda c: c["config"].update(model={"name": "x"}), "unknown model 'x'"),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_file_is_one_line_and_no_output(bad, stopped_twin, tmp_path, command):  # noqa: F811
    change, message = BAD[bad]
    content = torch.load(stopped_twin / "last.pt", weights_only=True)
    change(content)
    torch.save(content, tmp_path / "a.pt")
    for dst in ("out", "x/last.pt"):
        done = command(
            "jaxnets.port.__main__", tmp_path / "a.pt", tmp_path / dst, "--with-optimizer"
        )
        assert done.code == 2
        first, *details = done.err.splitlines()
        assert first.startswith(f"error: {tmp_path / 'a.pt'}: ")
        assert message in first
        assert all(line[:2] in ("- ", "+ ", "~ ") for line in details)
    assert [p.name for p in tmp_path.iterdir()] == ["a.pt"]


def test_bad_commands(stopped, tmp_path, refused, unverified):  # noqa: F811
    def refuse(*args):
        return refused("jaxnets.port.__main__", *args)

    to = tmp_path / "x"
    with_optimizer = "--with-optimizer"
    assert "weights only" in refuse(stopped, tmp_path / "a.safetensors", with_optimizer)
    assert "no folder" in refuse(stopped, tmp_path / "n" / "x" / "last.pt", with_optimizer)
    assert "a run keeps" in refuse(stopped, to, with_optimizer, "--dtype", "float32")
    assert "a run has its own" in refuse(stopped, to, with_optimizer, "--step", "3")
    assert "--config" in refuse(stopped, to, "--config.seed=3", with_optimizer)
    assert "add --with-optimizer" in refuse(stopped, to, "--step", "3")
    assert "no checkpoint 77" in refuse(stopped, to, with_optimizer, "--checkpoint", "77")
    port([str(stopped), str(tmp_path / "weights")])
    assert "weights only" in refuse(
        *(tmp_path / "weights", to, with_optimizer, "--checkpoint", "best")
    )
    assert [p.name for p in tmp_path.iterdir()] == ["weights"]


@pytest.mark.parametrize("dst", ["new", "new/last.pt", "old/last.pt", "a.pt"])
def test_a_full_disk_leaves_the_destination(dst, stopped, tmp_path, refused):  # noqa: F811
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "last.pt").write_text("mine")
    (tmp_path / "a.pt").write_text("mine")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, limits[1]))
    try:
        args = (stopped, tmp_path / dst, "--with-optimizer", "--force")
        assert "cannot be written" in refused("jaxnets.port.__main__", *args)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")) == [
        *("a.pt", "old", "old/last.pt"),
    ]
    assert (tmp_path / "old" / "last.pt").read_text() == (tmp_path / "a.pt").read_text() == "mine"


def test_the_configuration_in_a_file_says_the_model(stopped_twin, tmp_path, command, unverified):  # noqa: F811
    content = torch.load(stopped_twin / "last.pt", weights_only=True)
    content["config"]["model"]["drop"] = 0.25  # which weights do not show
    torch.save(content, tmp_path / "a.pt")
    done = command("jaxnets.port.__main__", tmp_path / "a.pt", tmp_path / "out")
    assert done.code == 0, done.err
    assert "drop=0.25" in done.out
    assert "(from the configuration in it)" in done.out
    assert orbax.read_model(tmp_path / "out").options["drop"] == 0.25
    # A configuration of somebody else's says nothing.
    for config in ({"model": "se_resnet"}, {"model": {"name": "mine"}}, [1], {"lr": 0.1}):
        torch.save({**content, "config": config}, tmp_path / "a.pt")
        done = command("jaxnets.port.__main__", tmp_path / "a.pt", tmp_path / "out", "--force")
        assert "(from names and shapes)" in done.out, done.err
