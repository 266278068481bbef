"""JSON lines: a row a line, added at the end; what a kill cut short is skipped."""

import contextlib
import json
from pathlib import Path
from typing import Any

from jaxnets.files.atomic import writing
from jaxnets.files.regular import open_file, parse_json, read_text


def append(path: Path, row: Any) -> None:
    """Adds a row.  Raises: UserError, where nothing can be written."""
    with writing(path), open_file(path, "a") as file:
        file.write(json.dumps(row) + "\n")


def read(path: Path) -> list[Any]:
    """The lines that are JSON, whatever it is.

    Raises:
        OSError: as `files.regular.opener`.
    """
    rows = []
    for line in read_text(path, errors="replace").splitlines():
        with contextlib.suppress(ValueError):
            rows.append(parse_json(line))
    return rows
