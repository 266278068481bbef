"""Random pickles, by their grammar: opcodes over the globals that arrays are pickled by."""

import pickle
from random import Random

from tests import pickles

_GLOBALS = (
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.numeric", "_frombuffer"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
    ("builtins", "bytes"),
    ("__builtin__", "set"),
    ("builtins", "getattr"),
    ("collections", "OrderedDict"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch", "FloatStorage"),
)
_TEXTS = ("data", "labels", "fine_labels", "ids", "net", "latin1", "C", "F", "K", "u1", "<u2",
          ">i4", "U3", "S5", "O", "|", ">", "", "é", "label_names", "cpu", "0")  # fmt: skip
_NUMBERS = (0, 1, 2, 3, 9, 255, -1, 3072, 2**31 - 1, -(2**31))
_OPCODES = (b"b", b"a", b"s", b"R", b"\x86", b"\x81", b"2", b"Q")
_KEYS = ("data", "labels", "fine_labels", "ids", "label_names", "images")


def random_pickle(random: Random) -> bytes:
    """Statements that each make a value or change one made before, most of them well-formed."""
    made: list[str] = []  # kinds of the values in the memo
    size = random.choice((6, 3072, 3 * 3072, 1 << 18))
    code = random.choice(("u1", "u1", "u2", "i4"))
    order = random.choice("|<>")
    wild = random.random() < 0.5

    def any_of(*kinds: str) -> bytes:
        """A value made before, of one of the kinds if there is any such."""
        fitting = [i for i, kind in enumerate(made) if kind in kinds]
        if wild and made:
            fitting = fitting or list(range(len(made)))
        return b"h" + bytes([random.choice(fitting)]) if fitting else makers[kinds[0]][0]()

    def anything() -> bytes:
        return any_of(*random.choices(("array", "list", "dict", "text", "dtype", "plain"), k=2))

    def filled() -> bytes:
        return pickles.state(bytes(size), code, order)

    def call(name: tuple[str, str], *arguments: bytes) -> bytes:
        return pickles.named(*name) + b"(" + b"".join(arguments) + b"tR"

    makers = {
        "array": (
            lambda: pickles.EMPTY + filled() + b"b",
            lambda: pickles.view(pickles.raw(bytes(size)), size),
            lambda: pickles.view(any_of("array"), size),
            lambda: pickles.view(any_of("array"), size),
            *((lambda: pickles.EMPTY, lambda: pickles.view(anything(), size)) if wild else ()),
        ),
        "dtype": (
            lambda: pickles.dtype(code, order),
            *((lambda: pickles.dtype(random.choice(_TEXTS), order),) if wild else ()),
        ),
        "list": (
            lambda: b"](" + b"".join(anything() for _ in range(random.randrange(5))) + b"e",
            lambda: b"](" + b"".join(pickles.number(i % 10) for i in range(5)) + b"e",
            lambda: b"(" + anything() + anything() + random.choice((b"t", b"l")),
            lambda: pickle.dumps([random.choice(_TEXTS)] * random.randrange(9), 2)[2:-1],
        ),
        "dict": (lambda: b"}" + pickles.text(random.choice(_KEYS)) + anything() + b"s",),
        "text": (lambda: pickles.text(random.choice(_TEXTS)),),
        "plain": (
            lambda: pickles.number(random.choice(_NUMBERS)),
            lambda: pickles.raw(bytes(random.randrange(20))),
            lambda: random.choice((b"N", b"\x88", b"\x89", b")", b"]", b"}", b"\x8f")),
            lambda: call(_GLOBALS[1], any_of("dtype"), pickles.raw(bytes(int(code[1:])))),
            lambda: call(_GLOBALS[5], pickles.text("\xe9a"), pickles.text("latin1")),
            *((lambda: call(random.choice(_GLOBALS), anything(), anything()),) if wild else ()),
        ),
    }
    changes = (
        lambda: any_of("array") + filled() + b"b",
        lambda: any_of("array") + filled() + b"b",
        lambda: any_of("list") + anything() + b"a",
        lambda: any_of("dict") + pickles.text(random.choice(_KEYS)) + anything() + b"s",
        lambda: any_of("array") + pickles.state(bytes(2), "u2", ">") + b"b",
        lambda: any_of("dtype") + b"(K\x03" + pickles.text(">") + b"NNNtb",
        *((lambda: anything() + anything() + random.choice(_OPCODES),) if wild else ()),
    )
    data = b""
    for _ in range(random.randrange(1, 16)):
        if made and random.random() < 0.25:
            data += random.choice(changes)() + b"0"
        else:
            kind = random.choice(("array", *makers))
            data += random.choice(makers[kind])() + b"q" + bytes([len(made)]) + b"0"
            made.append(kind)
    keys = random.sample(_KEYS, 3)
    items = (pickles.text(key) + any_of("array", "list", "plain") for key in keys)
    data = b"\x80" + bytes([random.choice((2, 4, 5))]) + data + b"}(" + b"".join(items) + b"u."
    for _ in range(random.choice((0, 1, 3)) if wild else 0):
        at = random.randrange(len(data))
        data = data[:at] + bytes([random.randrange(256)]) + data[at + 1 :]
    return data
