"""Weights that lie elsewhere: fetched once into the user's cache, and checked."""

import contextlib
import hashlib
import http.client
import os
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from jaxnets import __version__
from jaxnets.errors import UserError
from jaxnets.files.atomic import atomic_write, make_folder
from jaxnets.files.user_cache import user_cache
from jaxnets.pretrained.index import Entry

_PATIENCE = 60  # seconds without a byte
_CHUNK = 1 << 18


def fetched(entry: Entry) -> Path:
    """The file of an entry with an address: the one in the cache, or fetched into it now.

    Says on the standard error what it fetches, and how far it is.

    Raises:
        UserError: no such server or file, another size or sum than the index says, or a cache that
            cannot be written; the cache is then as it was.
    """
    path = cached_path(entry)
    if path.is_file():
        return path
    assert entry.url is not None
    print(f"fetching {entry.url} ({entry.size / 1e6:.1f} MB) into {path.parent}", file=sys.stderr)
    if urllib.parse.urlsplit(entry.url).scheme not in ("http", "https"):
        raise UserError(f"{entry.url}: neither an https nor an http address")
    make_folder(path.parent)
    with _answer(entry) as answer, _writing(path) as file:
        found = _copy(answer, file, entry)
        if found != entry.sha256:
            raise UserError(f"{entry.url}: its SHA-256 is {found[:12]}..., not the index's")
    return path


def cached_path(entry: Entry) -> Path:
    """Where the cache keeps it; another sum is another file."""
    cache = user_cache()
    if cache is None:
        raise UserError(f"{entry.url}: no cache to fetch it into; set XDG_CACHE_HOME")
    return cache / "weights" / f"{entry.name}-{entry.sha256[:16]}.safetensors"


def _answer(entry: Entry) -> BinaryIO:
    agent = {"User-Agent": f"jaxnets/{__version__}"}
    with _network(entry):
        request = urllib.request.Request(entry.url, headers=agent)
        return urllib.request.urlopen(request, timeout=_PATIENCE)


@contextlib.contextmanager
def _network(entry: Entry) -> Iterator[None]:
    """What goes wrong on the way, a file's own errors being another matter."""
    try:
        yield
    except (OSError, http.client.HTTPException, ValueError) as e:
        reason = " ".join(str(e).split())[:200] or type(e).__name__
        raise UserError(
            f"{entry.url}: cannot be fetched ({reason}); try again, or put the file at "
            f"{cached_path(entry)} yourself"
        ) from e


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[BinaryIO]:
    with atomic_write(path) as temporary, open(temporary, "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def _copy(answer: BinaryIO, file: BinaryIO, entry: Entry) -> str:
    """Copies what comes, at most as much as expected; its SHA-256."""
    from tqdm import tqdm

    sha, count = hashlib.sha256(), 0
    shown = {"unit": "B", "unit_scale": True, "leave": False, "disable": not sys.stderr.isatty()}
    with tqdm(total=entry.size, **shown) as bar:
        while True:
            with _network(entry):
                chunk = answer.read(_CHUNK)
            if not chunk:
                break
            count += len(chunk)
            if count > entry.size:
                raise UserError(f"{entry.url}: larger than the {entry.size:,} bytes of the index")
            sha.update(chunk)
            file.write(chunk)
            bar.update(len(chunk))
    if count < entry.size:
        raise UserError(f"{entry.url}: ended after {count:,} of {entry.size:,} bytes; try again")
    return sha.hexdigest()
