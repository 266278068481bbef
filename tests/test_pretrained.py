"""Weights that come with the project: by name, checked, fetched where they lie elsewhere."""

import dataclasses

import numpy as np
import pytest

import jaxnets
from jaxnets.data import load_dataset
from jaxnets.errors import UserError
from jaxnets.files import safetensors
from jaxnets.inference.network import log_softmax, of_weights
from jaxnets.models.torch_names import to_state_dict
from jaxnets.port import read_weights
from jaxnets.pretrained import fetch, index
from tests.data_fakes import REAL
from tests.fake_run import NAMES, fake_run
from tests.pretrained_fakes import CLASSES, MEAN, MODEL, OPTIONS, images, network, publish, served

# What a data set's files lie in.
FOLDERS = {"cifar10": ["cifar-10-batches-py"], "cifar100": ["cifar-100-python"]}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the index and its files lie, instead of the project's."""
    monkeypatch.setattr(index, "folder", lambda: tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    publish(tmp_path)
    return tmp_path


def same(model, other) -> bool:
    ours, theirs = to_state_dict(model), to_state_dict(other)
    assert ours.keys() == theirs.keys()
    return all(np.array_equal(ours[name], theirs[name]) for name in ours)


def test_a_name_says_the_options(folder):
    model = jaxnets.create_model(MODEL, pretrained="trees")
    assert same(model, network())
    assert model.dropout.rate == OPTIONS["drop"]
    assert jaxnets.create_model(MODEL, pretrained="trees", drop=0.5).dropout.rate == 0.5


def test_true_is_for_just_this_network(folder):
    asked = OPTIONS | {"drop": 0.4, "num_blocks": [1]}  # no weight depends on the dropout
    assert same(jaxnets.create_model(MODEL, 3, pretrained=True, **asked), network())
    with pytest.raises(UserError, match=r"no weights of .* these options; there is .*'trees'"):
        jaxnets.create_model(MODEL, pretrained=True)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"name": "resnet18", "pretrained": True}, "no weights of resnet18; there are trees"),
        ({"name": "resnet18", "pretrained": "trees"}, "weights of se_resnet, not of resnet18"),
        ({"name": MODEL, "pretrained": "trese"}, "did you mean 'trees'?"),
        ({"name": MODEL, "pretrained": "trees", "num_classes": 10}, "3 classes apart, not 10"),
        ({"name": MODEL, "pretrained": "trees", "num_channels": 8}, "do not fit the model"),
    ],
)
def test_weights_of_another_network_are_refused(folder, given, said):
    with pytest.raises(UserError) as error:
        jaxnets.create_model(**given)
    assert said in str(error.value)


def test_list(folder):
    assert jaxnets.list_pretrained() == jaxnets.list_pretrained(MODEL) == ["trees"]
    assert jaxnets.list_pretrained("resnet18") == []


def test_a_changed_file_is_refused(folder):
    file = folder / "trees.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(UserError, match=r"trees.safetensors: its SHA-256 is not that of the index"):
        jaxnets.create_model(MODEL, pretrained="trees")


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{",
        '{"weights": 3}',
        '{"weights": {"a": {"model": "se_resnet"}}}',
        '{"weights": {"a": {"model": "se_resnet", "num_classes": 1, "options": {}, "sha256": "0", '
        '"size": 1, "file": "../a"}}}',
        '{"weights": {"a": {"model": "se_resnet", "num_classes": 1, "options": {}, "sha256": "0", '
        '"size": 1}}}',
    ],
)
def test_a_damaged_index_is_refused(folder, text):
    (folder / index.INDEX).write_text(text)
    with pytest.raises(UserError, match="not an index of weights, or damaged"):
        jaxnets.list_pretrained()


def test_without_an_index_there_are_none(folder):
    (folder / index.INDEX).unlink()
    assert jaxnets.list_pretrained() == []


@pytest.mark.parametrize("by", ["name", "file"])
def test_weights_say_what_they_belong_to(folder, by):
    found = read_weights("trees" if by == "name" else folder / "trees.safetensors")
    assert (found.model, found.num_classes, found.class_names) == (MODEL, 3, CLASSES)
    assert (found.mean, found.image_size, found.notes) == (MEAN, 32, ())
    assert found.options.items() >= OPTIONS.items()
    assert (found.entry is None) == (by == "file")
    assert found.sha256 == index.entry("trees").sha256
    member = of_weights(found)
    model = network()
    model.eval()
    expected = np.asarray(model(member.normalize(images())), np.float64)
    np.testing.assert_allclose(member.logits(images()), expected, atol=1e-5)
    assert member.class_names == CLASSES


def test_weights_of_a_run(tmp_path):
    fake_run(tmp_path / "run")
    found = read_weights(tmp_path / "run")
    assert (found.class_names, found.model) == (NAMES, "se_resnet")
    assert found.sha256 is None
    logits = of_weights(found).logits(images())
    net = jaxnets.load(tmp_path / "run")
    np.testing.assert_allclose(
        np.exp(log_softmax(logits)), net.predict_proba(images()), rtol=0, atol=1e-6
    )


def test_a_file_that_says_nothing(folder):
    jaxnets.port.save(folder / "bare.safetensors", to_state_dict(network()))
    found = read_weights(folder / "bare.safetensors")
    assert (found.model, found.num_classes, found.class_names) == (MODEL, 3, None)
    assert "CIFAR-10 and its normalisation are assumed" in found.notes[0]
    with pytest.raises(UserError, match="does not say which network"):
        jaxnets.pretrained.load(folder / "bare.safetensors")


@pytest.mark.parametrize(
    ("said", "match"),
    [
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
        ('{"config": {"model": {"name": "se_resnet"}}, "meta": {"class_names": 3}}', "class_names"),
        ('{"config": {}, "meta": {}}', "no configuration"),
        (
            '{"config": {"model": {"name": "se_resnt"}}, "meta": {"class_names": ["a"]}}',
            "se_resnet",
        ),
        (
            '{"config": {"model": {"name": "se_resnet", "num_blocks": [9]}}, '
            '"meta": {"class_names": ["a"]}}',
            "fit",
        ),
    ],
)
def test_a_file_that_says_nonsense(folder, said, match):
    file = folder / "other.safetensors"
    file.write_bytes(safetensors.serialize(to_state_dict(network()), {"jaxnets": said}))
    with pytest.raises(UserError, match=match) as error:
        of_weights(read_weights(file))
    assert "other.safetensors" in str(error.value)


@pytest.mark.parametrize("name", ["tree", "tree.safetensors", "no/where"])
def test_no_such_weights(folder, name):
    with pytest.raises(UserError, match=r"did you mean 'trees'|no such file"):
        read_weights(name)


def elsewhere(folder, address: str):
    """Moves the file to where a server has it; the index says its address."""
    entry = index.entry("trees")
    (folder / "server").mkdir()
    (folder / "trees.safetensors").rename(folder / "server" / "trees.safetensors")
    entry = dataclasses.replace(entry, file=None, url=f"{address}/trees.safetensors")
    index.write({"trees": entry})
    return entry


def test_fetched_once_and_said(folder, capsys):
    with served(folder / "server") as (address, asked):
        entry = elsewhere(folder, address)
        assert same(jaxnets.create_model(MODEL, pretrained="trees"), network())
        said = capsys.readouterr().err
        assert f"fetching {entry.url} (0.0 MB) into {folder / 'cache'}" in said
        assert read_weights("trees").class_names == CLASSES
        assert asked == ["/trees.safetensors"]
    assert capsys.readouterr().err == ""
    assert read_weights("trees").class_names == CLASSES  # nobody there any more


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"sha256": "0" * 64}, "its SHA-256 is"),
        ({"size": 100}, "larger than the 100 bytes"),
        ({"size": 10**6}, "of 1,000,000 bytes; try again"),
        ({"url": "{}/other"}, "cannot be fetched (HTTP Error 404"),
        ({"url": "file:///etc/hostname"}, "neither an https nor an http address"),
        ({"url": "http://127.0.0.1:9/trees"}, "cannot be fetched"),
        ({"url": "https://"}, "cannot be fetched"),
    ],
)
def test_what_is_fetched_is_checked(folder, fields, said):
    with served(folder / "server") as (address, _):
        fields = {k: v.format(address) if k == "url" else v for k, v in fields.items()}
        entry = elsewhere(folder, address)
        index.write({"trees": dataclasses.replace(entry, **fields)})
        with pytest.raises(UserError) as error:
            read_weights("trees")
    assert said in str(error.value)
    assert not list((folder / "cache").rglob("*.safetensors"))
    assert not list((folder / "cache").rglob("*.tmp"))


def test_a_changed_cache_is_refused(folder):
    with served(folder / "server") as (address, _):
        path = fetch.fetched(elsewhere(folder, address))
    path.write_bytes(b"0")
    with pytest.raises(UserError, match="delete it, to fetch it anew"):
        read_weights("trees")


PROJECTS = index.read()


@pytest.mark.parametrize("name", PROJECTS)
def test_the_projects_weights(name):
    """Sum, network and classes are what the index says; and all that it should say is there."""
    entry, found = PROJECTS[name], jaxnets.pretrained.load(name)
    assert found.options.items() >= entry.options.items()
    assert found.class_names is not None
    assert (found.meta["epoch"], found.config.num_epochs) == tuple(
        entry.record[key] for key in ("epoch", "epochs")
    )
    assert entry.record["finished"] == (entry.record["epoch"] == entry.record["epochs"])
    for key in ("data", "recipe", "command", "seed", "versions", "hardware", "commit", "license"):
        assert entry.record[key] is not None, key
    assert entry.size == (index.folder() / entry.file).stat().st_size


@pytest.mark.parametrize("name", PROJECTS)
def test_the_projects_figures(name):
    """On the first 1,000 test images, as the index says."""
    found = jaxnets.pretrained.load(name)
    data = found.config.data.name
    if not any((REAL / folder).is_dir() for folder in FOLDERS[data]):
        pytest.skip(f"no real images of {data} in data/")
    test = load_dataset(data, REAL)
    labels = test.test_labels[:1000]
    logits = of_weights(found).logits(test.test_images[:1000])
    said = PROJECTS[name].record["first_1000"]
    assert (logits.argmax(1) == labels).mean() == pytest.approx(said["accuracy"], abs=0.003)
    loss = -log_softmax(logits)[np.arange(1000), labels].mean()
    assert loss == pytest.approx(said["loss"], abs=1e-3)


def test_the_projects_weights_are_small():
    assert sum(path.stat().st_size for path in index.folder().iterdir()) < 31e6
    files = {path.name for path in index.folder().glob("*.safetensors")}
    assert files == {entry.file for entry in PROJECTS.values() if entry.file}
