"""jaxnets.export --int8: what is computed in 8 bits, calibrated and judged on what, and refused."""

import contextlib
import importlib.util
import itertools
import json
import os
from pathlib import Path

import numpy as np
import pytest

from jaxnets.config import read
from jaxnets.data import Dataset, load
from jaxnets.errors import UserError
from jaxnets.export import export_int8, from_workdir, open_export
from jaxnets.export import int8 as judging
from jaxnets.export.images import TRIED, int8_images
from jaxnets.export.int8 import Judged, Trial, candidates, choose
from tests.fake_run import NAMES, fake_run

for package in ("torch", "onnx", "onnxscript"):
    pytest.importorskip(package)
onnxruntime = pytest.importorskip("onnxruntime")

EXPORT = "jaxnets.export.__main__"
# What lies between the two is nearly the same for all images, and lost in 256 steps.
IN_FLOAT = ["residual_layers.0.0.conv2", "linear"]
LIMITS = ("--calibration=64", "--max-drop=5")


def squares(count: int, seed: int) -> np.ndarray:
    """Images like those for which a run of random weights predicts every class."""
    random = np.random.default_rng(seed)
    images = random.choice([0, 40, 255], (count, 4, 4, 3), p=(0.4, 0.2, 0.4)).astype(np.uint8)
    return images.repeat(8, axis=1).repeat(8, axis=2)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("int8") / "run"
    fake_run(path)
    return path


@pytest.fixture(scope="module")
def data(workdir) -> Dataset:
    """The network is right about two thirds of the test images."""
    images = squares(301, 1)
    labels = from_workdir(workdir).logits(images).argmax(1)
    labels[::3] = 3
    train = squares(700, 2)
    return Dataset(train, np.zeros(700, np.int32), images, labels, NAMES, "/home/me/squares")


@pytest.fixture(autouse=True)
def at_hand(data, monkeypatch):
    monkeypatch.setattr("jaxnets.export.images.load", lambda *_, **__: data)


@pytest.fixture(scope="module")
def printed(workdir) -> Path:
    return workdir.parent / "printed"


@pytest.fixture(scope="module")
def exported(workdir, printed, data) -> Path:
    from jaxnets.export.__main__ import main

    path = workdir.parent / "net.onnx"
    args = ["--workdir", str(workdir), "--output", str(path), "--int8", *LIMITS]
    with (
        open(printed, "w") as out,
        contextlib.redirect_stdout(out),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr("jaxnets.export.images.load", lambda *_, **__: data)
        assert main(args) == 0
    return path


# The file


def test_the_network_is_in_int8_and_what_is_around_it_in_float(exported):
    import onnx

    graph = onnx.load(exported).graph
    types = {value.name: value.data_type for value in graph.initializer}
    made_by = {name: node for node in graph.node for name in node.output}
    kernels = {}
    for node in graph.node:
        if node.op_type in ("Conv", "Gemm"):
            image, kernel = (made_by.get(name) for name in node.input[:2])
            name = kernel.input[0] if kernel else node.input[1]
            kernels[name.removeprefix("net.").partition(".weight")[0]] = types[name]
            assert kernel is None or image.op_type == kernel.op_type == "DequantizeLinear"
    int8, float32 = onnx.TensorProto.INT8, onnx.TensorProto.FLOAT
    assert kernels == {
        "conv1": int8, "residual_layers.0.0.conv1": int8,
        "residual_layers.0.0.conv2": float32, "linear": float32,
    }  # fmt: skip
    values = [onnx.numpy_helper.to_array(v) for v in graph.initializer if types[v.name] == int8]
    largest = max(np.abs(value.astype(int)).max() for value in values)
    assert 32 < largest <= 64  # products of 8 and 7 bits never overflow on AVX2
    (softmax,) = (node for node in graph.node if node.op_type == "Softmax")
    assert made_by[softmax.input[0]].op_type == "Gemm"
    order = [node.op_type for node in graph.node if node.op_type != "DequantizeLinear"]
    assert order[:5] == ["Cast", "Sub", "Mul", "Transpose", "QuantizeLinear"]


def test_what_the_file_says_of_itself_is_so(exported, workdir, data):
    state_logits = from_workdir(workdir).logits(data.test_images)
    session = onnxruntime.InferenceSession(exported)
    said = json.loads(session.get_modelmeta().custom_metadata_map["jaxnets"])["int8"]
    (logits,) = session.run(["logits"], {"images": data.test_images})
    ours, theirs, labels = state_logits.argmax(1), logits.argmax(1), data.test_labels
    assert len(set(ours)) > 5  # else this shows little
    assert 0.6 < (ours == labels).mean() < 0.8
    assert said["images"] == len(labels)
    assert said["split"] == "test"
    assert said["accuracy_float32"] == (ours == labels).mean()
    assert said["accuracy_int8"] == (theirs == labels).mean()
    assert said["agreement"] == (ours == theirs).mean() >= 0.9
    assert said["judged_on"] == "301 test images of squares"
    assert said["calibrated_on"] == "64 training images of squares"
    assert said["layers_in_float"] == IN_FLOAT
    assert 1 < said["trials"] < 10
    assert said["max_drop"] == 5
    assert 0 < said["noise"] < judging.NOISE
    error = np.sqrt(np.square(logits - state_logits).mean()) / state_logits.std()
    assert error < 2 * said["noise"]


def test_what_the_command_prints(exported, printed):
    for line in (
        "int8     calibrated on 64 training images of squares",
        f"int8     layers left in float: {', '.join(IN_FLOAT)} (",
        "(allowed: 5 points less)",
        "301 test images of squares",
        "ms an image here; int8 ",
    ):
        assert line in printed.read_text(), line
    assert {p.name for p in exported.parent.iterdir()} == {"run", "net.onnx", "printed"}


# The images


def test_test_images_are_for_judging_alone(monkeypatch):
    monkeypatch.setattr("jaxnets.export.images.load", load)
    config = read("quickstart")
    for fraction in (0.0, 0.2):
        config.data.val_fraction = fraction
        data = load(config)
        found = int8_images(config, NAMES, 512)
        assert (len(found.calibration), len(found.tried)) == (512, TRIED)
        train = {image.tobytes() for image in data.train_images}
        used = [image.tobytes() for image in (*found.calibration, *found.tried)]
        assert set(used) <= train
        assert len(set(used)) > 760  # some digits are twice in the data
        judged = data.val_images if fraction else data.test_images
        np.testing.assert_array_equal(found.judged.images, judged)
        assert found.judged.split == ("validation" if fraction else "test")
        assert found.judged.what.startswith(found.judged.split)
        again = int8_images(config, NAMES, 512)
        np.testing.assert_array_equal(found.calibration, again.calibration)
    assert len(int8_images(config, NAMES, 10**6).calibration) == len(data.train_images)


def test_the_ranges_are_those_of_the_images_that_are_given(workdir, data, tmp_path):
    from jaxnets.export import onnx_file
    from jaxnets.export.quantize import Quantizer

    source = from_workdir(workdir)
    network = onnx_file.network(source, "uint8-nhwc")
    for images in (data.train_images[:65], data.train_images[:65] // 4):
        folder = tmp_path / str(images.max())
        folder.mkdir()
        Quantizer(network, images, folder)
        ranges = json.loads((folder / "ranges.json").read_text())["data"]
        brightest = (images.max() / 255 - source.mean[0]) / source.std[0]
        assert ranges["permute"]["highest"]["data"] == pytest.approx([brightest], rel=1e-5)


# The layers in float


def test_the_plain_network(workdir, data, tmp_path, monkeypatch):
    """Of normalised images: it answers the same as the one that normalises them itself."""
    source, path = from_workdir(workdir), tmp_path / "net.onnx"
    images = int8_images(source.config, NAMES, 64)
    done = export_int8(source, path, images, kind="float32-nchw", max_drop=5)
    opened = open_export(path, "onnx")
    assert opened.about["input"] == "float32-nchw"
    assert opened.about["int8"]["layers_in_float"] == IN_FLOAT
    assert done.judged.agreement > 0.9
    assert done.about == opened.about


class Fake:
    """A network whose error is the sum of what its layers in int8 add."""

    def __init__(self, noise: dict[str, float]):
        self.noise, self.trials = noise, []

    def __call__(self, in_float) -> Trial:
        self.trials.append(tuple(in_float))
        noise = sum(x for layer, x in self.noise.items() if layer not in in_float)
        return Trial(None, tuple(in_float), noise)


def test_no_more_is_tried_than_it_takes():
    layers = [f"conv{i}" for i in range(9)]
    noise = dict.fromkeys(layers, 0.001)
    fake = Fake(noise)
    assert choose(fake, layers) == (Trial(None, (), pytest.approx(0.009)), 1)
    fake = Fake(noise | {"conv3": 0.2, "conv4": 0.1, "conv8": 0.5})
    found, trials = choose(fake, layers)
    assert {"conv3", "conv4", "conv8"} <= set(found.in_float)
    assert list(found.in_float) == sorted(found.in_float)
    assert len(found.in_float) <= 4
    assert trials == len(fake.trials)


def test_trials_are_bounded_and_the_best_one_is_taken():
    layers = [f"layer{i}.{part}" for i in range(40) for part in ("conv", "se.0")]
    fake = Fake(dict.fromkeys(layers, 1.0))
    found, trials = choose(fake, layers)
    assert trials == len(fake.trials) <= 22
    assert found.noise == min(Fake(fake.noise)(t).noise for t in fake.trials)
    assert any(".se." in name for name in found.in_float)
    assert 2 * len(found.in_float) <= len(layers)
    assert choose(Fake(dict.fromkeys(layers, np.nan)), layers)[0].in_float == ()


def test_neighbours_are_tried_together():
    for count in (1, 2, 3, 13, 40):
        layers = [f"conv{i}" for i in range(count)]
        groups = candidates(layers)
        assert len(groups) <= 15
        for pair in itertools.pairwise(layers):
            assert any(set(pair) <= {*group} for group in groups)
    assert candidates(layers)[:2] == [("conv0",), ("conv39",)]


# Whether it is good enough


def judged(before: int, after: int, agreement: float = 0.99, max_drop: float = 0.5) -> Judged:
    return Judged("1,000 images", 1000, before / 1000, after / 1000, agreement, max_drop)


def test_what_int8_may_cost():
    assert judged(900, 895).holds
    assert not judged(900, 894).holds
    assert judged(900, 990).holds
    assert judged(900, 900, max_drop=0).holds
    assert not judged(900, 899, max_drop=0).holds
    assert judged(900, 900, agreement=0.9).holds
    assert not judged(900, 900, agreement=0.899).holds


def test_what_predicts_worse_is_not_written(command, workdir, tmp_path, monkeypatch):
    """As this network does where no layer is left in float."""
    monkeypatch.setattr(judging, "NOISE", 1)
    path = tmp_path / "net.onnx"
    path.write_text("mine")
    done = command(EXPORT, "--workdir", workdir, "--output", path, "--int8", *LIMITS, "--force")
    assert done.code == 1
    assert done.err.startswith(f"refused: {path}: not written, its answers are not those of JAX")
    assert "of the predictions the same (at least 90%)" in done.err
    assert done.err.count("\n") == 1
    assert os.listdir(tmp_path) == [path.name]
    assert path.read_text() == "mine"


def test_verifying(command, exported, workdir, tmp_path):
    done = command(EXPORT, "--verify", exported)
    assert done.code == 0
    assert "4 of 4 predictions the same; the images whose answers it keeps" in done.out
    done = command(EXPORT, "--verify", exported, "--workdir", workdir)
    assert done.code == 0
    assert "(allowed: 5 points less)" in done.out
    assert "301 test images of squares" in done.out
    fake_run(tmp_path / "other", 1)
    done = command(EXPORT, "--verify", exported, "--workdir", tmp_path / "other")
    assert done.code == 1
    assert "made from other weights" in done.err


@pytest.fixture
def worse(monkeypatch):
    """onnxruntime answers otherwise: every eighth prediction is another."""
    from jaxnets.export import onnx_file

    runtime = onnx_file.runtime

    def wrong(data):
        run = runtime(data)

        def answer(images):
            both = [x.copy() for x in run(images)]
            for values in both:
                values[::8] = np.roll(values[::8], 1, axis=1)
            return both

        return answer

    monkeypatch.setattr(onnx_file, "runtime", wrong)


def test_verifying_what_answers_otherwise(command, exported, workdir, worse):
    for args in ((), ("--workdir", workdir)):
        done = command(EXPORT, "--verify", exported, *args)
        assert done.code == 1
        assert done.err.startswith(f"refused: {exported}: its answers are ")


# Bad input


def test_mistakes_in_the_arguments(refused, workdir, tmp_path, monkeypatch):
    out = ("--workdir", workdir, "--output", tmp_path / "a.onnx")
    pt2 = ("--workdir", workdir, "--output", tmp_path / "a.pt2")
    for args, says in (
        ((*pt2, "--int8"), "--int8: is about .onnx"),
        ((*out, "--calibration=64"), "--calibration and --max-drop are about --int8"),
        ((*out, "--max-drop=1"), "--calibration and --max-drop are about --int8"),
        ((*out, "--int8", "--calibration=0"), "--calibration 0: a whole number, at least 1"),
        ((*out, "--int8", "--max-drop=-1"), "--max-drop -1: a number, at least 0"),
        ((*out, "--int8", "--max-drop=101"), "--max-drop 101: "),
        (
            ("--workdir", workdir, "--verify", workdir / "x", "--int8"),
            "is about --output and --page",
        ),
    ):
        assert says in refused(EXPORT, *args)
    (tmp_path / "a.onnx").write_text("mine")
    assert "is there already" in refused(EXPORT, *out, "--int8")
    os.remove(tmp_path / "a.onnx")
    assert not os.listdir(tmp_path)


def test_without_training_images(refused, tmp_path, monkeypatch):
    monkeypatch.setattr("jaxnets.export.images.load", load)
    fake_run(tmp_path / "run", data__name="cifar10", data__dir=str(tmp_path))
    args = ("--workdir", tmp_path / "run", "--output", tmp_path / "a.onnx", "--int8")
    said = refused(EXPORT, *args)
    assert f"--int8: needs training images: no cifar10 in {tmp_path}; --data-dir names" in said
    assert os.listdir(tmp_path) == ["run"]


def test_images_of_other_classes():
    with pytest.raises(UserError, match="other classes than the network's: class 3 is"):
        int8_images(read("quickstart"), (*"012x456789",), 64)
    with pytest.raises(UserError, match="10 classes, and the network tells 7 apart"):
        int8_images(read("quickstart"), NAMES[:7], 64)


def test_onnxruntime_is_not_installed(refused, workdir, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *_: None if name == "onnxruntime" else find(name)
    )
    said = refused(EXPORT, "--workdir", workdir, "--output", tmp_path / "a.onnx", "--int8")
    assert "needs onnxruntime, not installed here; pip install 'jaxnets[export]'" in said


@pytest.mark.parametrize(
    "change", [{"max_drop": "x"}, {"max_drop": 200}, {"probe_logits": [[1]]}, {"probe_logits": 1}]
)
def test_a_file_whose_int8_is_damaged(refused, exported, tmp_path, change):
    import onnx

    model = onnx.load(exported)
    (said,) = model.metadata_props
    about = json.loads(said.value)
    about["int8"] |= change
    said.value = json.dumps(about)
    onnx.save(model, tmp_path / "a.onnx")
    assert "no export of jaxnets, or damaged" in refused(EXPORT, "--verify", tmp_path / "a.onnx")
