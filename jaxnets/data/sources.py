"""Data sets by name: found on the disk, else downloaded, and kept in a cache."""

import os
from collections.abc import Callable
from pathlib import Path

from jaxnets.data import cifar, tfds_source
from jaxnets.data.cache import cached
from jaxnets.data.dataset import Dataset
from jaxnets.data.digits import load_digits
from jaxnets.errors import UserError, unknown


def load_dataset(
    name: str, data_dir: str | os.PathLike | None = None, *, cache: bool = True
) -> Dataset:
    """The data set `name`, one of DATASETS, read from the folder `data_dir`.

    cifar10 and cifar100 (fine labels) come from the first of these that `data_dir` holds: the
    publisher's unpacked folder, its archive, a folder prepared by TFDS as ArrayRecord. If it holds
    none they are downloaded into it by TFDS. digits needs no files.

    Args:
      data_dir: default $JAXNETS_DATA, else `data`; or the publisher's folder or archive itself.
      cache: keep an uncompressed copy beside the files, so that the next load takes half a second.

    Raises:
      UserError: an unknown name; files that are missing, unreadable, damaged, hostile or not CIFAR;
        no data and no network.

    Example:
      >>> digits = load_dataset("digits")
      >>> digits.train_images.shape, digits.test_images.dtype
      ((1438, 32, 32, 3), dtype('uint8'))
    """
    if name not in _LOADERS:
        raise unknown("data set", name, DATASETS)
    root = Path(data_dir or os.environ.get("JAXNETS_DATA") or "data").expanduser()
    try:
        return _LOADERS[name](root, cache)
    except OSError as error:
        raise UserError(
            f"{root}: cannot be read ({error}); mend that, or name another folder by "
            "--config.data.dir or $JAXNETS_DATA"
        ) from error


def _load_cifar(files: cifar.Cifar, root: Path, cache: bool) -> Dataset:
    source = cifar.find(files, root) or tfds_source.find(files, root)
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


_LOADERS: dict[str, Callable[[Path, bool], Dataset]] = {
    "cifar10": lambda root, cache: _load_cifar(cifar.CIFAR10, root, cache),
    "cifar100": lambda root, cache: _load_cifar(cifar.CIFAR100, root, cache),
    "digits": lambda root, cache: load_digits(),
}
DATASETS: tuple[str, ...] = tuple(_LOADERS)
