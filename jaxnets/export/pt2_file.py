"""torch.export's archive; what it says of itself is an extra file in it.

    extra = {"jaxnets.json": ""}
    program = torch.export.load("net.pt2", extra_files=extra)
    logits, probabilities = program.module()(images)

torch opens such archives by means that can run code. Here it is given only what a network needs.
"""

import io
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from jaxnets.export import about as abouts
from jaxnets.export.source import Source
from jaxnets.files import pt_file
from jaxnets.files.regular import check_zip, parse_json

ABOUT = "jaxnets.json"
_MODEL, _SAMPLES = "models/model.json", "data/sample_inputs/model.pt"
_CONFIGS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
_MEMBERS = re.compile(
    r"archive_format|archive_version|byteorder|\.data/(version|serialization_id)|extra/.*|"
    r"data/weights/weight_\d+|data/constants/tensor_\d+|"
    + "|".join(map(re.escape, (_MODEL, _SAMPLES, *_CONFIGS)))
)
_SIZE = re.compile(r"Symbol\('s\d+', positive=True, integer=True\)")  # torch has Python evaluate it
_OPERATION = "torch.ops.aten."


def write(source: Source, kind: str, about: dict[str, Any]) -> bytes:
    """The file: a program of (logits, probabilities)."""
    import torch

    from jaxnets.export.twin import program

    file = io.BytesIO()
    torch.export.save(program(source, kind), file, extra_files={ABOUT: abouts.to_json(about)})
    return file.getvalue()


def about_of(data: bytes) -> bytes | None:
    """What a file says of itself."""
    return _members(data).get(f"extra/{ABOUT}")


def runtime(data: bytes) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """The file in torch, on the CPU.

    Raises:
        ValueError: it holds more than a network.
    """
    import torch

    members = _members(data)
    _check(members)
    net = torch.export.load(io.BytesIO(_archive(members))).module()

    def run(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with torch.no_grad():
            logits, probabilities = net(torch.tensor(images))
        return logits.numpy(), probabilities.numpy()

    return run


def _members(data: bytes) -> dict[str, bytes]:
    """The files in an archive, by their names below its one folder."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        check_zip(archive, len(data))
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def _check(members: Mapping[str, bytes]) -> None:
    """Raises an error of any kind if torch would do more with them than build a network."""
    import torch

    for name in members:
        if not _MEMBERS.fullmatch(name):
            raise ValueError(f"it holds {name:.80}, which no network needs")
    for name in _CONFIGS:
        for key, value in _walk(parse_json(members[name])):
            pickled = key == "use_pickle" and value is not False
            path = key == "path_name" and not re.fullmatch(r"(weight|tensor)_\d+", str(value))
            if pickled or path:
                raise ValueError(f"{name} asks for {key} {value!s:.80}, which no network needs")
    for key, value in _walk(parse_json(members[_MODEL])):
        if key == "expr_str" and not _SIZE.fullmatch(str(value)):
            raise ValueError(f"it asks for a size of {value!s:.80}, which no network needs")
        if key == "target" and not str(value).startswith(_OPERATION):
            raise ValueError(f"it asks for {value!s:.80}, which no network needs")
        if key == "guards_code":
            raise ValueError("it asks for code to be run, which no network needs")
    samples = io.BytesIO(members[_SAMPLES])
    pt_file.check(samples)
    torch.load(samples, weights_only=True)


def _walk(tree: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every plain value in nested lists and dictionaries, with the nearest key above it."""
    if isinstance(tree, dict):
        for name, value in tree.items():
            yield from _walk(value, name)
    elif isinstance(tree, list):
        for value in tree:
            yield from _walk(value, key)
    else:
        yield key, tree


def _archive(members: Mapping[str, bytes]) -> bytes:
    """An archive of these and nothing else: torch reads other archives than Python does."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(f"model/{name}", content)
    return file.getvalue()
