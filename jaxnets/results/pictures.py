"""Pictures of the results: accuracy against parameters, learning curves beside published ones."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxnets.errors import UserError
from jaxnets.files.regular import parse_json, read_text
from jaxnets.results.pages import is_finished, measured
from jaxnets.results.plan import Plan, Training
from jaxnets.runs.log import METRICS, read_rows

PUBLISHED = "published/s0_curves.json"
ACCURACY, ACCURACY_DARK, CURVES = "accuracy.png", "accuracy_dark.png", "curves.png"


class Point(NamedTuple):
    """A training in the picture: parameters, test accuracy in per cent, its deviation over seeds.

    Of a published one there is no deviation, and none of a single seed.
    """

    name: str
    data: str
    parameters: int
    accuracy: float
    spread: float | None = None


def write(plan: Plan) -> list[Path]:
    """Draws everything that the results have something for; the paths written.

    Raises:
        UserError: matplotlib is not installed, or what is read or written cannot be.
    """
    from jaxnets.report.figure import DARK, LIGHT, to_png
    from jaxnets.report.figure import write as write_png
    from jaxnets.report.sections.curves import plot_curves

    try:
        import matplotlib  # noqa: F401 - before anything is written
    except ImportError as e:
        raise UserError("pictures need matplotlib: pip install matplotlib") from e
    rows = measured(plan)
    finished = {name: row for name, row in rows.items() if is_finished(row)}
    own, theirs = points(plan, finished)
    written = []
    for name, theme in ((ACCURACY, LIGHT), (ACCURACY_DARK, DARK)):
        if own or theirs:
            png = to_png(lambda theme: accuracy_figure(own, theirs, theme), theme)
            written.append(write_png(plan.results / name, png))
    for name, summed in finished.items():
        row = plan.row(name)
        assert isinstance(row, Training)
        runs = curves(plan, row, summed["workdirs"])
        path = plan.folder(row) / CURVES
        written.append(plot_curves(runs, path, title=name))
    return written


def points(
    plan: Plan, finished: Mapping[str, Mapping[str, Any]]
) -> tuple[list[Point], list[Point]]:
    """The own points, of the last epoch, and the published ones, of each figure once."""
    own, theirs = [], {}
    for row in plan.trainings:
        config = plan.config(row, row.seeds[0])
        if row.published is not None:
            key = (config.model.name, row.parameters, row.published.accuracy)
            point = Point(
                config.model.name, config.data.name, row.parameters, row.published.accuracy
            )
            theirs.setdefault(key, point)
        if row.name in finished:
            last = finished[row.name]["last"]
            place = (row.name, config.data.name, row.parameters)
            own.append(Point(*place, last["mean"], last["sd"]))
    return own, list(theirs.values())


def accuracy_figure(own: Sequence[Point], theirs: Sequence[Point], theme: Any):
    """The matplotlib figure: a panel for each data set; published points are hollow."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    data = sorted({point.data for point in (*own, *theirs)})
    figure = Figure(figsize=(6.0 * len(data), 5.0), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(data), squeeze=False)[0], data, strict=True):
        here = [point for point in (*own, *theirs) if point.data == name]
        for point in here:
            hollow = point in theirs
            colour = theme.grey if hollow else theme.colours[0]
            axes.errorbar(
                point.parameters,
                point.accuracy,
                yerr=point.spread,
                marker="o",
                markersize=7,
                color=colour,
                markerfacecolor="none" if hollow else colour,
                capsize=3,
            )
        for left in (True, False):
            side = [point for point in here if _has_room(point, here) != left]
            for point, height in zip(side, _label_heights(side), strict=True):
                axes.annotate(
                    f"{point.name}  " if left else f"  {point.name}",
                    (point.parameters, height),
                    ha="right" if left else "left",
                    va="center",
                    fontsize=8,
                    color=theme.ink,
                )
        axes.set(xscale="log", title=_TITLES.get(name, name))
        axes.set(xlabel="parameters", ylabel="test accuracy (%)")
        axes.margins(x=0.3, y=0.12)
        axes.xaxis.set_major_locator(LogLocator(10, (1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / 1e6:g} M"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    kinds = {"published": (theme.grey, "none"), "own, last epoch": (theme.colours[0],) * 2}
    handles = [
        Line2D([], [], marker="o", linestyle="", color=colour, markerfacecolor=face)
        for colour, face in kinds.values()
    ]
    figure.legend(handles, kinds, loc="outside lower center", ncols=2)
    return figure


def _has_room(point: Point, points: Sequence[Point]) -> bool:
    """Whether no other point is in the way of a label at its right."""
    return not any(
        1.1 < other.parameters / point.parameters < 4 and abs(other.accuracy - point.accuracy) < 3
        for other in points
    )


def _label_heights(points: Sequence[Point]) -> list[float]:
    """Where each point's label stands, in per cent: its own height, or lower, below another's."""
    values = [point.accuracy for point in points]
    gap = max(0.045 * (max(values, default=0) - min(values, default=0)), 1e-3)
    heights: dict[int, float] = {}
    for i in sorted(range(len(points)), key=lambda i: -values[i]):
        height = values[i]
        for j, other in sorted(heights.items(), key=lambda item: -item[1]):
            near = 1 / 5 < points[i].parameters / points[j].parameters < 5
            if near and abs(other - height) < gap:
                height = other - gap
        heights[i] = height
    return [heights[i] for i in range(len(points))]


_TITLES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "digits": "digits"}


def curves(plan: Plan, row: Training, folders: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """The logs of a row's seeds, those of the row beside it, and the published curves, by name."""
    runs = {}
    for folder in map(Path, folders):
        name = row.name if len(folders) == 1 else f"{row.name}, {folder.name}"
        runs[name] = read_rows(folder / METRICS)
    if row.beside is not None:
        other = plan.row(row.beside)
        assert isinstance(other, Training)
        for seed in other.seeds:
            path = plan.folder(other, seed) / METRICS
            if path.exists():
                runs[f"{other.name}, seed {seed}"] = read_rows(path)
    for name in row.published.curves if row.published is not None else ():
        runs[f"published: {name}"] = published_rows(plan.results / PUBLISHED, name)
    return runs


def published_rows(path: Path, name: str) -> list[dict[str, Any]]:
    """A published curve as the rows of a metrics.jsonl; accuracies there are per cent."""
    try:
        found = parse_json(read_text(path))[name]
        keys = {"train/accuracy": 100, "eval/accuracy": 100, "train/loss": 1, "eval/loss": 1}
        columns = {key: found[key.replace("/", "_").replace("eval", "test")] for key in keys}
    except (OSError, ValueError, LookupError, TypeError) as e:
        raise UserError(f"{path}: no curve {name!r} to be read there ({e})") from e
    count = min(map(len, columns.values()))
    return [
        {"epoch": i + 1} | {key: columns[key][i] / scale for key, scale in keys.items()}
        for i in range(count)
    ]
