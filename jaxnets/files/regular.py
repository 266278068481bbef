"""The one way to open a file that others may have put there: regular files alone.

A pipe would be waited for without end, and a device read without end.
"""

import errno
import json
import os
import stat
import zipfile
from pathlib import Path
from typing import Any

from jaxnets.errors import UserError

_PLENTY, _DEFLATED = 1 << 28, 200  # bytes, and how many of them from one


def opener(path: str, flags: int) -> int:
    """For `open(path, mode, opener=opener)`.

    Raises:
        OSError: it is no regular file, or cannot be opened.
    """
    # A pipe is not waited for, and what is found out is about the very file that is then read.
    file = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    mode = os.fstat(file).st_mode
    if stat.S_ISREG(mode):
        return file
    os.close(file)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "is a folder", os.fspath(path))
    raise OSError(errno.EINVAL, "is no regular file", os.fspath(path))


def open_file(path: str | os.PathLike, mode: str = "rb", **how: Any):
    """As `open`; see `opener`."""
    return open(path, mode, opener=opener, **how)


def read_bytes(path: str | os.PathLike) -> bytes:
    """All of a file.  Raises: as `opener`."""
    with open_file(path) as file:
        return file.read()


def read_file(path: Path) -> bytes:
    """All of a file that a user names.  Raises: UserError, where it cannot be read."""
    try:
        return read_bytes(path)
    except OSError as e:
        raise UserError(f"{path}: cannot be read ({e.strerror})") from e


def read_text(path: str | os.PathLike, **how: Any) -> str:
    """All of a text file, UTF-8 unless `how` says otherwise.  Raises: as `opener`."""
    with open_file(path, "r", **{"encoding": "utf-8", **how}) as file:
        return file.read()


def parse_json(text: str) -> Any:
    """As `json.loads`, but all that is wrong with a text is a ValueError."""
    try:
        return json.loads(text)
    except RecursionError as e:
        raise ValueError("its parts lie too deep in one another") from e


def check_zip(archive: zipfile.ZipFile, size: int) -> None:
    """Before a library unpacks an archive of so many bytes into memory.

    Raises:
        ValueError: it would grow more than images, mostly black ones, were ever seen to.
    """
    unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > max(_PLENTY, _DEFLATED * size):
        raise ValueError(f"it would grow from {size:,} to {unpacked:,} bytes")


def check_below(folder: Path) -> None:
    """Before a library reads a folder by itself.

    Raises:
        OSError: something in it, or below, is neither a folder nor a regular file.
    """
    for path in folder.rglob("*"):
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise OSError(errno.EINVAL, "is no regular file", str(path))
