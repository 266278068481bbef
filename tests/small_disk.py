"""A file system of a few hundred KiB, where the machine lets the tests have one."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def small_disk(folder: Path, size_kib: int) -> Iterator[Path]:
    """A tmpfs at `folder`; skips the test where this process may not mount one."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size_kib}k", "none", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True)
    except FileNotFoundError as e:
        pytest.skip(f"no small file system to be had: {e}")
    if done.returncode:
        pytest.skip(f"no small file system to be had: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def remount(folder: Path, options: str) -> None:
    """Changes its options: "ro", or another "size=..."."""
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)
