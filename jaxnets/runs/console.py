"""What a trainer says while it trains; the trainers of both frameworks say it with these.

Imports neither jax nor torch.  `totals` are an epoch's sums so far, as plain numbers: loss, correct
and images over images, grad_norm over steps.
"""

import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

from jaxnets.data import Dataset
from jaxnets.errors import UserError
from jaxnets.runs.log import Progress
from jaxnets.runs.workdir import CONFIG


class Diverged(UserError):
    """The loss or the gradients were not finite in `steps` (from 0), or in one of them.

    `kept` is the step of the newest checkpoint, if there is one.
    """

    def __init__(self, steps: range, kept: int | None = None):
        self.steps = steps
        checkpoint = "" if kept is None else f"the checkpoint of step {kept} is kept; "
        super().__init__(
            f"the loss or the gradients are not finite: seen at step {steps.stop}; {checkpoint}"
            "try a smaller config.optim.lr, config.optim.clip, or config.on_nan=restore"
        )


def initial(init: Path, drawn: Sequence[str]) -> str:
    """Which weights a run starts from; `drawn`: the tensors that are not from there."""
    rest = f", but {', '.join(drawn)} drawn anew for the classes here" if drawn else ""
    return f"starting from the weights of {init}{rest}"


def not_initial(init: Path, workdir: Path) -> str:
    """That a run resumes from its own checkpoint, whatever it is to start from."""
    return f"--init {init} is not read: {workdir} resumes from its own checkpoint"


def opening(config: Any, parameters: int, data: Dataset, devices: str, workdir: Path) -> str:
    """What is trained, on what, how, and where it goes; two lines."""
    sizes = " + ".join(f"{len(labels):,}" for labels in (data.train_labels, data.test_labels))
    return (
        f"{config.model.name}: {parameters:,} parameters; {data.source}: {sizes} images; "
        f"{devices}; workdir {workdir}\n"
        f"{config.optim.name}, lr {config.optim.lr:g}, {config.schedule.name}; "
        f"{config.num_epochs} epochs in batches of {config.batch_size}, {config.dtype}, "
        f"seed {config.seed}; all keys in {workdir / CONFIG}"
    )


class EpochTable:
    """A line an epoch, of columns that fit the terminal: the least important ones go first."""

    def __init__(self, config: Any, *, validation: bool = False, width: int | None = None):
        """`validation`: whether there is a split for it; `width`: None is that of the terminal."""
        self._config, self._selected_on = config, "val" if validation else "eval"
        width = (terminal_width(sys.stdout) or math.inf) if width is None else width
        splits = ["train", *(["val"] if validation else []), "eval"]
        # The names of columns, and how many characters each takes, in the order they are shown.
        found = {"epoch": 6, "step": 8, "lr": 10}
        for split in splits:
            found[f"{split}/loss"] = 11
            found[f"{split}/accuracy"] = 7 + (split == self._selected_on)
        self._columns = found | {"images/s": 11, "time left": 11}
        least_important_first = ("images/s", "lr", "step", "eval/loss", "val/loss", "train/loss")
        for name in (*least_important_first, "train/accuracy"):
            if sum(self._columns.values()) + len(self._columns) - 1 <= width:
                break
            self._columns.pop(name, None)
            if name.endswith("/loss"):  # beside it, the accuracy needs no name
                accuracy = name.replace("loss", "accuracy")
                if accuracy in self._columns:
                    self._columns[accuracy] = 10

    def header(self) -> str:
        """The names of the columns."""
        return self._join({name: self._title(name) for name in self._columns})

    def line(self, row: dict[str, Any], best: bool) -> str:
        """An epoch's row of metrics.jsonl; a star marks the best one so far."""
        left = (self._config.num_epochs - row["epoch"]) * row["seconds"] / row["epoch"]
        cells = {
            "epoch": f"{row['epoch']:d}",
            "step": f"{row['step']:d}",
            "lr": f"{row['lr']:.6f}",
            "images/s": f"{row['images_per_second']:.0f}",
            "time left": clock(left),
        }
        for name in self._columns.keys() - cells.keys():
            cells[name] = f"{row[name]:.4f}" if name.endswith("loss") else f"{row[name]:.2%}"
        chosen_by = f"{self._selected_on}/accuracy"
        cells[chosen_by] += "*" if best else " "
        return self._join(cells)

    def _title(self, name: str) -> str:
        split, _, what = name.partition("/")
        split = {"eval": "test"}.get(split, split)
        if what == "loss":
            return f"{split} loss"
        if what != "accuracy":
            return name
        title = "acc" if name.replace("accuracy", "loss") in self._columns else f"{split} acc"
        return title + " " * name.startswith(self._selected_on)

    def _join(self, cells: dict[str, str]) -> str:
        return " ".join(f"{cells[name]:>{width}}" for name, width in self._columns.items())


def resuming(workdir: Path, step: int, last_step: int, unevaluated: bool) -> str:
    """From where a run goes on; `unevaluated`: whether the evaluation of its last epoch is left."""
    where = ", before its evaluation" if unevaluated else ""
    return f"resuming {workdir} at step {step} of {last_step}{where}"


def trained_already(config: Any, step: int, workdir: Path) -> str:
    """That there is nothing to do."""
    return f"already trained: {config.num_epochs} epochs, {step} steps in {workdir}"


def closing(config: Any, progress: Progress, selected_on: str = "test", overflowed: int = 0) -> str:
    """What came out.

    Args:
        selected_on: the split that chose the best checkpoint.
        overflowed: steps that loss scaling left out.
    """
    split = {"val": "validation"}.get(selected_on, selected_on)
    skipped = f"; {progress.skipped} steps skipped" if progress.skipped else ""
    skipped += f"; {overflowed} steps overflowed float16" if overflowed else ""
    return (
        f"done: {config.num_epochs} epochs in {clock(progress.seconds)}; best {split} accuracy "
        f"{progress.best_accuracy:.2%} at step {progress.best_step}{skipped}"
    )


def stopped(step: int, last_step: int) -> str:
    """How to resume a run that a signal or the time budget ended."""
    return f"stopped and saved at step {step} of {last_step}; the same command resumes from there"


def clock(seconds: float) -> str:
    """
    >>> clock(3725.2)
    '1:02:05'
    """
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"


def terminal_width(stream: TextIO) -> int | None:
    """Its columns; None where it is no terminal."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return None


class EpochBar:
    """The progress of an epoch; a context manager.

    A bar on a terminal, which moves with every step and shows loss and accuracy every second;
    elsewhere, as in a log file, a line a minute.
    """

    def __init__(self, config: Any, epoch: int, done: int, steps: int, quiet: bool = False):
        width = None if quiet else terminal_width(sys.stderr)
        self._bar = NoBar() if width is None else _bar(config, epoch, done, steps, width)
        self._name, self._steps = f"epoch {epoch + 1}", steps
        self._every = 1 if width else 60
        self._next = math.inf if quiet else time.monotonic() + (0 if width else self._every)

    def __enter__(self) -> "EpochBar":
        return self

    def __exit__(self, *exc: object) -> None:
        self._bar.close()

    def show(self, done: int, read: Callable[[], Any]) -> None:
        """Shows that `done` steps of the epoch are done; now and then also what `read` gives."""
        if time.monotonic() >= self._next:
            self.update(done, read())
        else:
            self._bar.update(done - self._bar.n)

    def update(self, done: int, totals: Any) -> None:
        """Shows the same, with loss and accuracy."""
        if totals.images:  # else all of them were skipped
            loss = f"{totals.loss / totals.images:.3f}"
            acc = f"{totals.correct / totals.images:.1%}"
            self._bar.set_postfix(loss=loss, acc=acc, refresh=False)
            if time.monotonic() >= self._next:
                self._next = time.monotonic() + self._every
                if self._bar.disable:
                    line = f"{self._name}: step {done}/{self._steps}, loss {loss}, acc {acc}"
                    print(line, flush=True)
        self._bar.update(done - self._bar.n)


class NoBar:
    """Stands for tqdm's bar where none is shown, or tqdm is not installed."""

    disable, n = True, 0

    def __init__(self, **_: Any):
        pass

    def __enter__(self) -> "NoBar":
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def update(self, n: int = 1) -> None:
        """Nothing."""

    def set_postfix(self, **_: Any) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def _bar(config: Any, epoch: int, done: int, steps: int, width: int) -> Any:
    """A bar on a terminal of that width; none without tqdm, which only a terminal needs."""
    try:
        from tqdm import tqdm
    except ImportError:
        return NoBar()
    return tqdm(
        total=steps,
        initial=done,
        desc=f"epoch {epoch + 1}/{config.num_epochs}",
        unit="step",
        leave=False,
        miniters=1,
        bar_format=_bar_format(width),
    )


def _bar_format(width: int) -> str | None:
    """tqdm's, shorter in a narrow terminal: what does not fit would be cut within a number."""
    if width >= 100:
        return None
    if width >= 64:
        return "{desc}{n_fmt}/{total_fmt} |{bar}| {remaining} left{postfix}"
    return "{desc}{n_fmt}/{total_fmt}, {remaining} left"


def check_finite(totals: Any, steps: range) -> None:
    """Raises Diverged if loss or gradients were not finite within `steps`, the last ones done."""
    if not math.isfinite(totals.loss + totals.grad_norm):
        raise Diverged(steps)
