"""Learning curves of one run or several, from their metrics.jsonl."""

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxnets.errors import UserError
from jaxnets.report.figure import LIGHT, Theme, label, to_png, write
from jaxnets.report.sections import Plot, Section
from jaxnets.runs.log import read_rows

Record = Mapping[str, float]
Runs = Mapping[str, Sequence[Record]]


def read_metrics(path: str | os.PathLike) -> list[dict[str, float]]:
    """The rows of a metrics.jsonl (`jaxnets.runs.log.read_rows`), at least one.

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


class Panel(NamedTuple):
    """One pair of axes: its keys of metrics.jsonl, and what they are times `scale`."""

    title: str
    unit: str
    keys: tuple[str, ...]
    scale: float = 1.0


LOSS = Panel("Loss", "loss (nats)", ("train/loss", "val/loss", "eval/loss"))
ACCURACY = Panel(
    "Accuracy", "accuracy (%)", ("train/accuracy", "val/accuracy", "eval/accuracy"), 100.0
)
LEARNING_RATE = Panel("Learning rate", "learning rate", ("lr",))
PANELS = (LOSS, ACCURACY, LEARNING_RATE)


def drawable(runs: Runs, panels: Sequence[Panel] = PANELS) -> list[Panel]:
    """Those panels that some run has something for."""
    return [p for p in panels if any(series(r, k)[0] for r in runs.values() for k in p.keys)]


def section(runs: Runs) -> Section:
    """Loss, accuracy and learning rate of one run, or of several over one another."""
    panels = drawable(runs)
    about = (
        "Training is dashed, validation (where there is one) dotted, test solid"
        f"{'; each run has its colour' if len(runs) > 1 else ''}. Training averages over the epoch "
        "while the weights still change; the learning rate is that of an epoch's last step."
    )
    lines = max((legend_lines(runs, [panel]) for panel in panels), default=0)
    plots = tuple(_panel_plot(runs, panel, lines) for panel in panels)
    data = curves_data(runs, panels)
    return Section("curves", "Loss, accuracy, learning rate", about, plots, data)


def _panel_plot(runs: Runs, panel: Panel, lines: int) -> Plot:
    last = [
        f"{key} {series(records, key)[1][-1]:.4g}"
        for records in runs.values()
        for key in panel.keys
        if series(records, key)[0]
    ]
    return Plot(
        panel.title.lower().replace(" ", "_"),
        lambda theme: curves_figure(runs, [panel], theme, lines=lines),
        f"{panel.title} against the epoch; at the end: {', '.join(last)}",
    )


def plot_curves(runs: Runs, path: str | os.PathLike, *, title: str | None = None) -> Path:
    """Draws loss, accuracy and learning rate against the epoch, and returns `path`.

    Args:
        runs: the rows (`read_metrics`) of each run by its name; several are laid over one another,
            each in its colour, training dashed and test solid.
        path: of the PNG.
        title: above the figure; the name of the run if there is one and this is left out.

    Raises:
        UserError: no run has anything to draw.
    """
    panels = drawable(runs)
    if not panels:
        raise UserError(f"no loss, accuracy or learning rate to draw in: {', '.join(runs)}")
    title = title or (next(iter(runs)) if len(runs) == 1 else None)
    return write(path, to_png(lambda theme: curves_figure(runs, panels, theme, title=title)))


def curves_figure(
    runs: Runs,
    panels: Sequence[Panel],
    theme: Theme = LIGHT,
    *,
    title: str | None = None,
    lines: int | None = None,
):
    """The matplotlib figure of `plot_curves`: the panels side by side over one legend.

    Args:
        lines: of the legend to leave room for: the axes are then in the same place of every such
            figure, whatever its labels, so that figures beside one another line up.
    """
    from matplotlib.figure import Figure

    entries = _legend(runs, panels, theme)
    needed = legend_lines(runs, panels)
    height = 4.4 + _LINE * (needed if lines is None else lines)
    layout = "constrained" if lines is None else "none"
    figure = Figure(figsize=(5.2 * len(panels), height), layout=layout)
    figure.suptitle(title)
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _draw(axes, panel, runs, theme)
    if lines is not None:
        below = 0.7 + _LINE * lines
        figure.subplots_adjust(left=0.16, right=0.97, bottom=below / height, top=1 - 0.4 / height)
    if entries:
        place: dict[str, Any] = {"loc": "outside lower center"}
        if lines is not None:
            place = {"loc": "upper center", "bbox_to_anchor": (0.5, (_LINE * lines + 0.1) / height)}
        columns = math.ceil(len(entries) / needed)
        figure.legend(entries.values(), entries, ncols=columns, **place)
    return figure


def legend_lines(runs: Runs, panels: Sequence[Panel]) -> int:
    """How many lines the legend of `curves_figure` has."""
    entries = _legend(runs, panels, LIGHT)
    columns = max(1, 58 * len(panels) // (10 + max(map(len, entries), default=0)))
    return math.ceil(len(entries) / columns)


_LINE = 0.24  # inches of a line of the legend


def curves_data(runs: Runs, panels: Sequence[Panel]) -> dict[str, Any]:
    """What the panels show, for JSON: {run: {key: {"epochs": [...], "values": [...]}}}.

    A value that is not finite, which JSON lacks, is None.
    """

    def lists(records: Sequence[Record], key: str) -> dict[str, list]:
        epochs, values = series(records, key)
        return {"epochs": epochs, "values": [v if math.isfinite(v) else None for v in values]}

    keys = [key for panel in panels for key in panel.keys]
    return {
        name: {key: lists(records, key) for key in keys if series(records, key)[0]}
        for name, records in runs.items()
    }


def best(records: Sequence[Record]) -> tuple[float, float, str] | None:
    """Epoch, accuracy (0..1) and key of the best epoch: on "val/" where it is logged."""
    for key in ("val/accuracy", "eval/accuracy"):
        epochs, values = series(records, key)
        if values:
            i = max(range(len(values)), key=values.__getitem__)
            return epochs[i], values[i], key
    return None


def _draw(axes, panel: Panel, runs: Runs, theme: Theme) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    drawn: list[float] = []
    for (_, records), colour in zip(runs.items(), _colours(len(runs), theme), strict=True):
        for key in panel.keys:
            epochs, values = series(records, key)
            marker = {"marker": "o", "markersize": 3.5} if len(epochs) <= 30 else {}
            values = [value * panel.scale for value in values]
            axes.plot(epochs, values, **_line(key, colour, len(runs), theme), **marker)
            drawn += values
    axes.set(title=panel.title, xlabel="epoch", ylabel=panel.unit)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    positive = [value for value in drawn if 0 < value < math.inf]
    if panel is LOSS and positive and max(positive) > 10 * min(positive):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


_SPLITS = {"train/": "training", "val/": "validation", "eval/": "test"}


def _line(key: str, colour, num_runs: int, theme: Theme) -> dict:
    """How the line of a key is drawn; a single run has colours to spare for its splits."""
    if key.startswith("train/"):
        own = {"linestyle": (0, (4, 1.5)), "linewidth": 1.3, "zorder": 2}
        return own | {"color": theme.colours[1] if num_runs == 1 else colour}
    if key.startswith("val/"):
        own = {"linestyle": (0, (1, 1)), "linewidth": 1.8, "zorder": 2.5}
        return own | {"color": theme.colours[2] if num_runs == 1 else colour}
    return {
        "linewidth": 2.0,
        "zorder": 3,
        "color": theme.grey if (key, num_runs) == ("lr", 1) else colour,
    }


def _legend(runs: Runs, panels: Sequence[Panel], theme: Theme) -> dict[str, object]:
    """Labels and what they stand for: the splits, and of several runs each one's colour."""
    from matplotlib.lines import Line2D

    keys = {key for panel in panels for key in panel.keys}
    seen = keys & {key for records in runs.values() for row in records for key in row}
    colour = theme.colours[0] if len(runs) == 1 else theme.grey
    entries = {}
    for split, text in _SPLITS.items():
        if any(key.startswith(split) for key in seen):
            one = len(runs) == 1 and ACCURACY in panels
            marked = _best(*runs.values(), split=split) if one else ""
            entries[text + marked] = Line2D([], [], **_line(split, colour, len(runs), theme))
    if len(runs) > 1:
        for (name, records), own in zip(runs.items(), _colours(len(runs), theme), strict=True):
            text = label(name, 40) + (_best(records) if ACCURACY in panels else "")
            entries[text] = Line2D([], [], color=own, linewidth=4)
    return entries


def _best(records: Sequence[Record], split: str = "") -> str:
    """Says which epoch is best, where `split` is the one that it was found on."""
    found = best(records)
    if found is None or not found[2].startswith(split):
        return ""
    return f" (best {found[1]:.2%} at epoch {found[0]:g})"


def _colours(n: int, theme: Theme) -> Sequence:
    from matplotlib import colormaps

    if n <= len(theme.colours):
        return theme.colours[:n]
    return [colormaps["viridis"](0.92 * i / (n - 1)) for i in range(n)]
