"""Own images as a data set: files in DIR/train/CLASS/ and DIR/test/CLASS/, or in DIR/CLASS/.

Of the second a share of each class is the test set, chosen by the files' names alone: the same for
every seed, and nearly the same when images are added.

The folders' names, sorted, are the class names. Both splits must have the same classes, at least
two, each with at least one image in either split: a class that is never tested, or never trained,
is a mistake more often than a wish. Folders within a class folder are read too. Files that are no
images, or lie beside the class folders, are left out and counted in a note.
"""

import functools
import hashlib
import json
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxnets.data.dataset import Dataset, Source
from jaxnets.data.images import describe_bad, find_files, is_image_name, read_images
from jaxnets.errors import UserError

SPLITS = ("train", "test")
_NAMED = 5  # classes that a message names


class _Split(NamedTuple):
    folder: Path
    classes: dict[str, list[Path]]
    """The images of each class, sorted."""
    strays: int
    """Files that are left out."""


def find(root: Path, size: int, *, skip_bad: bool = False, test_fraction: float = 0.0) -> Source:
    """The images below `root`, to be read as uint8 (N, size, size, 3) by `images.read_images`.

    Args:
        skip_bad: leave out images that cannot be read, and say so in a note.
        test_fraction: of each class of DIR/CLASS/, at least one image and not all; 0 for
            DIR/train/CLASS/ and DIR/test/CLASS/.

    Raises:
        UserError: folders that are missing or empty, fewer than two classes, or classes that only
            one split has. Reading raises it for images that cannot be read; without `skip_bad`.
    """
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; {_WANTED}")
    train, test = _divided(root, test_fraction) if test_fraction else _given(root)
    for split, other in ((train, test), (test, train)):
        if lacking := sorted(split.classes.keys() - other.classes.keys()):
            raise UserError(
                f"{other.folder}: lacks the class(es) {_names(lacking)} of {split.folder}; both "
                "need the same class folders"
            )
    if len(train.classes) < 2:
        raise UserError(
            f"{train.folder}: has {len(train.classes)} class folder(s), but needs two; {_WANTED}"
        )
    splits = (train, test)
    for split in splits:
        if empty := [name for name, paths in split.classes.items() if not paths]:
            raise UserError(
                f"{split.folder}: no images in the class folder(s) {_names(empty)}; add some, or "
                "remove the class"
            )
    files = tuple(path for s in splits for paths in s.classes.values() for path in paths)
    options = json.dumps([size, skip_bad, test_fraction, [split.strays for split in splits]])
    return Source(root, files, functools.partial(_read, root, splits, size, skip_bad), options)


_WANTED = "name a folder that has train/CLASS/ and test/CLASS/ in it by --config.data.dir"


def _given(root: Path) -> list[_Split]:
    """The images of DIR/train/CLASS/ and DIR/test/CLASS/."""
    missing = [name for name in SPLITS if not (root / name).is_dir()]
    if len(missing) == 2 and len(classes := _scan(root).classes) > 1 and any(classes.values()):
        raise UserError(
            f"{root}: no folders train and test in it, but the classes {_names(list(classes))}; "
            "take a part of each as the test set by --config.data.test_fraction=0.2"
        )
    if missing:
        raise UserError(f"{root}: no folder {missing[0]} in it; {_WANTED}")
    return [_scan(root / name) for name in SPLITS]


def _divided(root: Path, fraction: float) -> list[_Split]:
    """The images of DIR/CLASS/, `fraction` of each class in the second split."""
    if all((root / name).is_dir() for name in SPLITS):
        raise UserError(
            f"{root}: has folders train and test, so there is nothing to take a part of; leave out "
            f"--config.data.test_fraction={fraction:g}"
        )
    whole = _scan(root)
    if few := [name for name, paths in whole.classes.items() if len(paths) < 2]:
        raise UserError(
            f"{root}: fewer than two images in the class folder(s) {_names(few)}, which "
            f"--config.data.test_fraction={fraction:g} parts into train and test; add some"
        )

    def drawn(path: Path) -> bytes:
        return hashlib.sha256(os.fsencode(path.relative_to(root))).digest()

    train, test = {}, {}
    for name, paths in whole.classes.items():
        count = min(max(round(fraction * len(paths)), 1), len(paths) - 1)
        chosen = set(sorted(paths, key=drawn)[:count])
        train[name] = [path for path in paths if path not in chosen]
        test[name] = [path for path in paths if path in chosen]
    return [_Split(root, train, whole.strays), _Split(root, test, 0)]


def _scan(folder: Path) -> _Split:
    entries = [path for path in folder.iterdir() if not path.name.startswith(".")]
    files = {path.name: find_files(path) for path in sorted(entries) if path.is_dir()}
    classes = {name: [p for p in paths if is_image_name(p.name)] for name, paths in files.items()}
    beside = len(entries) - len(files)
    strays = beside + sum(len(files[name]) - len(classes[name]) for name in files)
    return _Split(folder, classes, strays)


def _names(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _read(root: Path, splits: tuple[_Split, _Split], size: int, skip_bad: bool) -> Dataset:
    names = tuple(splits[0].classes)
    arrays, bad, resized, total = [], {}, 0, 0
    for split in splits:
        label_of = {path: label for label, name in enumerate(names) for path in split.classes[name]}
        result = read_images(label_of, size, skip_bad=True)
        labels = np.array([label_of[path] for path in result.kept], np.int32)
        arrays += [result.images, labels]
        bad |= result.bad
        resized += result.resized
        total += len(label_of)
        gone = [names[i] for i in range(len(names)) if i not in labels]
        if skip_bad and gone:
            raise UserError(
                f"{split.folder}: no image of the class(es) {_names(gone)} can be read; mend them"
            )
    if bad and not skip_bad:
        raise UserError(
            f"{describe_bad(bad, total)}; mend or remove them, or leave them out by "
            "--config.data.skip_bad=True"
        )
    strays = sum(split.strays for split in splits)
    notes = {
        f"left out: {describe_bad(bad, total)}": len(bad),
        f"stray files left out (no images, or beside the class folders): {strays:,}": strays,
        f"{resized:,} of {total - len(bad):,} images were not {size}x{size}: their central "
        "squares were resized": resized,
    }
    return Dataset(*arrays, names, str(root), notes=tuple(n for n, count in notes.items() if count))
