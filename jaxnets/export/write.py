"""Exports written, proved and only then given their names; old ones proved again."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np

from jaxnets.errors import UserError
from jaxnets.export import about as abouts
from jaxnets.export.compare import BOUND, INT8_BOUND, Comparison, compare
from jaxnets.export.files import FORMATS, Opened, open_export, require
from jaxnets.export.images import Images, random_images
from jaxnets.export.source import Source
from jaxnets.files.atomic import atomic_write


class Proof(Protocol):
    """Answers beside the right ones; its text is for people."""

    @property
    def holds(self) -> bool:
        """Whether they are good enough."""


P = TypeVar("P", bound=Proof)


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
    return place_if(path, data, form, lambda opened: compare(right, *opened.answers(images.images)))


def place_if(path: Path, data: bytes, form: str, prove: Callable[[Opened], P]) -> P:
    """Gives a file its name if what it answers holds.

    Args:
        prove: compares its answers with the right ones.

    Raises: as `export`.
    """
    with atomic_write(path) as aside:
        with open(aside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        try:
            proof = prove(open_export(aside, form))
        except UserError as e:
            raise Refused(str(e).replace(str(aside), f"{path}: not written")) from e
        if not proof.holds:
            raise Refused(f"{path}: not written, its answers are not those of JAX: {proof}")
    return proof


def verify(opened: Opened, source: Source, images: Images) -> Comparison:
    """An export against the network that it was made from.

    Raises:
        Refused: it was made from other weights.
    """
    check_weights(opened, source)
    return compare(source.logits(images.images), *opened.answers(images.images))


def check_weights(opened: Opened, source: Source) -> None:
    """Raises `Refused` where an export was made from other weights than the network's."""
    if opened.about["weights_sha256"] != source.sha256():
        raise Refused(f"it was made from other weights ({_origin(opened.about)})")


def verify_alone(opened: Opened) -> Comparison:
    """An export against the few answers that it keeps: those of JAX, or its own first ones in int8.

    In int8 a value that lies between two steps may go to the other one on another processor.
    """
    right, bound = opened.about["probe_logits"], BOUND
    if "int8" in opened.about:
        right, bound = opened.about["int8"]["probe_logits"], INT8_BOUND
    images = random_images(len(right), opened.about["image_size"])
    return compare(np.array(right), *opened.answers(images), bound)


def _origin(about: dict[str, Any]) -> str:
    known = about["origin"].items() if isinstance(about["origin"], dict) else ()
    said = [f"{key} {value}" for key, value in known if key in ("workdir", "weights", "step")]
    return ", ".join(said) or "nothing is known of them"
