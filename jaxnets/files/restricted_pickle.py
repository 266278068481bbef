"""Read pickled numpy arrays from strangers: nothing that a pickle names is imported or called."""

import io
import math
import pickle
import re
from typing import Any, ClassVar

import numpy as np

from jaxnets.errors import UserError

_SIMPLE_DTYPE = re.compile(r"[|<>=]?[biufcSU][1-9]\d*")
_MOST_AXES = 64  # numpy's own limit
_LARGEST_INT = 1 << 64  # of a key or a memo index: larger ones can be chosen to hash alike


def restricted_loads(data: bytes, path_for_messages: object) -> Any:
    """The object pickled in `data`, if it is built of numpy arrays and plain containers alone.

    Plain are dict, list, tuple, str, bytes, int, float, bool and None, and set, which comes as a
    list; arrays and scalars are of boolean, numeric or fixed-width text dtypes, never objects or
    records. Pickles of every protocol, of Python 2 (its `str` arrives as `bytes`) and 3, of numpy 1
    and 2 are read. The keys of an outermost dict are `str` whatever they were.

    The unpickler below only ever handles stand-ins that record what they are given; arrays are made
    by copying once all is read, for a live one would let a pickle free memory that is in use. Time
    and memory grow with the size of `data`, however often a part of it is shared.

    Raises:
      UserError: another global is asked for, or the data is damaged.

    Example:
      >>> restricted_loads(pickle.dumps({b"labels": [3, 1]}), "a file")
      {'labels': [3, 1]}
    """
    try:
        recorded = _Unpickler(data, path_for_messages).load()
        value = _Maker(len(data)).make(recorded)
        if isinstance(value, dict):
            value = {k.decode() if isinstance(k, bytes) else k: v for k, v in value.items()}
    except UserError:
        raise
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise UserError(
            f"{path_for_messages}: not a readable pickle of arrays, perhaps truncated "
            f"({type(error).__name__}: {error!s:.200}); fetch it again"
        ) from error
    return value


class _Global:
    """Stands for what a pickle names; it can be neither called nor changed."""

    __slots__ = ("name",)

    def __init__(self, name: str):
        self.name = name


class _Call:
    """A call of a global: its arguments, and the state that the object made was given."""

    __slots__ = ("args", "name", "state")

    def __init__(self, name: str, args: tuple):
        self.name, self.args, self.state = name, args, None


class _Pairs:
    """The items of a dict; no key is hashed, for that may take for ever, before it is known."""

    __slots__ = ("pairs",)

    def __init__(self):
        self.pairs: list[tuple[Any, Any]] = []

    def __setitem__(self, key: Any, value: Any) -> None:
        self.pairs.append((key, value))


class _Unpickler(pickle._Unpickler):
    """The unpickler in Python, with the opcodes that plain data needs and stand-ins for the rest.

    The one in C reserves what memory a file asks for: one flipped bit in a memo index can cost it
    30 GB. Here the memo is a dict.
    """

    def __init__(self, data: bytes, path_for_messages: object):
        super().__init__(io.BytesIO(data), encoding="bytes")
        self._path = path_for_messages

    def find_class(self, module: str, name: str) -> _Global:
        known = module.replace("numpy.core.", "numpy._core.").replace("__builtin__", "builtins")
        if (known, name) not in _GLOBALS:
            raise UserError(
                f"{self._path}: its pickle asks for {module:.60}.{name:.60}, which images and "
                "labels never need; nothing of it was run, fetch the file again from a source you "
                "trust"
            )
        return _Global(name)

    def load_reduce(self) -> None:
        args = self.stack.pop()
        if type(self.stack[-1]) is not _Global or type(args) is not tuple:
            raise ValueError("a call of what is no function")
        self.stack[-1] = _Call(self.stack[-1].name, args)

    def load_build(self) -> None:
        state = self.stack.pop()
        if type(self.stack[-1]) is not _Call or self.stack[-1].state is not None:
            raise ValueError("a state for what has none, or has one already")
        self.stack[-1].state = state

    def load_empty_dict(self) -> None:
        self.append(_Pairs())

    def load_dict(self) -> None:
        items, made = self.pop_mark(), _Pairs()
        made.pairs = list(zip(items[::2], items[1::2], strict=True))
        self.append(made)

    def load_put(self) -> None:
        index = int(self.readline()[:-1])
        if not 0 <= index < _LARGEST_INT:
            raise ValueError("a memo index out of range")
        self.memo[index] = self.stack[-1]

    def load_bytearray8(self) -> None:
        """As bytes, and read before the stated length is reserved."""
        self.append(self.read(int.from_bytes(self.read(8), "little")))

    _OPCODES = """
        PROTO FRAME STOP MARK POP POP_MARK DUP
        PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET
        NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT
        STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8
        UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8
        EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST LIST APPEND APPENDS
        EMPTY_DICT DICT SETITEM SETITEMS GLOBAL INST STACK_GLOBAL REDUCE BUILD
    """
    dispatch: ClassVar = {
        getattr(pickle, name)[0]: pickle._Unpickler.dispatch[getattr(pickle, name)[0]]
        for name in _OPCODES.split()
    }
    dispatch |= {
        pickle.REDUCE[0]: load_reduce,
        pickle.BUILD[0]: load_build,
        pickle.EMPTY_DICT[0]: load_empty_dict,
        pickle.DICT[0]: load_dict,
        pickle.PUT[0]: load_put,
        pickle.BYTEARRAY8[0]: load_bytearray8,
        pickle.EMPTY_SET[0]: dispatch[pickle.EMPTY_LIST[0]],
        pickle.ADDITEMS[0]: dispatch[pickle.APPENDS[0]],
        pickle.FROZENSET[0]: dispatch[pickle.LIST[0]],
    }


class _Maker:
    """Turns what was recorded into what it stands for, each part once however often it is shared.

    Args:
      size: of the file, in bytes: arrays and decoded bytes can't take more than that, for each has
        its own in the file.
    """

    def __init__(self, size: int):
        self._left = size
        self._made: dict[int, Any] = {}

    def make(self, value: Any) -> Any:
        kind = type(value)
        if kind in _PLAIN:
            return value
        if id(value) in self._made:
            return self._made[id(value)]
        if kind is list:
            self._made[id(value)] = made = []  # before its items: it may be one of them
            made += map(self.make, value)
        elif kind is tuple:
            made = tuple(map(self.make, value))
        elif kind is _Pairs:
            self._made[id(value)] = made = {}
            made.update((_key(self.make(k)), self.make(v)) for k, v in value.pairs)
        elif kind is _Call:
            made = self._call(value)
        else:
            raise ValueError("a function where data should be")
        self._made[id(value)] = made
        return made

    def _call(self, call: _Call) -> Any:
        if call.name in ("_reconstruct", "_frombuffer"):
            return self._array(call)
        if call.state is not None:
            raise ValueError(f"a state for the result of {call.name}")
        if call.name == "scalar":
            dtype, raw = call.args
            dtype, raw = _dtype(dtype), self._bytes(raw)
            if len(raw) != dtype.itemsize:
                raise ValueError(f"{len(raw)} bytes for a scalar of dtype {dtype}")
            return np.frombuffer(raw, dtype)[0]
        if call.name in ("set", "frozenset"):
            return self.make(call.args[0]) if call.args else []
        return self._bytes(call)

    def _array(self, call: _Call) -> np.ndarray:
        """What numpy makes empty by `_reconstruct` and then fills, or at once by `_frombuffer`."""
        axes = None
        if call.name == "_reconstruct":
            _, shape, dtype, fortran, raw = call.state
            order = "F" if fortran else "C"
        else:
            raw, dtype, shape, order, *rest = call.args
            if order == "K":
                axes, order = rest[0], "C"
        dtype, raw = _dtype(dtype), self._bytes(raw)
        for numbers in (shape, axes or ()):
            whole = type(numbers) is tuple and all(type(n) is int and n >= 0 for n in numbers)
            if not whole or len(numbers) > _MOST_AXES:
                raise ValueError("the shape of an array is no short tuple of whole numbers")
        if math.prod(shape) * dtype.itemsize != len(raw):
            raise ValueError(f"{len(raw)} bytes for an array of shape {shape} and dtype {dtype}")
        array = np.ndarray(shape, dtype, raw, order=order)
        if call.name == "_reconstruct":  # which swaps bytes, `_frombuffer` does not
            return array.astype(dtype.newbyteorder("="))
        return (array if axes is None else array.transpose(axes)).copy(order="K")

    def _bytes(self, value: Any) -> bytes:
        """Bytes, as they are or out of a call that stands for them."""
        if type(value) is _Call and value.name == "encode":
            # `_codecs.encode`, the way in which protocols 0 to 2 write bytes.
            text, encoding = value.args
            if _text(encoding) not in ("latin1", "latin-1"):
                raise ValueError(f"bytes in the encoding {encoding!r} are refused")
            value = text.encode("latin-1")
        elif type(value) is _Call and value.name == "bytes" and not value.args:
            value = b""
        if type(value) is not bytes:
            raise ValueError("bytes are missing where an array has them")
        self._left -= len(value)
        if self._left < 0:
            raise ValueError("its arrays are larger than the file")
        return value


def _dtype(call: Any) -> np.dtype:
    """What `numpy.dtype(code, ...)`, then `__setstate__((version, byteorder, ...))` makes."""
    if type(call) is not _Call or call.name != "dtype":
        raise ValueError("an array without a dtype")
    code = _text(call.args[0])
    if not _SIMPLE_DTYPE.fullmatch(code):
        raise ValueError(f"arrays of dtype {code!r} are refused")
    dtype = np.dtype(code)
    return dtype if call.state is None else dtype.newbyteorder(_text(call.state[1]))


def _key(key: Any) -> Any:
    """A key of a dict, if it is quickly hashed and no file can choose many that hash alike."""
    small = type(key) in (int, float) and abs(key) < _LARGEST_INT
    if not small and type(key) not in (str, bytes, bool, type(None)):
        raise ValueError("keys of a dict are texts or numbers")
    return key


def _text(value: Any) -> str:
    if type(value) not in (str, bytes):
        raise ValueError("a text is missing")
    return value.decode("ascii") if isinstance(value, bytes) else value


_PLAIN = frozenset({str, bytes, int, float, bool, type(None)})
_GLOBALS = frozenset(
    {
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "scalar"),
        ("numpy._core.numeric", "_frombuffer"),
        ("numpy", "ndarray"),  # only ever an argument; a call of it is refused
        ("numpy", "dtype"),
        ("_codecs", "encode"),
        ("builtins", "bytes"),
        ("builtins", "set"),
        ("builtins", "frozenset"),
    }
)
