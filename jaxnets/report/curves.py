"""Learning curves from the metrics.jsonl of one or several runs."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from jaxnets.errors import UserError
from jaxnets.report.figure import COLOURS, STYLE, save

Record = Mapping[str, float]


def read_metrics(path: str | os.PathLike) -> list[dict[str, float]]:
    """The rows of a metrics.jsonl, in the order written.

    A line that a killed process left half-written is skipped, also where a resumed one wrote on.

    Raises:
        UserError: no such file, or no row in it.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as e:
        raise UserError(f"{path}: {e.strerror}; give the metrics.jsonl of a run") from e
    rows = [row for row in map(_row, text.splitlines()) if row is not None]
    if not rows:
        raise UserError(f"{path}: no metrics in it; give the metrics.jsonl of a run")
    return rows


def _row(line: str) -> dict | None:
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        return None
    return row if isinstance(row, dict) else None


def series(records: Sequence[Record], key: str) -> tuple[list[float], list[float]]:
    """Epochs and values of `key`, by increasing epoch.

    `epoch` counts those done when the row was written, with a fraction within an epoch.  Of two
    rows at the same epoch the later one stands: a resumed run writes its last rows anew.
    """
    values = {row["epoch"]: row[key] for row in records if key in row and "epoch" in row}
    values = {epoch: value for epoch, value in values.items() if value is not None}
    epochs = sorted(values)
    return epochs, [values[epoch] for epoch in epochs]


class _Panel(NamedTuple):
    title: str
    unit: str
    keys: tuple[str, ...]
    scale: float = 1.0


_PANELS = (
    _Panel("Loss", "loss (nats)", ("train/loss", "eval/loss")),
    _Panel("Accuracy", "accuracy (%)", ("train/accuracy", "eval/accuracy"), 100.0),
    _Panel("Learning rate", "learning rate", ("lr",)),
)


def plot_curves(
    runs: Mapping[str, Sequence[Record]], path: str | os.PathLike, *, title: str | None = None
) -> Path:
    """Draws loss, accuracy and learning rate against the epoch, and returns `path`.

    Args:
        runs: the rows (`read_metrics`) of each run by its name; several are laid over one another,
            each in its colour, training dashed and evaluation solid.
        path: of the PNG.
        title: above the figure; the name of the run if there is one and this is left out.

    Raises:
        UserError: no run has anything to draw.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    panels = [p for p in _PANELS if any(series(r, k)[0] for r in runs.values() for k in p.keys)]
    if not panels:
        raise UserError(f"no loss, accuracy or learning rate to draw in: {', '.join(runs)}")
    with rc_context(STYLE):
        figure = Figure(figsize=(5.2 * len(panels), 4.8), layout="constrained")
        figure.suptitle(title or (next(iter(runs)) if len(runs) == 1 else None))
        legend: dict[str, object] = {}
        for panel, axes in zip(
            panels, figure.subplots(1, len(panels), squeeze=False)[0], strict=True
        ):
            _draw(axes, panel, runs, legend)
        if legend:
            figure.legend(
                legend.values(), legend, loc="outside lower center", ncols=min(len(legend), 4)
            )
        return save(figure, path)


def _draw(axes, panel: _Panel, runs: Mapping[str, Sequence[Record]], legend: dict) -> None:
    drawn: list[float] = []
    for (name, records), colour in zip(runs.items(), _colours(len(runs)), strict=True):
        for key in panel.keys:
            epochs, values = series(records, key)
            if not epochs:
                continue
            values = [value * panel.scale for value in values]
            drawn += values
            is_train = key.startswith("train/")
            (line,) = axes.plot(
                epochs,
                values,
                # One run has a colour to spare for its training; several need theirs.
                color=COLOURS[1] if is_train and len(runs) == 1 else colour,
                linestyle=(0, (4, 1.5)) if is_train else "-",
                linewidth=1.3 if is_train else 2.0,
                marker="o" if len(epochs) <= 30 else "",
                markersize=3.5,
                zorder=2 if is_train else 3,
            )
            if "/" in key:
                split = "training" if is_train else f"evaluation{_best(records)}"
                legend.setdefault(split if len(runs) == 1 else f"{name}: {split}", line)
    axes.set(title=panel.title, xlabel="epoch", ylabel=panel.unit)
    axes.margins(x=0.02)
    positive = [value for value in drawn if 0 < value < math.inf]
    if panel.unit.startswith("loss") and positive and max(positive) > 10 * min(positive):
        axes.set_yscale("log")


def _best(records: Sequence[Record]) -> str:
    epochs, values = series(records, "eval/accuracy")
    if not values:
        return ""
    best = max(range(len(values)), key=values.__getitem__)
    return f" (best {100 * values[best]:.2f} % at epoch {epochs[best]:g})"


def _colours(n: int) -> Sequence:
    from matplotlib import colormaps

    if n <= len(COLOURS):
        return COLOURS[:n]
    return [colormaps["viridis"](0.92 * i / (n - 1)) for i in range(n)]
