"""Processes that runs train in, so that none finds the memory or the devices of another.

Imports neither jax nor torch: the process that waits holds no device.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from jaxnets import signals
from jaxnets.errors import UserError
from jaxnets.files.regular import open_file

_GRACE = 60.0  # seconds that a process which is told to end has for it


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
        stream = None if output is None else stack.enter_context(_open(output))
        stop = stack.enter_context(signals.StopSignal())
        # A session of its own: what is typed at a terminal comes once, from here.  Its input ends
        # with this process, however that ends: see `end_with_parent`.
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


def end_with_parent() -> None:
    """In such a process: from now on, if the one that waits is killed, this one saves and ends."""

    def watch() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 64):
                pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def _open(path: Path):
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return open_file(path, "a")
    except OSError as e:
        raise UserError(f"{path}: cannot be written ({e.strerror})") from e
