"""What a run writes down of itself, in rows: of each epoch, and of each start.

metrics.jsonl always, TensorBoard events where tensorboardX is installed; starts.jsonl has command,
date, hardware and versions.
"""

import contextlib
import json
import shlex
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from jaxnets.files import jsonl
from jaxnets.files.atomic import write_text, writing

METRICS, STARTS = "metrics.jsonl", "starts.jsonl"


class Progress(NamedTuple):
    """What a checkpoint says besides its arrays: plain numbers."""

    best_accuracy: float = -1.0
    best_step: int = 0
    seconds: float = 0.0
    skipped: int = 0
    """Steps left out after a loss that was not finite."""


def epoch_row(
    *,
    step: int,
    epoch: int,
    lr: float,
    totals: Any,
    test: Any,
    val: Any = None,
    seconds: float,
    speed: float,
) -> dict[str, Any]:
    """An epoch's row of metrics.jsonl; losses and accuracies (0..1) are means over images.

    Args:
        totals: the epoch's sums: loss, correct and images over images, grad_norm over steps.
        test, val: loss and accuracy on the test set and on the validation split, if there is one.
        seconds: trained since the run began.
        speed: images a second in this epoch.
    """
    return {
        "step": step,
        "epoch": epoch,
        "lr": float(lr),
        "train/loss": float(totals.loss / totals.images),
        "train/accuracy": float(totals.correct / totals.images),
        **({} if val is None else {"val/loss": val.loss, "val/accuracy": val.accuracy}),
        "eval/loss": test.loss,
        "eval/accuracy": test.accuracy,
        "grad_norm": float(totals.grad_norm / totals.steps),
        "seconds": seconds,
        "images_per_second": speed,
    }


class Events:
    """TensorBoard's events: appends to a new `<workdir>/events.out.tfevents...`, at once.

    tensorboardX's SummaryWriter writes in another thread, which ends at the first error, such as a
    full disk, and then blocks whoever logs; its records are used here without it.

    Args:
        resume_step: TensorBoard hides what earlier files hold after this step.

    Raises:
        ImportError: tensorboardX is not installed.
        OSError: the file cannot be written; so do `write` and `close`.
    """

    def __init__(self, workdir: Path, resume_step: int = 0):
        with _no_torch():
            from tensorboardX import RecordWriter

        now = time.time()
        self._path = workdir / f"events.out.tfevents.{now:.6f}.{socket.gethostname()}"
        self._records = RecordWriter(str(self._path))
        self._add(file_version="brain.Event:2", wall_time=now)
        if resume_step:
            from tensorboardX.proto.event_pb2 import SessionLog

            start = SessionLog(status=SessionLog.START)
            self._add(session_log=start, step=resume_step + 1, wall_time=now)

    def write(self, step: int, values: dict[str, float]) -> None:
        """One event that holds all values, by tag."""
        from tensorboardX.proto.summary_pb2 import Summary

        scalars = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        self._add(summary=Summary(value=scalars), step=step, wall_time=time.time())
        self._records.flush()

    def images(self, step: int, pngs: dict[str, bytes]) -> None:
        """One event that holds all images, PNGs of RGBA by tag."""
        from tensorboardX.proto.summary_pb2 import Summary

        def image(png: bytes) -> Summary.Image:
            width, height = struct.unpack(">II", png[16:24])
            return Summary.Image(width=width, height=height, colorspace=4, encoded_image_string=png)

        values = [Summary.Value(tag=tag, image=image(png)) for tag, png in pngs.items()]
        self._add(summary=Summary(value=values), step=step, wall_time=time.time())
        self._records.flush()

    def close(self) -> None:
        """Closes the file, whatever is wrong with it: `write` has flushed all."""
        with contextlib.suppress(OSError):
            self._records.close()

    def _add(self, **fields) -> None:
        from tensorboardX.proto.event_pb2 import Event

        self._records.write(Event(**fields).SerializeToString())


class RunLog:
    """Appends rows to `<workdir>/metrics.jsonl`, and their numbers to TensorBoard.

    A run that resumes at step `resume_step` drops the rows that an interrupted one wrote after
    it: they are about to be written again.
    """

    def __init__(self, workdir: Path, resume_step: int = 0):
        self._path = workdir / METRICS
        if self._path.exists():
            rows = [r for r in read_rows(self._path) if r["step"] <= resume_step]
            write_text(self._path, "".join(json.dumps(row) + "\n" for row in rows))
        self._events = None
        with writing(workdir), contextlib.suppress(ImportError):
            self._events = Events(workdir, resume_step)

    def write(self, row: dict[str, Any]) -> None:
        """One row with a `step`; keys such as "train/loss" become TensorBoard tags."""
        jsonl.append(self._path, row)
        if self._events is not None:
            values = {k: v for k, v in row.items() if k not in ("step", "epoch")}
            with writing(self._path):
                self._events.write(row["step"], values)

    def images(self, step: int, draw: Callable[[], dict[str, bytes]]) -> None:
        """PNGs by tag for TensorBoard; drawn where tensorboardX and what draws are installed."""
        if self._events is None:
            return
        with writing(self._path.parent), contextlib.suppress(ImportError):
            self._events.images(step, draw())

    def close(self) -> None:
        if self._events is not None:
            self._events.close()


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl in the order written.

    Skipped is what is no row: a line that a killed process left half-written, also where a resumed
    one wrote on, and whatever else has no step, a null for an epoch, or not only numbers and nulls.
    """
    return [row for row in jsonl.read(path) if _is_row(row)]


def _is_row(row: Any) -> bool:
    if not isinstance(row, dict) or not isinstance(row.get("step"), int):
        return False
    numbers = all(isinstance(x, int | float | None) for x in row.values())
    return numbers and row.get("epoch", 0) is not None


def record_start(workdir: Path, module: str, argv: Sequence[str], found: Mapping[str, Any]) -> None:
    """Adds a start, of the command and the date and what was `found`, to the workdir's record.

    Raises:
        UserError: it cannot be written.
    """
    row = {
        "command": shlex.join(["python", "-m", module, *argv]),
        "date": datetime.now(UTC).isoformat(sep=" ", timespec="seconds"),
        **found,
    }
    jsonl.append(workdir / STARTS, row)


def first_start(workdir: Path) -> dict[str, Any]:
    """The first start of a run, as long as it became; empty for one that kept no record."""
    try:
        rows = jsonl.read(workdir / STARTS)
    except OSError:
        return {}
    starts = [row for row in rows if isinstance(row, dict)]
    return max(starts, key=lambda start: start.get("epochs", 0), default={})


@contextlib.contextmanager
def _no_torch() -> Iterator[None]:
    """Imports find no torch: tensorboardX would take seconds and 200 MB for a name in its hints."""
    if "torch" in sys.modules:
        yield
        return
    sys.modules["torch"] = None
    try:
        yield
    finally:
        del sys.modules["torch"]
