"""CIFAR-10 and CIFAR-100 in the files of their publisher, unpacked or not.

Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009, and its page
https://www.cs.toronto.edu/~kriz/cifar.html, which describes both packings.
"""

import functools
import gzip
import tarfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxnets.data.dataset import Dataset, Source, checked_labels
from jaxnets.errors import UserError
from jaxnets.files.regular import open_file, read_bytes
from jaxnets.files.restricted_pickle import restricted_loads

PIXELS = 3 * 32 * 32
_LARGEST_FILE = 1 << 30  # six times the largest of the publisher's


class Layout(NamedTuple):
    """One packing: the files in `folder`, which `archive` holds; `names` name the classes."""

    folder: str
    archive: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    names: tuple[str, ...]


class Cifar(NamedTuple):
    """A data set: `labels` are the keys in a pickle and the bytes before a binary image, in order.

    The last label is the one to be learnt; `class_names` are its names where no file gives them.
    """

    name: str
    labels: tuple[str, ...]
    classes: tuple[int, ...]
    class_names: tuple[str, ...]
    python: Layout
    binary: Layout


_CIFAR10_NAMES = "airplane automobile bird cat deer dog frog horse ship truck"
_CIFAR100_NAMES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile
cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp
lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree
orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum
rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider
squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train
trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""
_BATCHES = tuple(f"data_batch_{i}" for i in range(1, 6))

CIFAR10 = Cifar(
    name="cifar10",
    labels=("labels",),
    classes=(10,),
    class_names=tuple(_CIFAR10_NAMES.split()),
    python=Layout(
        "cifar-10-batches-py",
        "cifar-10-python.tar.gz",
        _BATCHES,
        ("test_batch",),
        ("batches.meta",),
    ),
    binary=Layout(
        "cifar-10-batches-bin",
        "cifar-10-binary.tar.gz",
        tuple(f"{batch}.bin" for batch in _BATCHES),
        ("test_batch.bin",),
        ("batches.meta.txt",),
    ),
)

CIFAR100 = Cifar(
    name="cifar100",
    labels=("coarse_labels", "fine_labels"),
    classes=(20, 100),
    class_names=tuple(_CIFAR100_NAMES.split()),
    python=Layout("cifar-100-python", "cifar-100-python.tar.gz", ("train",), ("test",), ("meta",)),
    binary=Layout(
        "cifar-100-binary",
        "cifar-100-binary.tar.gz",
        ("train.bin",),
        ("test.bin",),
        ("coarse_label_names.txt", "fine_label_names.txt"),
    ),
)


def find(cifar: Cifar, root: Path) -> Source | None:
    """The publisher's files of `cifar` in the folder `root`, or which `root` itself is, or None.

    Unpacked folders are preferred to archives, and pickles to binary files.
    """

    def at(name: str) -> Path:
        return root if root.name == name else root / name

    layouts = (cifar.python, cifar.binary)
    for layout in layouts:
        if (folder := at(layout.folder)).is_dir():
            wanted = (*layout.train, *layout.test, *layout.names)
            files = tuple(path for name in wanted if (path := folder / name).exists())
            return Source(folder, files, functools.partial(_read, cifar, layout, folder))
    for layout in layouts:
        if (archive := at(layout.archive)).is_file():
            return Source(archive, (archive,), functools.partial(_read, cifar, layout, archive))
    return None


def _read(cifar: Cifar, layout: Layout, path: Path) -> Dataset:
    blobs = read_members(layout, path)
    is_binary = layout is cifar.binary
    decode = decode_binary if is_binary else _decode_pickle

    def split(names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
        parts = [decode(cifar, blobs[name], path / name) for name in names]
        images = np.concatenate([images for images, _ in parts])
        return images, np.concatenate([labels[cifar.labels[-1]] for _, labels in parts])

    class_names, meta = cifar.class_names, layout.names[-1]
    if meta in blobs:
        class_names = (decode_names if is_binary else _decode_meta)(cifar, blobs[meta], path / meta)
    return Dataset(*split(layout.train), *split(layout.test), class_names, str(path))


def read_members(layout: Layout, path: Path) -> dict[str, bytes]:
    """The files of `layout` by name, out of the folder or the .tar.gz at `path`.

    Nothing is unpacked to the disk: the names within an archive are only ever compared. Files with
    class names may be missing, those with images may not: UserError.
    """
    needed = (*layout.train, *layout.test)
    wanted = (*needed, *layout.names)
    try:
        blobs = _read_folder(path, wanted) if path.is_dir() else _read_tar(layout, path, wanted)
    except (tarfile.TarError, EOFError, OSError, ValueError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read ({error}); fetch it again") from error
    if missing := [name for name in needed if name not in blobs]:
        raise UserError(
            f"{path}: lacks {', '.join(missing)}; unpack {layout.archive} again or fetch it anew"
        )
    return blobs


def _read_folder(folder: Path, wanted: tuple[str, ...]) -> dict[str, bytes]:
    return {name: read_bytes(folder / name) for name in wanted if (folder / name).exists()}


def _read_tar(layout: Layout, path: Path, wanted: tuple[str, ...]) -> dict[str, bytes]:
    members = {f"{layout.folder}/{name}": name for name in wanted}
    blobs = {}
    with open_file(path) as file, gzip.open(file) as stream:
        with tarfile.open(fileobj=stream, mode="r:") as tar:
            for member in tar:
                name = members.get(member.name.removeprefix("./"))
                if name is None or not member.isfile():
                    continue
                if member.size > _LARGEST_FILE:
                    raise ValueError(f"{member.name} has {member.size} bytes")
                blobs[name] = tar.extractfile(member).read()
        while stream.read(1 << 20):  # gzip checks its sum at the very end, behind the last member
            pass
    return blobs


def _decode_pickle(
    cifar: Cifar, blob: bytes, where: Path
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """One pickled batch, dict(data=uint8 (N, 3072), labels=list), as `decode_binary` returns it."""
    batch = restricted_loads(blob, where)
    key = cifar.labels[-1]
    data, labels = _entry(batch, "data", where), _entry(batch, key, where)
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8:
        raise UserError(f"{where}: 'data' is not an array of uint8; fetch it again")
    if data.ndim != 2 or data.shape[1] != PIXELS or not len(data):
        raise UserError(
            f"{where}: 'data' has the shape {data.shape}, not (N, {PIXELS}), so these are not "
            "32x32 colour images; fetch it again"
        )
    labels = checked_labels(labels, len(data), cifar.classes[-1], where)
    return _nhwc(data), {key: labels}


def decode_binary(
    cifar: Cifar, blob: bytes, where: Path
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The records of one binary file: a byte a label, then 3,072 bytes of red, green, blue planes.

    Returns:
      images uint8 (N, 32, 32, 3), and labels int32 (N,) under each of `cifar.labels`.
    """
    size = len(cifar.labels) + PIXELS
    if not blob or len(blob) % size:
        raise UserError(
            f"{where}: {len(blob)} bytes are no whole number of {size}-byte records, so it is "
            "truncated or not of 32x32 colour images; fetch it again"
        )
    records = np.frombuffer(blob, np.uint8).reshape(-1, size)
    labels = {
        key: checked_labels(records[:, column], len(records), classes, where)
        for column, (key, classes) in enumerate(zip(cifar.labels, cifar.classes, strict=True))
    }
    return _nhwc(records[:, len(cifar.labels) :]), labels


def _nhwc(planes: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(planes.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))


def _entry(record: object, key: str, where: Path) -> object:
    if not isinstance(record, dict) or key not in record:
        kind = (
            f"keys: {', '.join(map(str, record)):.200}" if isinstance(record, dict) else "no dict"
        )
        raise UserError(f"{where}: no {key!r} in it ({kind}); fetch it again")
    return record[key]


def _decode_meta(cifar: Cifar, blob: bytes, where: Path) -> tuple[str, ...]:
    key = cifar.labels[-1].removesuffix("s") + "_names"
    names = _entry(restricted_loads(blob, where), key, where)
    if not isinstance(names, (list, tuple)):
        raise UserError(f"{where}: {key!r} is not a list; fetch it again")
    if not all(isinstance(name, str | bytes) for name in names):
        raise UserError(f"{where}: {key!r} holds more than names; fetch it again")
    text = b"\n".join(n if isinstance(n, bytes) else n.encode(errors="replace") for n in names)
    return decode_names(cifar, text, where)


def decode_names(cifar: Cifar, blob: bytes, where: Path, column: int = -1) -> tuple[str, ...]:
    """The class names of label `column` of `cifar`, one a line."""
    names = tuple(line.strip() for line in blob.decode(errors="replace").splitlines())
    names = tuple(name for name in names if name)
    if len(names) != cifar.classes[column]:
        raise UserError(
            f"{where}: {len(names)} class names, not {cifar.classes[column]}; fetch it again"
        )
    return names
