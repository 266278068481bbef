"""TFDS without TensorFlow: the whole way from an archive served on this machine to arrays."""

import functools
import hashlib
import http.server
import importlib
import io
import json
import os
import socket
import sys
import threading
import time

import data_fakes as fakes
import numpy as np
import pytest

from jaxnets.data import load_dataset, tfds_source
from jaxnets.data.cifar import CIFAR10, CIFAR100
from jaxnets.errors import UserError

tfds = pytest.importorskip("tensorflow_datasets")
pytest.importorskip("array_record.python.array_record_module")


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A folder that a server on this machine offers in the publisher's stead."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(Handler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(tfds_source, "HOST", f"http://127.0.0.1:{server.server_port}/")
    yield folder
    server.shutdown()
    server.server_close()


def register(monkeypatch, path, checksum=None):
    """Make TFDS know the file at `path` by checksum, as it knows the publisher's."""
    checksums = importlib.import_module("tensorflow_datasets.core.download.checksums")
    blob = path.read_bytes()
    info = checksums.UrlInfo(
        size=tfds.core.utils.Size(len(blob)),
        checksum=checksum or hashlib.sha256(blob).hexdigest(),
        filename=path.name,
    )
    known = {tfds_source.HOST + path.name: info}
    monkeypatch.setattr(checksums, "get_all_url_infos", lambda: dict(known))


def serve(served, monkeypatch, cifar, **how):
    data, layout = fakes.fake(cifar), cifar.binary
    path = fakes.write_archive(served / layout.archive, layout.folder, fakes.binary_files(data))
    register(monkeypatch, path, **how)
    return data


@pytest.mark.parametrize("cifar", fakes.BOTH, ids=lambda c: c.name)
def test_download_prepare_and_read_back(cifar, served, tmp_path, monkeypatch):
    data, root = serve(served, monkeypatch, cifar), tmp_path / "data"
    dataset = load_dataset(cifar.name, root, cache=False)
    data.check(dataset)  # in the publisher's order too
    assert dataset.class_names == tuple(data.names[-1])
    assert dataset.source == f"{root}/{cifar.name}/3.0.2"

    # stock TFDS, told nothing of us
    for split, part in (("train", data.train), ("test", data.test)):
        images = np.concatenate([images for images, _ in part])
        source = tfds.data_source(cifar.name, split=split, data_dir=root, download=False)
        assert len(source) == len(images)
        seen = set()
        for record in source:
            index = int(record["id"].decode().removeprefix(f"{split}_"))
            assert record["id"] == f"{split}_{index:05d}".encode()
            seen.add(index)
            np.testing.assert_array_equal(record["image"], images[index])
            for key, feature in zip(
                reversed(cifar.labels), ("label", "coarse_label"), strict=False
            ):
                assert record[feature] == np.concatenate([y[key] for _, y in part])[index]
        assert seen == set(range(len(images)))
        assert set(record) == {"id", "image", "label", "coarse_label"}.intersection(
            tfds.builder_cls(cifar.name)(data_dir=tmp_path / "none").info.features
        )
    builder = tfds.builder(cifar.name, data_dir=root)
    assert builder.is_prepared()
    assert type(builder) is tfds.builder_cls(cifar.name)
    names = builder.info.features["label"].names
    assert names == data.names[-1]
    if cifar is CIFAR100:
        assert builder.info.features["coarse_label"].names == data.names[0]
    assert "tensorflow" not in sys.modules

    # a prepared folder needs no host; its copy is kept like any other
    monkeypatch.setattr(tfds_source, "_unreachable", None)
    data.check(load_dataset(cifar.name, root))
    monkeypatch.setattr(tfds_source, "_read_split", None)
    data.check(load_dataset(cifar.name, root))


def test_the_publishers_checksum_is_asked_for():
    checksums = importlib.import_module("tensorflow_datasets.core.download.checksums")
    known = checksums.get_all_url_infos()
    for cifar in fakes.BOTH:
        info = known["https://www.cs.toronto.edu/~kriz/" + cifar.binary.archive]
        assert info.size > 160e6


@pytest.mark.parametrize("how", ["wrong", "unknown"])
def test_a_download_with_another_checksum_is_refused(how, served, tmp_path, monkeypatch):
    serve(served, monkeypatch, CIFAR10, checksum="0" * 64)
    if how == "unknown":
        monkeypatch.undo()
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr(tfds_source, "HOST", "http://127.0.0.1:1/")
        monkeypatch.setattr(tfds_source, "_unreachable", lambda url: None)
    with pytest.raises(
        UserError, match=r"no cifar10 in .*(NonMatchingC|Missing c)hecksum"
    ) as error:
        load_dataset("cifar10", tmp_path / "data")
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "data" / "cifar10").glob("*/dataset_info.json"))


def test_a_served_file_that_is_no_archive(served, tmp_path, monkeypatch):
    path = served / CIFAR10.binary.archive
    path.write_bytes(b"<html>moved</html>")
    register(monkeypatch, path)
    with pytest.raises(UserError, match="cannot be read"):
        load_dataset("cifar10", tmp_path / "data")


def test_a_file_that_is_not_there_is_known_at_once(served, tmp_path):
    with pytest.raises(UserError, match=r"cannot be reached \(HTTPError\)"):
        load_dataset("cifar10", tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_a_closed_port_is_known_at_once(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert "ConnectionError" in tfds_source._unreachable(f"http://127.0.0.1:{port}/")


def test_a_silent_host_is_given_up(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert tfds_source._PATIENCE <= 5
    monkeypatch.setattr(tfds_source, "_PATIENCE", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        start = time.perf_counter()
        assert tfds_source._unreachable(f"http://127.0.0.1:{silent.getsockname()[1]}/")
    assert time.perf_counter() - start < 2


def test_a_slow_name_server_is_given_up(monkeypatch):
    released = threading.Event()
    monkeypatch.setattr("requests.get", lambda *_, **__: released.wait(30))
    monkeypatch.setattr(tfds_source, "_PATIENCE", 0.2)
    start = time.perf_counter()
    assert "no answer within 0.2 s" in tfds_source._unreachable("http://nowhere/")
    assert time.perf_counter() - start < 2
    released.set()


def test_without_tfds_the_line_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(UserError, match=r"not installed.*pip install 'jaxnets\[tfds\]'"):
        load_dataset("cifar10", tmp_path)


def prepared(served, monkeypatch, root):
    data = serve(served, monkeypatch, CIFAR10)
    load_dataset("cifar10", root, cache=False)
    return data, root / "cifar10" / "3.0.2"


def test_the_newest_version_is_read(served, tmp_path, monkeypatch):
    data, folder = prepared(served, monkeypatch, tmp_path / "data")
    info = json.loads((folder / "dataset_info.json").read_text())
    (folder / "dataset_info.json").write_text(json.dumps(info | {"version": "3.0.10"}))
    folder.rename(folder.with_name("3.0.10"))
    for other in ("3.0.9", "incomplete.XY_9.0.0", "notes"):
        folder.with_name(other).mkdir()
        (folder.with_name(other) / "dataset_info.json").write_text("{}")
    data.check(load_dataset("cifar10", tmp_path / "data", cache=False))


@pytest.mark.parametrize(
    "damage", ["cut", "emptied", "gone", "tfrecord", "no info", "one split"], ids=str
)
def test_a_damaged_prepared_folder(damage, served, tmp_path, monkeypatch):
    _, folder = prepared(served, monkeypatch, tmp_path / "data")
    shard = folder / "cifar10-train.array_record-00000-of-00001"
    info = json.loads((folder / "dataset_info.json").read_text())
    if damage == "cut":
        shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
    elif damage == "emptied":
        shard.write_bytes(b"")
    elif damage == "gone":
        shard.unlink()
    elif damage == "tfrecord":
        info["fileFormat"] = "tfrecord"
    elif damage == "one split":
        info["splits"] = info["splits"][:1]
    text = "{" if damage == "no info" else json.dumps(info)
    (folder / "dataset_info.json").write_text(text)
    with pytest.raises(UserError, match=r"3\.0\.2: TFDS cannot read it .*array_record") as error:
        load_dataset("cifar10", tmp_path / "data")
    assert "\n" not in str(error.value)


def test_another_number_of_class_names_is_refused(served, tmp_path, monkeypatch):
    _, folder = prepared(served, monkeypatch, tmp_path / "data")
    (folder / "label.labels.txt").write_text("cat\ndog\n")
    with pytest.raises(UserError, match="2 class names, not 10"):
        load_dataset("cifar10", tmp_path / "data")


def test_a_pipe_in_a_prepared_folder(served, tmp_path, monkeypatch):
    _, folder = prepared(served, monkeypatch, tmp_path / "data")
    for name in ("features.json", "dataset_info.json", "label.labels.txt"):
        text = (folder / name).read_text()
        (folder / name).unlink()
        os.mkfifo(folder / name)
        with pytest.raises(UserError, match="is no regular file"):
            load_dataset("cifar10", tmp_path / "data")
        (folder / name).unlink()
        (folder / name).write_text(text)


def test_images_of_another_size_are_refused(tmp_path):
    from PIL import Image

    class Cifar10(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        name, VERSION = "cifar10", tfds.core.Version("3.0.2")

        def _info(self):
            features = {
                "image": tfds.features.Image(shape=(8, 8, 3)),
                "label": tfds.features.ClassLabel(num_classes=10),
            }
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(), "test": self._generate_examples()}

        def _generate_examples(self):
            png = io.BytesIO()
            Image.new("RGB", (8, 8)).save(png, "PNG")
            yield 0, {"image": png.getvalue(), "label": 0}

    Cifar10(data_dir=tmp_path).download_and_prepare(file_format="array_record")
    with pytest.raises(UserError, match=r"train images are \(8, 8, 3\), not 32x32x3"):
        load_dataset("cifar10", tmp_path)
