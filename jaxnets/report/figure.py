"""One look for all figures, and files that are whole or absent."""

import contextlib
import os
from pathlib import Path

from jaxnets.errors import UserError

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


def save(figure, path: str | os.PathLike, dpi: int = 130) -> Path:
    """Writes a matplotlib figure as PNG: beside `path` first, then renamed.

    Makes the folder.  Raises a UserError where it may not write; an older file then stands.
    """
    path = Path(path)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(aside, format="png", dpi=dpi)
        aside.replace(path)
    except OSError as e:
        raise UserError(f"{path}: cannot be written ({e.strerror}); choose another folder") from e
    finally:
        with contextlib.suppress(OSError):
            aside.unlink()
    return path
