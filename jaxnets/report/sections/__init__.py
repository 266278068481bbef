"""The sections of a report: text, figures and numbers of each in one file.

They import what was read of a run, and the pieces of pages and figures.  python -m jaxnets.report
calls all of them; evaluate and training, for TensorBoard, draw some of their figures.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxnets.report.figure import Theme
from jaxnets.report.html import Size

MANY = 20  # classes, above which tables and figures are ordered by what they show


class Plot(NamedTuple):
    """A figure: a PNG in the folder and, if it has an alternative text, a picture on the page."""

    name: str
    draw: Callable[[Theme], Any]
    alt: str = ""
    size: Size = ""


class Section(NamedTuple):
    """A section of the page, its PNGs, and a JSON of the same numbers."""

    key: str
    title: str
    about: str
    plots: tuple[Plot, ...]
    data: Any
    body: str = ""
    """HTML after the figures."""
