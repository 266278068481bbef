"""Learning curves from the metrics.jsonl of one or several runs."""

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from jaxnets.errors import UserError
from jaxnets.report.figure import COLOURS, GREY, STYLE, save
from jaxnets.run_log import read_rows

Record = Mapping[str, float]


def read_metrics(path: str | os.PathLike) -> list[dict[str, float]]:
    """The rows of a metrics.jsonl (`jaxnets.run_log.read_rows`), at least one.

    Raises:
        UserError: no such file, or no row in it.
    """
    path = Path(path)
    try:
        rows = read_rows(path)
    except OSError as e:
        raise UserError(f"{path}: {e.strerror}; give the metrics.jsonl of a run") from e
    if not rows:
        raise UserError(f"{path}: no metrics in it; give the metrics.jsonl of a run")
    return rows


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
    entries = _legend(runs)
    columns = max(1, 58 * len(panels) // (10 + max(map(len, entries), default=0)))
    height = 4.4 + 0.24 * math.ceil(len(entries) / columns)
    with rc_context(STYLE):
        figure = Figure(figsize=(5.2 * len(panels), height), layout="constrained")
        figure.suptitle(title or (next(iter(runs)) if len(runs) == 1 else None))
        for axes, panel in zip(
            figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
        ):
            _draw(axes, panel, runs)
        figure.legend(entries.values(), entries, loc="outside lower center", ncols=columns)
        return save(figure, path)


def _draw(axes, panel: _Panel, runs: Mapping[str, Sequence[Record]]) -> None:
    drawn: list[float] = []
    for (_, records), colour in zip(runs.items(), _colours(len(runs)), strict=True):
        for key in panel.keys:
            epochs, values = series(records, key)
            marker = {"marker": "o", "markersize": 3.5} if len(epochs) <= 30 else {}
            values = [value * panel.scale for value in values]
            axes.plot(epochs, values, **_line(key, colour, len(runs)), **marker)
            drawn += values
    axes.set(title=panel.title, xlabel="epoch", ylabel=panel.unit)
    axes.set_xlim(left=0)
    positive = [value for value in drawn if 0 < value < math.inf]
    if panel.title == "Loss" and positive and max(positive) > 10 * min(positive):
        axes.set_yscale("log")


def _line(key: str, colour, num_runs: int) -> dict:
    """How the line of a key is drawn; a single run has colours to spare for its splits."""
    if key.startswith("train/"):
        dashed = {"linestyle": (0, (4, 1.5)), "linewidth": 1.3, "zorder": 2}
        return dashed | {"color": COLOURS[1] if num_runs == 1 else colour}
    return {
        "linewidth": 2.0,
        "zorder": 3,
        "color": GREY if (key, num_runs) == ("lr", 1) else colour,
    }


def _legend(runs: Mapping[str, Sequence[Record]]) -> dict[str, object]:
    """Labels and what they stand for: the two splits, and of several runs each one's colour."""
    from matplotlib.lines import Line2D

    best = _best(*runs.values()) if len(runs) == 1 else ""
    splits = {"train/": "training", "eval/": f"evaluation{best}"}
    colour = COLOURS[0] if len(runs) == 1 else GREY
    seen = {key for records in runs.values() for row in records for key in row}
    entries = {
        label: Line2D([], [], **_line(split, colour, len(runs)))
        for split, label in splits.items()
        if any(key.startswith(split) for key in seen)
    }
    if len(runs) > 1:
        for (name, records), own in zip(runs.items(), _colours(len(runs)), strict=True):
            entries[name + _best(records)] = Line2D([], [], color=own, linewidth=4)
    return entries


def _best(records: Sequence[Record]) -> str:
    epochs, values = series(records, "eval/accuracy")
    if not values:
        return ""
    best = max(range(len(values)), key=values.__getitem__)
    return f" (best {values[best]:.2%} at epoch {epochs[best]:g})"


def _colours(n: int) -> Sequence:
    from matplotlib import colormaps

    if n <= len(COLOURS):
        return COLOURS[:n]
    return [colormaps["viridis"](0.92 * i / (n - 1)) for i in range(n)]
