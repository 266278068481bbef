"""Files that are whole or absent, whoever else writes them at the same time."""

import contextlib
import itertools
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from jaxnets import signals
from jaxnets.errors import UserError

_count = itertools.count()  # tells the threads of a process apart


@contextlib.contextmanager
def atomic_write(path: Path, *, name: str = "", advice: str = "") -> Iterator[Path]:
    """Yields a temporary path beside `path`; the file written there takes its place at the end.

    Args:
        name: what the error calls the file; `path` if left out.
        advice: ends the error.

    Raises:
        UserError: it cannot be written; an older file then stands.
    """
    # Names have at most 255 bytes.
    temporary = path.with_name(f".{path.name[:40]}.{os.getpid()}.{next(_count)}.tmp")
    with writing(name or path, advice), removing(temporary):
        yield temporary
        temporary.replace(path)


@contextlib.contextmanager
def writing(name: object, advice: str = "") -> Iterator[None]:
    """An OSError within it is a UserError: `name` cannot be written, why, and the advice."""
    try:
        yield
    except OSError as e:
        raise UserError(f"{name}: cannot be written ({e.strerror}){advice}") from e


@contextlib.contextmanager
def removing(temporary: Path) -> Iterator[None]:
    """In the end removes a file or a folder that is still there, also where a signal is the end."""
    with signals.undoing(lambda: _remove(temporary)):
        try:
            yield
        finally:
            _remove(temporary)


@contextlib.contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """A new folder for what is needed for a while; it goes also where a signal is the end."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    with removing(folder):
        yield folder


def _remove(path: Path) -> None:
    for _ in range(5):  # another thread may be writing into a folder
        shutil.rmtree(path, ignore_errors=True)
        with contextlib.suppress(OSError):
            path.unlink()
        if not os.path.lexists(path):
            return
        time.sleep(0.02)


def replace(temporary: Path, path: Path) -> None:
    """Renames a file or a folder to `path`, in the place of what is there."""
    if not path.is_dir():
        os.replace(temporary, path)
        return
    old = path.with_name(f".{path.name}.{os.getpid()}.old")  # a folder cannot be replaced in one go

    def settle() -> None:
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.replace(old, path)

    with signals.undoing(settle):
        os.replace(path, old)
        try:
            os.replace(temporary, path)
        finally:
            settle()


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it, unless they are there.  Raises: UserError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise UserError(f"{e.filename}: cannot be made ({e.strerror})") from e


def write_text(path: Path, text: str) -> None:
    """An atomic write, which reaches the disk before it takes its place.  Raises: as above."""
    with atomic_write(path) as temporary, open(temporary, "w", encoding="utf-8") as f:
        f.write(text)
        f.flush()
        os.fsync(f.fileno())


def check_file(path: Path, name: str) -> None:
    """Before the work that fills it: raises a UserError if a file cannot be written there.

    Args:
        name: what the error calls it, a flag and its value.
    """
    with writing(name):
        if path.is_dir():
            raise UserError(f"{name}: is a folder; name a file")
        if path.exists() and not path.is_file():
            raise UserError(f"{name}: is there already, and no file")
        if not path.parent.is_dir():
            raise UserError(f"{name}: no folder {path.parent}; make it first")
        _try(path.resolve().parent)  # of a link, what it points to is replaced


def check_folder(folder: Path, name: str) -> None:
    """The same of a folder, which need not be there yet."""
    with writing(name):
        nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        if not nearest.is_dir():
            raise UserError(f"{name}: cannot be written ({nearest} is no folder)")
        for part in folder.absolute().relative_to(nearest.absolute()).parts:
            (nearest / part).exists()  # raises for a name that is too long
        _try(nearest)


def _try(folder: Path) -> None:
    """Writes a file and removes it: permissions alone do not tell of file systems for reading."""
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(b"0")
