"""Tiny CIFAR files in every packing of the publisher's, for the tests of jaxnets.data."""

import io
import pickle
import struct
import tarfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxnets.data.cifar import CIFAR10, CIFAR100, Cifar

BOTH = (CIFAR10, CIFAR100)
REAL = Path(__file__).parents[1] / "data"
BATCH, TEST = 3, 4


class Fake(NamedTuple):
    """What the fake files hold, split into files."""

    cifar: Cifar
    train: list[tuple[np.ndarray, dict[str, list[int]]]]
    test: list[tuple[np.ndarray, dict[str, list[int]]]]
    names: list[list[str]]  # a list a label, target last; reversed, to tell them from built-in ones

    def check(self, dataset) -> None:
        """That `dataset` is what was written."""
        for part, images, labels in (
            (self.train, dataset.train_images, dataset.train_labels),
            (self.test, dataset.test_images, dataset.test_labels),
        ):
            assert images.dtype == np.uint8
            assert labels.dtype == np.int32
            assert images.flags.c_contiguous
            np.testing.assert_array_equal(images, np.concatenate([x for x, _ in part]))
            target = self.cifar.labels[-1]
            np.testing.assert_array_equal(labels, np.concatenate([y[target] for _, y in part]))


def fake(cifar: Cifar, seed: int = 0) -> Fake:
    random = np.random.default_rng(seed)

    def part(n: int):
        images = random.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)
        labels = zip(cifar.labels, cifar.classes, strict=True)
        return images, {key: random.integers(0, k, n).tolist() for key, k in labels}

    names = [
        [f"{key} {i}" for i in range(k)] for key, k in zip(cifar.labels, cifar.classes, strict=True)
    ]
    names[-1] = list(cifar.class_names[::-1])
    return Fake(cifar, [part(BATCH) for _ in cifar.python.train], [part(TEST)], names)


def planes(images: np.ndarray) -> np.ndarray:
    """Channel-major rows, element by element as the publisher describes them."""
    rows = np.empty((len(images), 3072), np.uint8)
    for channel in range(3):
        for row in range(32):
            start = channel * 1024 + row * 32
            rows[:, start : start + 32] = images[:, row, :, channel]
    return rows


def pickled(batch: dict, python2: bool = False, protocol: int = 4) -> bytes:
    return python2_pickle(batch) if python2 else pickle.dumps(batch, protocol)


def python_files(data: Fake, **how) -> dict[str, bytes]:
    layout, files = data.cifar.python, {}
    for names, part in ((layout.train, data.train), (layout.test, data.test)):
        for name, (images, labels) in zip(names, part, strict=True):
            batch = {key.encode(): values for key, values in labels.items()}
            batch[b"data"] = planes(images)
            files[name] = pickled(batch, **how)
    keys = [key.removesuffix("s") + "_names" for key in data.cifar.labels]
    meta = {
        k.encode(): [n.encode() for n in names] for k, names in zip(keys, data.names, strict=True)
    }
    return files | {layout.names[0]: pickled(meta, **how)}


def binary_files(data: Fake) -> dict[str, bytes]:
    layout, files = data.cifar.binary, {}
    for names, part in ((layout.train, data.train), (layout.test, data.test)):
        for name, (images, labels) in zip(names, part, strict=True):
            columns = np.array([labels[key] for key in data.cifar.labels], np.uint8).T
            files[name] = np.concatenate([columns, planes(images)], axis=1).tobytes()
    for name, classes in zip(layout.names, data.names, strict=True):
        files[name] = ("\n".join(classes) + "\n\n").encode()
    return files


def write_folder(root: Path, folder: str, files: dict[str, bytes]) -> Path:
    (root / folder).mkdir(parents=True, exist_ok=True)
    for name, blob in files.items():
        (root / folder / name).write_bytes(blob)
    return root / folder


def write_archive(path: Path, folder: str, files: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as tar:
        for name, blob in files.items():
            info = tarfile.TarInfo(f"{folder}/{name}")
            info.size = len(blob)
            tar.addfile(info, io.BytesIO(blob))
    return path


def python2_pickle(value: object) -> bytes:
    """Protocol 2 with the opcodes of Python 2 and its numpy, as in the publisher's files."""

    def text(s: bytes) -> bytes:
        return b"T" + struct.pack("<i", len(s)) + s  # BINSTRING: `str` in Python 2, no codec named

    def integer(i: int) -> bytes:
        return b"J" + struct.pack("<i", i)

    def body(v: object) -> bytes:
        if isinstance(v, bytes):
            return text(v)
        if isinstance(v, int):
            return integer(v)
        if isinstance(v, list):
            return b"](" + b"".join(map(body, v)) + b"e"
        if isinstance(v, dict):
            return b"}(" + b"".join(body(k) + body(x) for k, x in v.items()) + b"u"
        assert isinstance(v, np.ndarray)
        assert v.dtype == np.uint8
        empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n" + integer(0) + b"\x85"
        empty += text(b"b") + b"\x87R"
        shape = b"(" + b"".join(map(integer, v.shape)) + b"t"
        dtype = b"cnumpy\ndtype\n" + text(b"u1") + integer(0) + integer(1) + b"\x87R("
        dtype += integer(3) + text(b"|") + b"NNN" + integer(-1) + integer(-1) + integer(0) + b"tb"
        return empty + b"(" + integer(1) + shape + dtype + b"\x89" + text(v.tobytes()) + b"tb"

    return b"\x80\x02" + body(value) + b"."
