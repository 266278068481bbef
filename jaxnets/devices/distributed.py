"""Many processes that train as one, on one machine or on many; the first of them speaks and writes.

Every process runs the same command and takes the same steps.  Here is how they start, agree and
end: what one process is told to do (a signal), or fails at, all do.  A run of one process pays
nothing for it.
"""

import argparse
import contextlib
import os
import re
import sys
import time
import traceback
import zlib
from collections.abc import Iterator
from typing import Any, NoReturn

import numpy as np

from jaxnets import cli
from jaxnets import config as configs
from jaxnets.devices import rendezvous
from jaxnets.errors import UserError
from jaxnets.signals import StopSignal, TimeBudget

# In errors that jax raises when another process is gone; sometimes its runtime aborts instead.
_PEER_LOST = re.compile("Gloo|NCCL|UNAVAILABLE|[Cc]oordination|[Hh]eartbeat|Connection reset")
# Keys that hosts may see differently without training on something else.
_OWN_KEYS = ("data.dir", "data.cache")
_LONGEST = 4096  # bytes of an error that other processes repeat


def add_flags(parser: cli.Parser) -> None:
    """Adds --distributed and what belongs to it."""
    group = parser.add_argument_group("several processes")
    add = group.add_argument
    add("--distributed", action="store_true", help="train in several processes together")
    add("--coordinator", metavar="HOST:PORT", help="of process 0 (default: the cluster's)")
    add(
        "--num-processes",
        type=cli.whole(1),
        metavar="N",
        help="how many there are (default: the cluster's)",
    )
    add(
        "--process-id",
        type=cli.whole(0),
        metavar="I",
        help="which one this is, from 0 (default: the cluster's)",
    )


def check_flags(args: argparse.Namespace, config: Any) -> None:
    """Raises a UserError for flags that do not go together."""
    coordinator, count, me = args.coordinator, args.num_processes, args.process_id
    given = {"--coordinator": coordinator, "--num-processes": count, "--process-id": me}
    if not args.distributed:
        for flag, value in given.items():
            if value is not None:
                raise UserError(f"{flag}: only with --distributed")
        return
    if config.parallel != "jit":
        raise UserError(f"--distributed: not with config.parallel={config.parallel}; use jit")
    if config.devices is not None:
        raise UserError(
            f"--distributed: config.devices={config.devices} must be left out (None); every "
            "process uses all devices that it sees"
        )
    for flag, value in given.items():
        if value is not None and coordinator is None:
            raise UserError(f"{flag}: only with --coordinator HOST:PORT")
    if coordinator is not None:
        port = re.fullmatch(r"\S+:(\d{1,5})", coordinator)
        if not port or not 1 <= int(port[1]) <= 65535:
            raise UserError(f"--coordinator {coordinator}: HOST:PORT, e.g. 10.0.0.1:12345")
    if me is not None and count is not None and me >= count:
        raise UserError(f"--process-id {me}: from 0 to {count - 1}, one less than --num-processes")


@contextlib.contextmanager
def processes(args: argparse.Namespace, config: Any) -> Iterator[None]:
    """Joins the processes of a command with these flags, and leaves them together at the end.

    Where --coordinator and the others are not given, jax finds them: SLURM, Kubernetes (with the
    package `kubernetes`), Open MPI, cloud TPUs.  Use it before the first array.

    After an error the process is ended here, with the words and the exit code of its command: jax
    would wait for the others for minutes.

    Raises:
        UserError: flags that are wrong, or a port that is in use.
    """
    check_flags(args, config)
    if not args.distributed:
        yield
        return
    rendezvous.connect(args.coordinator, args.num_processes, args.process_id)
    import jax

    try:
        # Connects the devices while all are here: jax gives the last process half a minute.
        check_same("the configuration", _shared_keys(config))
        yield
    except BaseException as error:
        _end(error)
    jax.distributed.shutdown()


def is_main() -> bool:
    """Whether this process is the one that prints and writes."""
    import jax

    return jax.process_index() == 0


@contextlib.contextmanager
def together() -> Iterator[None]:
    """What fails within it in one process fails in all, with the same message.

    Raises:
        UserError: of the lowest process that failed; this process's own error if it did.
    """
    import jax

    if jax.process_count() == 1:
        yield
        return
    own = None
    try:
        yield
    except Exception as e:
        own = e
    errors = _exchange("" if own is None else str(own) or type(own).__name__)
    if own is not None:
        raise own
    for process, error in enumerate(errors):
        if error:
            raise UserError(f"process {process}: {error}")


def check_same(what: str, value: Any) -> None:
    """Raises a UserError in all processes unless `value`, a text or a tree of arrays, is the same.

    Replicated arrays that differ would train on silently, each process its own network.
    """
    import jax

    if jax.process_count() == 1:
        return
    crc = 0
    for leaf in jax.tree.leaves(value):
        crc = zlib.crc32(
            leaf.encode() if isinstance(leaf, str) else np.asarray(leaf).tobytes(), crc
        )
    found = _gather(np.uint32(crc))
    for process, other in enumerate(found):
        if other != found[0]:
            raise UserError(
                f"{what} of process {process} is not that of process 0: give all of them the same "
                "command, data and, on a file system that all of them see, --workdir"
            )


def agreed_stop(stop: StopSignal) -> Any:
    """A signal to one process as one to all; all must ask for `received` equally often."""
    import jax

    return stop if jax.process_count() == 1 else _AgreedStop(stop)


def agreed_budget(minutes: float | None) -> TimeBudget:
    """A TimeBudget that is spent in all processes once it is in one; all must ask equally often."""
    import jax

    one = minutes is None or jax.process_count() == 1
    return TimeBudget(minutes) if one else _AgreedBudget(minutes)


class _AgreedStop:
    def __init__(self, stop: StopSignal):
        self._stop, self._agreed = stop, 0

    @property
    def received(self) -> int | None:
        self._agreed = self._agreed or _largest(self._stop.received or 0)
        return self._agreed or None


class _AgreedBudget(TimeBudget):
    def spent(self) -> bool:
        return bool(_largest(super().spent()))


def agreed_number(mine: int) -> int:
    """The largest of the numbers that the processes bring; all must ask equally often."""
    import jax

    return mine if jax.process_count() == 1 else _largest(mine)


def _largest(value: int) -> int:
    """The largest of all processes' values; waits for the steps before."""
    return int(_gather(np.int32(value)).max())


def _gather(mine: np.ndarray) -> np.ndarray:
    """What each process brings, of one shape and type, along a new first axis."""
    from jax.experimental.multihost_utils import process_allgather

    return process_allgather(mine)


def _end(error: BaseException) -> NoReturn:
    """Ends this process as its command would, but without waiting for the others."""
    lost = _peer_lost(error)

    def again(_: Any) -> NoReturn:
        raise error

    code = 1
    try:
        if not lost:
            cli.run(again)
    except SystemExit as e:
        code = e.code
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    if is_main():  # the others lose their coordinator with it: let them speak first
        time.sleep(2)
    if lost:
        rendezvous.say_last_words()
    os._exit(code)


def _peer_lost(error: BaseException | None) -> bool:
    """Whether an error, or what it came from, says that another process is gone."""
    if error is None:
        return False
    from_jax = isinstance(error, RuntimeError | ValueError)
    return bool(from_jax and _PEER_LOST.search(str(error))) or _peer_lost(error.__cause__)


def _exchange(text: str) -> list[str]:
    """Every process's text, cut to `_LONGEST` bytes; waits for all, however long they take."""
    mine = np.frombuffer(text.encode()[:_LONGEST].ljust(_LONGEST, b"\0"), np.uint8)
    return [bytes(row).rstrip(b"\0").decode(errors="replace") for row in _gather(mine)]


def _shared_keys(config: Any) -> str:
    keys = configs.flatten(config.to_dict())
    return str(sorted((k, str(v)) for k, v in keys.items() if k not in _OWN_KEYS))
