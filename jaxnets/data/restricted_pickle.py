"""Read pickled numpy arrays from strangers: nothing that a pickle names is imported or called."""

import functools
import pickle
import re
import struct
from typing import Any, BinaryIO, ClassVar

import numpy as np

from jaxnets.errors import UserError

_SIMPLE_DTYPE = re.compile(r"[|<>=]?[biufcSU][1-9]\d*")


def restricted_load(file: BinaryIO, path_for_messages: object) -> Any:
    """The object pickled in `file`, if it is built of numpy arrays and plain containers alone.

    Plain are dict, list, tuple, set, str, bytes, int, float, bool and None; arrays and scalars are
    of boolean, numeric or fixed-width text dtypes, never objects or records. Pickles of every
    protocol, of Python 2 (its `str` arrives as `bytes`) and 3, of numpy 1 and 2 are read. The keys
    of an outermost dict are `str` whatever they were. Pass arrays through `np.asarray`, for some
    are of a subclass.

    The globals by which numpy pickles itself are answered with stand-ins from this module, because
    the real ones trust their input: `numpy.dtype.__setstate__` takes pointers for numbers if told.

    Raises:
      UserError: another global is asked for, or the file is damaged.

    Example:
      >>> import io
      >>> restricted_load(io.BytesIO(pickle.dumps({b"labels": [3, 1]})), "a file")
      {'labels': [3, 1]}
    """
    try:
        value = _Unpickler(file, path_for_messages).load()
        if isinstance(value, dict):
            value = {k.decode() if isinstance(k, bytes) else k: v for k, v in value.items()}
    except UserError:
        raise
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise UserError(
            f"{path_for_messages}: not a readable pickle of arrays, perhaps truncated "
            f"({type(error).__name__}: {error}); fetch it again"
        ) from error
    return value


class _Unpickler(pickle._Unpickler):
    """The unpickler in Python, for the one in C reserves what memory a file asks for.

    One flipped bit in a memo index can cost it 30 GB; here the memo is a dict.
    """

    dispatch: ClassVar = dict(pickle._Unpickler.dispatch)

    def __init__(self, file: BinaryIO, path_for_messages: object):
        super().__init__(file, encoding="bytes")
        self._path = path_for_messages

    def find_class(self, module: str, name: str) -> Any:
        known = module.replace("numpy.core.", "numpy._core.").replace("__builtin__", "builtins")
        if (known, name) not in _GLOBALS:
            raise UserError(
                f"{self._path}: its pickle asks for {module}.{name}, which images and labels never "
                "need; nothing of it was run, fetch the file again from a source you trust"
            )
        # A copy, because a pickle may set attributes of whatever it is handed.
        return functools.partial(_GLOBALS[known, name])

    def load_bytearray8(self) -> None:
        """As the original, but for reading before reserving the stated length."""
        (length,) = struct.unpack("<Q", self.read(8))
        self.append(bytearray(self.read(length)))

    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8


class _Dtype:
    """Stands for `numpy.dtype(code, ...)`, then `__setstate__((version, byteorder, ...))`."""

    def __init__(self, code: str | bytes, *_: object):
        code = _text(code)
        if not _SIMPLE_DTYPE.fullmatch(code):
            raise ValueError(f"arrays of dtype {code!r} are refused")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple):
        self.dtype = self.dtype.newbyteorder(_text(state[1]))


class _Array(np.ndarray):
    """What numpy makes empty by `_reconstruct`, then fills by `__setstate__`."""

    def __setstate__(self, state: tuple):
        version, shape, dtype, fortran, raw = state
        super().__setstate__((version, shape, dtype.dtype, fortran, raw))


def _text(value: str | bytes) -> str:
    return value.decode("ascii") if isinstance(value, bytes) else value


def _reconstruct(*_: object) -> _Array:
    return _Array(0, np.uint8)


def _frombuffer(
    raw: bytes, dtype: _Dtype, shape: tuple, order: str, axes: Any = None
) -> np.ndarray:
    array = np.frombuffer(raw, dtype.dtype)
    if order == "K" and axes is not None:
        return array.reshape(shape).transpose(axes)
    return array.reshape(shape, order=order)


def _scalar(dtype: _Dtype, raw: bytes) -> np.generic:
    return np.frombuffer(raw, dtype.dtype, count=1)[0]


def _encode(text: str, encoding: str) -> bytes:
    """`_codecs.encode`, the way in which protocols 0 to 2 write bytes."""
    if _text(encoding) not in ("latin1", "latin-1"):
        raise ValueError(f"bytes in the encoding {encoding!r} are refused")
    return text.encode("latin-1")


_GLOBALS: dict[tuple[str, str], Any] = {
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("numpy._core.numeric", "_frombuffer"): _frombuffer,
    ("numpy", "ndarray"): type(None),  # only ever an argument; whoever calls it gets an error
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
    ("builtins", "bytes"): lambda: b"",
}
