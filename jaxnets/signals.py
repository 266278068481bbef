"""How a process is told to end: SIGINT (Ctrl-C), SIGTERM, SIGHUP (its terminal is gone); its time.

Python runs a handler in the main thread and between two of its instructions: not while XLA compiles
or a device works, and what it raises is lost where nothing may be raised, such as in a callback of
the garbage collector.  So nothing is raised here: the C code of Python's `signal` writes the number
into a pipe at once, and a thread that reads there ends the process, or tells the `StopSignal` that
waits for it.  Imports nothing that takes time: it listens while the rest is imported.
"""

import contextlib
import os
import select
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import NoReturn

WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "hung up"}
"""What a process says that one of them ends at once; its exit code is 128 + the number."""
ANSWER = "stopping after this step; again to end now"
# Seconds: what comes again before the answer is the same signal, as timeout(1) sends it.
_ONE = 0.05
_PATIENCE = 0.5  # seconds to wait for another thread before the process ends without it

_listening = _ending = False
_parked = threading.Event()
_stops: list["StopSignal"] = []
_undo: list[Callable[[], object]] = []
_noted: int | None = None
_forking = threading.local()


class StopSignal:
    """Notes a signal, so that a loop can save before it ends; a second one ends the process.

    The first one is answered at once with a line.  SIGHUP again changes nothing: a shell whose
    terminal is gone sends it more than once.

    >>> with StopSignal() as stop:
    ...     stop.received is None
    True
    """

    def __init__(self):
        self.received: int | None = None

    def __enter__(self) -> "StopSignal":
        self._restore = _install()
        _stops.append(self)
        return self

    def __exit__(self, *exc: object) -> None:
        _stops.remove(self)
        self._restore()


class TimeBudget:
    """How long a loop may take before it saves and ends: `minutes` from now on; None: for ever."""

    def __init__(self, minutes: float | None):
        self._end = None if minutes is None else time.monotonic() + 60 * minutes

    def spent(self) -> bool:
        """Whether it is over."""
        return self._end is not None and time.monotonic() >= self._end


def listen() -> None:
    """From now on a signal ends this process: with one line, and nothing half-written left."""
    _install()


def is_command() -> bool:
    """Whether this process was started as `python -m` and one of the commands."""
    with contextlib.suppress(ValueError, IndexError):
        module = sys.orig_argv[sys.orig_argv.index("-m") + 1]
        return module.partition(".")[0] in ("jaxnets", "torch_ref")
    return False


@contextlib.contextmanager
def undoing(undo: Callable[[], object]) -> Iterator[None]:
    """Calls `undo` if a signal ends the process meanwhile; the main thread is stopped by then."""
    _undo.append(undo)
    try:
        yield
    finally:
        _undo.remove(undo)


def exit_code(code: int) -> int:
    """What a process exits with that wanted `code`: a signal that it has answered is not lost."""
    return code if _noted is None else 128 + _noted


def _install() -> Callable[[], None]:
    """Listens; returns what ends that.  Does nothing where one listens, or outside main."""
    global _listening
    if _listening or threading.current_thread() is not threading.main_thread():
        return lambda: None
    _listening = True
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_hear, args=(reader,), name="signals", daemon=True).start()
    old = {}
    for number in WORDS:
        # Under nohup it stays ignored.  SIGINT does not, though a script's shell ignores it for
        # what it runs in the background: whoever sends it there means it.
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            old[number] = signal.signal(number, _in_main_thread)

    def restore() -> None:
        global _listening, _noted
        for number, handler in old.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(before)
        os.close(writer)
        _listening, _noted = False, None

    return restore


def _in_main_thread(number: int, frame: object) -> None:
    if _ending:
        _parked.set()
        while True:
            time.sleep(60)


def _hear(reader: int) -> None:
    """The thread that reads the pipe, until its other end is closed."""
    while numbers := os.read(reader, 64):
        if any(stop.received is None for stop in _stops):
            # Before anybody can see that one came: what follows an answer is another one.
            time.sleep(_ONE)
            with contextlib.suppress(BlockingIOError):
                os.set_blocking(reader, False)
                numbers += os.read(reader, 64)
            os.set_blocking(reader, True)
        for number in dict.fromkeys(numbers):
            if number in WORDS:  # not those of others, such as an alarm's
                _heard(signal.Signals(number))
    os.close(reader)


def _heard(number: signal.Signals) -> None:
    global _noted
    waiting = [stop for stop in _stops if stop.received is None]
    if not waiting:
        if not _stops or number != signal.SIGHUP:
            _end(number)
        return
    _leave_lost_terminal()
    _noted = number
    for stop in waiting:
        stop.received = number
    _say(ANSWER)


def _end(number: signal.Signals) -> NoReturn:
    global _ending
    _ending = True
    _leave_lost_terminal()
    _say(WORDS[number])
    # The main thread must not work on meanwhile; it stops unless it is deep in other code.
    signal.pthread_kill(threading.main_thread().ident, number)
    _parked.wait(_PATIENCE)
    for undo in reversed(_undo):
        with contextlib.suppress(Exception):
            undo()
    if "multiprocessing" in sys.modules:
        for child in sys.modules["multiprocessing"].active_children():
            child.kill()
    # In a thread: the main one may hold the stream's lock.
    flush = threading.Thread(target=_flush, daemon=True)
    flush.start()
    flush.join(4 * _PATIENCE)
    # Neither atexit nor destructors: threads that compile would make them crash.
    os._exit(128 + number)


def _flush() -> None:
    with contextlib.suppress(Exception):
        sys.stdout.flush()


def _say(text: str) -> None:
    """Past Python's streams, whose locks the main thread may hold; below a bar on a terminal."""
    line = f"\n{text}\n" if os.isatty(2) else f"{text}\n"
    with contextlib.suppress(OSError):
        os.write(2, line.encode())


def _leave_lost_terminal() -> None:
    """What is printed to a terminal that is gone goes nowhere: it would be an error."""
    for stream in (1, 2):
        with contextlib.suppress(OSError):
            if stat.S_ISCHR(os.fstat(stream).st_mode) and _hung_up(stream):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream)
                os.close(nowhere)


def _hung_up(stream: int) -> bool:
    poll = select.poll()
    poll.register(stream, 0)  # POLLHUP is always reported
    return any(event & (select.POLLHUP | select.POLLERR) for _, event in poll.poll(0))


def _before_fork() -> None:
    """What a child is sent before it has its own handlers would go to its parent's pipe."""
    if _listening:
        _forking.mask = signal.pthread_sigmask(signal.SIG_BLOCK, WORDS)


def _after_fork() -> None:
    if hasattr(_forking, "mask"):
        signal.pthread_sigmask(signal.SIG_SETMASK, _forking.mask)
        del _forking.mask


def _in_forked_child() -> None:
    """A child that runs no other program must not speak for its parent."""
    global _listening
    if _listening:
        _listening = False
        _stops.clear()
        signal.set_wakeup_fd(-1)
        for number in WORDS:
            if signal.getsignal(number) is _in_main_thread:
                signal.signal(number, signal.SIG_DFL)
    _after_fork()


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork, after_in_child=_in_forked_child
)
