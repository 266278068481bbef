"""Data sets by name: found on the disk, else downloaded, and kept in a cache."""

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jaxnets.data import cifar, folder, tfds_source
from jaxnets.data.cache import cached
from jaxnets.data.dataset import Dataset
from jaxnets.data.split import doubles, split_validation
from jaxnets.errors import UserError, unknown

_DIGITS_SEED, _DIGITS_TEST = 0, 0.2


def load(config: Any, *, split: bool = True, download: bool = True) -> Dataset:
    """The data set of `config.data`; notes about the reading of it go to stderr.

    Args:
      split: take the share `config.data.val_fraction` of train as the validation split.
      download: as for `load_dataset`.

    Raises:
      UserError: as `load_dataset` and `split_validation`.
    """
    options = config.data
    dataset = load_dataset(
        options.name,
        options.dir,
        cache=options.cache,
        image_size=options.image_size,
        skip_bad=options.skip_bad,
        test_fraction=options.test_fraction,
        download=download,
    )
    if split and options.val_fraction:
        dataset = split_validation(dataset, options.val_fraction, config.seed)
    own = doubles(dataset) if options.name == "folder" else ()
    for note in (*dataset.notes, *own):
        print(f"note: {note}", file=sys.stderr)
    return dataset


def load_dataset(
    name: str,
    data_dir: str | os.PathLike | None = None,
    *,
    cache: bool = True,
    image_size: int = 32,
    skip_bad: bool = False,
    test_fraction: float = 0.0,
    download: bool = True,
) -> Dataset:
    """The data set `name`, one of DATASETS, read from the folder `data_dir`.

    cifar10 and cifar100 (fine labels) come from the first of these that `data_dir` holds: the
    publisher's unpacked folder, its archive, a folder prepared by TFDS as ArrayRecord. If it holds
    none they are downloaded into it by TFDS. digits needs no files. folder reads own images; see
    `jaxnets.data.folder`.

    Args:
      data_dir: default $JAXNETS_DATA, else `data`; or the publisher's folder or archive itself.
      cache: keep an uncompressed copy beside the files, so that the next load takes half a second.
      image_size: of folder, in pixels.
      skip_bad: of folder: leave out images that cannot be read.
      test_fraction: of folder: the share of each class that is the test set, of images in
        data_dir/CLASS/; 0 for data_dir/train/CLASS/ and data_dir/test/CLASS/.
      download: fetch what is missing; if not, that is an error.

    Raises:
      UserError: an unknown name; files that are missing, unreadable, damaged, hostile or not CIFAR;
        no data and no network.

    Example:
      >>> digits = load_dataset("digits")
      >>> digits.train_images.shape, digits.test_images.dtype
      ((1438, 32, 32, 3), dtype('uint8'))
    """
    if name not in DATASETS:
        raise unknown("data set", name, DATASETS)
    root = Path(data_dir or os.environ.get("JAXNETS_DATA") or "data").expanduser()
    try:
        if name == "folder":
            source = folder.find(root, image_size, skip_bad=skip_bad, test_fraction=test_fraction)
            return cached(f"folder-{image_size}", source, root) if cache else source.read()
        return _LOADERS[name](root, cache, download)
    except OSError as error:
        raise UserError(
            f"{root}: cannot be read ({error}); mend that, or name another folder by "
            "--config.data.dir or $JAXNETS_DATA"
        ) from error


def _load_cifar(files: cifar.Cifar, root: Path, cache: bool, download: bool) -> Dataset:
    source = cifar.find(files, root) or tfds_source.find(files, root)
    if source is None and not download:
        raise UserError(f"no {files.name} in {root}; --config.data.dir names another folder")
    if source is None:
        _download(files, root)
        source = tfds_source.find(files, root)
    if not cache:
        return source.read()
    return cached(files.name, source, root if root.is_dir() else root.parent)


def _download(files: cifar.Cifar, root: Path) -> None:
    wanted = [name for layout in (files.python, files.binary) for name in layout[:2]]
    try:
        tfds_source.prepare(files, root)
    except UserError as error:
        raise UserError(
            f"no {files.name} in {root}: looked for {', '.join(wanted)} and {files.name}/VERSION, "
            f"and {error}. Put one of the publisher's folders or archives there, or a folder that "
            "TFDS prepared as array_record, or connect to the network and run again; "
            "--config.data.dir or $JAXNETS_DATA name another place"
        ) from error


def load_digits() -> Dataset:
    """1,797 handwritten digits as 32x32x3 grey images; a fixed fifth of each class is for testing.

    Each of the 8x8 pixels, 0..16, becomes a 4x4 square of round(255 / 16 * pixel). The split draws
    from numpy's legacy generator, whose stream is frozen, so it is the same everywhere.

    Source: E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI repository, 1998;
    `sklearn.datasets.load_digits`.
    """
    from sklearn.datasets import load_digits as sklearn_digits

    digits = sklearn_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    images = np.repeat(pixels.repeat(4, axis=1).repeat(4, axis=2)[..., None], 3, axis=3)
    labels = digits.target.astype(np.int32)

    random = np.random.RandomState(_DIGITS_SEED)
    test = np.zeros(len(labels), bool)
    for digit in range(10):
        members = random.permutation(np.flatnonzero(labels == digit))
        test[members[: round(_DIGITS_TEST * len(members))]] = True
    return Dataset(
        images[~test],
        labels[~test],
        images[test],
        labels[test],
        tuple(str(name) for name in digits.target_names),
        "scikit-learn's load_digits",
    )


_LOADERS: dict[str, Callable[[Path, bool, bool], Dataset]] = {
    "cifar10": functools.partial(_load_cifar, cifar.CIFAR10),
    "cifar100": functools.partial(_load_cifar, cifar.CIFAR100),
    "digits": lambda *_: load_digits(),
}
DATASETS: tuple[str, ...] = (*_LOADERS, "folder")
