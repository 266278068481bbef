"""Rows of RESULTS.md out of logs."""

import json
import shutil
from pathlib import Path

import pytest

from jaxnets import config as configs
from jaxnets.results.summary import markdown, summarize
from tests.test_train import CONFIG, trained  # noqa: F401


@pytest.fixture
def run(tmp_path):
    """Writes the folder of a run of two epochs with these accuracies."""

    def make(name, seed, accuracies, val=(), **overrides):
        args = [f"--config.{key}={value}" for key, value in overrides.items()]
        config = configs.read(
            str(CONFIG), [f"--config.seed={seed}", "--config.num_epochs=2", *args]
        )
        workdir = tmp_path / name
        workdir.mkdir()
        (workdir / "config.json").write_text(configs.to_json(config))
        rows = [
            {"step": 4 * i, "epoch": i, "eval/accuracy": accuracy, "seconds": 10.0 * i}
            for i, accuracy in enumerate(accuracies, 1)
        ]
        for row, accuracy in zip(rows, val, strict=False):
            row["val/accuracy"] = accuracy
        (workdir / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
        return workdir

    return make


def test_seeds_share_a_row_and_other_configurations_do_not(run):
    runs = [run("a", 0, (0.9, 0.8)), run("b", 1, (0.7, 0.9)), run("c", 0, (0.5, 0.5), batch_size=9)]
    rows = summarize(runs)
    assert [row["n"] for row in rows] == [2, 1]
    assert rows[0]["last"]["mean"] == pytest.approx(85)
    assert rows[0]["last"]["sd"] == pytest.approx(50**0.5)
    half = 12.7062 * 50**0.5 / 2**0.5  # Student's t of one degree, two runs
    middle = rows[0]["last"]["mean"]
    assert rows[0]["last"]["interval"] == pytest.approx([middle - half, middle + half], rel=1e-5)
    assert rows[0]["best"]["values"] == pytest.approx([90, 90])
    assert rows[1]["last"]["sd"] is None
    assert rows[1]["last"]["interval"] is None
    assert (
        "| 85.00 ± 7.07 % | 21.47 to 148.53 % | 90.00 ± 0.00 % (chosen on test) | 20 ± 0 |"
        in markdown(rows)
    )


def test_best_is_the_test_accuracy_where_validation_was_best(run):
    (row,) = summarize([run("a", 0, (0.9, 0.8), val=(0.5, 0.6))])
    assert row["selected_on"] == "val"
    assert row["best"]["mean"] == pytest.approx(80)
    assert "chosen on test" not in markdown([row])


def test_the_seconds_to_a_target(run):
    rows = summarize(
        [run("a", 0, (0.7, 0.8)), run("b", 1, (0.9, 0.8)), run("c", 2, (0.1, 0.1))], 80
    )
    assert rows[0]["to_target"]["values"] == [20, 10]
    assert "| 15.0 ± 7.1 s (2 of 3) |" in markdown(rows, 80)


def test_an_unfinished_run_says_so(run):
    assert "| 1 of 2 |" in markdown(summarize([run("a", 0, (0.7,))]))


def test_rows_that_lack_a_figure_are_left_out(run):
    """As of a log that was damaged."""
    workdir = run("a", 0, (0.9, 0.8), val=(0.5, 0.6))
    bad = ({"step": 9}, {"step": 9, "epoch": 3, "seconds": 1, "eval/accuracy": None},
           {"step": 9, "epoch": 3, "seconds": 1, "eval/accuracy": 1.0},
           {"step": 9, "epoch": None, "seconds": 1, "eval/accuracy": 1.0})  # fmt: skip
    with open(workdir / "metrics.jsonl", "a") as log:
        log.writelines(json.dumps(row) + "\n" for row in bad)
    (row,) = summarize([workdir])
    assert (row["epochs_done"], row["last"]["mean"]) == (2, pytest.approx(80))


def test_a_run_named_twice_counts_once(run, command, monkeypatch):
    """By the same path, another one, a link, and as a copy; but not another run of its seed."""
    a, b = run("a", 0, (0.9, 0.8)), run("b", 1, (0.7, 0.9))
    monkeypatch.chdir(a.parent)
    shutil.copytree(a, "copy")
    Path("link").symlink_to(a)
    result = command("jaxnets.results", a, b, a, "a", "./b/../a", "link", "copy", "--json")
    (row,) = json.loads(result.out)["rows"]
    assert (row["n"], row["workdirs"]) == (2, [str(a), str(b)])
    assert result.err.splitlines() == [
        f"note: {again} is the same run as {a}; counted once"
        for again in (a, "a", "b/../a", "link", "copy")
    ]
    assert summarize([a, a])[0]["n"] == 1
    again = run("again", 0, (0.9, 0.8))
    log = again / "metrics.jsonl"
    log.write_text(log.read_text().replace('"seconds": 10.0', '"seconds": 10.5'))
    assert command("jaxnets.results", a, again).err == ""
    assert summarize([a, again])[0]["n"] == 2


def test_a_real_run(trained, command):  # noqa: F811
    result = command("jaxnets.results", trained, "--json")
    (row,) = json.loads(result.out)["rows"]
    assert row["parameters"] > 0
    assert row["versions"].keys() >= {"jax", "flax", "python"}
    assert "cores" in row["hardware"]
    assert row["command"].startswith("python -m jaxnets.train --config")
    assert command("jaxnets.results", trained).out.count("|") > 20


def test_mistakes(tmp_path, refused, run):
    assert "no config.json" in refused("jaxnets.results", tmp_path)
    assert "no finished epoch" in refused("jaxnets.results", run("a", 0, ()))
