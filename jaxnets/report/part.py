"""What a part of a report is: a section of the page, and files of the same numbers."""

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


class Part(NamedTuple):
    """A section of the page, its PNGs, and a JSON of the same numbers."""

    key: str
    title: str
    about: str
    plots: tuple[Plot, ...]
    data: Any
    body: str = ""
    """HTML after the figures."""
