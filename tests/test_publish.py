"""jaxnets.results --publish on a run with random weights."""

import json
import shutil

import pytest

import jaxnets
from jaxnets import evaluate
from jaxnets.pretrained import index
from jaxnets.results import publish
from jaxnets.runs.workdir import read_config
from tests.fake_run import fake_run
from tests.runs import ROOT

START = {
    "command": "python -m jaxnets.train --config configs/x.py --config.seed=0",
    "hardware": "an abacus",
    "versions": {"jax": "9"},
    "commit": "c0ffee",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the index lies, instead of the project's; empty."""
    made = tmp_path / "weights"
    made.mkdir()
    monkeypatch.setattr(index, "folder", lambda: made)
    return made


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that was cut after the second of its three epochs, the first of which was the best."""
    workdir = tmp_path_factory.mktemp("runs") / "run"
    fake_run(workdir)  # best/1 and checkpoints/2
    figures = evaluate.headline(read_config(workdir), workdir, "last")
    rows = [
        {"step": 1, "epoch": 1, "eval/accuracy": 0.9, "eval/loss": 1.0},
        {"step": 2, "epoch": 2, "eval/accuracy": figures["accuracy"], "eval/loss": 1.0},
    ]
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (workdir / "starts.jsonl").write_text(json.dumps(START) + "\n")
    return workdir, figures


@pytest.fixture
def run(whole, tmp_path):
    """A copy of it, and its test figures."""
    return shutil.copytree(whole[0], tmp_path / "run"), whole[1]


def test_a_run_that_was_cut(run, folder, command):
    workdir, figures = run
    result = command("jaxnets.results", workdir, "--publish", "digits_tiny")
    assert result.code == 0, result.err
    assert f"epoch 2 of 3; accuracy {figures['accuracy']:.2%} of 359 test images" in result.out
    entry = index.entry("digits_tiny")
    record = entry.record
    assert (record["epoch"], record["epochs"], record["finished"]) == (2, 3, False)
    assert record["selected_on"] is None
    assert record["best"] == {"epoch": 1, "accuracy": 0.9, "selected_on": "test"}
    assert (record["commit"], record["seed"], record["recipe"]) == ("c0ffee", 0, "configs/x.py")
    assert record["versions"] == START["versions"]
    assert f'license = "{record["license"]}"' in (ROOT / "pyproject.toml").read_text()
    for key in ("n", "loss", "accuracy", "top5", "ece"):
        assert record["test"][key] == pytest.approx(figures[key], abs=1e-6)
    assert record["first_1000"] == record["test"]  # there are fewer
    assert entry.size == (folder / "digits_tiny.safetensors").stat().st_size
    assert jaxnets.create_model(entry.model, pretrained="digits_tiny").conv1 is not None


def test_the_best_says_what_chose_it(run, folder):
    publish.publish(run[0], "best", "best")
    assert index.entry("best").record["selected_on"] == "test"
    assert index.entry("best").record["epoch"] == 1
    assert jaxnets.port.read_weights("best").meta["selected_on"] == "test"


def test_what_is_not_published(run, folder, refused, monkeypatch, tmp_path):
    workdir, _ = run
    publish.publish(workdir, "there")
    before = {path: path.read_bytes() for path in folder.iterdir()}

    def no(*args: object) -> str:
        said = refused("jaxnets.results", *args)
        assert {path: path.read_bytes() for path in folder.iterdir()} == before
        return said

    assert "is there already; --force" in no(workdir, "--publish", "there")
    assert "a name has small letters" in no(workdir, "--publish", "../up")
    assert "one workdir" in no(workdir, workdir, "--publish", "new")
    assert "about --publish" in no(workdir, "--commit", "abc")
    assert "no config.json there" in no(tmp_path, "--publish", "new")
    assert "no checkpoint" in no(workdir, "--publish", "new", "--checkpoint", "77")
    monkeypatch.setattr(publish, "_MOST", 10)
    assert "MB in all" in no(workdir, "--publish", "new")
    (workdir / "starts.jsonl").unlink()
    assert "name it by --commit" in no(workdir, "--publish", "new")


def test_a_step_within_an_epoch_is_not_published(run, folder, refused):
    log = run[0] / "metrics.jsonl"
    log.write_text(log.read_text().splitlines()[0] + "\n")
    said = refused("jaxnets.results", run[0], "--publish", "new")
    assert "step 2 is not the end of an epoch in its log" in said
    assert not list(folder.iterdir())
