"""Trains, kills, resumes, evaluates, ports and predicts, over and over.

    python tests/soak.py --minutes 30

One training runs all the time; every round trains another one, kills it at some moment, resumes it,
and evaluates, ports and predicts with what came out, on the tiny recipe, each in a process of its
own, as users do.  Every round must give what the first one gave, bit for bit; the memory and the
open files of the long training, and the peak memory of the others, must not grow.  Prints a line a
round and a verdict; exits with 1 if something differed or grew.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.runs import ROOT, arguments, arrays, process, rows

WARM_UP = 3  # rounds that do not count for the trends
GROWTH = 1.0  # MiB a minute of the long training; one epoch's images are 4
PEAK_GROWTH = 0.01  # of a command's peak memory, a round


class Footprint(NamedTuple):
    """What a process holds on to."""

    minutes: float
    mib: float
    files: int
    threads: int


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak") as folder:
        faults = soak(Path(folder), args.minutes, random.Random(args.seed))
    for fault in faults:
        print(f"FAULT: {fault}")
    print("nothing lost, nothing grown" if not faults else f"{len(faults)} faults")
    return int(bool(faults))


def soak(folder: Path, minutes: float, dice: random.Random) -> list[str]:
    """The rounds of so many minutes; what was wrong."""
    started, faults, first = time.monotonic(), [], None
    held: list[Footprint] = []
    peaks: list[dict[str, float]] = []
    images = folder / "images.npy"
    np.save(images, np.random.default_rng(0).integers(256, size=(20, 32, 32, 3), dtype=np.uint8))
    long_run = arguments(folder / "long", num_epochs=1_000_000)
    with process("jaxnets.train", long_run, folder / "long.out") as training:
        while time.monotonic() < started + 60 * minutes or len(held) < WARM_UP + 4:
            delay = dice.uniform(0, 12)
            found, peak = round_of(folder / "short", images, delay)
            first = first or found
            wrong = [key for key in first if first[key] != found[key]]
            faults += [f"round {len(held) + 1}: {key} differ from the first round" for key in wrong]
            if training.poll() is not None:
                raise SystemExit(f"the long training ended:\n{(folder / 'long.out').read_text()}")
            held.append(footprint(training.pid, (time.monotonic() - started) / 60))
            peaks.append(peak)
            print(
                f"round {len(held):3d}  {held[-1].minutes:5.1f} min  killed after {delay:4.1f} s  "
                f"long training: epoch {len(rows(folder / 'long'))}, {held[-1].mib:.1f} MiB, "
                f"{held[-1].files} files, {held[-1].threads} threads  "
                f"{', '.join(wrong) or 'same'}",
                flush=True,
            )
        training.send_signal(signal.SIGTERM)
        if training.wait(120) != 143:
            faults.append(f"the long training ended with {training.returncode}, not 143")
    return [*faults, *grown(held[WARM_UP:], peaks[WARM_UP:])]


def round_of(workdir: Path, images: Path, delay: float) -> tuple[dict[str, Any], dict[str, float]]:
    """What a killed and resumed run and all that follows say, and each command's peak, MiB."""
    shutil.rmtree(workdir, ignore_errors=True)
    ported, table = workdir / "net.safetensors", workdir / "predictions.csv"
    train = arguments(workdir, num_epochs=3)
    with (
        process("jaxnets.train", train, workdir.with_suffix(".out")) as running,
        contextlib.suppress(subprocess.TimeoutExpired),
    ):
        running.wait(delay)
    at = ["--workdir", str(workdir)]
    peaks = {
        module: peak_of(module, args)
        for module, args in (
            ("jaxnets.train", train),
            ("jaxnets.evaluate", at),
            ("jaxnets.port", [str(workdir), str(ported)]),
            (
                "jaxnets.predict",
                [*at, "--input", str(images), "--output", str(table), "--proba"],
            ),
        )
    }
    report = json.loads((workdir / "report" / "metrics.json").read_text())
    said = {
        "log": rows(workdir),
        "last": {k: v.tobytes() for k, v in arrays(workdir, "last").items()},
        "best": {k: v.tobytes() for k, v in arrays(workdir, "best").items()},
        "evaluation": report,
        "ported weights": ported.read_bytes(),
        "predictions": table.read_bytes(),
    }
    return said, peaks


def peak_of(module: str, args: list[str]) -> float:
    """Runs a command in a process of its own; the most memory that it had, MiB."""
    command = [sys.executable, "-m", module, *args]
    with tempfile.TemporaryFile() as output:
        running = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(running.pid, 0)
        running.returncode = os.waitstatus_to_exitcode(status)
        if running.returncode:
            output.seek(0)
            raise SystemExit(f"{' '.join(command)}:\n{output.read().decode()}")
    return usage.ru_maxrss / 1024


def footprint(pid: int, minutes: float) -> Footprint:
    """What a process holds now."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    files = len(os.listdir(f"/proc/{pid}/fd"))
    return Footprint(minutes, int(found["VmRSS"].split()[0]) / 1024, files, int(found["Threads"]))


def grown(held: Sequence[Footprint], peaks: Sequence[dict[str, float]]) -> list[str]:
    """What became more over the rounds."""
    faults, late = [], held[len(held) // 2 :]  # until then, pools of threads fill as need be
    growth = trend([f.minutes for f in late], [f.mib for f in late])
    print(f"long training: {growth:+.3f} MiB a minute")
    if growth > GROWTH:
        faults.append(f"the long training grows by {growth:.2f} MiB a minute, more than {GROWTH}")
    for what in ("files", "threads"):
        # The fewest: at some moments a checkpoint is being written.
        counts, middle = [getattr(f, what) for f in late], len(late) // 2
        before, after = min(counts[:middle]), min(counts[middle:])
        if after > before:
            faults.append(f"its open {what} grow from {before} to {after}")
    for module in peaks[0]:
        found = [peak[module] for peak in peaks]
        slope = trend(range(len(found)), found)
        print(f"{module}: peak {max(found):.0f} MiB, {slope:+.2f} MiB a round")
        if slope > PEAK_GROWTH * found[0]:
            faults.append(f"the peak memory of {module} grows by {slope:.1f} MiB a round")
    return faults


def trend(at: Sequence[float], values: Sequence[float]) -> float:
    """The slope of a line through the points: the median of the slopes of all pairs.

    >>> trend([0, 1, 2, 3, 4], [1.0, 3.0, 100.0, 7.0, 9.0])
    2.0
    """
    pairs = [(i, j) for i in range(len(at)) for j in range(i + 1, len(at))]
    return float(np.median([(values[j] - values[i]) / (at[j] - at[i]) for i, j in pairs]))


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main())
