"""The confusion matrix: which class is taken for which."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jaxnets.errors import UserError
from jaxnets.inference.scores import normalise_rows
from jaxnets.report.figure import LIGHT, Theme, label, to_png, write
from jaxnets.report.sections import MANY, Plot, Section

if TYPE_CHECKING:
    from jaxnets.report.run import RunData

TITLE = "Confusion matrix"
_FIT = 12  # classes whose matrix a phone shows whole


def section(run: "RunData") -> Section:
    """The confusion matrix, in images and in shares of the true class."""
    matrix = np.array(run.scores["confusion"])
    n, right = matrix.sum(), np.trace(matrix)
    about = (
        "A row holds the images of one true class, a column those of one predicted class; the "
        "diagonal is right. The shades are not linear, so that a few errors show."
    )

    def plot(name: str, title: str, normalise: bool) -> Plot:
        def draw(theme: Theme):
            return confusion_figure(
                matrix, run.class_names, theme, normalise=normalise, title=title
            )

        alt = f"{title}: {right:,} of {n:,} images on the diagonal"
        size = "" if len(matrix) <= _FIT else "wide" if len(matrix) <= MANY else "huge"
        return Plot(name, draw, alt, size)

    plots = (
        plot("confusion", TITLE, False),
        plot("confusion_normalised", f"{TITLE}, % of the true class", True),
    )
    data = {
        "classes": run.class_names,
        "counts": matrix.tolist(),
        "normalised": normalise_rows(matrix).tolist(),
    }
    return Section("confusion", "Confusion matrix", about, plots, data)


def plot_confusion(
    matrix: np.ndarray,
    class_names: Sequence[str],
    path: str | os.PathLike,
    *,
    normalise: bool = False,
    title: str = TITLE,
) -> Path:
    """Draws a confusion matrix (K, K) as PNG and returns `path`.

    Cells carry their numbers up to 20 classes.  The colour is not linear in the value, so that
    the few errors show beside the diagonal.

    Args:
        normalise: per cent of the true class instead of images; an absent class is a row of zeros.
    """

    def draw(theme: Theme):
        return confusion_figure(matrix, class_names, theme, normalise=normalise, title=title)

    return write(path, to_png(draw))


def confusion_figure(
    matrix: np.ndarray,
    class_names: Sequence[str],
    theme: Theme = LIGHT,
    *,
    normalise: bool = False,
    title: str = TITLE,
):
    """The matplotlib figure of `plot_confusion`."""
    from matplotlib.colors import LinearSegmentedColormap, PowerNorm
    from matplotlib.figure import Figure

    matrix = np.asarray(matrix)
    k = len(class_names)
    if matrix.shape != (k, k):
        raise UserError(f"a confusion matrix of shape {matrix.shape} for {k} class names")
    total = matrix.sum()
    title += f": {np.trace(matrix):,} of {total:,} right ({np.trace(matrix) / max(total, 1):.2%})"
    values, unit = matrix, "images"
    if normalise:
        values, unit = 100 * normalise_rows(matrix), "% of the true class"
    names = [label(name) for name in class_names]
    few = k <= 20
    side = max(4.2, 0.5 * k) if few else 0.145 * k
    font = 10 if few else 6.5
    room = max(map(len, names)) * font / 130
    bar = 0 if few else 1.4
    figure = Figure(
        figsize=(side + room + 0.6 + bar, side + (0.75 if few else 1) * room + 0.9),
        layout="constrained",
    )
    axes = figure.subplots()
    top = max(values.max(initial=0), 1)
    colours = LinearSegmentedColormap.from_list("cells", theme.shades)
    image = axes.imshow(values, cmap=colours, norm=PowerNorm(0.4, 0, top))
    if not few:
        figure.colorbar(image, ax=axes, label=unit, shrink=0.8, pad=0.02).outline.set_visible(False)
    axes.set(xlabel="predicted class", ylabel="true class")
    figure.suptitle(title, fontsize=12, x=0.02, ha="left")
    axes.set_xticks(range(k), names, rotation=45 if few else 90, fontsize=font)
    if few:
        for text in axes.get_xticklabels():
            text.set(ha="right", rotation_mode="anchor")
    axes.set_yticks(range(k), names, fontsize=font)
    axes.tick_params(length=0)
    axes.grid(False)
    between = np.arange(1, k) - 0.5
    line = (
        {"color": theme.paper, "linewidth": 1} if few else {"color": theme.grid, "linewidth": 0.3}
    )
    axes.hlines(between, -0.5, k - 0.5, **line)
    axes.vlines(between, -0.5, k - 0.5, **line)
    axes.spines[:].set_visible(False)
    if few:
        for i, j in np.argwhere(values > 0):
            text = f"{values[i, j]:.1f}" if normalise else f"{values[i, j]:,}"
            colour = theme.on_shades[int(values[i, j] > 0.3 * top)]
            axes.text(j, i, text, ha="center", va="center", fontsize=9, color=colour)
    return figure
