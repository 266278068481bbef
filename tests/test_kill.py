"""Training that is killed, stopped, or loses its disk, goes on as if nothing had been."""

import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from jaxnets.checkpoints import store
from jaxnets.train import loop
from tests.runs import ROOT, arguments, arrays, assert_same_run, process, rows
from tests.small_disk import remount, small_disk

EPOCHS = 4
WAIT = 300  # seconds until a process must have done what is waited for


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Path:
    """The workdir of a run that nothing happened to, in this process."""
    from jaxnets.train import __main__ as train

    workdir = tmp_path_factory.mktemp("runs") / "tiny"
    assert train.main(arguments(workdir, num_epochs=EPOCHS)) == 0
    return workdir


def wait_until(happened: Callable[[], bool], running: subprocess.Popen) -> bool:
    """Whether it happened before the process ended."""
    deadline = time.monotonic() + WAIT
    while not happened():
        if running.poll() is not None:
            return False
        assert time.monotonic() < deadline
        time.sleep(0.0005)
    return True


def grown(log: Path, lines: int) -> Callable[[], bool]:
    """metrics.jsonl has got so many lines more than it has now."""
    before = _lines(log)
    return lambda: _lines(log) >= before + lines


def _lines(log: Path) -> int:
    return log.read_bytes().count(b"\n") if log.exists() else 0


def saving(workdir: Path, times: int) -> Callable[[], bool]:
    """A checkpoint is being written, the n-th one seen."""
    seen: set[str] = set()

    def happened() -> bool:
        seen.update(str(path).partition(".new")[0] for path in workdir.glob("*/*.new*"))
        return len(seen) >= times

    return happened


def kill_when(happened: Callable[[], bool], delay: float, workdir: Path, **config: object) -> bool:
    """Trains until some seconds after it happened, then SIGKILL; False: it had ended before."""
    output = workdir.with_suffix(".out")
    with process("jaxnets.train", arguments(workdir, **config), output) as running:
        if wait_until(happened, running):
            time.sleep(delay)
            running.kill()
        code = running.wait(WAIT)
    assert code in (0, -signal.SIGKILL), output.read_text()
    return code != 0


def run_to_the_end(workdir: Path, **config: object) -> None:
    output = workdir.with_suffix(".out")
    with process("jaxnets.train", arguments(workdir, **config), output) as running:
        assert running.wait(WAIT) == 0, output.read_text()
    assert "Traceback" not in output.read_text()


def test_killed_and_stopped_it_ends_as_if_it_had_not_been(uninterrupted, tmp_path, refused):
    """Killed while it saves; a second process refused; asked to stop; gone on with to the end."""
    workdir, output = tmp_path / "tiny", tmp_path / "tiny.out"
    assert kill_when(saving(workdir, 3), 0.01, workdir, num_epochs=EPOCHS)  # the second epoch's
    args = arguments(workdir, num_epochs=EPOCHS)
    with process("jaxnets.train", args, output) as running:
        assert wait_until(grown(workdir / "metrics.jsonl", 1), running)
        running.send_signal(signal.SIGSTOP)  # it must not be done before it is asked to stop
        assert "another process" in refused("jaxnets.train", *args)
        running.send_signal(signal.SIGTERM)
        running.send_signal(signal.SIGCONT)
        assert running.wait(WAIT) == 128 + signal.SIGTERM
    said = output.read_text().splitlines()[-1]
    step = store.find(workdir, "last")[1]
    assert f"step {step}" in said
    assert "the same command resumes" in said
    run_to_the_end(workdir, num_epochs=EPOCHS)
    assert_same_run(uninterrupted, workdir)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_twenty_times_it_ends_as_if_it_had_not_been(tmp_path):
    kills, epochs = 24, 40
    workdir, other = tmp_path / "killed", tmp_path / "uninterrupted"
    log = workdir / "metrics.jsonl"
    dice, killed = random.Random(0), 0
    for i in range(kills):
        times = dice.choice((1, 2, 3))
        happened, longest = (
            (lambda: True, 5.0),  # while it starts, or soon after
            (saving(workdir, times), 0.1),
            (grown(log, times), 0.005),
            (grown(log, 1), 0.5),  # within an epoch
        )[i % 4]
        delay = dice.uniform(0, longest)
        killed += kill_when(happened, delay, workdir, num_epochs=epochs)
    assert killed >= 20
    for path in (workdir, other):
        run_to_the_end(path, num_epochs=epochs)
    assert len(rows(other)) == epochs
    assert_same_run(other, workdir)


@pytest.mark.slow
def test_the_seed_decides_every_bit(tmp_path):
    """Two processes with one seed, and one with another."""
    a, b, c = (tmp_path / name for name in "abc")
    for workdir, seed in ((a, 0), (b, 0), (c, 1)):
        run_to_the_end(workdir, num_epochs=1, seed=seed)
    assert_same_run(a, b)
    ours, theirs = arrays(a, "last"), arrays(c, "last")
    kernels = [name for name, x in ours.items() if "params" in name and x.ndim == 4]
    assert kernels
    assert not any(np.array_equal(ours[name], theirs[name]) for name in kernels)


STOPPABLE = """
import time
from jaxnets.signals import StopSignal

with StopSignal() as stop:
    print("ready", flush=True)
    while stop.received is None:
        time.sleep(0.01)
    print("saving", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_it_at_once(number):
    with subprocess.Popen(
        [sys.executable, "-c", STOPPABLE], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as running:
        for said in ("ready", "saving"):
            assert running.stdout.readline().strip() == said
            running.send_signal(number)
        assert running.wait(5) == 128 + number


def test_a_damaged_checkpoint_costs_only_its_epoch(uninterrupted, tmp_path, command, refused):
    workdir = Path(shutil.copytree(uninterrupted, tmp_path / "tiny"))
    steps = store._steps(workdir / "checkpoints")
    for folder in ("best", "checkpoints"):
        newest = workdir / folder / str(store._steps(workdir / folder)[-1])
        (newest / "meta" / "metadata").unlink()
    assert "best" in (err := refused("jaxnets.evaluate", "--workdir", workdir))
    assert "damaged" in err
    result = command("jaxnets.train", *arguments(workdir, num_epochs=EPOCHS))
    assert result.code == 0
    assert f"checkpoints/{steps[-1]}: the checkpoint is damaged" in result.out
    assert f"resuming {workdir} at step {steps[-2]}" in result.out
    assert rows(workdir) == rows(uninterrupted)
    assert arrays(workdir, "last").keys() == arrays(uninterrupted, "last").keys()
    assert store._steps(workdir / "checkpoints") == steps


def test_a_full_disk_ends_it_in_one_line_and_space_mends_it(
    uninterrupted, tmp_path, command, refused
):
    with small_disk(tmp_path / "disk", size_kib=380) as disk:
        workdir = disk / "tiny"
        args = arguments(workdir, num_epochs=EPOCHS)
        assert "No space left on device" in refused("jaxnets.train", *args)
        assert store.find(workdir, "last")
        remount(disk, "size=8m")
        result = command("jaxnets.train", *args)
        assert result.code == 0, result.err
        assert "resuming" in result.out
        assert_same_run(uninterrupted, workdir)
        remount(disk, "ro")
        assert "Read-only file system" in refused("jaxnets.train", *args)
        remount(disk, "rw")


def test_a_vanished_workdir_ends_it_in_one_line(tmp_path, refused, monkeypatch):
    workdir = tmp_path / "tiny"

    class Vanishes(loop.StopSignal):
        @property
        def received(self) -> None:
            shutil.rmtree(workdir, ignore_errors=True)

        @received.setter
        def received(self, value: object) -> None:
            pass

    monkeypatch.setattr(loop, "StopSignal", Vanishes)
    err = refused("jaxnets.train", *arguments(workdir, num_epochs=1))
    assert "No such file or directory" in err
    assert not workdir.exists()
