"""Checksums of a folder's files, in a file that `sha256sum --check SHA256SUMS` reads as well."""

import hashlib
import os
from pathlib import Path

from jaxnets.files.regular import open_file, read_text

SUMS = "SHA256SUMS"


def write(folder: Path) -> None:
    """Adds the SHA-256 of every file below `folder`, after seeing all of them safely on disk."""
    sums = folder / SUMS
    names = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    lines = [f"{_sha256(folder / name, sync=True)}  {name}\n" for name in names if name != SUMS]
    with open(sums, "w") as f:
        f.writelines(lines)
        f.flush()
        os.fsync(f.fileno())


def fault(folder: Path) -> str | None:
    """What is wrong with the files that SUMS lists, or None; files that it does not list are free.

    Raises:
        OSError: SUMS or a listed file cannot be read, which a missing one cannot either.
    """
    text = read_text(folder / SUMS, errors="replace")
    if not text.endswith("\n"):
        return f"{SUMS} is cut short"
    for line in text.splitlines():
        expected, _, name = line.partition("  ")
        path = folder / name
        if not name or "\0" in name or not path.is_file():
            return f"{name or line!r} is missing"
        if _sha256(path) != expected:
            return f"{name} has changed"
    return None


def _sha256(path: Path, sync: bool = False) -> str:
    with open_file(path) as f:
        if sync:
            os.fsync(f.fileno())
        return hashlib.file_digest(f, "sha256").hexdigest()
