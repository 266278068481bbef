"""Several processes train as one: its numbers, one log, and one end for all."""

import fcntl
import re
import signal
import socket
import time
from pathlib import Path

import numpy as np
import pytest

from jaxnets.checkpoints import store
from jaxnets.runs.log import read_rows
from jaxnets.signals import ANSWER
from tests.distributed_runs import (
    CONFIG,
    STEPS,
    Ended,
    Process,
    command,
    free_port,
    start,
    start_in_slurm,
)

pytestmark = pytest.mark.timeout(900)  # each process starts jax and compiles for itself
LOST = "error: another process ended or is out of reach"


def stop_one_and_go_on(workdir: Path) -> tuple[list[Ended], list[Ended]]:
    """Two processes, the second of which is told to stop in epoch 2; then two that go on."""
    both = start(2, workdir)
    both[0].wait_for_line("1 ")
    both[1].send(signal.SIGTERM)
    stopped = [process.wait() for process in both]
    return stopped, [process.wait() for process in start_in_slurm(2, workdir)]


@pytest.fixture(scope="module")
def one(tmp_path_factory) -> Path:
    """The workdir of a run of one process."""
    workdir = tmp_path_factory.mktemp("runs") / "one"
    code, _, err = Process(command(workdir)).wait()
    assert code == 0, err
    return workdir


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> tuple[Path, list[Ended], list[Ended]]:
    """The workdir of a run of two processes, and how they ended when stopped, and at the end."""
    workdir = tmp_path_factory.mktemp("runs") / "two"
    return workdir, *stop_one_and_go_on(workdir)


def assert_same_run(one: Path, many: Path, others: float = 1e-10) -> None:
    """Bounds: 1e-10 of each parameter's largest value, and that of each of the `others`.

    The sums of the log are float32.
    """
    a, b = (store.read(workdir, "last").state for workdir in (one, many))
    flat_a, flat_b = arrays(a), arrays(b)
    assert flat_a.keys() == flat_b.keys()
    assert int(flat_a["['step']"]) == 4 * STEPS
    for name, x in flat_a.items():
        bound = 1e-10 if name.startswith("['params']") else others
        assert np.abs(x - flat_b[name]).max() <= bound * (np.abs(x).max() or 1), name
    rows, found = (read_rows(workdir / "metrics.jsonl") for workdir in (one, many))
    assert [row["step"] for row in rows] == [row["step"] for row in found]
    for row, other in zip(rows, found, strict=True):
        for key in ("train/loss", "train/accuracy", "eval/loss", "eval/accuracy", "grad_norm"):
            assert row[key] == pytest.approx(other[key], rel=1e-6), key


def arrays(tree) -> dict[str, np.ndarray]:
    import jax

    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): np.asarray(x, np.float64) for path, x in leaves}


def test_two_processes_stopped_and_resumed_give_the_numbers_of_one(one, two):
    workdir, _, ended = two
    assert [e.code for e in ended] == [0, 0], ended
    assert_same_run(one, workdir)


def test_a_signal_to_one_process_stops_all_at_the_same_step(two):
    _, stopped, ended = two
    assert [e.code for e in stopped] == [128 + signal.SIGTERM] * 2, stopped
    step = int(re.search(r"stopped and saved at step (\d+) of 16", stopped[0].out)[1])
    assert step >= STEPS
    assert f"at step {step} of 16" in ended[0].out


def test_each_process_holds_its_part_and_only_the_first_speaks(two):
    _, stopped, ended = two
    for first, second in (stopped, ended):
        assert "holds 719\n" in first.out  # of 1438
        assert [x for x in second.out.splitlines() if "[Gloo]" not in x] == ["holds 719"]
    waiting = "process {} of 2: waiting up to 120 s for process {}.*\n"
    assert re.fullmatch(waiting.format(0, 1), stopped[0].err)
    assert re.fullmatch(waiting.format(1, 0) + f"{ANSWER}\n", stopped[1].err)
    for process in ended:
        assert process.err.startswith("--distributed: waiting up to 120 s for the processes that")
        assert process.err.count("\n") == 1


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("--process-id 0", "--process-id: only with --distributed"),
        ("--distributed --num-processes 2", "--num-processes: only with --coordinator"),
        ("--distributed --process-id 0", "--process-id: only with --coordinator"),
        ("--distributed --coordinator here", "--coordinator here: HOST:PORT"),
        ("--distributed --coordinator here:99999", "--coordinator here:99999: HOST:PORT"),
        (
            "--distributed --coordinator a:1 --num-processes 0",
            "--num-processes 0: a whole number, at least 1",
        ),
        (
            "--distributed --coordinator a:1 --num-processes 2 --process-id 2",
            "--process-id 2: from 0 to 1",
        ),
        (
            "--distributed --coordinator a:1 --process-id -1",
            "--process-id -1: a whole number, at least 0",
        ),
        ("--distributed --config.parallel=pmap", "not with config.parallel=pmap"),
        ("--distributed --config.devices=1", "config.devices=1 must be left out"),
        ("--distributed --num-processes two", "two"),
    ],
)
def test_flags_are_checked(refused, args, message):
    assert message in refused("jaxnets.train", "--config", CONFIG, *args.split())


def test_processes_that_do_not_find_each_other_say_so(tmp_path):
    def run(*args: str) -> Process:
        return Process(command(tmp_path / "none", "--distributed", *args), connect_seconds=3)

    server = free_port()
    rest = ("--coordinator", f"127.0.0.1:{server}", "--num-processes", "2", "--process-id")
    unreachable, no_cluster = run(*rest, "1").wait(60), run().wait(60)
    with socket.create_server(("127.0.0.1", server)):
        taken = run(*rest, "0").wait(60)
    for (code, _, err), message in (
        (unreachable, f"not all processes came together at 127.0.0.1:{server} within 3 s"),
        (no_cluster, "no cluster found"),
        (taken, f"--coordinator 127.0.0.1:{server}: process 0 cannot listen there"),
    ):
        waited = [] if "cannot listen" in message else ["waiting up to 3 s for"]
        *before, error = err.splitlines()
        assert (code, len(before)) == (2, len(waited)), err
        assert all(text in line for text, line in zip(waited, before, strict=True))
        assert message in error


def test_a_workdir_in_use_is_refused_in_all_processes(tmp_path):
    with open(tmp_path / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ended = [process.wait() for process in start(2, tmp_path)]
    assert [e.code for e in ended] == [2, 2], ended
    first, second = (e.err.splitlines()[-1] for e in ended)
    assert "another process is training there" in first
    assert second == first.replace("error: ", "error: process 0: ")


@pytest.mark.slow
def test_processes_with_different_configurations_are_refused(tmp_path):
    shared = ("--distributed", "--coordinator", f"127.0.0.1:{free_port()}", "--num-processes", "2")
    both = [
        Process(command(tmp_path, f"--config.seed={i}", *shared, "--process-id", str(i)))
        for i in range(2)
    ]
    for code, _, err in (process.wait() for process in both):
        assert code == 2
        assert "the configuration of process 1 is not that of process 0" in err


@pytest.mark.slow
def test_a_spent_time_budget_ends_all_at_the_same_step(tmp_path):
    ended = [process.wait() for process in start(2, tmp_path, "--config.stop_after_minutes=1e-3")]
    assert [e.code for e in ended] == [0, 0], ended
    assert "stopped and saved at step 1 of 16" in ended[0].out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "devices", "killed", "args"),
    [(4, 1, 0, ()), (4, 1, 3, ()), (2, 2, 1, ("--config.epoch_in_one_call=True",))],
)
def test_a_killed_process_ends_all_and_a_restart_goes_on(
    one, tmp_path, count, devices, killed, args
):
    running = start(count, tmp_path, *args, devices=devices)
    running[0].wait_for_line("2 ")  # the checkpoint of epoch 1 is whole
    running[killed].send(signal.SIGKILL)
    started = time.monotonic()
    for i, process in enumerate(running):
        code, _, err = process.wait(60)
        if i != killed:
            assert (code, err.count(LOST), "Traceback" in err) == (1, 1, False), (i, code, err)
    assert time.monotonic() - started < 60
    ended = [process.wait() for process in start(count, tmp_path, *args, devices=devices)]
    assert [e.code for e in ended] == [0] * count, ended
    assert "resuming" in ended[0].out
    # An epoch in one call is another program: the momentum of one process departs by 2e-10 too.
    assert_same_run(one, tmp_path, others=1e-9 if args else 1e-10)
