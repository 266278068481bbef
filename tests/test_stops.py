"""How soon a loop obeys: few steps ahead, evaluations that are given up, calls that are short."""

import io
import itertools
import re
import signal
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxnets import config as configs
from jaxnets.runs import console
from jaxnets.runs.log import read_rows
from jaxnets.train import loop, stepper
from jaxnets.train.step import Totals
from jaxnets.train.stepper import Ahead, Stepper
from tests.runs import arguments, assert_same_run
from tests.stopping import stop_after
from tests.test_train_loop import build_tiny, meta_of

STEPS = 4  # an epoch
# Three batches of an evaluation.
CUT = {"eval_batch_size": 120, "num_epochs": 2}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Path:
    from jaxnets.train import __main__ as train

    workdir = tmp_path_factory.mktemp("runs") / "tiny"
    assert train.main(arguments(workdir, **CUT)) == 0
    return workdir


# Evaluations


@pytest.mark.parametrize("epoch", [1, 2])
def test_an_evaluation_is_given_up_and_made_again(
    epoch, uninterrupted, tmp_path, command, monkeypatch
):
    """Also that of the last epoch; the run ends bit for bit as it would have."""
    workdir = tmp_path / "tiny"
    # Asked after each step, twice in an evaluation, and after it.
    asked = (epoch - 1) * (STEPS + 3) + STEPS + 2
    with monkeypatch.context() as patch:
        patch.setattr(loop, "StopSignal", stop_after(asked))
        stopped = command("jaxnets.train", *arguments(workdir, **CUT))
    assert stopped.code == 128 + signal.SIGTERM
    at = epoch * STEPS
    assert f"stopped and saved at step {at} of {2 * STEPS}" in stopped.out
    log = workdir / "metrics.jsonl"
    assert (len(read_rows(log)) if log.exists() else 0) == epoch - 1
    resumed = command("jaxnets.train", *arguments(workdir, **CUT))
    assert resumed.code == 0, resumed.err
    assert f"at step {at} of {2 * STEPS}, before its evaluation" in resumed.out
    assert_same_run(uninterrupted, workdir)
    assert all(row["images_per_second"] > 0 for row in read_rows(log))
    again = command("jaxnets.train", *arguments(workdir, **CUT))
    assert "already trained" in again.out


def test_a_row_of_an_evaluation_made_again_is_there_once(
    uninterrupted, tmp_path, command, monkeypatch
):
    """Killed between its row and its checkpoint: it is made a third time."""
    workdir = tmp_path / "tiny"
    with monkeypatch.context() as patch:
        patch.setattr(loop, "StopSignal", stop_after(STEPS + 2))
        command("jaxnets.train", *arguments(workdir, **CUT))
    row = (uninterrupted / "metrics.jsonl").read_text().splitlines()[0]
    (workdir / "metrics.jsonl").write_text(f"{row}\n")
    assert command("jaxnets.train", *arguments(workdir, **CUT)).code == 0
    assert_same_run(uninterrupted, workdir)


def test_a_budget_shorter_than_an_evaluation_gets_on(tmp_path, command):
    """Every start takes a step or makes an evaluation."""
    args = arguments(tmp_path / "x", **CUT | {"num_epochs": 1, "stop_after_minutes": 1e-6})
    said = [command("jaxnets.train", *args).out for _ in range(STEPS + 1)]
    assert f"stopped and saved at step {STEPS - 1} of {STEPS}" in said[STEPS - 2]
    assert "done: 1 epochs" in "".join(said[STEPS - 1 :])
    assert len(read_rows(tmp_path / "x" / "metrics.jsonl")) == 1


# Steps ahead of the devices


class Result:
    """What a device has not computed yet: done `seconds` after the one before."""

    now, waited = 0.0, 0

    def __init__(self, seconds: float):
        self.seconds = seconds

    def block_until_ready(self) -> "Result":
        Result.now += self.seconds
        Result.waited += 1
        return self


@pytest.fixture
def clock(monkeypatch):
    Result.now, Result.waited = 0.0, 0
    monkeypatch.setattr(stepper.time, "perf_counter", lambda: Result.now)


def test_a_cpu_has_two_steps_at_most(clock):
    steps = Ahead("cpu")
    for sent in range(1, 30):
        steps.send(1, Result(0.001))
        assert Result.waited == sent - 1  # one is left; the next one makes two
    assert len(steps.rest()) == 1


def test_an_accelerator_has_what_takes_half_a_second(clock):
    for seconds, most in ((0.01, 50), (0.1, 5), (2.0, 1)):
        steps, Result.waited = Ahead("gpu"), 0
        for _ in range(200):
            steps.send(1, Result(seconds))
        assert most - 1 <= 200 - Result.waited <= most


def test_one_call_of_many_steps_takes_half_a_second(clock):
    steps, sizes = Ahead("gpu"), []
    for _ in range(20):
        sizes.append(steps.steps)
        steps.send(sizes[-1], Result(0.01 * sizes[-1]))
    assert sizes[:4] == [1, 1, 2, 4]
    assert 40 <= sizes[-1] <= 50
    slow = Ahead("gpu")
    for _ in range(20):
        slow.send(slow.steps, Result(3.0 * slow.steps))
    assert slow.steps == 1


def test_the_loop_does_not_queue_steps(tmp_path, command, monkeypatch):
    """A step is not given to the devices before the last but one is done."""
    given, done = [], []

    class Counted(Ahead):
        def send(self, steps, result):
            given.append(result)
            done.extend(new := super().send(steps, result))
            assert len(given) - len(done) <= 1
            return new

    monkeypatch.setattr(loop, "Ahead", Counted)
    args = arguments(tmp_path / "x", num_epochs=1)
    assert command("jaxnets.train", *args).code == 0
    assert len(given) == STEPS


# Calls of many steps


def test_numbers_do_not_depend_on_how_an_epoch_is_cut():
    _, run = build_tiny()
    stepper = Stepper(run.task, run.data, run.state, whole_epochs=True)
    assert stepper.full_steps == STEPS - 1
    found = []
    for cut in ((3,), (1, 2), (1, 1, 1)):
        state, totals = stepper.replicate(jax.tree.map(np.array, run.state), Totals.zero())
        health = []
        for count in cut:
            state, totals, some = stepper.steps(state, totals, count)
            health += list(stepper.read(some)[:count])
        state, totals = stepper.step(state, totals, STEPS - 1)
        found.append(jax.tree.map(np.asarray, (state, totals, health)))
    for other in found[1:]:
        jax.tree.map(np.testing.assert_array_equal, found[0], other)


def test_a_stop_is_heard_between_calls_of_many_steps(tmp_path, command, monkeypatch):
    args = arguments(tmp_path / "x", num_epochs=1, epoch_in_one_call=True)
    for step in (1, 2):
        with monkeypatch.context() as patch:
            patch.setattr(loop, "StopSignal", stop_after(1))
            result = command("jaxnets.train", *args)
        assert result.code == 128 + signal.SIGTERM
        assert f"saved at step {step} of {STEPS}" in result.out
    assert command("jaxnets.train", *args).code == 0


# What is shown


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_bar_moves_with_every_step_and_reads_by_time(monkeypatch):
    terminal, reads = Terminal(), itertools.count()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr(console, "terminal_width", lambda stream: 80)

    def read() -> Totals:
        next(reads)
        return Totals(2.0, 1.0, 1.0, 0.0, 1.0)

    config = configs.default_config()
    with console.EpochBar(config, 0, 0, 391) as bar:
        for done in range(1, 4):
            time.sleep(0.11)
            bar.show(done, read)
            assert f"{done}/391" in terminal.getvalue().rpartition("\r")[2]
    assert next(reads) == 1  # within a second
    assert "loss=2.000" in terminal.getvalue()


ROW = {
    "step": 78200, "epoch": 200, "lr": 0.001, "train/loss": 0.0123, "train/accuracy": 0.9987,
    "val/loss": 0.2345, "val/accuracy": 0.9512, "eval/loss": 0.2345, "eval/accuracy": 1.0,
    "images_per_second": 12345.6, "seconds": 360000.0,
}  # fmt: skip


@pytest.mark.parametrize("validation", [False, True])
@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
def test_lines_of_epochs_fit_the_terminal(width, validation):
    config = configs.default_config()
    config.num_epochs = 100000
    table = console.EpochTable(config, validation=validation, width=width)
    header, line = table.header(), table.line(ROW, best=True)
    assert len(header) == len(line) <= width
    assert re.search(r"(test|val) acc|(test|val) loss +acc", header)
    assert {"200", "100.00%*" if not validation else "95.12%*"} <= set(line.split())
    assert "time left" in header
    whole = console.EpochTable(config, validation=validation, width=10**6).line(ROW, best=True)
    assert set(line.split()) <= set(whole.split())


@pytest.mark.parametrize("width", [40, 63, 64, 80, 99, 100, 200])
def test_no_number_of_the_bar_is_cut(width):
    from tqdm import tqdm

    line = tqdm.format_meter(
        n=390,
        total=391,
        elapsed=36000,
        ncols=width,
        prefix="epoch 200/200",
        unit="step",
        bar_format=console._bar_format(width),
        postfix="loss=12.345, acc=100.0%",
        initial=0,
    )
    assert len(line) <= width
    assert re.search(r"(left|acc=100.0%\]?)$", line), line


def test_a_start_is_two_lines_and_a_file(uninterrupted, tmp_path, command):
    result = command("jaxnets.train", *arguments(tmp_path / "x", num_epochs=1))
    first, second, third, *_ = result.out.splitlines()
    assert "parameters" in first
    assert f"all keys in {tmp_path / 'x' / 'config.json'}" in second
    assert third.startswith("compiling the step for batches of 400")
    assert meta_of(tmp_path / "x", "last")
