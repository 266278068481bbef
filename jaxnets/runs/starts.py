"""What a run was started with, one line a start: command, hardware, versions."""

import contextlib
import json
import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jaxnets.errors import UserError
from jaxnets.files.regular import open_file, parse_json, read_text

STARTS = "starts.jsonl"


def record(workdir: Path, module: str, argv: Sequence[str], found: Mapping[str, Any]) -> None:
    """Adds a start, of the command and the date and what was `found`, to the workdir's list.

    Raises:
        UserError: it cannot be written.
    """
    row = {
        "command": shlex.join(["python", "-m", module, *argv]),
        "date": datetime.now(UTC).isoformat(sep=" ", timespec="seconds"),
        **found,
    }
    path = workdir / STARTS
    try:
        with open_file(path, "a") as f:
            f.write(json.dumps(row) + "\n")
    except OSError as e:
        raise UserError(f"{path}: cannot be written ({e.strerror})") from e


def first(workdir: Path) -> dict[str, Any]:
    """The first start of a run, as long as it became; empty for one that kept no list."""
    try:
        lines = read_text(workdir / STARTS).splitlines()
    except (OSError, ValueError):
        return {}
    rows = []
    for line in lines:
        with contextlib.suppress(ValueError):  # cut short by a kill
            rows.append(parse_json(line))
    starts = [row for row in rows if isinstance(row, dict)]
    return max(starts, key=lambda start: start.get("epochs", 0), default={})
