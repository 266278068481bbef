"""A line of dots for each class: scores, or how often a class is and how often it is said."""

from collections.abc import Mapping, Sequence

import numpy as np

from jaxnets.report.figure import LIGHT, Theme, label

_MARKERS = ("o", "D", "s")


def class_counts(matrix: np.ndarray) -> tuple[list[int], list[int]]:
    """Of each class, how many images are it and how many are said to be, from a (K, K) matrix."""
    return matrix.sum(1).tolist(), matrix.sum(0).tolist()


def dots_figure(
    class_names: Sequence[str],
    values: Mapping[str, Sequence[float]],
    axis: str,
    title: str,
    theme: Theme = LIGHT,
):
    """One row a class, one dot a series, tied by a line from the least to the largest.

    Args:
        values: of each series, K numbers; at most three series, the first in the front.
        axis: what the numbers are.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    k = len(class_names)
    few = k <= 20
    figure = Figure(figsize=(5.2, (0.3 if few else 0.155) * k + 1.7), layout="constrained")
    axes = figure.subplots()
    table = np.array(list(values.values()), float)
    rows = np.arange(k)
    axes.hlines(rows, table.min(0), table.max(0), color=theme.grid, linewidth=3 if few else 2)
    size = 34 if few else 14
    for i, (name, numbers) in enumerate(values.items()):
        # The first is full and smaller, the others are rings: all show where they coincide.
        style = {"marker": _MARKERS[i], "s": size if i else 0.6 * size, "zorder": 5 - i}
        colour = theme.colours[i]
        fill = {"color": colour} if i == 0 else {"facecolors": "none", "edgecolors": colour}
        axes.scatter(numbers, rows, linewidths=1.4, clip_on=False, label=name, **style, **fill)
    axes.set_yticks(rows, [label(name) for name in class_names], fontsize=10 if few else 7)
    axes.set_ylim(k - 0.5, -0.5)
    axes.set(xlabel=axis, title=title)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=bool((table == table.round()).all())))
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="y", visible=False)
    figure.legend(loc="outside lower center", ncols=len(values), fontsize=10)
    return figure
