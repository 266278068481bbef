"""The restricted unpickler: reads what numpy writes, runs nothing that a stranger writes."""

import contextlib
import io
import os
import pickle
import resource

import data_fakes
import numpy as np
import pytest

from jaxnets.data import restricted_pickle
from jaxnets.data.restricted_pickle import restricted_load
from jaxnets.errors import UserError


def load(blob: bytes):
    return restricted_load(io.BytesIO(blob), "some/file")


ARRAYS = {
    "uint8": np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "strided": np.arange(24).reshape(2, 3, 4).transpose(2, 0, 1)[::2],
    "big-endian": np.array([1, 2, 300], ">i4"),
    "text": np.array(["a", "été"]),
    "bytes": np.array([b"a", b"bc"]),
    "bool": np.array([True, False]),
    "empty": np.zeros((0, 3), np.float32),
    "scalar": np.float64(2.5),
}


@pytest.mark.parametrize("old_numpy", [False, True])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("kind", ARRAYS)
def test_arrays_of_every_protocol_come_back(kind, protocol, old_numpy):
    value = ARRAYS[kind]
    blob = pickle.dumps({"x": value}, protocol)
    if old_numpy and protocol < 4:  # later ones store the length of the name
        blob = blob.replace(b"numpy._core.", b"numpy.core.")
    back = np.asarray(load(blob)["x"])
    assert (
        back.dtype == np.asarray(pickle.loads(blob)["x"]).dtype
    )  # not always the order of `value`
    np.testing.assert_array_equal(back, value)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_containers_come_back(protocol):
    value = {"a": [1, 2.5, None, True, b"", b"\xff\x00", "ü"], "b": (1, {"c": b"d"})}
    assert load(pickle.dumps(value, protocol)) == value


def test_python_2_pickle():
    data = np.arange(6, dtype=np.uint8).reshape(2, 3)
    back = load(data_fakes.python2_pickle({b"data": data, b"labels": [1, 2], b"label": b"\xe9"}))
    np.testing.assert_array_equal(np.asarray(back["data"]), data)
    assert back["labels"] == [1, 2]
    assert back["label"] == b"\xe9"


class Calls:
    """Pickles into a call of `function(*arguments)`."""

    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced

    def __repr__(self):
        function, arguments = self.reduced
        return f"{function.__qualname__}{arguments}"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_call_is_refused_by_name_and_not_made(protocol, tmp_path):
    blob = pickle.dumps({"data": Calls(os.mkdir, str(tmp_path / "hacked"))}, protocol)
    with pytest.raises(UserError, match=rf"^some/file: .*{os.mkdir.__module__}\.mkdir"):
        load(blob)
    assert not list(tmp_path.iterdir())
    pickle.loads(blob)  # proof that the pickle does bite
    assert (tmp_path / "hacked").is_dir()


@pytest.mark.parametrize(
    "value",
    [
        np.array([{}], object),
        np.zeros(2, [("a", "i4"), ("b", "O")]),
        np.zeros(2, [("a", "i4")]),
        np.array(["2020-01-01"], "datetime64[D]"),
        Calls(eval, "1"),
        Calls(getattr, "", "upper"),
        Calls(np.ndarray, (10**12,)),
        Calls(bytes, 10**12),
        Calls(b"".__class__.fromhex, "00"),
        Calls(np.dtype, "O"),
        Calls(np.dtype, [("a", "O")]),
        Calls(np.load, "x.npy"),
    ],
    ids=str,
)
@pytest.mark.parametrize("protocol", [2, 5])
def test_everything_else_is_refused(value, protocol):
    with pytest.raises(UserError, match=r"^some/file: "):
        load(pickle.dumps({"x": value}, protocol))


def test_codecs_are_not_run():
    blob = b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x05\x00\x00\x00rot13tR."
    with pytest.raises(UserError, match="rot13"):
        load(blob)


def test_a_pickle_cannot_alter_the_stand_ins():
    before = {key: dict(vars(f)) for key, f in restricted_pickle._GLOBALS.items()}
    for module, name in restricted_pickle._GLOBALS:
        build = f"c{module}\n{name}\nN}}X\x04\x00\x00\x00evilK\x01s\x86b.".encode()
        with pytest.raises(UserError):
            load(build)
        build = f"c{module}\n{name}\n}}X\x04\x00\x00\x00evilK\x01sb.".encode()
        with pytest.raises(UserError):
            load(build)
    assert {key: dict(vars(f)) for key, f in restricted_pickle._GLOBALS.items()} == before


def test_every_truncation_is_an_error():
    blob = data_fakes.python2_pickle({b"data": np.zeros((2, 3), np.uint8), b"labels": [1, 2]})
    for end in range(len(blob)):
        with pytest.raises(UserError, match=r"^some/file: .*fetch"):
            load(blob[:end])


@pytest.mark.parametrize(
    "blob",
    [
        b"K\x01r\x00\x00\x00\x10.",  # a memo index of 268 million
        b"\x80\x05\x96" + (1 << 32).to_bytes(8, "little") + b"short.",
        b"\x80\x04\x8e" + (1 << 32).to_bytes(8, "little") + b"short.",
    ],
)
def test_no_memory_is_reserved_on_the_word_of_a_file(blob):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with contextlib.suppress(UserError):
        load(blob)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 20  # kilobytes


def test_noise_is_an_error_of_one_line_or_harmless():
    random = np.random.default_rng(0)
    for protocol in (2, 5):
        good = pickle.dumps({b"data": np.zeros((2, 3), np.uint8), b"labels": [1, 2]}, protocol)
        for _ in range(500):
            blob = bytearray(good)
            blob[random.integers(len(blob))] = random.integers(256)
            with contextlib.suppress(UserError):
                load(bytes(blob))
