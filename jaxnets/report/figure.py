"""One look for all figures, and files that are whole or absent."""

import io
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from jaxnets.files.atomic import atomic_write

# Okabe & Ito's colours, which the colour-blind tell apart; without their yellow and black.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
GREY = "#555555"

STYLE = {
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "legend.frameon": False,
    "figure.constrained_layout.h_pad": 0.1,
    "figure.constrained_layout.w_pad": 0.1,
}


class Theme(NamedTuple):
    """The colours of a figure; a colour means the same on light and on dark paper."""

    paper: str
    ink: str
    grey: str
    grid: str
    colours: tuple[str, ...]
    shades: tuple[str, ...]
    """Of a matrix, from an empty cell to the fullest, to blend between."""
    on_shades: tuple[str, str]
    """Of the text on cells nearer the empty one, and on those nearer the fullest."""

    def style(self) -> dict[str, Any]:
        """matplotlib's rc parameters: STYLE in these colours."""
        return STYLE | {
            "figure.facecolor": self.paper,
            "axes.facecolor": self.paper,
            "text.color": self.ink,
            "axes.labelcolor": self.ink,
            "axes.edgecolor": self.ink,
            "xtick.color": self.ink,
            "ytick.color": self.ink,
            "grid.color": self.grid,
            "text.parse_math": False,  # a class may be called a$b$c
        }


# The shades are ColorBrewer's Blues.
LIGHT = Theme(
    "#ffffff", "#1c1e21", GREY, "#e4e4e4", COLOURS,
    ("#f7fbff", "#deebf7", "#c6dbef", "#9ecae1", "#6baed6", "#4292c6", "#2171b5", "#08519c",
     "#08306b"),
    ("#000000", "#ffffff"),
)  # fmt: skip
DARK = Theme(
    "#1b1d21", "#e4e6ea", "#a3a8b0", "#34383f",
    ("#56B4E9", "#F2894B", "#35C79B", "#E39AC4", "#F0C541", "#9DB2FF"),
    ("#202328", "#233544", "#274a63", "#2c6085", "#3a7dab", "#5a9fce", "#8cc4ea", "#c8e4f8"),
    ("#f0f2f5", "#101214"),
)  # fmt: skip


def to_png(draw: Callable[[Theme], Any], theme: Theme = LIGHT, dpi: int = 130) -> bytes:
    """The PNG of the matplotlib figure that `draw(theme)` makes."""
    from matplotlib import rc_context

    buffer = io.BytesIO()
    with rc_context(theme.style()), warnings.catch_warnings():
        # Letters that the font lacks are drawn as boxes; one warning each would be too many.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        draw(theme).savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def save(figure, path: str | os.PathLike, dpi: int = 130) -> Path:
    """Writes a matplotlib figure as PNG by `write`; with `to_png` the figure has a theme too."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return write(path, buffer.getvalue())


def write(path: str | os.PathLike, content: bytes) -> Path:
    """Writes a file atomically, and makes its folder.

    Raises a UserError where it may not write; an older file is then kept.
    """
    path = Path(path)
    with atomic_write(path, advice="; choose another folder") as temporary:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
    return path


def label(name: object, most: int = 24) -> str:
    """A name as a figure can show it: one line, printable, at most `most` characters.

    >>> label("a name that is far too long for an axis")
    'a name that is far too …'
    """
    text = str(name).encode("utf-8", "replace").decode()
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= most else text[: most - 1] + "…"
