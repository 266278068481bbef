"""How the processes of one run find each other, and what is said where jax's runtime ends them.

When another process is gone, or does not come, jax's coordination service aborts this one from a
thread of its own, past Python's exceptions and signal handlers, with a text for its developers.
"""

import contextlib
import ctypes
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import NoReturn

from jaxnets.devices.cpu_flags import PATIENCE
from jaxnets.errors import UserError

CONNECT_SECONDS = 120
"""How long the processes wait for each other at the start."""
HEARTBEAT_SECONDS = 30
"""After so long without a word from it a process counts as gone."""
_LOST = (
    "another process ended or is out of reach (its own output says why); start all again with the "
    "same command to resume from the last checkpoint"
)
_STUCK = (
    "XLA ended this process (its words are above); devices that this CPU only pretends to have "
    "waited too long for each other: keep the machine less busy, give --config.devices=1, or raise "
    f"{PATIENCE} in XLA_FLAGS; the same command resumes from the last checkpoint"
)
# Text, exit code, and the file descriptor that the text goes to.
_last_words = _LOST, 1, 2
_speaking = threading.Lock()


def connect(coordinator: str | None, count: int | None, me: int | None) -> None:
    """Waits for all processes; what is None, jax reads from the cluster's variables.

    Raises:
        UserError: no cluster, or a port that is in use.
    """
    import jax

    # An address of this machine alone is not opened to others.
    local = bool(coordinator and re.match(r"localhost:|127\.|\[::1\]", coordinator))
    if coordinator and me == 0:
        _check_port(coordinator, local)
    # jax would catch SIGTERM, from here until training begins, and do nothing about it.
    jax.config.update("jax_enable_preemption_service", False)
    where = f"at {coordinator}" if coordinator else "at the address that the cluster gave"
    text = (
        f"--distributed: not all processes came together {where} within {CONNECT_SECONDS} s: start "
        "all of them, with the same --coordinator, which each can reach, and --num-processes"
    )
    _catch_abort()
    print(_waiting(coordinator, count, me), file=sys.stderr, flush=True)
    with _stderr_kept() as stderr:
        _choose_last_words(text, 2, stderr)
        try:
            jax.distributed.initialize(
                coordinator,
                count,
                me,
                coordinator_bind_address=coordinator if local else None,
                initialization_timeout=CONNECT_SECONDS,
                heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            )
        except Exception as e:
            if "defined" in str(e):  # by jax's cluster detection
                raise UserError(
                    "--distributed: no cluster found (SLURM, Open MPI, TPU, or Kubernetes with its "
                    "Python package); give --coordinator, --num-processes and --process-id"
                ) from e
            raise UserError(f"--distributed: {e}") from e
    _choose_last_words(_LOST, 1, 2)


def _waiting(coordinator: str | None, count: int | None, me: int | None) -> str:
    """For whom this process waits, as far as its flags say.

    >>> _waiting("10.0.0.1:12345", 4, 0)
    'process 0 of 4: waiting up to 120 s for processes 1 to 3 to come to 10.0.0.1:12345'
    """
    limit = f"waiting up to {CONNECT_SECONDS} s for"
    if coordinator is None:
        return f"--distributed: {limit} the processes that the cluster started"
    this = "this process" if me is None else f"process {me}"
    of = "" if count is None else f" of {count}"
    if me != 0:
        return f"{this}{of}: {limit} process 0 at {coordinator}"
    others = "the others"
    if count is not None:
        others = "process 1" if count == 2 else f"processes 1 to {count - 1}"
    return f"{this}{of}: {limit} {others} to come to {coordinator}"


def expect_late_devices() -> None:
    """XLA aborts where devices that share a CPU's cores come too late: then one line says so."""
    _catch_abort()
    _choose_last_words(_STUCK, 1, 2)


def say_last_words(_: int = 0) -> NoReturn:
    """Ends the process with one line, whichever thread comes first."""
    text, code, descriptor = _last_words
    if _speaking.acquire(blocking=False):
        os.write(descriptor, f"error: {text}\n".encode())
    else:
        time.sleep(10)
    os._exit(code)


def _choose_last_words(text: str, code: int, descriptor: int) -> None:
    global _last_words
    _last_words = text, code, descriptor


def _catch_abort() -> None:
    """Last words on SIGABRT: unlike Python's own, a C handler runs in the thread that aborts."""
    global _handler
    kind = ctypes.CFUNCTYPE(None, ctypes.c_int)
    _handler = kind(say_last_words)  # must outlive this call
    libc = ctypes.CDLL(None)
    libc.signal.argtypes, libc.signal.restype = (ctypes.c_int, kind), ctypes.c_void_p
    libc.signal(signal.SIGABRT, _handler)


@contextlib.contextmanager
def _stderr_kept() -> Iterator[int]:
    """Yields a copy of stderr's descriptor; what is written to the first one is dropped."""
    sys.stderr.flush()
    copy, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield copy
    finally:
        os.dup2(copy, 2)
        os.close(nowhere)


def _check_port(coordinator: str, local: bool) -> None:
    """jax would crash where the port is taken."""
    host, port = coordinator.rsplit(":", 1)
    try:
        socket.create_server((host.strip("[]") if local else "", int(port))).close()
    except OSError as e:
        raise UserError(
            f"--coordinator {coordinator}: process 0 cannot listen there ({e.strerror}); choose "
            "another port"
        ) from e
