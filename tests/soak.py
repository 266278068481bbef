"""Trains, kills, resumes, evaluates, ports and predicts, over and over.

    python tests/soak.py --minutes 30

Every round does it twice, on the tiny recipe: in processes of their own, one of which is killed at
some moment, and once within this process, which lives on.  Each must give what the first one gave,
bit for bit, and the memory and the open files of this process must not grow.  Prints a line a
round and a verdict; exits with 1 if something differed or grew.
"""

import argparse
import contextlib
import ctypes
import gc
import io
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

import jaxnets  # noqa: F401, I001 - before jax: it sets a flag of XLA, on which the bits depend
import jax

from tests.runs import ROOT, arguments, arrays, process, rows

WARM_UP = 3  # rounds that fill caches
GROWTH = 3.0  # MiB a round, as a trend: less than the images of a run that are not let go
EPOCHS = 3


class Footprint(NamedTuple):
    """What this process holds on to."""

    mib: float
    files: int
    arrays: int


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    args = parser.parse_args()
    dice, started, first = random.Random(args.seed), time.monotonic(), None
    held: list[Footprint] = []
    faults: list[str] = []
    with tempfile.TemporaryDirectory(prefix="soak") as folder:
        images = Path(folder) / "images.npy"
        np.save(
            images, np.random.default_rng(0).integers(256, size=(20, 32, 32, 3), dtype=np.uint8)
        )
        # Two rounds after the warm-up show no trend, whatever the minutes.
        while time.monotonic() < started + 60 * args.minutes or len(held) < WARM_UP + 3:
            at = time.monotonic()
            delay = dice.uniform(0, 12)
            apart = results(Path(folder) / "apart", images, lambda w, d=delay: train_killed(w, d))
            within = results(Path(folder) / "within", images, train_here)
            first = first or apart
            wrong = [*differences("apart", first, apart), *differences("within", first, within)]
            faults += [f"round {len(held) + 1}: {fault}" for fault in wrong]
            held.append(footprint())
            print(
                f"round {len(held):3d}  {time.monotonic() - at:5.1f} s  killed after {delay:4.1f} s"
                f"  {held[-1].mib:7.1f} MiB  {held[-1].files:3d} files  "
                f"{held[-1].arrays} arrays  "
                f"{'; '.join(wrong) or 'same'}",
                flush=True,
            )
    growth = trend([f.mib for f in held[max(WARM_UP, len(held) // 2) :]])
    first_held, last_held = held[WARM_UP], held[-1]
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"{len(held)} rounds; {growth:+.2f} MiB a round; largest child {largest:.0f} MiB")
    if growth > GROWTH:
        faults.append(f"memory grows by {growth:.2f} MiB a round, more than {GROWTH}")
    for what in ("files", "arrays"):
        before, after = getattr(first_held, what), getattr(last_held, what)
        if after > before:
            faults.append(f"open {what} grow from {before} to {after}")
    for fault in faults:
        print(f"FAULT: {fault}")
    print("nothing lost, nothing grown" if not faults else f"{len(faults)} faults")
    return int(bool(faults))


def results(workdir: Path, images: Path, train: Callable[[Path], None]) -> dict[str, Any]:
    """What a run, its evaluation, its ported weights and its predictions say."""
    shutil.rmtree(workdir, ignore_errors=True)
    train(workdir)
    ported, table = workdir / "net.safetensors", workdir / "predictions.csv"
    here("jaxnets.evaluate", ["--workdir", str(workdir)])
    here("jaxnets.port.__main__", [str(workdir), str(ported)])
    here(
        "jaxnets.predict",
        ["--workdir", str(workdir), "--input", str(images), "--output", str(table), "--proba"],
    )
    report = json.loads((workdir / "report" / "metrics.json").read_text())
    return {
        "log": rows(workdir),
        "last": {k: v.tobytes() for k, v in arrays(workdir, "last").items()},
        "best": {k: v.tobytes() for k, v in arrays(workdir, "best").items()},
        "evaluation": {k: v for k, v in report.items() if k != "workdir"},
        "ported weights": ported.read_bytes(),
        "predictions": table.read_bytes(),
    }


def differences(who: str, first: dict[str, Any], found: dict[str, Any]) -> Sequence[str]:
    """Which results are not those of the first round."""
    return [f"{key} {who} differ" for key in first if first[key] != found[key]]


def train_killed(workdir: Path, delay: float) -> None:
    """Trains in a process that is killed after some seconds, and in another one to the end."""
    args = arguments(workdir, num_epochs=EPOCHS)
    output = workdir.with_suffix(".out")
    with (
        process("jaxnets.train", args, output) as running,
        contextlib.suppress(subprocess.TimeoutExpired),
    ):
        running.wait(delay)
    with process("jaxnets.train", args, output) as running:
        if running.wait(600):
            raise SystemExit(f"training failed:\n{output.read_text()}")


def train_here(workdir: Path) -> None:
    here("jaxnets.train", arguments(workdir, num_epochs=EPOCHS))


def here(module: str, args: list[str]) -> None:
    """Runs a command within this process."""
    import importlib

    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = importlib.import_module(module).main(args)
    if code:
        raise SystemExit(f"{module} {' '.join(args)}: exit code {code}\n{said.getvalue()}")


def footprint() -> Footprint:
    """What is still held without jax's caches and garbage, that of the C library included."""
    jax.clear_caches()
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    status = Path("/proc/self/status").read_text()
    (kib,) = (int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))
    return Footprint(kib / 1024, len(os.listdir("/proc/self/fd")), len(jax.live_arrays()))


def trend(values: Sequence[float]) -> float:
    """The slope of the line through values at 0, 1, 2, ... by the median of all pairs' slopes.

    >>> trend([1.0, 3.0, 100.0, 7.0, 9.0])
    2.0
    """
    slopes = [
        (values[j] - values[i]) / (j - i)
        for i in range(len(values))
        for j in range(i + 1, len(values))
    ]
    return float(np.median(slopes))


# With an arena for each thread, what the C library holds varies by more than a run leaks.
ALLOCATOR = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}

if __name__ == "__main__":
    if not ALLOCATOR.items() <= os.environ.items():
        command = [sys.executable, str(Path(__file__).absolute()), *sys.argv[1:]]
        os.execve(sys.executable, command, os.environ | ALLOCATOR)
    os.chdir(ROOT)
    sys.exit(main())
