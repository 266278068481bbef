"""Every case measured, in a process of its own where there are several.

Not in __main__: a new process finds functions by their module's name, and its "__main__" is another
module.  It imports neither jax nor torch, so that the first process holds no device.
"""

import functools
import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection

from jaxnets.bench.case import Budget, Case
from jaxnets.errors import UserError


def measured(
    found: Sequence[Case], budget: Budget, against_torch: bool
) -> Iterator[tuple[Case, tuple[dict, dict] | str]]:
    """Every case with its machine and row, or with why there is none.

    Several go to a process each: none finds the memory or the programs of another, and one that the
    system kills takes no other with it.

    Raises:
        UserError: of the first case; of a later one it is why there is no row.
    """
    if len(found) == 1:
        yield found[0], measure_here(found[0], budget, against_torch)
        return
    for case in found:
        outcome = _measure_apart(case, budget, against_torch)
        if isinstance(outcome, UserError):
            if case is found[0]:
                raise outcome
            outcome = str(outcome)
        yield case, outcome


def measure_here(case: Case, budget: Budget, against_torch: bool) -> tuple[dict, dict]:
    """The case's machine and row, measured in this process."""
    from jaxnets.bench.measure import measure

    return measure(case, budget, against_torch, functools.partial(print, flush=True))


def _measure_apart(*args: object) -> tuple[dict, dict] | UserError | str:
    """`measure_here` in a process of its own; a mistake of the user's, or what else failed there.

    Over a pipe: an executor's semaphores would be reported as leaked where a signal ends this
    process.  The new process blocks the signals that a terminal sends to both, at which it would
    print a traceback: this one ends it.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(sender, *args))
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


def _send(sender: Connection, *args: object) -> None:
    try:
        outcome = measure_here(*args)
    except UserError as e:
        outcome = UserError(str(e))  # of no kind that a pickle could not hold
    except Exception as e:
        outcome = f"{type(e).__name__}: {' '.join(str(e).split())[:300]}"
    sender.send(outcome)
