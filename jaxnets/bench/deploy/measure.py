"""One network, measured: all runtimes in one process, in turn, and each alone for its memory."""

import functools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnets.bench.case import Budget
from jaxnets.bench.deploy.runtimes import RUNTIMES, pin, threads_at_most
from jaxnets.bench.rows import apart
from jaxnets.errors import UserError, one_line
from jaxnets.files.atomic import temporary_folder
from jaxnets.timing import Rates, Work, alternate

Log = Callable[[str], None]
_ALONE = "import sys; from jaxnets.bench.deploy import alone; alone.main(*sys.argv[1:])"


class Case(NamedTuple):
    """A network to measure."""

    config: str
    """Of the recipe, as JSON."""
    spec: str
    """The recipe as the command names it."""


def measured(
    cases: Sequence[Case], batches: Sequence[int], budget: Budget, log: Log = print
) -> Iterator[tuple[dict[str, Any] | None, list[dict[str, Any]]]]:
    """Of every network the machine and its rows: one for each runtime, thread count and batch.

    A row has an "error" in the place of figures that could not be measured.

    Raises:
        UserError: of the first network; of a later one it is why there are no figures.
    """
    for case in cases:
        try:
            yield _measured(case, batches, budget, log)
        except UserError as e:
            if case is cases[0]:
                raise
            yield None, [{"config": case.spec, "error": str(e)}]


def _measured(
    case: Case, batches: Sequence[int], budget: Budget, log: Log
) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    with temporary_folder("jaxnets-deploy-") as folder:
        machine, times = None, {}
        network = outcome(_prepared, case.config, folder)
        if isinstance(network, str):
            log(f"{case.spec}: not measured: {network}")
            return None, [{"config": case.spec, "error": network}]
        size = network.pop("image_size")
        sizes = network.pop("file_bytes")
        for threads in thread_counts():
            found = outcome(timed, folder, size, threads, batches, budget)
            machine = machine if isinstance(found, str) else found[0]
            times[threads] = found if isinstance(found, str) else found[1]
            log(f"{case.spec}: timed on {threads} thread{'s' * (threads > 1)}")
        shape, limit = (1, size, size, 3), budget.compile_limit
        memory = {
            name: alone(name, folder / how.file, shape, limit) for name, how in RUNTIMES.items()
        }
        log(f"{case.spec}: memory measured")
    rows = []
    for runtime in RUNTIMES:
        for threads, by_runtime in times.items():
            for batch in batches:
                one = by_runtime if isinstance(by_runtime, str) else by_runtime[runtime]
                one = {"error": one} if isinstance(one, str) else one[batch]
                place = {"runtime": runtime, "threads": threads, "batch": batch}
                held = {"file_bytes": sizes[runtime], "peak_memory_bytes": memory[runtime]}
                rows.append({"config": case.spec, **network, **place, **held, **one})
    return machine, rows


def thread_counts() -> list[int]:
    """One, and all; all alone where a process cannot be held to one."""
    most = threads_at_most()
    return sorted({1, most}) if hasattr(os, "sched_setaffinity") else [most]


def outcome(work: Callable, *args: object) -> Any:
    """What a process of its own gives, or what failed there; raises a mistake of the user's."""
    found = apart(work, *args)
    if isinstance(found, UserError):
        raise found
    return found


def _prepared(config: str, folder: Path) -> dict[str, Any]:
    """`prepare`, which a new process imports with all that it needs."""
    from jaxnets.devices import runtime

    runtime.setup("float32")
    from jaxnets.bench.deploy.prepare import prepare

    return prepare(config, folder)


def timed(
    folder: Path, size: int, threads: int, batches: Sequence[int], budget: Budget
) -> tuple[dict[str, Any], dict[str, dict[int, dict[str, Any]] | str]]:
    """The machine, and of each runtime its row for each batch, or why there is none.

    For a process of its own.
    """
    pin(threads)
    os.environ["JAX_PLATFORMS"] = "cpu"
    from jaxnets.devices import cpu_memory, machine, runtime

    runtime.setup("float32")
    from jaxnets.bench.torch_side import at_most
    from jaxnets.export.images import random_images

    images = {batch: random_images(batch, size) for batch in batches}
    calls, found = {}, {}
    for name, how in RUNTIMES.items():
        try:
            call = how.load(folder / how.file, threads)
            for batch in batches:
                with at_most(budget.compile_limit):
                    call(images[batch])
            calls[name], found[name] = call, {}
        except Exception as e:
            found[name] = f"{type(e).__name__}: {one_line(e)}"

    def repeated(call: Callable, batch: int, times: int) -> None:
        for _ in range(times):
            call(images[batch])

    for batch in batches:
        works = {
            name: Work(functools.partial(repeated, call, batch), batch)
            for name, call in calls.items()
        }
        for name, rates in alternate(works, budget.repeats, budget.seconds).items():
            found[name][batch] = row(rates, budget)
    return machine.of_a_benchmark(None) | {"memory_kept": cpu_memory.kept()}, found


def row(rates: Rates, budget: Budget) -> dict[str, Any]:
    """The figures of a row: medians over the repeats, and the distance of their quartiles."""
    each = 1e3 / np.asarray(rates.each)
    low, high = np.quantile(each, (0.25, 0.75))
    return {
        "ms_an_image": float(np.median(each)),
        "spread_ms": float(high - low),
        "n": budget.repeats,
    }


def alone(
    runtime: str, file: Path, shape: Sequence[int], limit: float, dtype: str = "uint8"
) -> int | str:
    """Bytes that a process held at most that opened a file and answered once; or why not.

    Args:
        shape, dtype: of what it answers.
        limit: seconds that it may take.
    """
    said = ",".join(map(str, shape))
    where = (runtime, str(file), str(threads_at_most()), said, dtype)
    command = [sys.executable, "-c", _ALONE, *where]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return f"took more than {limit:g} s"
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return lines[-1][:200] if lines else f"exit code {done.returncode}"
    return int(done.stdout.split()[-1])
