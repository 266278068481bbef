"""A contact sheet: images with their predicted classes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxnets.report.figure import Theme, label, to_png, write
from jaxnets.report.plots import image_grid, in_rows, short

MOST = 240
COLUMNS = 12


def write_sheet(
    path: Path,
    images: np.ndarray,
    ids: Sequence[str],
    probabilities: np.ndarray,
    class_names: Sequence[str],
) -> list[str]:
    """Writes a PNG of the first images, each with its name, its class and the probability of that.

    Args:
        images: uint8 (N, H, W, 3), as the network saw them.
        probabilities: (N, K).

    Returns:
        What the user should know, a line each.

    Raises:
        UserError: it cannot be written.
    """
    count = len(images)
    classes = probabilities.argmax(1)
    captions = [
        f"{short(class_names[k])} {p[k]:.0%}\n{label(Path(name).name, 15)}"
        for name, p, k in zip(ids[:MOST], probabilities, classes, strict=False)
    ]
    shown = f"{count:,} images" if count <= MOST else f"the first {MOST} of {count:,} images"

    def draw(theme: Theme):
        rows = in_rows(images[:MOST], COLUMNS)
        return image_grid(rows, shown, theme, captions=in_rows(captions, COLUMNS))

    write(path, to_png(draw))
    return [f"{path} shows {shown}"] if count > MOST else []
