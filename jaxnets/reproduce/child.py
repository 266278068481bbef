"""Processes that rows run in, so that none finds the memory or the devices of another.

Imports neither jax nor torch: the process that waits holds no device.
"""

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from jaxnets import signals

_GRACE = 60.0  # seconds that a process which is told to end has for it
_PATIENCE = 30.0  # seconds that a training, which keeps its time itself, may take beyond it
_TRAINING = "from jaxnets import cli; from jaxnets.reproduce import child; cli.run(child.main)"


class Ended(NamedTuple):
    """How a process ended.

    code: its exit code.
    signal: the number of the one that told this process to end, or 0.
    late: whether it was ended because its time was over.
    """

    code: int
    signal: int
    late: bool


def wait(
    args: Sequence[str], environment: Mapping[str, str], deadline: float | None = None
) -> Ended:
    """Runs Python with these arguments to its end, or until `deadline` by time.monotonic.

    A signal to this process is passed on once; the other one then saves and ends.
    """
    with signals.StopSignal() as stop:
        # A session of its own: what is typed at a terminal comes once, from here.
        process = subprocess.Popen(
            [sys.executable, *args], env=dict(environment), start_new_session=True
        )
        with signals.undoing(process.kill):
            told = late = False
            killed_at = float("inf")
            while process.poll() is None:
                late = late or (deadline is not None and time.monotonic() > deadline)
                if not told and (stop.received or late):
                    process.send_signal(stop.received or signals.signal.SIGTERM)
                    told, killed_at = True, time.monotonic() + _GRACE
                if time.monotonic() > killed_at and late:
                    process.kill()
                time.sleep(0.05)
        return Ended(process.returncode, int(stop.received or 0), late and not stop.received)


def train(
    plan: str, row: str, seed: int, minutes: float | None, environment: Mapping[str, str]
) -> Ended:
    """`training.run` in a process of its own, with the minutes that begin now."""
    words = [plan, row, str(seed), "" if minutes is None else f"{minutes:.4f}"]
    deadline = None if minutes is None else time.monotonic() + 60 * minutes + _PATIENCE
    return wait(["-c", _TRAINING, *words], environment, deadline)


def main(argv: Sequence[str]) -> int:
    """What that process runs."""
    started = time.monotonic()
    plan, row, seed, minutes = argv

    from jaxnets.reproduce import training

    return training.run(plan, row, int(seed), float(minutes) if minutes else None, started)
