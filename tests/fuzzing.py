"""Many cases in a process of their own, watched: how long each takes, and whether it ends it."""

import faulthandler
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
# Seconds that a case, and what cases need, may compute: others may have the machine meanwhile, so
# the clock on the wall tells nothing.  But a process that computes nothing for so long waits.
LIMIT, PREPARE, WAIT = 10.0, 300.0, 60.0
IDLE = 0.05  # seconds
MOST = 3  # failures after which it is given up
TICKS = os.sysconf("SC_CLK_TCK")


class Part(NamedTuple):
    """Cases `start` to `stop` of one kind, each drawn from the seed, the kind and its number."""

    kind: str
    start: int
    stop: int

    def __str__(self) -> str:
        return f"{self.kind}:{self.start}:{self.stop}"


def hunt(seed: str, parts: Sequence[Part], folder: Path) -> list[str]:
    """Runs the cases; what went wrong in each that failed.

    A case fails by an exception, a signal that ends the process, or by taking too long.
    """
    failures: list[str] = []
    left = list(parts)
    while left and len(failures) < MOST:
        died = _watch(seed, left, folder, failures)
        if died is None:
            break
        # A new process goes on after the case that ended this one.
        left = left[[part.kind for part in left].index(died.kind) :]
        left[0] = left[0]._replace(start=died.start + 1)
    return failures


def _watch(seed: str, parts: list[Part], folder: Path, failures: list[str]) -> Part | None:
    """One process; the case that ended it, or None if it came to its end."""
    errors = folder / "stderr"
    # What is freed is given back at once, so that whoever still looks at it is found out.
    env = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    command = [sys.executable, "-m", "tests.fuzz_cases", seed, str(folder), *map(str, parts)]
    with open(errors, "w") as err:
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=err)
    case, limit, start = None, PREPARE, 0.0
    last, seen = time.monotonic(), 0.0  # when it was last seen to compute, and what it had then

    def failed(why: str) -> None:
        again = f"python -m tests.fuzz_cases {seed} FOLDER {case or parts[0]}"
        failures.append(f"{case or 'before the first case'}: {why}\nagain: {again}")

    pending = b""
    try:
        while True:
            ready, _, _ = select.select([process.stdout], [], [], 0.2)
            if ready:
                chunk = os.read(process.stdout.fileno(), 1 << 16)
                if not chunk:
                    break
                *lines, pending = (pending + chunk).split(b"\n")
                for line in map(json.loads, lines):
                    if line["say"] == "case":
                        case = Part(line["kind"], line["number"], line["number"] + 1)
                        limit, start = LIMIT, _cpu(process.pid)
                    elif line["say"] == "prepare":
                        case = None
                        limit, start = PREPARE, _cpu(process.pid)
                    elif line["say"] == "failed":
                        failed(line["text"])
                        if len(failures) >= MOST:
                            return None
                    elif line["say"] == "end":
                        return None
                last = time.monotonic()
                continue
            now = _cpu(process.pid)
            if now - seen > IDLE:
                last, seen = time.monotonic(), now
            if now - start > limit or time.monotonic() - last > WAIT:
                process.send_signal(signal.SIGABRT)  # faulthandler says where it is
                process.wait()
                failed(f"took too long\n{errors.read_text()[-4000:]}")
                return case
        failed(f"ended with {process.wait()}\n{errors.read_text()[-4000:]}")
        return case
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _cpu(pid: int) -> float:
    """Seconds that a process has computed."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS


class Voice:
    """How the process that runs the cases tells the one that watches."""

    def __init__(self):
        faulthandler.enable()
        # Whatever else writes to stdout goes to stderr.
        self._out = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)

    def __call__(self, say: str, **more: object) -> None:
        print(json.dumps({"say": say, **more}), file=self._out, flush=True)
