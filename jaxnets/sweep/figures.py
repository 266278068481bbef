"""Pictures of a sweep: each is drawn on light and on dark paper."""

from collections.abc import Mapping, Sequence

from jaxnets.report.figure import Theme, label
from jaxnets.sweep.found import Row, has_validation, text


def settings(rows: Sequence[Row], keys: Sequence[str], theme: Theme):
    """Accuracy of each setting, one under the other: runs as points, mean and deviation."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 1.2 + 0.42 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(rows):
        values = [run[row.counted] for run in row.runs]
        axes.plot(values, [place] * len(values), "o", markersize=4, color=theme.grey, alpha=0.7)
        spread = row.figures[row.counted]
        axes.errorbar(
            spread["mean"],
            place,
            xerr=spread["sd"],
            marker="D",
            markersize=7,
            capsize=4,
            color=theme.colours[0],
            zorder=3,
        )
    axes.set_yticks(range(len(rows)), [name(row, keys) for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel(measure(rows))
    axes.margins(y=0.5 / max(len(rows), 1))
    return figure


def history(rows: Sequence[Row], theme: Theme):
    """The value of each trial, and the best one so far."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(6.5, 4.0), layout="constrained")
    axes = figure.subplots()
    known = [row for row in rows if row.value is not None]
    axes.plot(
        [r.number for r in known], [100 * r.value for r in known], "o", color=theme.colours[0],
        label="trial",
    )  # fmt: skip
    cut = [row for row in rows if row.state == "pruned" and row.epochs]
    if cut:
        last = [100 * row.epochs[max(row.epochs)] for row in cut]
        axes.plot([r.number for r in cut], last, "x", color=theme.grey, label="pruned")
    best, line = float("-inf"), []
    for row in known:
        best = max(best, 100 * row.value)
        line.append(best)
    axes.step(
        [r.number for r in known], line, where="post", color=theme.colours[1], label="best so far"
    )
    axes.set(xlabel="trial", ylabel=measure(rows))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend()
    return figure


def importances(shares: Mapping[str, float], theme: Theme):
    """The share of each key in how much the value varies."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.5, 1.2 + 0.36 * len(shares)), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(
        [label(key, 32) for key in shares], [100 * v for v in shares.values()],
        color=theme.colours[0],
    )  # fmt: skip
    axes.bar_label(bars, fmt="%.0f %%", padding=3, color=theme.ink)
    axes.invert_yaxis()
    axes.set(xlabel="importance (%)", xlim=(0, 110))
    return figure


def front(rows: Sequence[Row], best: Sequence[Row], costs: Mapping[int, float], unit: str, theme):
    """Accuracy against a cost; those that no other one beats in both are joined."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    figure = Figure(figsize=(6.5, 4.4), layout="constrained")
    axes = figure.subplots()
    axes.plot(
        [costs[r.number] for r in rows], [100 * r.value for r in rows], "o", color=theme.grey,
        label="trial",
    )  # fmt: skip
    places = [costs[r.number] for r in best]
    values = [100 * r.value for r in best]
    axes.step(places, values, "o-", where="post", color=theme.colours[0], label="not beaten")
    for row, x, y in zip(best, places, values, strict=True):
        axes.annotate(f" {row.number}", (x, y), va="bottom", ha="left", fontsize=8, color=theme.ink)
    axes.set(xlabel=unit, ylabel=measure(rows))
    axes.xaxis.set_major_formatter(EngFormatter())
    axes.legend()
    return figure


def name(row: Row, keys: Sequence[str]) -> str:
    """A setting on an axis: its values."""
    return label(", ".join(text(row.setting.get(key, "–")) for key in keys), 48)


def measure(rows: Sequence[Row]) -> str:
    """What the values are."""
    validation = has_validation(rows)
    return "validation accuracy (%)" if validation else "test accuracy, last epoch (%)"
