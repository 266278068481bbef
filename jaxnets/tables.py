"""Tables on a terminal, and in what a pipe reads."""

import sys

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table


def table_of(*columns: str, fold: str) -> Table:
    """A table; a heading that ends in > stands over numbers, set to the right.

    On a narrow terminal the column `fold` goes on in further lines; nothing is ever cut off.
    """
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    for heading in columns:
        name = heading.removesuffix(">")
        side = "right" if name != heading else "left"
        table.add_column(name, justify=side, no_wrap=name != fold, overflow="fold")
    return table


def show(table: Table) -> None:
    """Prints the table, fitted to a terminal; one line a row where a pipe reads it."""
    # What reads a pipe has no width: one line a row, however long.
    Console(width=None if sys.stdout.isatty() else 200).print(table)
