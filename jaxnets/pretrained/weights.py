"""Trained weights with what they belong to: configuration, classes, preprocessing.

A .safetensors file says it in one of its texts, "jaxnets", as JSON:

    config    the configuration that it was trained with, as in a run's config.json
    meta      what a checkpoint says besides its arrays: class_names, step, epoch, selected_on
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxnets import config as configs
from jaxnets.config import networks
from jaxnets.errors import UserError, unknown
from jaxnets.files import safetensors
from jaxnets.files.atomic import atomic_write
from jaxnets.files.regular import parse_json, read_file
from jaxnets.pretrained import fetch, index
from jaxnets.pretrained.index import Entry

SUFFIX = ".safetensors"
_TEXT = "jaxnets"
# Options that no weight depends on: a network may be rebuilt with others.
_OF_TRAINING = ("drop", "conv_drop")


class Preprocessing:
    """What the images of a network need, which its `config` says."""

    config: Any

    @property
    def image_size(self) -> int:
        """Pixels of a side of the images."""
        return self.config.data.image_size

    @property
    def mean(self) -> tuple[float, ...]:
        """Of each channel, of pixels from 0 to 1: images are normalised by it and `std`."""
        return tuple(self.config.data.mean)

    @property
    def std(self) -> tuple[float, ...]:
        """The standard deviation of each channel."""
        return tuple(self.config.data.std)


@dataclasses.dataclass(frozen=True, eq=False)
class Weights(Preprocessing):
    """Trained weights and what they belong to.

    source: the name, file or run that they were asked for by.
    tensors: by PyTorch's names and in its layouts, numpy arrays.
    config: the configuration that they were trained with; of a file that says none, the defaults
        of a recipe with its network.
    meta: what a checkpoint says besides its arrays.
    sha256: of the file; None of a run.
    entry: the index's, where they were asked for by name.
    notes: what the user should know of them, a line each.
    """

    source: str
    tensors: Mapping[str, np.ndarray]
    config: Any
    meta: Mapping[str, Any]
    sha256: str | None = None
    entry: Entry | None = None
    notes: tuple[str, ...] = ()

    @property
    def model(self) -> str:
        """The name of the network."""
        return self.config.model.name

    @property
    def num_classes(self) -> int:
        """Outputs of the network.  Raises: UserError, where nothing says it."""
        if self.class_names is None and self.config.model.get("num_classes") is None:
            raise UserError(f"{self.source}: says neither its classes nor their number")
        return configs.model_options(self.config, len(self.class_names or ()))[0]

    @property
    def options(self) -> dict[str, Any]:
        """Options of the network that the configuration sets."""
        return options_of(self.config)

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The classes, by number; None where nobody knows them."""
        names = self.meta.get("class_names")
        return None if names is None else tuple(map(str, names))


def options_of(config: Any) -> dict[str, Any]:
    """The options of the network that a configuration sets."""
    return {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in config.model.to_dict().items()
        if key not in ("name", "num_classes")
    }


def load(source: str | Path) -> Weights:
    """Weights by their name in the index, checked against its sum, or of a file that `save` wrote.

    Raises:
        UserError: neither a name nor such a file, one that is damaged or not the index's, or one
            that cannot be fetched.
    """
    name, known = str(source), index.read()
    if name in known:
        return _of_entry(known[name])
    path = Path(source)
    if not path.is_file():
        if path.suffix or len(path.parts) > 1:
            raise UserError(f"{path}: no such file, and no weights of that name")
        raise unknown("weights", name, known)
    return _parsed(read_file(path), path, name)


def is_described(path: Path) -> bool:
    """Whether a file says what its weights belong to, as those that `save` writes do."""
    return (
        path.suffix == SUFFIX
        and path.is_file()
        and _TEXT in safetensors.parse(read_file(path), path).texts
    )


def find(
    model: str, pretrained: str | bool, num_classes: int | None, options: Mapping[str, Any]
) -> Weights:
    """The weights that `create_model(model, num_classes, pretrained=..., **options)` asks for.

    Args:
        pretrained: a name, which says the options that are not given; or True for the first in the
            index of just this network.

    Raises:
        UserError: there are none, or they are of another network or number of classes.
    """
    known = index.read()
    if not isinstance(pretrained, str):
        entries = [e for e in known.values() if _is_of(e, model, num_classes, options)]
        if not entries:
            raise UserError(_no_such(model, known))
        return _of_entry(entries[0])
    if pretrained not in known:
        raise unknown("pretrained weights", pretrained, known)
    entry = known[pretrained]
    if entry.model != model:
        raise UserError(f"pretrained={pretrained!r}: weights of {entry.model}, not of {model}")
    if num_classes not in (None, entry.num_classes):
        raise UserError(
            f"pretrained={pretrained!r}: tells {entry.num_classes} classes apart, not {num_classes}"
        )
    return _of_entry(entry)


def save(
    path: Path, tensors: Mapping[str, np.ndarray], config: Any, meta: Mapping[str, Any]
) -> str:
    """Writes weights with what they belong to, whole or not at all; the SHA-256 of the file.

    Raises:
        UserError: it cannot be written.
    """
    text = json.dumps({"config": config.to_dict(), "meta": dict(meta)}, sort_keys=True)
    data = safetensors.serialize(tensors, {_TEXT: text})
    with atomic_write(path) as temporary:
        temporary.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def _of_entry(entry: Entry) -> Weights:
    path = fetch.fetched(entry) if entry.file is None else index.folder() / entry.file
    data = read_file(path)
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        again = "delete it, to fetch it anew" if entry.file is None else "take the project's own"
        raise UserError(f"{path}: its SHA-256 is not that of the index, it has changed; {again}")
    found = _parsed(data, path, entry.name)
    if found.model != entry.model or found.num_classes != entry.num_classes:
        raise UserError(f"{path}: of {found.model}, not of {entry.model}, as the index says")
    return dataclasses.replace(found, entry=entry)


def _parsed(data: bytes, path: Path, source: str) -> Weights:
    content = safetensors.parse(data, path)
    if _TEXT not in content.texts:
        raise UserError(f"{path}: does not say which network, classes and preprocessing it is of")
    try:
        said = parse_json(content.texts[_TEXT])
        config, meta = configs.from_json(json.dumps(said["config"])), dict(said["meta"])
        names = meta.get("class_names")
        if names is not None and not isinstance(names, list):
            raise ValueError(f"class_names is {names!s:.60}")
    except (ValueError, LookupError, TypeError) as e:
        raise UserError(f"{path}: what it says of its weights cannot be read ({e})") from e
    return Weights(source, content.tensors, config, meta, hashlib.sha256(data).hexdigest())


def _is_of(entry: Entry, model: str, num_classes: int | None, options: Mapping[str, Any]) -> bool:
    if entry.model != model or num_classes not in (None, entry.num_classes):
        return False
    defaults = {key: option.default for key, option in networks.options(model).items()}
    asked, has = (_shape_of(defaults | dict(given)) for given in (options, entry.options))
    return asked == has


def _shape_of(options: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in options.items()
        if key not in _OF_TRAINING
    }


def _no_such(model: str, known: Mapping[str, Entry]) -> str:
    of_model = [entry for entry in known.values() if entry.model == model]
    if not of_model:
        others = f"; there are {', '.join(known)}" if known else ""
        return f"pretrained=True: no weights of {model}{others}"
    listed = ", ".join(f"pretrained={entry.name!r}" for entry in of_model)
    return f"pretrained=True: no weights of {model} with these options; there is {listed}"
