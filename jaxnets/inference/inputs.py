"""Unlabelled images out of whatever file or folder they lie in."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnets.data.images import find_images, read_images
from jaxnets.errors import UserError
from jaxnets.files.regular import check_zip, open_file, read_bytes
from jaxnets.files.restricted_pickle import restricted_loads

_NPZ_KEYS = ("data", "images", "x")
_ID, _LONGEST = (str, bytes, int, np.integer), 4096  # as long as a path may be


class Inputs(NamedTuple):
    """Images to classify.

    images: uint8 (N, size, size, 3).
    ids: what to call each of them.
    notes: what the user should know of how they were read, a line each.
    """

    images: np.ndarray
    ids: list[str]
    notes: list[str]


def read_several(paths: Sequence[Path], size: int, *, skip_bad: bool = False) -> Inputs:
    """What `read_inputs` finds in one path, or several images.

    The ids of several are their names, relative to the folder that they have in common.

    Raises:
        UserError: as `read_inputs`; a folder or an array among several.
    """
    if len(paths) == 1:
        return read_inputs(paths[0], size, skip_bad=skip_bad)
    for path in paths:
        if not path.exists():
            raise UserError(f"--input {path}: no such file or folder")
        if path.is_dir() or path.suffix.lower() in _READERS:
            raise UserError(
                f"--input {path}: no image; several inputs are images, a folder or an array of "
                "images is given alone"
            )
    root = Path(os.path.commonpath([path.parent.absolute() for path in paths]))
    return _from_files([path.absolute() for path in paths], root, size, skip_bad)


def read_inputs(path: Path, size: int, *, skip_bad: bool = False) -> Inputs:
    """The images in `path`, by its suffix.

    - .pkl, .pickle or none: a pickled dict of `data` and, if there, `ids`; a pickle that asks for
      anything but arrays is refused, and nothing of it is run.
    - .npy, .npz: an array; in an .npz it is called data, images or x, and `ids` may lie beside it.
    - an image, or a folder of images, in folders below it too: of any size and mode, cut to a
      square and resized; the ids are the names of the files, relative to the folder.

    Arrays are uint8 (N, size, size, 3), (N, 3, size, size) or (N, 3 * size * size), the planes of
    red, green, blue one after the other.  Without ids images are called 0 ... N-1.

    Args:
        skip_bad: leave out images of a folder that cannot be read, with a note, instead of raising.

    Raises:
        UserError: anything else than that.
    """
    if not path.exists():
        raise UserError(f"--input {path}: no such file or folder")
    if path.is_dir():
        return _from_files(find_images(path), path, size, skip_bad)
    read = _READERS.get(path.suffix.lower())
    if read is None:
        return _from_files([path], path.parent, size, False)
    try:
        data, ids = read(path)
    except (OSError, MemoryError) as e:
        raise UserError(f"{path}: cannot be read ({e})") from e
    images = as_images(data, size, path)
    ids = [str(i) for i in range(len(images))] if ids is None else _ids(ids, len(images), path)
    return Inputs(images, ids, _repeated(ids))


def as_images(data: Any, size: int, where: object) -> np.ndarray:
    """An array of one of the three layouts as (N, size, size, 3)."""
    if not isinstance(data, np.ndarray):
        raise UserError(f"{where}: the images are a {type(data).__name__}, not an array")
    if data.dtype != np.uint8:
        raise UserError(f"{where}: pixels are {data.dtype}, not uint8 from 0 to 255; convert them")
    layouts = {
        (size, size, 3): lambda x: x,
        (3, size, size): lambda x: x.transpose(0, 2, 3, 1),
        (3 * size * size,): lambda x: x.reshape(-1, 3, size, size).transpose(0, 2, 3, 1),
    }
    if data.shape[1:] not in layouts:
        known = ", ".join("(N, " + ", ".join(map(str, layout)) + ")" for layout in layouts)
        raise UserError(f"{where}: an array of shape {data.shape}; known are {known}")
    if not len(data):
        raise UserError(f"{where}: no images in it")
    return np.ascontiguousarray(layouts[data.shape[1:]](data))


def _from_files(paths: Sequence[Path], root: Path, size: int, skip_bad: bool) -> Inputs:
    if not paths:
        raise UserError(f"--input {root}: no images in that folder")
    try:
        read = read_images(paths, size, skip_bad=skip_bad)
    except UserError as e:
        hint = "--skip-bad leaves them out" if len(paths) > 1 else "known are .pkl, .npy, .npz too"
        raise UserError(f"{e}; {hint}") from e
    if not read.kept:
        raise UserError(f"--input {root}: none of {len(paths):,} images can be read")
    notes = [f"skipped {reason}" for reason in read.bad.values()]
    if notes:
        notes.append(f"skipped {len(notes):,} of {len(paths):,} images")
    if read.resized:
        notes.append(
            f"{read.resized:,} of {len(read.kept):,} images had another size: cut to squares and "
            f"resized to {size}x{size}"
        )
    return Inputs(read.images, [p.relative_to(root).as_posix() for p in read.kept], notes)


def _read_pickle(path: Path) -> tuple[Any, Any]:
    content = restricted_loads(read_bytes(path), path)
    if not isinstance(content, dict):
        raise UserError(f"{path}: a pickled {type(content).__name__}, not a dict with 'data'")
    return _entry(content, ("data",), path), content.get("ids")


def _read_npy(path: Path) -> tuple[Any, Any]:
    return _load(path), None


def _read_npz(path: Path) -> tuple[Any, Any]:
    content = _load(path)
    return _entry(content, _NPZ_KEYS, path), content.get("ids")


def _load(path: Path) -> Any:
    try:
        with open_file(path) as file:
            content = np.load(file, allow_pickle=False)
            if not isinstance(content, np.lib.npyio.NpzFile):
                return content
            check_zip(content.zip, os.fstat(file.fileno()).st_size)
            return dict(content)
    except OSError:
        raise
    except Exception as e:  # damaged files raise nearly anything
        raise UserError(f"{path}: no readable {path.suffix} of plain arrays ({e})") from e


def _entry(content: Any, keys: Sequence[str], path: Path) -> Any:
    wanted = " or ".join(map(repr, keys))
    if not isinstance(content, dict):
        raise UserError(f"{path}: one array, not several by name; call it .npy")
    for key in keys:
        if key in content:
            return content[key]
    raise UserError(
        f"{path}: no {wanted} in it (keys: {', '.join(map(str, content)) or 'none':.200})"
    )


def _ids(value: Any, count: int, where: Path) -> list[str]:
    # Item by item: numpy would make copies of nested lists that share their parts, and all texts as
    # long as the longest of them.
    if isinstance(value, np.ndarray):
        flat = value.ndim == 1 and value.dtype.kind in "iuSU"
    else:
        flat = isinstance(value, list | tuple) and all(isinstance(i, _ID) for i in value)
    if not flat:
        raise UserError(f"{where}: 'ids' are no flat list of integers or texts")
    if len(value) != count:
        raise UserError(f"{where}: {count:,} images but {len(value):,} ids")
    try:
        return [_id(i) for i in value]
    except (ValueError, SystemError) as e:  # the latter is numpy's, of what is no letter
        raise UserError(f"{where}: one of 'ids' is no text, or over {_LONGEST} letters") from e


def _id(value: str | bytes | int | np.integer) -> str:
    """Its text.  Raises a ValueError if it is too long for a file of one line an image, or none."""
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    text.encode()  # half of a surrogate pair is no text
    if len(text) > _LONGEST:
        raise ValueError
    return text


def _repeated(ids: Sequence[str]) -> list[str]:
    repeated = [i for i, count in Counter(ids).items() if count > 1]
    if not repeated:
        return []
    return [f"{len(repeated):,} of the ids occur more than once, as {repeated[0]!r}"]


_READERS = {
    "": _read_pickle,
    ".pickle": _read_pickle,
    ".pkl": _read_pickle,
    ".npy": _read_npy,
    ".npz": _read_npz,
}
ARRAYS = tuple(_READERS)
"""How the names of files of arrays end."""
