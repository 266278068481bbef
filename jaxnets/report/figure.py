"""One look for all figures, and files that are whole or absent."""

import os
from pathlib import Path

# Okabe & Ito's colours, which the colour-blind tell apart; without their yellow and black.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")

STYLE = {
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}


def save(figure, path: str | os.PathLike, dpi: int = 130) -> Path:
    """Writes a matplotlib figure as PNG: beside `path` first, then renamed.  Makes the folder."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        figure.savefig(aside, format="png", dpi=dpi)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    return path
