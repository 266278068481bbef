"""Figures of more than one section: rows of dots, and images in rows and columns."""

from collections.abc import Mapping, Sequence

import numpy as np

from jaxnets.report.figure import LIGHT, Theme, label

_MARKERS = ("o", "D", "s")
_CELL, _GAP, _LINE = 0.92, 0.1, 0.155  # inches; a line of text


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
        # The first is full and smaller, the rest are rings: where they coincide, all can be seen.
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


def image_grid(
    rows: Sequence[Sequence[np.ndarray]],
    title: str,
    theme: Theme = LIGHT,
    *,
    captions: Sequence[Sequence[str]] | None = None,
    row_names: Sequence[str] | None = None,
    column_names: Sequence[str] | None = None,
):
    """A matplotlib figure of images, uint8 (H, W, 3) each; rows may differ in length.

    Args:
        captions: under each image, one line or two.
        row_names: before each row, one line or more.
        column_names: above each column.
    """
    from matplotlib.figure import Figure

    lines = max((c.count("\n") + 1 for row in captions or () for c in row), default=0)
    step = _CELL + _GAP + lines * _LINE
    left = 1.7 if row_names else 0.2
    top = 0.55 + (0.2 if column_names else 0)
    columns = max(map(len, rows), default=0)
    width = max(left + columns * (_CELL + _GAP) + 0.1, 4.5)
    height = top + max(len(rows), 1) * step + 0.1
    figure = Figure(figsize=(width, height))
    # Axes over the whole figure in inches from its upper left corner: nothing is left to a layout.
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.text(0.2, 0.17, title, fontsize=12, va="top")
    for i, name in enumerate(column_names or ()):
        at = left + i * (_CELL + _GAP) + _CELL / 2
        axes.text(at, top - 0.06, name, fontsize=9, ha="center", color=theme.grey)
    for r, row in enumerate(rows):
        y = top + r * step
        if row_names:
            axes.text(
                left - 0.12, y + _CELL / 2, row_names[r], fontsize=9.5, ha="right", va="center"
            )
        for c, image in enumerate(row):
            x = left + c * (_CELL + _GAP)
            extent = (x, x + _CELL, y + _CELL, y)
            axes.imshow(image, extent=extent, interpolation="nearest", aspect="auto")
            for n, line in enumerate(captions[r][c].split("\n") if captions else ()):
                below = y + _CELL + 0.13 + n * _LINE
                axes.text(x + _CELL / 2, below, line, fontsize=7.5, ha="center")
    axes.set(xlim=(0, width), ylim=(height, 0))
    return figure


def in_rows(items: Sequence, columns: int = 6) -> list[Sequence]:
    """`items` cut into rows.

    >>> in_rows("abcde", 2)
    ['ab', 'cd', 'e']
    """
    return [items[i : i + columns] for i in range(0, len(items), columns)]


def short(name: str) -> str:
    """A class name that fits under an image.

    >>> short("a_rather_long_name")
    'a_rather_lon…'
    """
    return label(name, 13)
