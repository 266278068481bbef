"""Files that are whole or absent, whoever else writes them at the same time."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from jaxnets.errors import UserError


@contextlib.contextmanager
def written_aside(path: Path, *, name: str = "", advice: str = "") -> Iterator[Path]:
    """Yields a path beside `path`; what was written there is renamed to `path` at the end.

    Args:
        name: what the error calls the file; `path` if left out.
        advice: ends the error.

    Raises:
        UserError: it cannot be written; an older file then stands.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield aside
        aside.replace(path)
    except OSError as e:
        raise UserError(f"{name or path}: cannot be written ({e.strerror}){advice}") from e
    finally:
        with contextlib.suppress(OSError):
            aside.unlink()
