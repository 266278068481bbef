"""A process that is told to end: it answers at once, ends soon, and leaves nothing half-done."""

import contextlib
import os
import pty
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jaxnets import signals
from tests.runs import ROOT, arguments, assert_same_run

WAIT = 300  # seconds, on a crowded machine
NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# Deep in C code, where Python's own handlers wait for its end.
DEEP = "import hashlib; hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)"
IN_A_CALLBACK = """
import gc
gc.callbacks.append(lambda *_: (print("ready", flush=True), time.sleep(60)))
gc.collect()
"""


@pytest.fixture(scope="module", autouse=True)
def hangup_is_heard() -> Iterator[None]:
    """What these tests start would ignore SIGHUP where they themselves run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def start(code: str, *args: object, **kwargs) -> subprocess.Popen:
    """A process of Python that runs the code, with what it needs to say "ready"."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | kwargs
    code = f"import os, signal, sys, time\nfrom jaxnets import signals\n{code}"
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)], cwd=ROOT, text=True, **pipes
    )


def wait_for_line(running: subprocess.Popen, line: str = "ready") -> None:
    assert running.stdout.readline().strip() == line, running.communicate()


def wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def catches(running: subprocess.Popen, number: int) -> bool:
    """Whether a process has a handler for the signal."""
    status = Path(f"/proc/{running.pid}/status").read_text()
    (mask,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(mask, 16) >> (number - 1) & 1)


# Where nothing is to be saved


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("code", [f"print('ready', flush=True); {DEEP}", IN_A_CALLBACK])
def test_a_signal_ends_a_process_wherever_it_is(number, code):
    """Also in C code, and where an exception would be lost."""
    with start(f"signals.listen()\n{code}") as running:
        wait_for_line(running)
        running.send_signal(number)
        out, err = running.communicate(timeout=WAIT)
    assert running.returncode == 128 + number
    assert (out, err) == ("", signals.WORDS[number] + "\n")


def test_what_was_said_before_is_not_lost():
    code = "signals.listen(); print('said'); os.write(2, b'ready'); time.sleep(60)"
    with start(code) as running:
        assert running.stderr.read(5) == "ready"
        running.send_signal(signal.SIGTERM)
        assert running.communicate(timeout=WAIT)[0] == "said\n"


WRITES = """
from pathlib import Path
from jaxnets.files.atomic import atomic_write
signals.listen()
with atomic_write(Path(sys.argv[1])) as aside:
    aside.write_text("half")
    print("ready", flush=True)
    time.sleep(60)
"""


def test_what_is_half_written_is_removed(tmp_path):
    with start(WRITES, tmp_path / "file") as running:
        wait_for_line(running)
        assert len(list(tmp_path.iterdir())) == 1
        running.send_signal(signal.SIGINT)
        assert running.wait(WAIT) == 130
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_being_replaced_is_there_afterwards(tmp_path):
    code = """
from pathlib import Path
from jaxnets.files import atomic
signals.listen()
aside, path = Path(sys.argv[1]), Path(sys.argv[2])
replace = os.replace
def slow(a, b):
    replace(a, b)
    if os.replace is slow:
        os.replace = replace
        print("ready", flush=True)
        time.sleep(60)
os.replace = slow
atomic.replace(aside, path)
"""
    new, old = tmp_path / "new", tmp_path / "old"
    for folder in (new, old):
        folder.mkdir()
        (folder / folder.name).touch()
    with start(code, new, old) as running:
        wait_for_line(running)
        assert not old.exists()
        running.send_signal(signal.SIGINT)
        assert running.wait(WAIT) == 130
    assert [path.name for path in old.iterdir()] == ["old"]


def test_its_children_end_with_it():
    code = """
import multiprocessing
signals.listen()
child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,))
child.start()
print(child.pid, flush=True)
time.sleep(60)
"""
    with start(code) as running:
        child = int(running.stdout.readline())
        running.send_signal(signal.SIGTERM)
        assert running.wait(WAIT) == 143
    wait_until(lambda: not Path(f"/proc/{child}").exists())


def test_the_rows_of_a_bench_end_with_it():
    """Each has a process: one that is killed costs its row, and only the first one speaks."""
    args = ["--config", ROOT / "tests" / "tiny_config.py", "--batch=8,16"]
    running = subprocess.Popen(
        [sys.executable, "-m", "jaxnets.bench", *map(str, args)],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    with running:
        wait_until(lambda: measuring(running))
        os.kill(*measuring(running), signal.SIGKILL)
        said = running.stdout.readline().strip()
        assert said == "not measured: its process ended early, with exit code -9"
        wait_until(lambda: measuring(running))
        (child,) = measuring(running)
        time.sleep(1)  # it imports the rest
        os.kill(child, signal.SIGINT)
        time.sleep(0.2)
        os.killpg(running.pid, signal.SIGINT)  # as a terminal does
        assert running.communicate(timeout=WAIT)[1] == "interrupted\n"
    assert running.returncode == 130
    wait_until(lambda: not Path(f"/proc/{child}").exists())


def measuring(running: subprocess.Popen) -> list[int]:
    """The process that measures a row for it, if there is one."""
    children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
    return [int(p) for p in children if b"spawn_main" in Path(f"/proc/{p}/cmdline").read_bytes()]


def test_a_forked_child_does_not_speak_for_its_parent():
    code = """
signals.listen()
for _ in range(100):  # at once, before it is itself
    child = os.fork()
    if not child:
        time.sleep(60)
        os._exit(0)
    os.kill(child, signal.SIGTERM)
    _, status = os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(status) != -signal.SIGTERM:
        break
time.sleep(0.3)
print(os.waitstatus_to_exitcode(status))
"""
    with start(code) as running:
        assert running.communicate(timeout=WAIT) == ("-15\n", "")
    assert running.returncode == 0


@pytest.mark.parametrize("module", ["train", "evaluate", "port", "models"])
def test_a_command_listens_before_it_imports_the_rest(module):
    done = subprocess.run(
        [sys.executable, "-v", "-m", f"jaxnets.{module}", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    names = [line for line in done.stderr.splitlines() if line.startswith("import 'jaxnets")]
    assert names[0].startswith("import 'jaxnets.signals'")


@pytest.mark.parametrize("module", ["jaxnets.train", "torch_ref.train"])
def test_a_signal_in_the_first_second_is_one_line(module, tmp_path):
    running = subprocess.Popen(
        [sys.executable, "-m", module, *arguments(tmp_path / "x")],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with running:
        wait_until(lambda: catches(running, signal.SIGHUP))
        running.send_signal(signal.SIGINT)
        assert running.communicate(timeout=WAIT) == ("", "interrupted\n")
    assert running.returncode == 130


def test_two_signals_while_a_program_is_compiled(tmp_path):
    running = subprocess.Popen(
        [sys.executable, "-m", "jaxnets.train", *arguments(tmp_path / "x")],
        cwd=ROOT,
        env=os.environ | {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache")},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with running:
        for line in running.stdout:
            if line.startswith("compiling the step"):
                break
        time.sleep(0.5)
        for _ in range(2):
            running.send_signal(signal.SIGTERM)
        out, err = running.communicate(timeout=WAIT)
    assert (running.returncode, err) == (143, "terminated\n")
    assert "compiled the step" not in out


# Where a run is saved first

SAVES = f"""
with signals.StopSignal() as stop:
    print("ready", flush=True)
    if sys.argv[1:]:
        {DEEP}
    while stop.received is None:
        time.sleep(0.01)
    time.sleep(0.5)
    print("saved", flush=True)
print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
sys.exit(128 + stop.received)
"""


@pytest.mark.parametrize("number", NUMBERS)
def test_the_first_signal_is_answered_and_the_run_saved(number):
    with start(SAVES) as running:
        wait_for_line(running)
        running.send_signal(number)
        assert running.stderr.readline() == f"{signals.ANSWER}\n"
        assert running.communicate(timeout=WAIT) == ("saved\nTrue\n", "")
    assert running.returncode == 128 + number


def test_it_is_answered_at_once_and_the_second_one_ends_it():
    with start(SAVES, "deep") as running:
        wait_for_line(running)
        running.send_signal(signal.SIGINT)
        assert running.stderr.readline() == f"{signals.ANSWER}\n"
        running.send_signal(signal.SIGTERM)
        assert running.communicate(timeout=WAIT) == ("", "terminated\n")
    assert running.returncode == 143


def test_one_that_is_sent_twice_at_a_time_is_one():
    """As timeout(1) does, to the process and to its group."""
    with start(SAVES) as running:
        wait_for_line(running)
        for _ in range(2):
            running.send_signal(signal.SIGTERM)
            time.sleep(0.002)
        assert running.communicate(timeout=WAIT) == ("saved\nTrue\n", f"{signals.ANSWER}\n")
    assert running.returncode == 143


def test_a_terminal_that_is_gone_ends_it_saved():
    """The kernel and the shell both send SIGHUP, and nothing can be printed any more."""
    terminal, inside = pty.openpty()
    code = f"signals.listen()\n{SAVES}"  # as a command does, to its very end
    with start(code, stdout=inside, stderr=inside, start_new_session=True) as running:
        os.close(inside)
        said = b""
        while not said.endswith(b"\n"):  # two writes where PYTHONUNBUFFERED is set
            said += os.read(terminal, 100)
        assert said.strip() == b"ready"
        os.close(terminal)
        running.send_signal(signal.SIGHUP)
        time.sleep(0.2)
        running.send_signal(signal.SIGHUP)
        assert running.wait(WAIT) == 129


def test_under_nohup_it_goes_on():
    code = f"signal.signal(signal.SIGHUP, signal.SIG_IGN)\n{SAVES}"
    with start(code) as running:
        wait_for_line(running)
        running.send_signal(signal.SIGHUP)
        time.sleep(0.3)
        running.send_signal(signal.SIGINT)
        assert running.communicate(timeout=WAIT)[0] == "saved\nTrue\n"
    assert running.returncode == 130


# All of it, at random


def storm(module: str, args: list[object], dice: random.Random, longest: float) -> tuple[int, str]:
    """Ctrl-C at some moment, sometimes a second one: the exit code, and what was said."""
    running = subprocess.Popen(
        [sys.executable, "-m", module, *map(str, args)],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    with running:
        wait_until(lambda: catches(running, signal.SIGHUP))
        with contextlib.suppress(subprocess.TimeoutExpired):
            running.wait(dice.uniform(0, longest))
        sent = running.poll() is None
        running.send_signal(signal.SIGINT)
        if dice.random() < 0.2:
            time.sleep(dice.uniform(0, 0.5))
            running.send_signal(signal.SIGINT)
        began = time.monotonic()
        said = running.communicate(timeout=WAIT)[0]
    print(module, running.returncode, f"{time.monotonic() - began:.2f} s", said.splitlines()[-1:])
    code = running.returncode
    if code == -signal.SIGINT:  # Python had let go of its handlers at its very end: all was done
        code = 0
    if sent:
        assert code == 130 or "done: " in said or "wrote " in said, said
        assert code in (0, 130), said
        if code == 0:
            assert "interrupted" not in said
    assert not re.search("Traceback|Exception ignored|KeyboardInterrupt", said), said
    return code, said


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_storm_of_ctrl_c(tmp_path):
    """Some forty, over evaluation, ports and training; none is lost, nothing is left behind."""
    dice, epochs = random.Random(time.time_ns()), 3
    print("seed", state := dice.getrandbits(32))
    dice = random.Random(state)
    whole, workdir = tmp_path / "whole", tmp_path / "stopped"
    began = time.monotonic()
    run = [sys.executable, "-m", "jaxnets.train", *arguments(whole, num_epochs=epochs)]
    subprocess.run(run, cwd=ROOT, check=True, capture_output=True)
    longest = 1.2 * (time.monotonic() - began)
    codes = []
    for i in range(13):  # a third of what a training takes: so most are still at work
        codes.append(storm("jaxnets.evaluate", ["--workdir", whole], dice, longest / 3)[0])
        target = tmp_path / "ports" / f"{i}.pt"
        target.parent.mkdir(exist_ok=True)
        code, _ = storm("jaxnets.port", [whole, target], dice, longest / 3)
        assert [path.name for path in target.parent.iterdir()] == [target.name] * (code == 0)
        target.unlink(missing_ok=True)
        codes.append(code)
    for _ in range(14):
        code, said = storm("jaxnets.train", arguments(workdir, num_epochs=epochs), dice, longest)
        codes.append(code)
        if "already trained" in said:
            break
    assert codes.count(130) >= 13, codes
    run = [sys.executable, "-m", "jaxnets.train", *arguments(workdir, num_epochs=epochs)]
    subprocess.run(run, cwd=ROOT, check=True, capture_output=True)
    assert_same_run(whole, workdir)
