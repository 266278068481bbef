"""One uncompressed file a data set, so that only the first start pays for pickles, tar and PNG."""

import hashlib
import json
import logging
import os
from pathlib import Path

import numpy as np

from jaxnets.data.dataset import Dataset, Source
from jaxnets.errors import UserError
from jaxnets.files.atomic import atomic_write
from jaxnets.files.regular import open_file
from jaxnets.files.user_cache import user_cache

_FORMAT = 2  # raise when the meaning of a cached file changes
_ARRAYS = Dataset._fields[:4]
_TEXTS = ("class_names", "notes")


def cached(name: str, source: Source, root: Path) -> Dataset:
    """`source.read()`, or what it gave last time, kept under `root` while the files are the same.

    The copy is `root`/.jaxnets-cache/`name`.npz, or in the user's cache folder where `root` cannot
    be written. It counts only if format, options, file names, sizes and times are those of `source`
    now and the checksums within it are right; else it is made anew. A full disk only disables
    the cache.
    """
    key = _key(name, source)
    folders = _folders(root)
    for folder in folders:
        if (dataset := _load(folder / f"{name}.npz", key)) is not None:
            return dataset._replace(source=str(source.path))
    dataset = source.read()
    for folder in folders:
        try:
            _save(folder / f"{name}.npz", key, dataset)
            break
        except (OSError, UserError) as error:
            logging.getLogger(__name__).info("no cache in %s: %s", folder, error)
    return dataset


def _key(name: str, source: Source) -> str:
    """What a copy depends on; the change time betrays a file whose modification time was set."""
    stats = [(os.path.relpath(path, source.path), path.stat()) for path in sorted(source.files)]
    files = [[file, s.st_size, s.st_mtime_ns, s.st_ctime_ns] for file, s in stats]
    text = json.dumps([_FORMAT, name, source.path.name, source.options, files])
    return hashlib.sha256(text.encode()).hexdigest()


def _folders(root: Path) -> tuple[Path, ...]:
    beside = root / ".jaxnets-cache"
    home = user_cache()
    if home is None:
        return (beside,)
    return beside, home / hashlib.sha256(bytes(root.resolve())).hexdigest()[:16]


def _load(path: Path, key: str) -> Dataset | None:
    try:
        with open_file(path) as opened, np.load(opened, allow_pickle=False) as file:
            if file["key"].item() != key:
                return None
            arrays = {name: file[name] for name in _ARRAYS}
            texts = {name: tuple(file[name].tolist()) for name in _TEXTS}
            return Dataset(**arrays, **texts, source="")
    except Exception:  # absent, or damaged in any way: to be made again
        return None


def _save(path: Path, key: str, dataset: Dataset) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {name: getattr(dataset, name) for name in _ARRAYS}
    texts = {name: np.array(getattr(dataset, name), str) for name in _TEXTS}
    with atomic_write(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, key=key, **arrays, **texts)
