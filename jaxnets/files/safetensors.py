"""Safetensors files: arrays by name, and texts beside them.

An array under several names is stored under the first of them; of each other name there is a text
that says which, as safetensors.torch.save_model writes it and load_model reads it.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import ml_dtypes
import numpy as np

from jaxnets.errors import UserError
from jaxnets.files.regular import read_file

# The dtypes of safetensors that weights have.
_DTYPES = {
    "BF16": ml_dtypes.bfloat16,
    "F16": np.float16,
    "F32": np.float32,
    "F64": np.float64,
    "I32": np.int32,
    "I64": np.int64,
}
_TEXTS = "__metadata__"


class Content(NamedTuple):
    """What such a file holds: arrays by name, in the order of names, and texts by key."""

    tensors: dict[str, np.ndarray]
    texts: dict[str, str]


def read(path: Path) -> Content:
    """The content of a file.  Raises: as `parse`, and where it cannot be read."""
    return parse(read_file(path), path)


def parse(data: bytes, path: Path) -> Content:
    """The content of a file's bytes; the arrays are read-only.

    Args:
        path: what the error calls it.

    Raises:
        UserError: not of this format, damaged, or of dtypes that weights do not have.
    """
    from safetensors import deserialize

    try:
        tensors = {
            name: np.frombuffer(entry["data"], _DTYPES[entry["dtype"]]).reshape(entry["shape"])
            for name, entry in deserialize(data)
        }
        texts = _header(data).get(_TEXTS, {})
        shared = shared_names(data)
        tensors |= {name: tensors[first] for name, first in shared.items()}
        return Content(
            dict(sorted(tensors.items())),
            {key: text for key, text in texts.items() if key not in shared},
        )
    except Exception as e:  # the library raises nearly anything
        reason = str(e).partition("\n")[0][:160] or type(e).__name__
        reason = f"dtype {e}" if isinstance(e, KeyError) else reason
        raise UserError(f"{path}: not a safetensors file of weights, or damaged ({reason})") from e


def shared_names(data: bytes) -> dict[str, str]:
    """The names of a file's arrays that are stored under another one, which is the value.

    Raises an error of any kind for bytes that are not of this format.
    """
    header = _header(data)
    texts = header.pop(_TEXTS, {})
    return {k: first for k, first in texts.items() if first in header and k not in header}


def _header(data: bytes) -> dict:
    return json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])


def serialize(tensors: Mapping[str, np.ndarray], texts: Mapping[str, str] | None = None) -> bytes:
    """The bytes of a file with these arrays, and with texts beside them.

    Names of one array, or of arrays that share their memory, share their place in the file.
    """
    from safetensors import TensorSpec
    from safetensors import serialize as serialized

    first: dict[tuple, str] = {}
    shared = {}
    arrays = {name: np.asarray(value) for name, value in tensors.items()}
    for name, value in arrays.items():
        key = value.ctypes.data, value.shape, value.strides, value.dtype, value.size or name
        if first.setdefault(key, name) != name:
            shared[name] = first[key]
    # The specifications hold addresses only: the arrays must be whole, and live until it is done.
    stored = {name: np.asarray(a, order="C") for name, a in arrays.items() if name not in shared}
    specs = {
        name: TensorSpec(
            dtype=a.dtype.name, shape=a.shape, data_ptr=a.ctypes.data, data_len=a.nbytes
        )
        for name, a in stored.items()
    }
    return _sorted(serialized(specs, metadata={"format": "pt", **shared, **(texts or {})}))


def _sorted(data: bytes) -> bytes:
    """The same file with its texts in the order of their keys: the library's changes each time."""
    end = 8 + int.from_bytes(data[:8], "little")
    header = _header(data)
    header[_TEXTS] = dict(sorted(header[_TEXTS].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[end:]
