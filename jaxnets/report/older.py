"""Files in one folder that are about different steps of a run."""

import contextlib
import json
import sys
from pathlib import Path


def note_older(path: Path, step: int, command: str) -> None:
    """Says that JSON beside what was just written is about another step: training has gone on.

    Args:
        path: an object, or a list of them, with a "step"; nothing is said where there is none.
        step: of what was just written.
        command: what wrote it.
    """
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
        found = json.loads(path.read_text())
        other = (found[0] if isinstance(found, list) else found)["step"]
        if other != step:
            print(
                f"note: {path.name} and what else {command} wrote there is of step {other}",
                file=sys.stderr,
            )
