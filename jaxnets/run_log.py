"""A run's log: metrics.jsonl always, TensorBoard events where tensorboardX is installed."""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from jaxnets.errors import UserError

METRICS = "metrics.jsonl"


class Progress(NamedTuple):
    """What a checkpoint says besides its arrays: plain numbers."""

    best_accuracy: float = -1.0
    best_step: int = 0
    seconds: float = 0.0


def epoch_row(
    *, step: int, epoch: int, lr: float, totals: Any, result: Any, seconds: float, speed: float
) -> dict[str, Any]:
    """An epoch's row of metrics.jsonl; losses and accuracies (0..1) are means over images.

    Args:
        totals: the epoch's sums: loss, correct and images over images, grad_norm over steps.
        result: loss and accuracy on the test set.
        seconds: trained since the run began.
        speed: images a second in this epoch.
    """
    return {
        "step": step,
        "epoch": epoch,
        "lr": float(lr),
        "train/loss": float(totals.loss / totals.images),
        "train/accuracy": float(totals.correct / totals.images),
        "eval/loss": result.loss,
        "eval/accuracy": result.accuracy,
        "grad_norm": float(totals.grad_norm / totals.steps),
        "seconds": seconds,
        "images_per_second": speed,
    }


class RunLog:
    """Appends rows to `<workdir>/metrics.jsonl`, and their numbers to TensorBoard.

    A run that goes on from step `resume_step` drops the rows that an interrupted one wrote after
    it: they are about to be written again.
    """

    def __init__(self, workdir: Path, resume_step: int = 0):
        self._path = workdir / METRICS
        if self._path.exists():
            rows = [r for r in read_rows(self._path) if r["step"] <= resume_step]
            write_aside(self._path, "".join(json.dumps(row) + "\n" for row in rows))
        self._events = _event_writer(workdir, resume_step)

    def write(self, row: dict[str, Any]) -> None:
        """One row with a `step`; keys such as "train/loss" become TensorBoard tags."""
        try:
            with open(self._path, "a") as f:
                f.write(json.dumps(row) + "\n")
        except OSError as e:
            raise UserError(f"{self._path}: cannot be written ({e.strerror})") from e
        if self._events is not None:
            for tag, value in row.items():
                if tag not in ("step", "epoch"):
                    self._events.add_scalar(tag, value, row["step"])
            self._events.flush()

    def close(self) -> None:
        if self._events is not None:
            self._events.close()


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl in the order written.

    A line that a killed process left half-written is skipped, also where a resumed one wrote on.
    """
    rows = map(_row, path.read_text(encoding="utf-8", errors="replace").splitlines())
    return [row for row in rows if row is not None]


def _row(line: str) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        return None
    return row if isinstance(row, dict) else None


def write_aside(path: Path, text: str) -> None:
    """Writes a file beside its place and renames it: readers see the old one or the new one."""
    aside = path.with_name(path.name + ".tmp")
    aside.write_text(text)
    os.replace(aside, path)


def _event_writer(workdir: Path, resume_step: int):
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(workdir), purge_step=resume_step + 1 if resume_step else None)
