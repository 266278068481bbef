"""What tells one data set from another, as plain data that a checkpoint carries.

A run that is resumed or evaluated elsewhere or later must hear when the data is not the same:
one image more and the validation split is another, drawn from images that were trained on.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxnets.data.dataset import Dataset
from jaxnets.errors import UserError

_SPLITS = ("train", "val", "test")
_VALUES = 64  # of each image: an image that is changed or exchanged is seen, at 3 MB of 50,000


def identity(dataset: Dataset) -> dict[str, Any]:
    """Class names and, of each split, the number of images and hashes of labels and pixels.

    Of every image some of its values count, spread over all of it. The same on every machine, for
    both frameworks; ready for JSON.
    """
    found: dict[str, Any] = {"classes": list(map(str, dataset.class_names))}
    for split in _SPLITS:
        images = getattr(dataset, f"{split}_images")
        if images is not None:
            found[split] = {
                "images": len(images),
                "labels": _hash(np.asarray(getattr(dataset, f"{split}_labels"), "<i4")),
                "pixels": _hash(_sample(images)),
            }
    return found


def changes(before: Any, now: Mapping[str, Any], splits: Sequence[str] = _SPLITS) -> list[str]:
    """What of the data, its classes and these splits, is no longer as it was; empty if it is.

    Args:
        before: an `identity` out of a checkpoint; None, where it has none, is like any other.

    >>> train = {"images": 9, "labels": "a", "pixels": "b"}
    >>> before = {"classes": ["cat", "dog"], "train": train}
    >>> changes(before, {"classes": ["cat", "emu"], "train": train | {"pixels": "c"}})
    ["classes (class 1 is 'dog' and 'emu')", 'pixels of train']
    >>> changes(before, before | {"train": train | {"images": 1000}})
    ['train images 9 -> 1,000']
    """
    if not _is_identity(before):
        return []
    found = []
    if before["classes"] != now["classes"]:
        found.append(f"classes ({differing_classes(before['classes'], now['classes'])})")
    for split in splits:
        old, new = (data.get(split, _NO_IMAGES) for data in (before, now))
        if old["images"] != new["images"]:
            found.append(f"{split} images {old['images']:,} -> {new['images']:,}")
        else:
            found += [f"{key} of {split}" for key in ("labels", "pixels") if old[key] != new[key]]
    return found


def check_same(before: Any, now: Mapping[str, Any], workdir: Path, source: str) -> None:
    """Raises a UserError if a run in `workdir`, begun on the data `before`, would resume on others.

    Args:
        source: where the data is now.
    """
    if found := changes(before, now):
        raise UserError(
            f"--workdir {workdir} holds a run on other data than {source}: {'; '.join(found)}. "
            "Name its own data by --config.data.dir, or choose another --workdir"
        )


def describe(workdir: object, changes: Sequence[str]) -> str:
    """The note where a network is evaluated on other data than it was trained with."""
    return f"note: not the data that {workdir} was trained with: {'; '.join(changes)}"


_NO_IMAGES = {"images": 0, "labels": "", "pixels": ""}


def _is_identity(given: Any) -> bool:
    """Whether it is what `identity` gives: checkpoints may come from anywhere."""
    if not isinstance(given, Mapping) or not isinstance(given.get("classes"), list):
        return False
    parts = [given[split] for split in _SPLITS if split in given]
    return all(
        isinstance(part, Mapping)
        and isinstance(part.get("images"), int)
        and {"labels", "pixels"} <= part.keys()
        for part in parts
    )


def differing_classes(a: Sequence[str], b: Sequence[str]) -> str:
    """How two lists of class names differ: their numbers, or the first two that are not equal.

    >>> differing_classes(["cat", "dog"], ["cat", "emu"])
    "class 1 is 'dog' and 'emu'"
    >>> differing_classes(["cat", "dog"], ["cat"])
    '2 and 1'
    """
    if len(a) != len(b):
        return f"{len(a)} and {len(b)}"
    i = next(i for i, (x, y) in enumerate(zip(a, b, strict=True)) if x != y)
    return f"class {i} is {a[i]!r} and {b[i]!r}"


def _sample(images: np.ndarray) -> np.ndarray:
    flat = images.reshape(len(images), -1)
    return flat[:, np.linspace(0, flat.shape[1] - 1, _VALUES).astype(int)]


def _hash(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array)).hexdigest()[:32]
