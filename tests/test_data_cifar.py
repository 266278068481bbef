"""CIFAR in every packing, and every way in which its files can be wrong."""

import functools
import pickle

import data_fakes as fakes
import numpy as np
import pytest

from jaxnets.data import load_dataset, tfds_source
from jaxnets.data.cifar import CIFAR10, CIFAR100
from jaxnets.errors import UserError

load = functools.partial(load_dataset, cache=False)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    monkeypatch.setattr(tfds_source, "_unreachable", lambda url: f"{url} cannot be reached (test)")


def files_of(data, packing):
    return fakes.binary_files(data) if packing == "binary" else fakes.python_files(data)


@pytest.mark.parametrize("archive", [False, True])
@pytest.mark.parametrize("packing", ["python", "binary"])
@pytest.mark.parametrize("cifar", fakes.BOTH, ids=lambda c: c.name)
def test_every_layout(cifar, packing, archive, tmp_path):
    data, layout = fakes.fake(cifar), getattr(cifar, packing)
    files = files_of(data, packing)
    if archive:
        path = fakes.write_archive(tmp_path / layout.archive, layout.folder, files)
    else:
        path = fakes.write_folder(tmp_path, layout.folder, files)
    for data_dir in (tmp_path, path):
        dataset = load(cifar.name, data_dir)
        data.check(dataset)
        assert dataset.class_names == tuple(data.names[-1])
        assert dataset.source == str(path)


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_python_3_pickles_with_text_keys(protocol, tmp_path):
    data = fakes.fake(CIFAR10)
    files = {
        name: pickle.dumps({k.decode(): v for k, v in pickle.loads(blob).items()}, protocol)
        for name, blob in fakes.python_files(data).items()
    }
    fakes.write_folder(tmp_path, CIFAR10.python.folder, files)
    data.check(load("cifar10", tmp_path))


@pytest.mark.parametrize("cifar", fakes.BOTH, ids=lambda c: c.name)
def test_python_2_pickles(cifar, tmp_path):
    data = fakes.fake(cifar)
    files = fakes.python_files(data, python2=True)
    fakes.write_folder(tmp_path, cifar.python.folder, files)
    dataset = load(cifar.name, tmp_path)
    data.check(dataset)
    assert dataset.class_names == tuple(data.names[-1])


@pytest.mark.parametrize("packing", ["python", "binary"])
@pytest.mark.parametrize("cifar", fakes.BOTH, ids=lambda c: c.name)
def test_built_in_names_without_a_meta_file(cifar, packing, tmp_path):
    layout, files = getattr(cifar, packing), files_of(fakes.fake(cifar), packing)
    fakes.write_folder(
        tmp_path, layout.folder, {k: v for k, v in files.items() if k not in layout.names}
    )
    assert load(cifar.name, tmp_path).class_names == cifar.class_names


def test_folder_is_preferred_to_archive_and_pickles_to_binary(tmp_path):
    layouts = {
        "python archive": (CIFAR10.python, fakes.python_files, True),
        "binary folder": (CIFAR10.binary, fakes.binary_files, False),
        "python folder": (CIFAR10.python, fakes.python_files, False),
    }
    for seed, (layout, files, archive) in enumerate(layouts.values()):
        data = fakes.fake(CIFAR10, seed)
        if archive:
            fakes.write_archive(tmp_path / layout.archive, layout.folder, files(data))
        else:
            fakes.write_folder(tmp_path, layout.folder, files(data))
        data.check(load("cifar10", tmp_path))


def test_hostile_member_names_touch_nothing(tmp_path):
    data = fakes.fake(CIFAR10)
    outside = {"../../../evil": b"x", "../data_batch_1": b"x"}
    inside = tmp_path / "deep" / "data"
    fakes.write_archive(
        inside / CIFAR10.python.archive, CIFAR10.python.folder, fakes.python_files(data) | outside
    )
    before = sorted(tmp_path.rglob("*"))
    data.check(load("cifar10", inside))
    assert sorted(tmp_path.rglob("*")) == before


def changed(**entries):
    """A function that changes entries of a pickled batch; None deletes them."""

    def change(blob):
        batch = pickle.loads(blob) | {key.encode(): value for key, value in entries.items()}
        return pickle.dumps({key: value for key, value in batch.items() if value is not None})

    return change


class Hostile:
    def __reduce__(self):
        return print, ("run",)


def pixels(n=fakes.BATCH, size=3072, dtype=np.uint8):
    return np.zeros((n, size), dtype)


BAD_PICKLES = {
    "no data": (changed(data=None), "no 'data' in it .*labels"),
    "no labels": (changed(labels=None), "no 'labels' in it"),
    "not a dict": (lambda _: pickle.dumps([1]), "no dict"),
    "64x64": (changed(data=pixels(size=12288)), r"shape \(3, 12288\).*32x32"),
    "three axes": (changed(data=pixels().reshape(3, 3, 1024)), "not 32x32|so these are not"),
    "floats": (changed(data=pixels(dtype=np.float32)), "not an array of uint8"),
    "list": (changed(data=[[1, 2]]), "not an array of uint8"),
    "objects": (changed(data=np.array([{}, {}, {}], object)), "dtype 'O8' are refused"),
    "no images": (changed(data=pixels(0), labels=[]), r"shape \(0, 3072\)"),
    "fewer labels": (changed(labels=[1, 2]), "3 images but 2 labels"),
    "more labels": (changed(labels=[1, 2, 3, 4]), "3 images but 4 labels"),
    "label 10": (changed(labels=[0, 10, 1]), r"label 10 is outside 0\.\.9"),
    "label -1": (changed(labels=[0, -1, 1]), r"label -1 is outside 0\.\.9"),
    "huge label": (changed(labels=[0, 10**30, 1]), "not a flat list of integers"),
    "float labels": (changed(labels=[0, 1.5, 1]), "not a flat list of integers"),
    "text labels": (changed(labels=["cat", "dog", "cat"]), "not a flat list of integers"),
    "bool labels": (changed(labels=[True, False, True]), "not a flat list of integers"),
    "ragged labels": (changed(labels=[[1], [2, 3], 4]), "not a flat list of integers"),
    "one label": (changed(labels=3), "not a flat list of integers"),
    "hostile": (changed(labels=Hostile()), r"asks for builtins\.print"),
    "truncated": (lambda blob: blob[: len(blob) // 2], "truncated"),
    "empty": (lambda _: b"", "truncated"),
    "text": (lambda _: b"<html>not found</html>", "not a readable pickle"),
}


@pytest.mark.parametrize("archive", [False, True])
@pytest.mark.parametrize("case", BAD_PICKLES)
def test_bad_pickle(case, archive, tmp_path, capsys):
    change, message = BAD_PICKLES[case]
    files = fakes.python_files(fakes.fake(CIFAR10))
    files["data_batch_3"] = change(files["data_batch_3"])
    layout = CIFAR10.python
    if archive:
        path = fakes.write_archive(tmp_path / layout.archive, layout.folder, files)
    else:
        path = fakes.write_folder(tmp_path, layout.folder, files)
    with pytest.raises(UserError, match=message) as error:
        load("cifar10", tmp_path)
    assert str(error.value).startswith(f"{path}/data_batch_3: ")
    assert "fetch" in str(error.value)
    assert "\n" not in str(error.value)
    assert capsys.readouterr().out == ""


BAD_BINARIES = {
    "truncated": (lambda blob: blob[:-1], r"9221 bytes .* 3074-byte records.*truncated"),
    "empty": (lambda _: b"", "0 bytes"),
    "coarse": (lambda blob: b"\x14" + blob[1:], r"label 20 is outside 0\.\.19"),
    "fine": (lambda blob: blob[:1] + b"\x64" + blob[2:], r"label 100 is outside 0\.\.99"),
}


@pytest.mark.parametrize("case", BAD_BINARIES)
def test_bad_binary(case, tmp_path):
    change, message = BAD_BINARIES[case]
    files = fakes.binary_files(fakes.fake(CIFAR100))
    files["train.bin"] = change(files["train.bin"])
    path = fakes.write_folder(tmp_path, CIFAR100.binary.folder, files)
    with pytest.raises(UserError, match=message) as error:
        load("cifar100", tmp_path)
    assert str(error.value).startswith(f"{path}/train.bin: ")


@pytest.mark.parametrize("archive", [False, True])
def test_a_missing_batch_is_named(archive, tmp_path):
    files, layout = fakes.python_files(fakes.fake(CIFAR10)), CIFAR10.python
    del files["data_batch_2"], files["test_batch"]
    if archive:
        fakes.write_archive(tmp_path / layout.archive, layout.folder, files)
    else:
        fakes.write_folder(tmp_path, layout.folder, files)
    with pytest.raises(UserError, match="lacks data_batch_2, test_batch; unpack"):
        load("cifar10", tmp_path)


@pytest.mark.parametrize("where", [0.05, 0.5, 0.95, 0.9999])
def test_an_archive_cut_short(where, tmp_path):
    path = tmp_path / CIFAR10.python.archive
    fakes.write_archive(path, CIFAR10.python.folder, fakes.python_files(fakes.fake(CIFAR10)))
    path.write_bytes(path.read_bytes()[: int(where * path.stat().st_size)])
    with pytest.raises(UserError, match=r"cifar-10-python.tar.gz: cannot be read.*fetch it again"):
        load("cifar10", tmp_path)


def test_an_archive_with_a_wrong_sum_at_its_end(tmp_path):
    path = tmp_path / CIFAR10.python.archive
    fakes.write_archive(path, CIFAR10.python.folder, fakes.python_files(fakes.fake(CIFAR10)))
    blob = bytearray(path.read_bytes())
    blob[-6] ^= 1
    path.write_bytes(blob)
    with pytest.raises(UserError, match=r"cannot be read \(CRC"):
        load("cifar10", tmp_path)


def test_no_archive_at_all(tmp_path):
    (tmp_path / CIFAR100.binary.archive).write_bytes(b"<html>not found</html>")
    with pytest.raises(UserError, match=r"binary.tar.gz: cannot be read.*fetch it again"):
        load("cifar100", tmp_path)


@pytest.mark.parametrize(
    ("packing", "name", "blob", "message"),
    [
        ("python", "meta", pickle.dumps({"fine_label_names": ["a"]}), "1 class names, not 100"),
        ("python", "meta", pickle.dumps({}), "no 'fine_label_names' in it"),
        ("python", "meta", pickle.dumps({"fine_label_names": 3}), "not a list"),
        ("python", "meta", pickle.dumps(Hostile()), "asks for builtins.print"),
        ("binary", "fine_label_names.txt", b"a\nb\n", "2 class names, not 100"),
    ],
)
def test_bad_class_names(packing, name, blob, message, tmp_path):
    files = files_of(fakes.fake(CIFAR100), packing) | {name: blob}
    fakes.write_folder(tmp_path, getattr(CIFAR100, packing).folder, files)
    with pytest.raises(UserError, match=f"{name}: .*{message}"):
        load("cifar100", tmp_path)


MOMENTS = {  # over the training images; the constants by which the recipes normalise
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
}


@pytest.mark.parametrize("cifar", fakes.BOTH, ids=lambda c: c.name)
def test_real_images(cifar):
    if not (fakes.REAL / cifar.python.folder).is_dir():
        pytest.skip(f"no real images in data/{cifar.python.folder}")
    dataset = load_dataset(cifar.name, fakes.REAL)
    classes = cifar.classes[-1]
    assert dataset.train_images.shape == (50_000, 32, 32, 3)
    assert dataset.test_images.shape == (10_000, 32, 32, 3)
    assert set(np.bincount(dataset.train_labels)) == {50_000 // classes}
    assert set(np.bincount(dataset.test_labels)) == {10_000 // classes}
    assert dataset.class_names == cifar.class_names
    # moments from one histogram a channel: exact, and without a float copy of the images
    for channel, (mean, std) in enumerate(zip(*MOMENTS[cifar.name], strict=True)):
        counts = np.bincount(dataset.train_images[..., channel].ravel(), minlength=256)
        values = np.arange(256) / 255
        got = np.average(values, weights=counts)
        assert got == pytest.approx(mean, abs=2e-4)
        got_std = np.average((values - got) ** 2, weights=counts) ** 0.5
        assert got_std == pytest.approx(std, abs=3e-4)
