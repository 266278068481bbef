"""CIFAR by way of TensorFlow Datasets, without TensorFlow.

Stock TFDS reads ArrayRecord folders without TensorFlow but cannot write them, so the builder here
is the stock one with its two methods that need TensorFlow replaced. What it writes, stock TFDS
reads.
"""

import functools
import importlib
import io
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np

from jaxnets.data.cifar import Cifar, decode_binary, decode_names, read_members
from jaxnets.data.dataset import Dataset, Source, checked_labels
from jaxnets.errors import UserError
from jaxnets.files.regular import check_below

HOST = "https://www.cs.toronto.edu/~kriz/"
_PATIENCE = 4.0  # seconds for the host to answer
_VERSION = re.compile(r"\d+\.\d+\.\d+")


def find(cifar: Cifar, root: Path) -> Source | None:
    """The newest version prepared by TFDS in `root`/NAME/VERSION, or None."""
    infos = (root / cifar.name).glob("*/dataset_info.json")
    folders = [info.parent for info in infos if _VERSION.fullmatch(info.parent.name)]
    if not folders:
        return None
    newest = max(folders, key=lambda folder: [int(n) for n in folder.name.split(".")])
    files = tuple(path for path in newest.iterdir() if path.is_file())
    return Source(newest, files, functools.partial(_read, cifar, newest))


def prepare(cifar: Cifar, root: Path) -> None:
    """Download `cifar` and write it as ArrayRecord to `root`/NAME/VERSION, as stock TFDS names it.

    Raises:
      UserError: TFDS is not installed, the host does not answer within seconds, or anything fails;
        nothing half made is left where it could be read.
    """
    if why := _unreachable(HOST + cifar.binary.archive):
        raise UserError(why)
    tfds = _tfds()
    try:
        config = tfds.download.DownloadConfig(
            try_download_gcs=False, force_checksums_validation=True
        )
        _builder_class(tfds, cifar)(data_dir=root).download_and_prepare(
            download_dir=root / "downloads", download_config=config, file_format="array_record"
        )
    except UserError:
        raise
    except Exception as error:  # of the network, the disk, the checksum, or of TFDS
        raise UserError(
            f"{HOST}{cifar.binary.archive} could not be downloaded and prepared ({_brief(error)})"
        ) from error


def _tfds() -> ModuleType:
    try:
        for needed in ("array_record.python.array_record_module", "importlib_resources"):
            importlib.import_module(needed)
        return importlib.import_module("tensorflow_datasets")
    except ImportError as error:
        raise UserError(
            f"TensorFlow Datasets is not installed ({error}); pip install 'jaxnets[tfds]'"
        ) from error


def _unreachable(url: str) -> str | None:
    """Why `url` cannot be had, or None if it can; answered after `_PATIENCE` seconds at the latest.

    TFDS itself tries for minutes. In a thread, because looking up a name knows no time limit.
    """
    _tfds()
    import requests

    outcome: list[str | None] = [f"no answer within {_PATIENCE:g} s"]

    def ask() -> None:
        try:
            with requests.get(url, stream=True, timeout=_PATIENCE) as response:
                response.raise_for_status()
            outcome[0] = None
        except Exception as error:
            outcome[0] = type(error).__name__

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_PATIENCE)
    return outcome[0] and f"{url} cannot be reached ({outcome[0]})"


def _brief(error: Exception) -> str:
    first_line = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {first_line}"[:200]


def _builder_class(tfds: ModuleType, cifar: Cifar) -> type:
    from PIL import Image

    class Builder(tfds.builder_cls(cifar.name), skip_registration=True):
        """Features, names, ids and splits of the stock builder, from the same file."""

        name = cifar.name

        def _split_generators(self, dl_manager) -> dict[str, Iterator]:
            archive = Path(dl_manager.download(HOST + cifar.binary.archive))
            blobs = read_members(cifar.binary, archive)
            for column, (label, file) in enumerate(
                zip(cifar.labels, cifar.binary.names, strict=True)
            ):
                names = decode_names(cifar, blobs[file], archive / file, column)
                self.info.features[_feature(label)].names = names

            def examples(prefix: str, files: tuple[str, ...]) -> Iterator:
                parts = (decode_binary(cifar, blobs[file], archive / file) for file in files)
                return self._generate_examples(prefix, parts)

            return {
                "train": examples("train_", cifar.binary.train),
                "test": examples("test_", cifar.binary.test),
            }

        def _generate_examples(self, split_prefix: str, parts: Iterator) -> Iterator:
            index = 0
            for images, labels in parts:
                for row, image in enumerate(images):
                    png = io.BytesIO()
                    Image.fromarray(image).save(png, "PNG")
                    record = {_feature(key): int(column[row]) for key, column in labels.items()}
                    record |= {"id": f"{split_prefix}{index:05d}", "image": png.getvalue()}
                    yield index, record
                    index += 1

    return Builder


def _feature(label: str) -> str:
    """The name in TFDS of one of `Cifar.labels`: label, or coarse_label."""
    return label.removesuffix("s").removeprefix("fine_")


def _read(cifar: Cifar, folder: Path) -> Dataset:
    tfds = _tfds()
    try:
        check_below(folder)  # TFDS would wait for a pipe
        builder = tfds.builder_from_directory(folder)
        names = tuple(builder.info.features["label"].names)
        if len(names) != cifar.classes[-1]:
            raise UserError(
                f"{folder}: {len(names)} class names, not {cifar.classes[-1]}; prepare it again"
            )
        train, test = (_read_split(tfds, builder, cifar, s, folder) for s in ("train", "test"))
    except UserError:
        raise
    except Exception as error:  # whatever TFDS makes of another format or a damaged file
        raise UserError(
            f"{folder}: TFDS cannot read it ({_brief(error)}); prepare it again with "
            "file_format='array_record', or remove it"
        ) from error
    return Dataset(*train, *test, names, str(folder))


def _read_split(
    tfds: ModuleType, builder: object, cifar: Cifar, split: str, folder: Path
) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels in the order of their ids, which is the publisher's; TFDS shuffles them."""
    from PIL import Image
    from tqdm import tqdm

    source = builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})
    records = list(tqdm(source, f"reading {folder}, {split}", leave=False, disable=None))
    records.sort(key=lambda record: record.get("id", b""))
    images = np.empty((len(records), 32, 32, 3), np.uint8)
    for row, record in zip(images, records, strict=True):
        image = Image.open(io.BytesIO(record["image"]))
        if image.size != (32, 32) or image.mode != "RGB":  # before its pixels are unpacked
            shape = (*image.size[::-1], len(image.getbands()))
            raise UserError(f"{folder}: {split} images are {shape}, not 32x32x3; remove it")
        row[...] = image
    labels = [record["label"] for record in records]
    return images, checked_labels(labels, len(images), cifar.classes[-1], f"{folder}, {split}")
