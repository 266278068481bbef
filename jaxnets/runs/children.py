"""Processes that runs train in, so that none finds the memory or the devices of another.

Imports neither jax nor torch: the process that waits holds no device.
"""

import contextlib
import importlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxnets import signals
from jaxnets.files.atomic import writing
from jaxnets.files.regular import open_file

_GRACE = 60.0  # seconds that a process which is told to end has for it
_COMMAND = (
    "import sys; from jaxnets import cli; from jaxnets.runs import children; "
    "cli.run(children.main_of(sys.argv.pop(1)))"
)


class Ended(NamedTuple):
    """How a process ended.

    code: its exit code.
    signal: the number of the one that told this process to end, or 0.
    told: whether this process told it to end, because its time was over or `ends` said so.
    """

    code: int
    signal: int
    told: bool


def wait(
    args: Sequence[str],
    environment: Mapping[str, str],
    deadline: float | None = None,
    *,
    ends: Callable[[], bool] = lambda: False,
    output: Path | None = None,
) -> Ended:
    """Runs Python with these arguments to its end, or until `deadline` by time.monotonic.

    A signal to this process is passed on once; the other one then saves and ends.

    Args:
        ends: asked every now and then; the process is told to end once it is True.
        output: what the process prints is added to this file.

    Raises:
        UserError: `output` cannot be written.
    """
    with contextlib.ExitStack() as stack:
        stream = None
        if output is not None:
            with writing(output):
                output.parent.mkdir(parents=True, exist_ok=True)
                stream = stack.enter_context(open_file(output, "a"))
        stop = stack.enter_context(signals.StopSignal())
        # A session of its own: what is typed at a terminal comes once, from here.  Its input ends
        # with this process, however that ends: see `main_of`.
        process = subprocess.Popen(
            [sys.executable, *args],
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=stream,
            stderr=None if stream is None else subprocess.STDOUT,
            start_new_session=True,
        )
        stack.callback(process.stdin.close)
        with signals.undoing(process.kill):
            told = asked = False
            killed_at = float("inf")
            while process.poll() is None:
                over = deadline is not None and time.monotonic() > deadline
                asked = asked or over or (not stop.received and ends())
                if not told and (stop.received or asked):
                    process.send_signal(stop.received or signal.SIGTERM)
                    told, killed_at = True, time.monotonic() + _GRACE
                if time.monotonic() > killed_at and asked:
                    process.kill()
                time.sleep(0.05)
        return Ended(process.returncode, int(stop.received or 0), asked and not stop.received)


def command(module: str, *args: str) -> list[str]:
    """For `wait`: the main of a module, which saves and ends also where this process is killed."""
    return ["-c", _COMMAND, module, *args]


def train(args: Sequence[str], environment: Mapping[str, str], **how: Any) -> Ended:
    """`python -m jaxnets.train ARGS` in a process of its own; see `wait`."""
    return wait(command("jaxnets.train.__main__", *args), environment, **how)


def main_of(module: str) -> Callable[[Sequence[str]], int]:
    """What the process of `command` runs."""

    def watch() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 64):
                pass
        os.kill(os.getpid(), signal.SIGTERM)

    def main(argv: Sequence[str]) -> int:
        threading.Thread(target=watch, name="parent", daemon=True).start()
        return importlib.import_module(module).main(argv)

    return main
