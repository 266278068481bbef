"""Exports written, proved and only then given their names; old ones proved again."""

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnets.errors import UserError
from jaxnets.export import about as abouts
from jaxnets.export.compare import Comparison, compare
from jaxnets.export.files import FORMATS, Opened, open_export, require
from jaxnets.export.images import Images, random_images
from jaxnets.export.source import Source
from jaxnets.files.atomic import atomic_write


class Refused(Exception):
    """An export that does not answer as its network does; its text is one line."""


class Exported(NamedTuple):
    """What was written."""

    about: dict[str, Any]
    size: int
    """Bytes."""
    comparison: Comparison


def export(
    source: Source, path: Path, form: str, images: Images, *, kind: str = "uint8-nhwc"
) -> Exported:
    """Writes a network to one file, if that answers in its own runtime as JAX does.

    Args:
        path: replaced if it exists.
        form: a key of FORMATS.
        images: to compare on.
        kind: what the file takes, one of `jaxnets.export.about.INPUTS`.

    Raises:
        UserError: a package is missing, or the file cannot be written.
        Refused: it answers otherwise.  There is then no file, or the older one.
    """
    packages = (*FORMATS[form].writes, *FORMATS[form].runs)
    require(packages, str(path))
    about = abouts.describe(source, kind, packages)
    data = FORMATS[form].load().write(source, kind, about)
    return Exported(about, len(data), place(path, data, form, source.logits(images.images), images))


def place(path: Path, data: bytes, form: str, right: np.ndarray, images: Images) -> Comparison:
    """Gives a file its name if it answers as it must.

    Args:
        right: the logits that it must answer for `images`.

    Raises: as `export`.
    """
    with atomic_write(path) as aside:
        with open(aside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        try:
            comparison = compare(right, *open_export(aside, form).answers(images.images))
        except UserError as e:
            raise Refused(str(e).replace(str(aside), f"{path}: not written")) from e
        if not comparison.holds:
            raise Refused(f"{path}: not written, its answers are not those of JAX: {comparison}")
    return comparison


def verify(opened: Opened, source: Source, images: Images) -> Comparison:
    """An export against the network that it was made from.

    Raises:
        Refused: it was made from other weights.
    """
    if opened.about["weights_sha256"] != source.sha256():
        raise Refused(f"it was made from other weights ({_origin(opened.about)})")
    return compare(source.logits(images.images), *opened.answers(images.images))


def verify_alone(opened: Opened) -> Comparison:
    """An export against the few answers of JAX that it keeps."""
    right = np.array(opened.about["probe_logits"])
    images = random_images(len(right), opened.about["image_size"])
    return compare(right, *opened.answers(images))


def _origin(about: dict[str, Any]) -> str:
    known = about["origin"].items() if isinstance(about["origin"], dict) else ()
    said = [f"{key} {value}" for key, value in known if key in ("workdir", "weights", "step")]
    return ", ".join(said) or "nothing is known of them"
