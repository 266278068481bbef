"""A run's log: metrics.jsonl always, TensorBoard events where tensorboardX is installed."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from jaxnets.errors import UserError
from jaxnets.files.atomic import write_text
from jaxnets.files.regular import open_file, parse_json, read_text
from jaxnets.runs.tensorboard import Events

METRICS = "metrics.jsonl"


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
        try:
            self._events = Events(workdir, resume_step)
        except ImportError:
            self._events = None
        except OSError as e:
            raise UserError(f"{workdir}: cannot be written ({e.strerror})") from e

    def write(self, row: dict[str, Any]) -> None:
        """One row with a `step`; keys such as "train/loss" become TensorBoard tags."""
        try:
            with open_file(self._path, "a") as f:
                f.write(json.dumps(row) + "\n")
            if self._events is not None:
                values = {k: v for k, v in row.items() if k not in ("step", "epoch")}
                self._events.write(row["step"], values)
        except OSError as e:
            raise UserError(f"{self._path}: cannot be written ({e.strerror})") from e

    def images(self, step: int, draw: Callable[[], dict[str, bytes]]) -> None:
        """PNGs by tag for TensorBoard; drawn where tensorboardX and what draws are installed."""
        if self._events is None:
            return
        try:
            with contextlib.suppress(ImportError):
                self._events.images(step, draw())
        except OSError as e:
            raise UserError(f"{self._path.parent}: cannot be written ({e.strerror})") from e

    def close(self) -> None:
        if self._events is not None:
            self._events.close()


class NoLog:
    """The log of a process that leaves it to another one."""

    def __init__(self, workdir: Path, resume_step: int = 0):
        pass

    def write(self, row: dict[str, Any]) -> None:
        """Nothing."""

    def images(self, step: int, draw: Callable[[], dict[str, bytes]]) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl in the order written.

    Skipped is what is no row: a line that a killed process left half-written, also where a resumed
    one wrote on, and whatever else has no step, a null for an epoch, or not only numbers and nulls.
    """
    rows = map(_row, read_text(path, errors="replace").splitlines())
    return [row for row in rows if row is not None]


def _row(line: str) -> dict[str, Any] | None:
    try:
        row = parse_json(line)
    except ValueError:
        return None
    if not isinstance(row, dict) or not isinstance(row.get("step"), int):
        return None
    if row.get("epoch", 0) is None:
        return None
    return row if all(isinstance(x, int | float | None) for x in row.values()) else None
