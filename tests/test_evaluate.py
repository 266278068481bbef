"""jaxnets.evaluate on checkpoints with random weights: ensembles, splits, classes."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from jaxnets.data import load_dataset, split_validation
from jaxnets.data.identity import identity
from jaxnets.evaluate import evaluate
from jaxnets.inference.network import load_member
from jaxnets.runs.workdir import read_config
from tests.fake_run import NAMES, direct_logits, fake_run, softmax

DIGITS = load_dataset("digits")
VAL = 0.2


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs with validation splits, and their states."""
    folder = tmp_path_factory.mktemp("runs")
    options = {"meta": {"selected_on": "val"}, "probe": DIGITS.train_images[:99]}
    states = [
        fake_run(folder / name, 0, data__val_fraction=VAL, data__mean=mean, **options)
        for name, mean in {"a": (0.3, 0.3, 0.3), "b": (0.6, 0.5, 0.1)}.items()
    ]
    return [(folder / "a", states[0]), (folder / "b", states[1])]


def figures(probabilities: np.ndarray, labels: np.ndarray) -> dict:
    top5 = np.argsort(-probabilities, 1)[:, :5]
    return {
        "n": len(labels),
        "loss": pytest.approx(-np.log(probabilities[range(len(labels)), labels]).mean(), rel=1e-5),
        "accuracy": pytest.approx((probabilities.argmax(1) == labels).mean()),
        "top5": pytest.approx((top5 == labels[:, None]).any(1).mean()),
    }


def probabilities(run, images: np.ndarray) -> np.ndarray:
    return softmax(direct_logits(*run, images))


def having(metrics: dict, wanted: dict) -> dict:
    return {key: metrics[key] for key in wanted}


def test_a_run_with_a_validation_split_reports_both(runs, command):
    workdir = runs[0][0]
    result = command("jaxnets.evaluate", "--workdir", workdir)
    assert result.code == 0, result.err
    metrics = json.loads((workdir / "report" / "metrics.json").read_text())
    test = figures(probabilities(runs[0], DIGITS.test_images), DIGITS.test_labels)
    data = split_validation(DIGITS, VAL, seed=0)
    val = figures(probabilities(runs[0], data.val_images), data.val_labels)
    assert having(metrics, test) == test
    assert metrics["val"] == val
    assert test["accuracy"] != val["accuracy"]
    assert (metrics["split"], metrics["selected_on"]) == ("test", "val")
    assert f"validation split of {val['n']} images" in result.out

    kept = (workdir / "report" / "metrics.json").read_bytes()
    assert command("jaxnets.evaluate", "--workdir", workdir, "--split", "val").code == 0
    assert (workdir / "report" / "metrics.json").read_bytes() == kept
    metrics = json.loads((workdir / "report-val" / "metrics.json").read_text())
    assert having(metrics, val) == val
    assert "val" not in metrics
    assert (metrics["split"], metrics["selected_on"]) == ("val", "val")


def test_figures_stand_with_and_without_views(runs, command, tmp_path):
    workdir, images = runs[0][0], DIGITS.test_images
    output = tmp_path / "report"
    result = command("jaxnets.evaluate", "--workdir", workdir, "--tta", "flip", "--output", output)
    assert result.code == 0, result.err
    metrics = json.loads((output / "metrics.json").read_text())
    plain, mirrored = (direct_logits(*runs[0], x) for x in (images, images[:, :, ::-1]))
    without = figures(softmax(plain), DIGITS.test_labels)
    views = figures(softmax((plain + mirrored) / 2), DIGITS.test_labels)
    assert having(metrics, without) == without
    assert metrics["tta"] == {"kind": "flip"} | views
    assert without["loss"] != views["loss"]
    assert result.out.count("without test-time augmentation\n") == 1
    assert result.out.count("with --tta flip\n") == 1
    both = command("jaxnets.evaluate", "--workdir", workdir, runs[1][0], "--tta", "flip_translate")
    assert "ensemble   without test-time augmentation\n" in both.out
    assert "with --tta flip_translate\n" in both.out


def test_selected_on(runs, tmp_path):
    workdir = runs[0][0]
    config = read_config(workdir)
    assert evaluate(config, workdir, "best")["selected_on"] == "val"
    assert evaluate(config, workdir, "last")["selected_on"] is None
    fake_run(tmp_path / "old")  # before checkpoints said it
    old = evaluate(read_config(tmp_path / "old"), tmp_path / "old", "best")
    assert old["selected_on"] == "test"
    assert "val" not in old


def test_other_data_than_it_was_trained_with(tmp_path, command, refused):
    """Other test images are welcome, and noted; what may have been trained on validates nothing."""
    known = identity(split_validation(DIGITS, VAL, seed=0))
    for split in ("test", "train"):
        workdir = tmp_path / split
        before = known | {split: known[split] | {"images": 7}}
        meta = {"selected_on": "val", "data": before}
        fake_run(workdir, meta=meta, data__val_fraction=VAL)
        result = command("jaxnets.evaluate", "--workdir", workdir)
        assert result.code == 0
        change = f"{split} images 7 -> {known[split]['images']:,}"
        assert f"note: not the data that {workdir} was trained with: {change}\n" in result.err
        metrics = json.loads((workdir / "report" / "metrics.json").read_text())
        assert metrics["data_changed"] == [change]
        assert ("val" in metrics) == (split == "test")
    said = refused("jaxnets.evaluate", "--workdir", tmp_path / "train", "--split", "val")
    assert "may have been trained on images of this split" in said
    assert command("jaxnets.evaluate", "--workdir", tmp_path / "test", "--split", "val").code == 0


def test_an_ensemble(runs, tmp_path, command):
    workdirs = [workdir for workdir, _ in runs]
    before = [sorted(workdir.rglob("*")) for workdir in workdirs]
    result = command("jaxnets.evaluate", "--workdir", *workdirs, "--output", tmp_path / "both")
    assert result.code == 0, result.err
    assert [sorted(workdir.rglob("*")) for workdir in workdirs] == before
    metrics = json.loads((tmp_path / "both" / "metrics.json").read_text())
    each = [probabilities(run, DIGITS.test_images) for run in runs]
    both = figures(np.mean(each, 0), DIGITS.test_labels)
    assert having(metrics, both) == both
    alone = [figures(p, DIGITS.test_labels) for p in each]
    assert [having(member, alone[0]) for member in metrics["members"]] == alone
    assert [member["workdir"] for member in metrics["members"]] == list(map(str, workdirs))
    assert len({f["loss"].expected for f in (*alone, both)}) == 3
    assert metrics["selected_on"] == "val"
    data = split_validation(DIGITS, VAL, seed=0)
    val = np.mean([probabilities(run, data.val_images) for run in runs], 0)
    assert metrics["val"] == figures(val, data.val_labels)
    for member in metrics["members"]:
        assert f"accuracy {member['accuracy']:.2%}" in result.out
    assert f"accuracy {metrics['accuracy']:.2%}   top-5 {metrics['top5']:.2%}   en" in result.out
    assert (tmp_path / "both" / "confusion.png").exists()


def test_an_ensemble_writes_only_where_told(runs, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(runs[0][0].parent.rglob("*"))
    result = command("jaxnets.evaluate", "--workdir", *(workdir for workdir, _ in runs))
    assert result.code == 0
    assert "--output" in result.out
    assert sorted(runs[0][0].parent.rglob("*")) == before
    assert list(tmp_path.iterdir()) == []


def test_members_of_different_splits(runs, tmp_path, command, refused):
    """What one was validated on another was trained on."""
    fake_run(tmp_path / "c", 1, meta={"selected_on": "test"}, data__val_fraction=VAL)
    args = ("--workdir", runs[0][0], tmp_path / "c", "--output", tmp_path / "both")
    assert "splits differ" in refused("jaxnets.evaluate", *args, "--split", "val")
    assert not (tmp_path / "both").exists()
    assert command("jaxnets.evaluate", *args).code == 0
    metrics = json.loads((tmp_path / "both" / "metrics.json").read_text())
    assert "val" not in metrics
    assert metrics["selected_on"] == "test"


@pytest.mark.parametrize(
    ("options", "args", "hint"),
    [
        ({}, ["--split", "val"], "without a validation split"),
        ({"names": ("zero", *NAMES[1:])}, [], "class 0 is 'zero' and '0'"),
        ({"names": NAMES[:9]}, [], "9 and 10"),
        ({"names": (*NAMES, "10")}, [], "11 and 10"),
        ({"names": None, "model__num_classes": 9}, [], "9 and 10"),
        ({}, ["--split", "train"], "unknown --split 'train'. Known: test, val"),
        ({}, ["--output", "x/config.json/a"], "config.json is no folder"),
    ],
)
def test_what_does_not_fit_is_one_line(options, args, hint, tmp_path, refused, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fake_run(tmp_path / "x", **options)
    assert hint in refused("jaxnets.evaluate", "--workdir", tmp_path / "x", *args)
    assert not (tmp_path / "x" / "report").exists()


def test_members_of_different_data(runs, tmp_path, refused):
    fake_run(tmp_path / "x", data__name="cifar10", data__val_fraction=VAL)
    err = refused("jaxnets.evaluate", "--workdir", runs[0][0], tmp_path / "x")
    assert "trained on different data" in err


def test_figures_of_another_step_are_noted(tmp_path, command):
    """As beside a page of a best checkpoint that since was bettered."""
    fake_run(tmp_path / "x")
    folder = tmp_path / "x" / "report"
    folder.mkdir()
    for content, noted in (('[{"step": 9}]', True), ('[{"step": 1}]', False), ("[]", False)):
        (folder / "summary.json").write_text(content)
        result = command("jaxnets.evaluate", "--workdir", tmp_path / "x")
        assert result.code == 0
        assert ("jaxnets.report wrote there is of step 9" in result.err) == noted


@pytest.mark.parametrize(
    "log", ["", '{"step": 1, "epoch": 1, "eval/accu', '{"step": 1, "epoch": [1]}']
)
def test_a_log_without_curves_costs_only_their_figure(log, tmp_path, command):
    """As of a run that was stopped in its first epoch, or whose log was damaged."""
    fake_run(tmp_path / "x")
    (tmp_path / "x" / "metrics.jsonl").write_text(log)
    result = command("jaxnets.evaluate", "--workdir", tmp_path / "x")
    assert result.code == 0, result.err
    written = {path.name for path in (tmp_path / "x" / "report").iterdir()}
    assert written == {"metrics.json", "confusion.png"}


def test_a_log_that_is_no_file_is_found_before_anything_is_written(tmp_path, refused):
    fake_run(tmp_path / "x")
    os.mkfifo(tmp_path / "x" / "metrics.jsonl")
    assert "metrics.jsonl" in refused("jaxnets.evaluate", "--workdir", tmp_path / "x")
    assert not (tmp_path / "x" / "report").exists()


def test_a_run_twice_is_no_ensemble(runs, tmp_path, refused, monkeypatch):
    workdir = runs[0][0]
    (tmp_path / "link").symlink_to(workdir)
    monkeypatch.chdir(tmp_path)
    for again in (workdir, "link"):
        err = refused("jaxnets.evaluate", "--workdir", workdir, again)
        assert f"--workdir {again}: the same run twice" in err


def test_a_member_knows_its_checkpoint(runs):
    best, last = (load_member(runs[0][0], which) for which in ("best", "last"))
    assert (best.step, best.is_best, best.class_names) == (1, True, NAMES)
    assert (last.step, last.is_best, last.workdir) == (2, False, Path(runs[0][0]))
