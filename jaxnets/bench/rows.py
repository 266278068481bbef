"""Every case measured, in a process of its own where there are several.

Not in __main__: a new process finds functions by their module's name, and its "__main__" is another
module.  It imports neither jax nor torch, so that the first process holds no device.
"""

import functools
import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any

from jaxnets.bench.case import Budget, Case
from jaxnets.bench.resident import JAX, TORCH, resident
from jaxnets.errors import UserError


def measured(
    found: Sequence[Case], budget: Budget, against_torch: bool, memory: bool = False
) -> Iterator[tuple[Case, tuple[dict, dict] | str]]:
    """Every case with its machine and row, or with why there is none.

    Several go to a process each: none finds the memory or the programs of another, and one that the
    system kills takes no other with it.

    Args:
        memory: also measure what a training of each side holds.

    Raises:
        UserError: of the first case; of a later one it is why there is no row.
    """
    if len(found) == 1:
        machine, row = measure_here(found[0], budget, against_torch)
        yield found[0], (machine, row | _resident(found[0], against_torch, memory))
        return
    for case in found:
        outcome = apart(measure_here, case, budget, against_torch)
        if isinstance(outcome, UserError):
            if case is found[0]:
                raise outcome
            outcome = str(outcome)
        if isinstance(outcome, tuple):
            machine, row = outcome
            outcome = machine, row | _resident(case, against_torch, memory)
        yield case, outcome


def _resident(case: Case, against_torch: bool, memory: bool) -> dict[str, int | str]:
    """What a training of each side holds at most; why not, where it could not be measured."""
    sides = {JAX: "resident_bytes"} | ({TORCH: "torch_resident_bytes"} if against_torch else {})
    if not memory:
        return {}
    found = {key: apart(resident, case, side) for side, key in sides.items()}
    return {key: value if isinstance(value, int) else str(value) for key, value in found.items()}


def measure_here(case: Case, budget: Budget, against_torch: bool) -> tuple[dict, dict]:
    """The case's machine and row, measured in this process."""
    from jaxnets.bench.measure import measure

    return measure(case, budget, against_torch, functools.partial(print, flush=True))


def apart(work: Callable[..., Any], *args: object) -> Any:
    """`work(*args)` in a process of its own; a mistake of the user's, or what else failed there.

    Over a pipe: an executor's semaphores would be reported as leaked where a signal ends this
    process.  The new process blocks the signals that a terminal sends to both, at which it would
    print a traceback: this one ends it.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(sender, work, *args))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGHUP))
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    sender.close()  # the new process has the only other end: it is closed when that ends
    with receiver:
        try:
            outcome = receiver.recv()
        except EOFError:
            outcome = None
    process.join()
    return outcome or f"its process ended early, with exit code {process.exitcode}"


def _send(sender: Connection, work: Callable[..., Any], *args: object) -> None:
    try:
        outcome = work(*args)
    except UserError as e:
        outcome = UserError(str(e))  # of no kind that a pickle could not hold
    except Exception as e:
        outcome = f"{type(e).__name__}: {' '.join(str(e).split())[:300]}"
    sender.send(outcome)
