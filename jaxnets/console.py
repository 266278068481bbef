"""What a trainer says while it trains; the trainers of both frameworks say it with these.

Imports neither jax nor torch.  `totals` are an epoch's sums so far, as plain numbers: loss, correct
and images over images, grad_norm over steps.
"""

import math
import sys
import time
from pathlib import Path
from typing import Any

from jaxnets.data import Dataset
from jaxnets.errors import UserError
from jaxnets.run_log import Progress


class Diverged(UserError):
    """The loss or the gradients were not finite in `steps` (from 0), or in one of them."""

    def __init__(self, steps: range):
        self.steps = steps
        super().__init__(
            f"the loss or the gradients are not finite: seen at step {steps.stop}; the last "
            "checkpoint is kept; try a smaller config.optim.lr, config.optim.clip, or "
            "config.on_nan=restore"
        )


def header(*, validation: bool = False) -> str:
    """The names of `epoch_line`'s columns."""
    val = "    val loss     acc " if validation else ""
    return (
        f" epoch     step         lr  train loss     acc{val}   test loss     acc"
        "     images/s   time left"
    )


def opening(config: Any, parameters: int, data: Dataset, devices: str, workdir: Path) -> str:
    """What is trained, on what, and where it goes."""
    sizes = " + ".join(f"{len(labels):,}" for labels in (data.train_labels, data.test_labels))
    return (
        f"{config.model.name}: {parameters:,} parameters; {data.source}: {sizes} images; "
        f"{devices}; workdir {workdir}"
    )


def epoch_line(config: Any, row: dict[str, Any], best: bool) -> str:
    """An epoch's row of metrics.jsonl under `header`; a star marks the best one so far."""
    splits = [f"{row[f'{s}/loss']:11.4f} {row[f'{s}/accuracy']:7.2%}" for s in _splits(row)]
    star = "*" if best else " "
    splits[1] += star
    left = (config.num_epochs - row["epoch"]) * row["seconds"] / row["epoch"]
    return (
        f"{row['epoch']:6d} {row['step']:8d} {row['lr']:10.6f} {' '.join(splits)} "
        f"{row['images_per_second']:11.0f} {clock(left):>11}"
    )


def _splits(row: dict[str, Any]) -> list[str]:
    """Those of a row; the second one chooses the best checkpoint."""
    return ["train", *(["val"] if "val/loss" in row else []), "eval"]


def closing(config: Any, progress: Progress, selected_on: str = "test") -> str:
    """What came out; `selected_on` is the split that chose the best checkpoint."""
    split = {"val": "validation"}.get(selected_on, selected_on)
    skipped = f"; {progress.skipped} steps skipped" if progress.skipped else ""
    return (
        f"done: {config.num_epochs} epochs in {clock(progress.seconds)}; best {split} accuracy "
        f"{progress.best_accuracy:.2%} at step {progress.best_step}{skipped}"
    )


def stopped(step: int, last_step: int) -> str:
    """How to go on, where a signal or the time budget ended a run."""
    return f"stopped and saved at step {step} of {last_step}; the same command goes on from there"


def clock(seconds: float) -> str:
    """
    >>> clock(3725.2)
    '1:02:05'
    """
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"


class EpochBar:
    """The progress of an epoch; a context manager.

    A bar on a terminal; elsewhere, as in a log file, a line a minute.
    """

    def __init__(self, config: Any, epoch: int, done: int, steps: int, quiet: bool = False):
        from tqdm import tqdm

        self._bar = tqdm(
            total=steps,
            initial=done,
            desc=f"epoch {epoch + 1}/{config.num_epochs}",
            unit="step",
            leave=False,
            disable=quiet or not sys.stderr.isatty(),
        )
        self._name, self._steps = f"epoch {epoch + 1}", steps
        self._next_line = math.inf if quiet or not self._bar.disable else time.monotonic() + 60

    def __enter__(self) -> "EpochBar":
        return self

    def __exit__(self, *exc: object) -> None:
        self._bar.close()

    def update(self, done: int, totals: Any) -> None:
        """Shows that `done` steps of the epoch are done."""
        if not totals.images:  # all of them were skipped
            return
        loss, acc = f"{totals.loss / totals.images:.3f}", f"{totals.correct / totals.images:.1%}"
        self._bar.set_postfix(loss=loss, acc=acc, refresh=False)
        self._bar.update(done - self._bar.n)
        if time.monotonic() > self._next_line:
            self._next_line = time.monotonic() + 60
            print(f"{self._name}: step {done}/{self._steps}, loss {loss}, acc {acc}", flush=True)


def check_finite(totals: Any, steps: range) -> None:
    """Raises Diverged if loss or gradients were not finite within `steps`, the last ones done."""
    if not math.isfinite(totals.loss + totals.grad_norm):
        raise Diverged(steps)
