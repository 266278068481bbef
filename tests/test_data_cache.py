"""The cached copy: fast, never in the way, and never a veil over what the files have become."""

import functools
import os
import time

import data_fakes as fakes
import numpy as np
import pytest

from jaxnets.data import cache, load_dataset, tfds_source
from jaxnets.data import cifar as cifar_files
from jaxnets.data.cifar import CIFAR10
from jaxnets.errors import UserError

FOLDER = CIFAR10.python.folder


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home-cache"))
    monkeypatch.setattr(tfds_source, "_unreachable", lambda url: "cannot be reached (test)")
    fakes.write_folder(tmp_path / "data", FOLDER, fakes.python_files(DATA))
    return tmp_path / "data"


@pytest.fixture
def reads(monkeypatch):
    """A list that grows by one whenever a pickle is opened."""
    calls = []
    original = cifar_files.restricted_loads

    def counted(*args):
        calls.append(args)
        return original(*args)

    monkeypatch.setattr(cifar_files, "restricted_loads", counted)
    return calls


DATA = fakes.fake(CIFAR10)
load = functools.partial(load_dataset, "cifar10")


def copy_of(root):
    return root / ".jaxnets-cache" / "cifar10.npz"


def test_the_second_load_reads_the_copy_alone(root, reads):
    first = load(root)
    assert len(reads) == 7
    second = load(root)
    assert len(reads) == 7
    DATA.check(second)
    assert second.class_names == first.class_names == tuple(DATA.names[-1])
    assert second.source == first.source == str(root / FOLDER)
    assert all(type(name) is str for name in second.class_names)
    assert [path.name for path in copy_of(root).parent.iterdir()] == ["cifar10.npz"]


def test_no_copy_is_made_or_used_without_cache(root, reads):
    load(root, cache=False)
    assert not copy_of(root).exists()
    load(root)
    load(root, cache=False)
    assert len(reads) == 21


def test_changed_files_are_read_again(root):
    load(root)
    other = fakes.fake(CIFAR10, seed=1)
    fakes.write_folder(root, FOLDER, fakes.python_files(other))
    other.check(load(root))
    other.check(load(root))


def test_damage_is_seen_though_size_and_time_are_kept(root):
    load(root)
    path = root / FOLDER / "data_batch_4"
    stat, blob = path.stat(), bytearray(path.read_bytes())
    blob[0] = 255
    path.write_bytes(blob)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(UserError, match="data_batch_4"):
        load(root)


@pytest.mark.parametrize("name", ["data_batch_4", "test_batch"])
def test_a_file_gone_is_seen(name, root):
    load(root)
    (root / FOLDER / name).unlink()
    with pytest.raises(UserError, match=f"lacks {name}"):
        load(root)


def test_the_copy_does_not_stand_for_the_files(root):
    load(root)
    (root / FOLDER).rename(root / "elsewhere")
    with pytest.raises(UserError, match="cannot be reached"):
        load(root)


def test_another_packing_is_another_copy(root):
    load(root)
    (root / FOLDER).rename(root / "elsewhere")
    other = fakes.fake(CIFAR10, seed=1)
    fakes.write_folder(root, CIFAR10.binary.folder, fakes.binary_files(other))
    other.check(load(root))


def flip(blob: bytes) -> bytes:
    middle = len(blob) // 2
    return blob[:middle] + bytes([blob[middle] ^ 1]) + blob[middle + 1 :]


@pytest.mark.parametrize(
    "damage",
    [flip, lambda b: b[:-100], lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"noise" * 99],
    ids=["one bit", "end", "half", "empty", "noise"],
)
def test_a_damaged_copy_is_made_anew(damage, root, reads):
    load(root)
    copy_of(root).write_bytes(damage(copy_of(root).read_bytes()))
    DATA.check(load(root))
    assert len(reads) == 14
    DATA.check(load(root))
    assert len(reads) == 14


def test_an_older_format_is_made_anew(root, reads, monkeypatch):
    load(root)
    monkeypatch.setattr(cache, "_FORMAT", cache._FORMAT + 1)
    load(root)
    assert len(reads) == 14


def test_a_pickle_in_a_copy_is_not_opened(root):
    load(root)
    with np.load(copy_of(root)) as file:
        entries = dict(file)
    np.savez(copy_of(root), **entries | {"class_names": np.array([print] * 10, object)})
    assert load(root).class_names == tuple(DATA.names[-1])


def test_home_takes_the_copy_of_a_folder_that_cannot_be_written(root, reads, tmp_path):
    copy_of(root).parent.write_text("a file where the folder should be")
    load(root)
    DATA.check(load(root))
    assert len(reads) == 7
    assert len(list((tmp_path / "home-cache" / "jaxnets").rglob("cifar10.npz"))) == 1


def test_no_room_for_a_copy_is_no_error(root, tmp_path):
    copy_of(root).parent.write_text("")
    (tmp_path / "home-cache").write_text("")
    DATA.check(load(root))


def test_a_full_disk_leaves_nothing_behind(root, monkeypatch):
    def full(file, **arrays):
        file.write(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(np, "savez", full)
    DATA.check(load(root))
    assert not list(copy_of(root).parent.iterdir())


def test_an_archive_named_as_data_dir_is_cached_beside_it(root, reads):
    path = root / "x" / CIFAR10.python.archive
    fakes.write_archive(path, FOLDER, fakes.python_files(DATA))
    load(path)
    load(path)
    assert len(reads) == 7
    assert copy_of(path.parent).is_file()


def test_real_images_load_within_a_second():
    if not (fakes.REAL / FOLDER).is_dir():
        pytest.skip(f"no real images in data/{FOLDER}")
    load(fakes.REAL)
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        load(fakes.REAL)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 1
