"""PyTorch's .pt files, for whoever has torch: opened after a look at them, and what is in them.

The look tells what the pickles would grow to, and how deep.  torch runs no code out of a file, but
it hashes the keys of dicts.  A tuple that holds one twice, which holds one twice, and so on, takes
for ever to hash, and one in one in one ends the process.  Here the opcodes are followed with lists
that hold what an object is made of, and nothing else.
"""

import os
import pickletools
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from jaxnets.files.regular import check_zip, open_file

# Where training scripts put the state_dict inside a larger checkpoint.
WRAPPERS = ("net", "state_dict", "model", "model_state_dict")
# What DataParallel and torch.compile put into names.
WRAPPING = {"module", "_orig_mod"}

_ALWAYS = 1_000_000  # objects: so many may come of a small file whose parts are shared
_PICKLES = 5  # of the old format: magic number, protocol, system, content, storages
_CHANGE = {"APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD"}
_NO_OBJECTS = {"PROTO", "FRAME"}


def load(torch: Any, path: Path, device: Any = "cpu") -> Any:
    """What `torch.save` wrote, of tensors and plain data; raises an exception of any kind."""
    with open_file(path) as file:
        check(file)
        return torch.load(file, map_location=device, weights_only=True)


def state_dict_in(content: Any) -> tuple[Any, dict[str, Any]]:
    """What may be the state_dict in a checkpoint, which may be bare, and what else is in it."""
    for key in WRAPPERS if isinstance(content, Mapping) else ():
        if isinstance(content.get(key), Mapping):
            return content[key], {k: v for k, v in content.items() if k != key}
    return content, {}


def clean_names(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors with names without `module.` and `_orig_mod.`.

    >>> clean_names({"module._orig_mod.layer1.module.0.weight": 1})
    {'layer1.0.weight': 1}
    """
    return {
        ".".join(part for part in name.split(".") if part not in WRAPPING): value
        for name, value in tensors.items()
    }


def check(file: BinaryIO) -> None:
    """Raises an exception of any kind if torch must not open the file; leaves it at its start."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if file.read(4) == b"PK\x03\x04":
        with zipfile.ZipFile(file) as archive:
            check_zip(archive, size)
            for entry in archive.infolist():
                if entry.filename.endswith(".pkl"):
                    with archive.open(entry) as pickled:
                        _check_pickle(pickled, size)
    else:
        file.seek(0)
        for _ in range(_PICKLES):
            _check_pickle(file, size)
    file.seek(0)


def _check_pickle(file: BinaryIO, size: int) -> None:
    try:
        objects = _count(_parts(file), {})
    except RecursionError as e:
        raise ValueError("its parts lie too deep in one another") from e
    if objects > max(_ALWAYS, size):
        raise ValueError("its parts hold one another too often")


def _parts(file: BinaryIO) -> list:
    """The object of the next pickle, as the list of what it is made of, nested."""
    stack: list[Any] = []
    memo: dict[int, list] = {}
    mark = pickletools.markobject
    for opcode, argument, _ in pickletools.genops(file):
        name = opcode.name
        if name == "STOP":
            return stack[-1]
        if name in _NO_OBJECTS:
            continue
        if name == "MARK":
            stack.append(mark)
        elif "GET" in name:
            stack.append(memo[argument])
        elif "PUT" in name or name == "MEMOIZE":
            memo[len(memo) if argument is None else argument] = stack[-1]
        elif name == "DUP":
            stack.append(stack[-1])
        else:
            takes, parts = list(opcode.stack_before), []
            if mark in takes:
                while (part := stack.pop()) is not mark:
                    parts.append(part)
                takes = takes[: takes.index(mark)]
            parts += [stack.pop() for _ in takes]
            if name in _CHANGE:
                changed = parts.pop()
                changed += parts
                parts = changed
            stack += [parts] * len(opcode.stack_after)
    raise ValueError("it ends too early")


def _count(parts: list, counted: dict[int, float]) -> float:
    """All objects below, those that are shared as often as they are met; infinite in a circle."""
    key = id(parts)
    if key not in counted:
        counted[key] = float("inf")
        counted[key] = 1 + sum(_count(part, counted) for part in parts)
    return counted[key]
