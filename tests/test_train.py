"""Training, evaluation and resuming, end to end on a tiny network."""

import fcntl
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jaxnets.checkpoints import store
from jaxnets.runs.log import read_rows
from jaxnets.train import loop
from tests.runs import assert_same_run
from tests.runs import rows as rows_of
from tests.stopping import stop_after

CONFIG = str(Path(__file__).parent / "tiny_config.py")
STEPS = 4  # an epoch: 1438 images in batches of 400, the last of 238
WITHOUT_OPTIONAL = """
import sys

class Absent:
    def find_spec(self, name, *_):
        if name in {"torch", "tensorflow_datasets", "tensorboardX", "matplotlib", "PIL"}:
            raise ImportError(name)

sys.meta_path.insert(0, Absent())
from jaxnets import cli
from jaxnets.train import __main__ as train
cli.run(train.main)
"""
TAGS = {"train/loss", "train/accuracy", "eval/loss", "eval/accuracy", "lr", "grad_norm"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """The workdir of a finished run."""
    from jaxnets.train import __main__ as train

    workdir = tmp_path_factory.mktemp("runs") / "tiny"
    assert train.main(["--config", CONFIG, "--workdir", str(workdir)]) == 0
    return workdir


def test_workdir_holds_log_checkpoints_and_configuration(trained):
    rows = read_rows(trained / "metrics.jsonl")
    assert [row["step"] for row in rows] == [STEPS, 2 * STEPS, 3 * STEPS]
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert all(row.keys() >= TAGS | {"images_per_second"} for row in rows)
    assert rows[-1]["train/loss"] < rows[0]["train/loss"]
    assert store._steps(trained / "checkpoints") == [2 * STEPS, 3 * STEPS]
    best = max(rows, key=lambda row: row["eval/accuracy"])
    assert store._steps(trained / "best") == [best["step"]]
    assert json.loads((trained / "config.json").read_text())["num_epochs"] == 3


def test_tensorboard_events_hold_the_log(trained):
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.record_writer import RecordWriter  # noqa: F401 - the format's own package

    (path,) = trained.glob("events.*")
    data, values, at = path.read_bytes(), {}, 0
    while at < len(data):  # records: length u64, its checksum u32, the event, its checksum u32
        size = int.from_bytes(data[at : at + 8], "little")
        event = Event.FromString(data[at + 12 : at + 12 + size])
        values |= {(v.tag, event.step): v.simple_value for v in event.summary.value}
        at += 16 + size
    for row in read_rows(trained / "metrics.jsonl"):
        for tag in TAGS:
            assert values[tag, row["step"]] == pytest.approx(row[tag], rel=1e-6)


def test_tensorboard_events_cost_no_torch(tmp_path):
    code = (
        "import sys; from pathlib import Path; from jaxnets.runs.log import Events; "
        "Events(Path(sys.argv[1])).close(); assert 'torch' not in sys.modules; "
    )
    for then in ("", "import torch"):  # and it can be had afterwards
        subprocess.run([sys.executable, "-c", code + then, tmp_path], check=True)


def test_evaluate_repeats_the_figures_of_the_log(trained, command):
    rows = read_rows(trained / "metrics.jsonl")
    best = max(rows, key=lambda row: row["eval/accuracy"])
    for which, row in (("best", best), ("last", rows[-1]), (str(2 * STEPS), rows[1])):
        result = command("jaxnets.evaluate", "--workdir", trained, "--checkpoint", which)
        assert result.code == 0, result.err
        folder = trained / ("report" if which == "best" else f"report-{which}")
        metrics = json.loads((folder / "metrics.json").read_text())
        assert metrics["accuracy"] == pytest.approx(row["eval/accuracy"])
        assert metrics["loss"] == pytest.approx(row["eval/loss"], rel=1e-6)
        assert (metrics["n"], metrics["step"]) == (359, row["step"])
        assert metrics["checkpoint"] == which
        assert metrics["top5"] >= metrics["accuracy"]
        assert f"accuracy {metrics['accuracy']:.2%}" in result.out


def test_evaluate_draws_figures(trained, command):
    from PIL import Image

    assert command("jaxnets.evaluate", "--workdir", trained).code == 0
    for name in ("curves.png", "confusion.png"):
        with Image.open(trained / "report" / name) as image:
            assert len(image.convert("RGB").getcolors(1 << 24)) > 16


def test_the_same_command_again_has_nothing_to_do(trained, command):
    before = rows_of(trained)
    result = command("jaxnets.train", "--config", CONFIG, "--workdir", trained)
    assert result.code == 0
    assert "already trained" in result.out
    assert rows_of(trained) == before


@pytest.mark.parametrize("stop_at", [2, 2 * STEPS])
def test_a_stopped_run_goes_on_bit_for_bit(trained, tmp_path, command, monkeypatch, stop_at):
    """Stopped within an epoch, and at the end of one."""
    workdir = tmp_path / "tiny"
    args = ("jaxnets.train", "--config", CONFIG, "--workdir", workdir)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "StopSignal", stop_after(stop_at))
        stopped = command(*args)
    assert stopped.code == 128 + signal.SIGTERM
    assert "stopped and saved" in stopped.out
    resumed = command(*args)
    assert resumed.code == 0
    assert "resuming" in resumed.out
    assert_same_run(trained, workdir)


def test_rows_after_the_last_checkpoint_are_written_again(trained, tmp_path, command):
    """As after a kill between the log's line and the checkpoint."""
    workdir = tmp_path / "tiny"
    args = ("jaxnets.train", "--config", CONFIG, "--workdir", workdir)
    assert command(*args, "--config.checkpoint.every_epochs=2").code == 0
    log = workdir / "metrics.jsonl"
    last = log.read_text().splitlines()[-1]
    shutil.rmtree(workdir / "checkpoints" / str(3 * STEPS))
    with open(log, "a") as f:
        f.write(last[: len(last) // 2])  # a line cut short
    assert command(*args).code == 0
    assert_same_run(trained, workdir)


def test_another_configuration_is_refused(trained, refused):
    err = refused(
        "jaxnets.train", "--config", CONFIG, "--workdir", trained,
        "--config.optim.lr=0.3", "--config.seed=1", "--config.checkpoint.keep=5",
    )  # fmt: skip
    assert "optim.lr 0.1 -> 0.3" in err
    assert "seed 0 -> 1" in err
    assert "keep" not in err


def test_a_second_process_is_refused(trained, refused):
    with open(trained / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        err = refused("jaxnets.train", "--config", CONFIG, "--workdir", trained)
    assert "another process" in err


def test_divergence_stops_and_keeps_what_was_good(tmp_path, command):
    workdir = tmp_path / "x"
    args = ("jaxnets.train", "--config", CONFIG, "--workdir", workdir, "--config.optim.lr=1e30")
    code, _, err = command(*args)
    assert code == 2
    assert "not finite" in err
    assert "step 4" in err
    assert store._steps(workdir / "checkpoints") == []


def test_a_damaged_checkpoint_is_named(tmp_path, command, refused):
    workdir = tmp_path / "x"
    args = ("--config", CONFIG, "--workdir", workdir, "--config.num_epochs=1")
    assert command("jaxnets.train", *args).code == 0
    for file in (workdir / "best" / str(STEPS)).rglob("*"):
        if file.is_file() and "ocdbt" in str(file):
            file.write_bytes(b"")
    said = refused("jaxnets.evaluate", "--workdir", workdir)
    assert f"best/{STEPS}: the checkpoint is damaged" in said
    assert said.endswith("; there is --checkpoint last\n")
    assert command("jaxnets.evaluate", "--workdir", workdir, "--checkpoint", "last").code == 0


def test_another_seed_is_another_run(trained, tmp_path, command):
    workdir = tmp_path / "x"
    args = ("--config", CONFIG, "--workdir", workdir, "--config.seed=1", "--config.num_epochs=1")
    assert command("jaxnets.train", *args).code == 0
    assert rows_of(workdir)[0]["train/loss"] != rows_of(trained)[0]["train/loss"]


def test_an_interrupt_saves_and_exits_130(tmp_path):
    """A real process, a real signal; torch, TFDS and TensorBoard are not needed to train."""
    workdir = tmp_path / "x"
    args = ["--config", CONFIG, "--workdir", str(workdir), "--config.num_epochs=1000"]
    process = subprocess.Popen(
        [sys.executable, "-c", WITHOUT_OPTIONAL, *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not (workdir / "metrics.jsonl").exists() and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "stopped and saved at step" in out
    assert store._steps(workdir / "checkpoints")


def test_evaluation_uses_the_devices_at_hand(trained, tmp_path, command):
    """A run that was trained on more devices than there are here."""
    workdir = tmp_path / "tiny"
    shutil.copytree(trained, workdir)
    config = json.loads((workdir / "config.json").read_text())
    config |= {"devices": 64, "parallel": "pmap"}
    (workdir / "config.json").write_text(json.dumps(config))
    result = command("jaxnets.evaluate", "--workdir", workdir)
    assert result.code == 0, result.err
