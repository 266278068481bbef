"""The restricted unpickler: reads what numpy writes, runs nothing that a stranger writes."""

import contextlib
import os
import pickle
import resource
import time

import data_fakes
import numpy as np
import pickles
import pytest

from jaxnets.errors import UserError
from jaxnets.files import restricted_pickle
from jaxnets.files.restricted_pickle import restricted_loads


def load(blob: bytes):
    return restricted_loads(blob, "some/file")


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


@pytest.mark.parametrize(("module", "name"), sorted(restricted_pickle._GLOBALS))
@pytest.mark.parametrize("state", [b"N}X\x04\x00\x00\x00evilK\x01s\x86", b"}", b"(]tb"])
def test_a_pickle_cannot_alter_the_stand_ins(module, name, state):
    with pytest.raises(UserError, match="a state for what has none"):
        load(f"c{module}\n{name}\n".encode() + state + b"b.")


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


@pytest.mark.parametrize(("code", "order"), [("u2", ">"), ("u1", "|")])
def test_no_pickle_reaches_freed_memory(code, order):
    """A second state for an array would free what a view of it still shows."""
    with pytest.raises(UserError, match="has one already"):
        load(pickles.use_after_free(1 << 16, code, order))


def test_arrays_are_copies():
    data = pickles.raw(bytes(6))
    blob = b"\x80\x04}(" + pickles.text("a") + pickles.view(data + b"q\x00", 6)
    blob += pickles.text("b") + pickles.EMPTY + pickles.state(bytes(6)) + b"bu."
    back = load(blob)
    for value in back.values():
        assert type(value) is np.ndarray
        assert value.flags.owndata
        assert value.flags.writeable
    assert not np.shares_memory(back["a"], back["b"])


def test_an_array_is_no_buffer_of_another():
    blob = pickles.view(pickles.EMPTY + pickles.state(bytes(6)) + b"b", 6) + b"."
    with pytest.raises(UserError, match="bytes are missing"):
        load(blob)


def test_the_same_array_twice_is_one():
    array = np.arange(5)
    back = load(pickle.dumps({"a": array, "b": [array]}))
    assert back["a"] is back["b"][0]


@pytest.mark.parametrize(
    "opcodes",
    [
        b"cnumpy\ndtype\nq\x00(h\x00)}Ntb)R.",  # a state that makes a function call itself
        b"cnumpy\ndtype\n)\x81.",  # NEWOBJ
        b"(cnumpy\ndtype\no.",  # OBJ
        b"(inumpy\ndtype\n.",  # INST
        b"\x82\x01.",  # EXT1
        b"Pid\n.",  # PERSID
        b"cnumpy\ndtype\n.",  # a function as data
        b"cnumpy\ndtype\n]R.",  # arguments that are no tuple
        b"]]b.",  # a state for a list
    ],
)
def test_opcodes_of_objects_are_refused(opcodes):
    with pytest.raises(UserError, match=r"^some/file: not a readable pickle"):
        load(opcodes)


def timed(blob):
    """What becomes of a pickle, which must not take long."""
    before = time.process_time()
    try:
        return load(blob)
    except UserError as e:
        return e
    finally:
        assert time.process_time() - before < 5


@pytest.mark.parametrize("key", [b"", b"s", b"u"])
def test_shared_parts_cost_no_time(key):
    tuples = pickles.shared_lists(60, b")", b"0h\x00h\x00\x86")
    if not key:
        assert isinstance(timed(pickles.shared_lists(60) + b"."), list)
        assert isinstance(timed(tuples + b"."), tuple)
        return
    # As a key it would be hashed: each time through all of its 2**60 parts.
    blob = b"}" + (b"(" if key == b"u" else b"") + tuples + b"K\x01" + key + b"."
    assert "keys of a dict" in str(timed(blob))
    assert "keys of a dict" in str(timed(b"(" + tuples + b"K\x01d."))


def test_numbers_that_hash_alike_cost_no_time():
    """A hundred thousand keys in one slot of a hash table take minutes."""
    alike = [i * (2**61 - 1) for i in range(100_000)]
    keys = b"".join(b"\x8a\x0b" + n.to_bytes(11, "little") + b"N" for n in alike)
    assert "keys of a dict" in str(timed(b"}(" + keys + b"u."))
    puts = b"".join(b"p%d\n" % n for n in alike)
    assert "memo index" in str(timed(b"N" + puts + b"."))
    assert len(timed(b"\x8f(" + keys + b"\x90.")) == 2 * len(alike)  # a set


def test_shared_bytes_take_no_more_memory_than_the_file():
    many = pickles.raw(bytes(10**6)) + b"q\x000](" + 1000 * pickles.view(b"h\x00", 10**6) + b"e."
    assert "larger than the file" in str(timed(many))
    encoded = b"c_codecs\nencode\nq\x000" + pickles.text("x" * 10**6) + b"q\x010]("
    encoded += 1000 * (b"h\x00h\x01" + pickles.text("latin1") + b"\x86R") + b"e."
    assert "larger than the file" in str(timed(encoded))


def test_sets_come_as_lists():
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert sorted(load(pickle.dumps({3, 4}, protocol))) == [3, 4]
        assert load(pickle.dumps(frozenset({3}), protocol)) == [3]


def test_lists_in_themselves_end():
    blob = b"]q\x00h\x00a."
    assert isinstance(load(blob), list)
    assert isinstance(timed(b"](" * 5000 + b"e" * 5000 + b"."), UserError)
