"""Tables on a terminal, and in what a pipe reads."""

import sys
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

_FOLDED = 12  # letters that the folded column keeps at least
_GAP = 2  # between columns


class FittedTable:
    """Rows of text; `fitted` leaves out columns rather than cut a number off."""

    def __init__(self, headings: Sequence[str], fold: str, drop: Sequence[str]):
        self._headings, self._fold, self._drop = headings, fold, drop
        self._rows: list[tuple[tuple[str, ...], str | None]] = []

    def add_row(self, *cells: str, style: str | None = None) -> None:
        """A cell for each column, with rich's markup; a style for all of them."""
        self._rows.append((cells, style))

    def fitted(self, width: int) -> tuple[Table, list[str]]:
        """The table for so many letters a line, and the headings that it leaves out."""
        names = [heading.removesuffix(">") for heading in self._headings]
        columns = zip(names, *(cells for cells, _ in self._rows), strict=True)
        whole = {name: max(map(_letters, (name, *cells))) for name, *cells in columns}
        least = whole | {self._fold: min(whole[self._fold], max(len(self._fold), _FOLDED))}
        dropped = []
        for name in filter(whole.__contains__, self._drop):
            if _needed(least) <= width:
                break
            del least[name]
            dropped.append(name)
        if self._fold in least:
            least[self._fold] += max(width - _needed(least), 0)
        table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
        kept = [i for i, name in enumerate(names) if name in least]
        for i in kept:
            side = "right" if self._headings[i].endswith(">") else "left"
            size = min(whole[names[i]], least[names[i]])
            wraps = names[i] == self._fold
            table.add_column(names[i], justify=side, no_wrap=not wraps, overflow="fold", width=size)
        for cells, style in self._rows:
            table.add_row(*(cells[i] for i in kept), style=style)
        return table, dropped


def _letters(markup: str) -> int:
    return Text.from_markup(markup).cell_len


def _needed(widths: dict[str, int]) -> int:
    return sum(widths.values()) + _GAP * len(widths)


def table_of(*columns: str, fold: str, drop: Sequence[str] = ()) -> FittedTable:
    """A table; a heading that ends in > stands over numbers, set to the right.

    On a narrow terminal the column `fold` goes on in further lines; where that is not enough, the
    columns of `drop`, the least important first, are left out, which a line below says.
    """
    return FittedTable(columns, fold, drop)


def terminal_width() -> int:
    """Letters of a line; what reads a pipe has no width: one line a row, however long."""
    return Console().width if sys.stdout.isatty() else 200


def show(table: FittedTable) -> None:
    """Prints the table, fitted to a terminal; one line a row where a pipe reads it."""
    console = Console(width=terminal_width())
    fitted, dropped = table.fitted(console.width)
    console.print(fitted)
    if dropped:
        print(f"left out, for a wider terminal: {', '.join(dropped)}")
