"""The index of the weights that come with the project: weights/index.json."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxnets.errors import UserError, unknown
from jaxnets.files.atomic import write_text
from jaxnets.files.regular import parse_json, read_text

INDEX = "index.json"
_PACKAGE = Path(__file__).parent


@dataclasses.dataclass(frozen=True)
class Entry:
    """Weights as the index lists them.

    model, num_classes, options: what builds their network.
    sha256, size: of the file; size in bytes.
    file: its name beside the index; or
    url: where it is fetched from.
    record: what is known of the training: data, recipe, command, seed, epoch (of how many epochs),
        test figures, commit, versions, license.
    """

    name: str
    model: str
    num_classes: int
    options: Mapping[str, Any]
    sha256: str
    size: int
    file: str | None = None
    url: str | None = None
    record: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def folder() -> Path:
    """Where the index lies: installed with the package, or in its checkout."""
    installed = _PACKAGE / "files"
    return installed if installed.is_dir() else _PACKAGE.parents[1] / "weights"


def read() -> dict[str, Entry]:
    """All entries by name, in the order of the index; none where there is no index.

    Raises:
        UserError: an index that is damaged or not one.
    """
    path = folder() / INDEX
    try:
        given = parse_json(read_text(path))["weights"]
        return {name: _entry(name, dict(fields)) for name, fields in given.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as e:
        raise UserError(f"{path}: not an index of weights, or damaged ({e})") from e


def write(entries: Mapping[str, Entry]) -> Path:
    """Replaces the index; its path."""
    path = folder() / INDEX
    content = {name: _fields(entry) for name, entry in entries.items()}
    write_text(path, json.dumps({"weights": content}, indent=2) + "\n")
    return path


def entry(name: str) -> Entry:
    """The entry of a name; a UserError names the nearest one otherwise."""
    known = read()
    if name not in known:
        raise unknown("weights", name, known)
    return known[name]


def is_name(source: Path) -> bool:
    """Whether what a user gives for weights is a name of the index, or can only be meant as one."""
    return str(source) in read() or not (source.exists() or source.suffix or len(source.parts) > 1)


def list_pretrained(model: str | None = None) -> list[str]:
    """The names that `create_model(..., pretrained=NAME)` and --weights take.

    Args:
        model: only those of this network.

    >>> list_pretrained("resnet18")
    []
    """
    return [name for name, found in read().items() if model in (None, found.model)]


def _entry(name: str, fields: dict[str, Any]) -> Entry:
    """Raises a ValueError, LookupError or TypeError where a field is missing or of another kind."""
    given = {key: fields.pop(key) for key in ("model", "num_classes", "sha256", "size")}
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.pop("options").items()}
    found = Entry(
        name,
        options=options,
        file=fields.pop("file", None),
        url=fields.pop("url", None),
        record=fields,
        **given,
    )
    if (found.file is None) == (found.url is None):
        raise ValueError(f"{name}: either a file or a url")
    if found.file is not None and Path(found.file).name != found.file:
        raise ValueError(f"{name}: the file lies beside the index")
    if not isinstance(found.sha256, str) or not isinstance(found.size, int):
        raise ValueError(f"{name}: its sha256 or size")
    return found


def _fields(entry: Entry) -> dict[str, Any]:
    where = {"file": entry.file} if entry.url is None else {"url": entry.url}
    return {
        **where,
        "sha256": entry.sha256,
        "size": entry.size,
        "model": entry.model,
        "num_classes": entry.num_classes,
        "options": dict(entry.options),
        **entry.record,
    }
