"""jaxnets.export: what its files hold and answer, when none is written, and what it refuses."""

import importlib.util
import io
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import jax
import numpy as np
import PIL
import pytest
from PIL import Image

import jaxnets
from jaxnets.config import read
from jaxnets.data import load_dataset, tfds_source
from jaxnets.data.images import read_image
from jaxnets.errors import UserError
from jaxnets.export import Source, compare, from_workdir, open_export
from jaxnets.export import files as export_files
from jaxnets.export import source as sources
from jaxnets.export.images import COUNT, random_images, real_images
from jaxnets.port import save
from jaxnets.port.guess import Model
from tests.fake_run import IMAGES, NAMES, direct_logits, fake_run, softmax
from tests.small_disk import small_disk
from tests.test_port import draw

for package in ("torch", "flatbuffers", "onnx", "onnxscript"):
    pytest.importorskip(package)
onnxruntime = pytest.importorskip("onnxruntime")

ROOT = Path(__file__).parents[1]
EXPORT = "jaxnets.export.__main__"
FORMS = ("onnx", "stablehlo", "pt2")
ROW = {"step": 1, "epoch": 1, "eval/accuracy": 0.625}


class Run:
    """A workdir with an export of each format."""

    def __init__(self, folder: Path):
        self.workdir = folder / "run"
        self.state = fake_run(self.workdir, meta={"selected_on": "val"})
        (self.workdir / "metrics.jsonl").write_text(json.dumps(ROW) + "\n")
        self.right = direct_logits(self.workdir, self.state, IMAGES)
        self.file = {form: folder / f"net.{form}" for form in FORMS}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    from jaxnets.export.__main__ import main

    made = Run(tmp_path_factory.mktemp("export"))
    for path in made.file.values():
        assert main(["--workdir", str(made.workdir), "--output", str(path)]) == 0
    return made


@pytest.fixture
def workdir(run) -> Path:
    return run.workdir


@pytest.fixture(params=FORMS)
def form(request) -> str:
    return request.param


# What the files hold and answer


def test_answers_are_the_networks(run, form):
    opened = open_export(run.file[form], form)
    for images in (IMAGES, IMAGES[:1], np.concatenate([IMAGES] * 9)):
        logits, probabilities = opened.answers(images, 64)
        right = np.concatenate([run.right] * 9)[: len(images)]
        np.testing.assert_allclose(logits, right, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(probabilities, softmax(right), atol=1e-6)
    assert len(set(run.right.argmax(1))) > 2  # else this shows little


def test_the_output_says_what_was_proved(command, run, tmp_path):
    done = command(EXPORT, "--workdir", run.workdir, "--output", tmp_path / "a.stablehlo")
    assert done.code == 0
    assert "uint8 (N, 32, 32, 3) to logits and probabilities (N, 10)" in done.out
    assert "500 of 500 predictions the same; test and training images of scikit" in done.out
    written = tmp_path / "a.stablehlo"
    assert written.read_bytes() == run.file["stablehlo"].read_bytes()  # bit for bit, made again
    assert os.listdir(tmp_path) == [written.name]


def test_what_a_file_says_of_itself(run, form):
    about = open_export(run.file[form], form).about
    assert about["model"] == "se_resnet"
    assert about["options"]["num_channels"] == 4
    assert about["class_names"] == [*NAMES]
    assert about["mean"] == [0.31] * 3
    assert about["parameters"] == sum(x.size for x in run.state.params.values())
    assert about["origin"] == {
        "workdir": "run", "checkpoint": "best", "step": 1, "epoch": 1, "selected_on": "val",
        "test_accuracy": 0.625, "trained_in": "float32",
    }  # fmt: skip
    assert about["versions"]["jax"] == jax.__version__
    assert len(about["weights_sha256"]) == 64
    for secret in (run.workdir.parent, Path(__file__).parents[1]):
        assert str(secret).encode() not in run.file[form].read_bytes()


def test_files_are_read_without_jaxnets(run):
    """As the documents say."""
    import torch
    from jax import export

    session = onnxruntime.InferenceSession(run.file["onnx"])
    texts = [session.get_modelmeta().custom_metadata_map["jaxnets"]]
    logits, probabilities = session.run(None, {"images": IMAGES})
    assert [i.name for i in session.get_inputs()] == ["images"]
    assert [o.name for o in session.get_outputs()] == ["logits", "probabilities"]
    archive = zipfile.ZipFile(run.file["stablehlo"])
    texts.append(archive.read("jaxnets.json"))
    program = export.deserialize(bytearray(archive.read("program.bin")))
    assert program.platforms == ("cpu", "cuda", "tpu")
    np.testing.assert_allclose(program.call(IMAGES)["logits"], logits, atol=1e-5)
    extra = {"jaxnets.json": ""}
    net = torch.export.load(run.file["pt2"], extra_files=extra).module()
    texts.append(extra["jaxnets.json"])
    np.testing.assert_allclose(net(torch.tensor(IMAGES))[1], probabilities, atol=1e-5)
    assert all(json.loads(text)["model"] == "se_resnet" for text in texts)


def test_the_script_of_the_documents(run, tmp_path):
    """Its text as it stands, where nothing is installed but what it names."""
    text = (ROOT / "docs" / "deploy.md").read_text()
    (script,) = re.findall(r"^```py\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert len(script.splitlines()) == 15
    packages = tmp_path / "packages"
    packages.mkdir()
    for module in (np, onnxruntime, PIL):
        folder = Path(module.__file__).parent
        (packages / folder.name).symlink_to(folder)
    for libraries in Path(np.__file__).parents[1].glob("*.libs"):
        (packages / libraries.name).symlink_to(libraries)
    (tmp_path / "net.onnx").symlink_to(run.file["onnx"])
    pixels = IMAGES[3].repeat(2, axis=0).repeat(2, axis=1)  # larger, and not square
    Image.fromarray(np.pad(pixels, ((0, 0), (9, 9), (0, 0)))).save(tmp_path / "a.png")

    def python(code: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-S", "-c", code, "a.png"], cwd=tmp_path, capture_output=True,
            text=True, env={"PYTHONPATH": str(packages)},
        )  # fmt: skip

    for absent in ("jax", "torch", "jaxnets", "onnx"):
        assert "ModuleNotFoundError" in python(f"import {absent}").stderr
    done = python(script)
    assert done.returncode == 0, done.stderr
    image, _ = read_image(tmp_path / "a.png", 32)
    right = jaxnets.load(run.workdir).predict_proba(image[None])[0]
    said = [line.split(": ") for line in done.stdout.splitlines()]
    assert [name for name, _ in said] == [NAMES[i] for i in np.argsort(-right)[:3]]
    shares = [float(share.rstrip("%")) / 100 for _, share in said]
    np.testing.assert_allclose(shares, np.sort(right)[:-4:-1], atol=1e-4)


@pytest.mark.parametrize("form", ["onnx", "stablehlo"])
def test_the_plain_network(command, run, form, tmp_path):
    path = tmp_path / f"plain.{form}"
    args = ("--workdir", run.workdir, "--output", path, "--input", "float32-nchw")
    assert command(EXPORT, *args).code == 0
    opened = open_export(path, form)
    logits, _ = opened.answers(IMAGES)
    np.testing.assert_allclose(logits, run.right, rtol=1e-5, atol=1e-5)
    inputs = ((IMAGES / 255 - 0.31) / 0.36).astype(np.float32).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(opened.run(inputs)[0], run.right, rtol=1e-5, atol=1e-5)


def test_another_checkpoint(run, tmp_path):
    best, last = from_workdir(run.workdir), from_workdir(run.workdir, "last")
    assert (best.origin["checkpoint"], best.origin["step"]) == ("best", 1)
    assert (last.origin["checkpoint"], last.origin["step"]) == ("last", 2)
    assert (last.origin["selected_on"], last.origin["test_accuracy"]) == (None, None)
    assert best.sha256() == last.sha256()


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_other_dtypes_and_slow_weights(command, dtype, run, tmp_path, monkeypatch):
    """All is exported in float32."""
    path = tmp_path / "net.stablehlo"
    monkeypatch.setattr("jaxnets.devices.runtime.setup", lambda *_: None)  # it outlasts the test
    with jax.enable_x64(dtype == "float64"):
        state = fake_run(tmp_path / "run", dtype=dtype, eval_weights="slow")
        done = command(EXPORT, "--workdir", tmp_path / "run", "--output", path)
    assert done.code == 0, done.err
    slow, stats = jax.tree.map(np.float32, (state.opt_state.slow, state.stats))
    right = direct_logits(run.workdir, state._replace(params=slow, stats=stats), IMAGES)
    logits, _ = open_export(path, "stablehlo").answers(IMAGES)
    np.testing.assert_allclose(logits, right, rtol=1e-5, atol=1e-5)


TINY = Model("se_resnet", 10, {"num_blocks": (1,), "num_channels": 4, "se": "none"})


def test_weights_alone(command, refused, tmp_path, monkeypatch):
    monkeypatch.setattr(tfds_source, "prepare", lambda *_: pytest.fail("asked for"))
    weights, path = tmp_path / "net.safetensors", tmp_path / "net.stablehlo"
    save(weights, draw(TINY))
    args = ["--weights", weights, "--output", path, "--model", "se_resnet"]
    args += [f"--option={k}" for k in ("num_blocks=1", "num_channels=4", "se=none")]
    args += ["--config", "mish_se_resnet18"]
    assert "no cifar10 in" in refused(EXPORT, *args, "--data-dir", tmp_path)
    done = command(EXPORT, *args, f"--config.data.dir={tmp_path}")
    assert done.code == 0, done.err
    assert "note: no test images at hand: no cifar10 in" in done.err
    about = open_export(path, "stablehlo").about
    assert about["class_names"][:2] == ["airplane", "automobile"]
    assert about["std"] == [0.2470, 0.2435, 0.2616]
    assert about["origin"]["weights"] == "net.safetensors"


def test_whose_normalisation_goes_with_weights(tmp_path):
    path = tmp_path / "a.safetensors"
    save(path, draw(TINY._replace(num_classes=7)))
    source = sources.from_weights(str(path))
    assert (source.model.name, source.class_names) == ("se_resnet", tuple("0123456"))
    assert "CIFAR-10 and its normalisation are assumed" in source.notes[-1]
    with pytest.raises(UserError, match=r"cifar100, has 100 classes, and .* tells 7 apart"):
        sources.from_weights(str(path), config=read("cifar100"))
    save(path, draw(TINY), force=True)
    source = sources.from_weights(str(path), config=read("quickstart"))
    assert (source.class_names, source.mean, source.notes) == (NAMES, (0.31,) * 3, ())


def test_weights_that_come_with_the_project():
    source = sources.from_weights("se_resnet_small")
    assert source.model.options["num_channels"] == 16
    assert source.class_names[0] == "airplane"
    assert 0 < source.origin["test_accuracy"] < 1
    assert source.num_parameters == 295_755
    with pytest.raises(UserError, match="says itself what it was trained with"):
        sources.from_weights("se_resnet_small", config=read("se_resnet"))


# The images


def test_images_to_compare_on(monkeypatch):
    images, what = real_images(read("quickstart"))
    digits = load_dataset("digits")
    assert len(images) == COUNT
    assert what == "test and training images of scikit-learn's load_digits"
    assert (images[0] == digits.test_images[0]).all()
    fake = digits._replace(test_images=np.arange(1001)[:, None], source="x")
    monkeypatch.setattr("jaxnets.export.images.load", lambda *_, **__: fake)
    images, what = real_images(None)
    assert what == "test images of x"
    assert [*images[:3, 0]] == [0, 2, 4]  # classes may come one after the other
    assert images[-1] == 1000


def test_random_images_are_the_same_for_ever():
    images = random_images(3, 32)
    assert images.shape == (3, 32, 32, 3)
    assert images[0, ::8, ::8].ravel()[:6].tolist() == [95, 33, 184, 29, 59, 78]
    assert (images[:, :8, :8] == images[:, :1, :1]).all()
    assert random_images(1, 5).shape == (1, 5, 5, 3)


def test_nothing_is_downloaded(monkeypatch, tmp_path):
    monkeypatch.setattr(tfds_source, "prepare", lambda *_: pytest.fail("asked for"))
    with pytest.raises(UserError, match="no cifar100 in"):
        load_dataset("cifar100", tmp_path, download=False)


# The proof


def test_comparison():
    right = np.array([[0.0, 100.0], [50.0, 50.001], [3.0, 1.0]])
    assert compare(right, right, softmax(right)).holds
    assert compare(right, right + 0.009).holds
    assert not compare(right, right + 0.011).holds
    assert not compare(right, right, softmax(right) + 2e-4).holds
    assert not compare(right, np.where(right == 3, np.nan, right)).holds
    assert not compare(right, right, np.where(right == 3, np.nan, softmax(right))).holds
    tie = right.copy()
    tie[1] = 50.0005, 50.0
    assert compare(right, tie)[3:5] == (2, 1)
    assert compare(right, tie).holds
    right[1] = 50.0, 50.012  # no tie: further apart than the bound, and changed by less
    tie[1] = 50.0065, 50.0055
    found = compare(right, tie)
    assert found.largest < 1e-4
    assert found[3:5] == (2, 0)
    assert not found.holds
    with pytest.raises(ValueError, match="shape"):
        compare(right, right[:2])


def wrong_answers(monkeypatch, form: str, by: float) -> None:
    """The runtime of a format gives other logits."""
    module = export_files.FORMATS[form].load()
    runtime = module.runtime

    def wrong(data):
        run = runtime(data)
        return lambda images: (run(images)[0] * (1 + by), run(images)[1])

    monkeypatch.setattr(module, "runtime", wrong)


@pytest.mark.parametrize("old", [False, True])
def test_nothing_is_written_unless_the_answers_are_the_same(
    command, workdir, tmp_path, monkeypatch, old
):
    path = tmp_path / "net.stablehlo"
    if old:
        path.write_text("mine")
    args = ("--workdir", workdir, "--output", path, "--force")
    wrong_answers(monkeypatch, "stablehlo", 2e-4)
    done = command(EXPORT, *args)
    assert done.code == 1
    assert done.err.startswith(f"refused: {path}: not written, its answers are not those of JAX")
    assert os.listdir(tmp_path) == [path.name] * old
    assert not old or path.read_text() == "mine"


def test_a_file_that_does_not_open_is_not_written(command, workdir, tmp_path, monkeypatch):
    module = export_files.FORMATS["stablehlo"].load()
    monkeypatch.setattr(module, "runtime", lambda data: 1 / 0)
    done = command(EXPORT, "--workdir", workdir, "--output", tmp_path / "a.stablehlo")
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert f"{tmp_path}/a.stablehlo: not written: cannot be opened (division" in done.err
    assert not os.listdir(tmp_path)


def test_verifying_an_old_export(command, run, form, monkeypatch):
    path = run.file[form]
    alone = command(EXPORT, "--verify", path)
    assert alone.code == 0
    assert "4 of 4 predictions the same; the images whose answers it keeps" in alone.out
    wrong_answers(monkeypatch, form, 2e-4)
    done = command(EXPORT, "--verify", path)
    assert done.code == 1
    assert done.err.startswith(f"refused: {path}: its answers are not those of JAX")


def test_verifying_against_the_run(command, run, tmp_path):
    path = run.file["onnx"]
    done = command(EXPORT, "--verify", path, "--workdir", run.workdir)
    assert done.code == 0
    assert "500 of 500 predictions the same" in done.out
    fake_run(tmp_path / "other", 1)
    done = command(EXPORT, "--verify", path, "--workdir", tmp_path / "other")
    assert done.code == 1
    assert "made from other weights (workdir run, step 1)" in done.err


# Bad input


def test_mistakes_in_the_arguments(refused, workdir, tmp_path):
    out = ("--output", tmp_path / "a.onnx")
    run = ("--workdir", workdir)
    weights = ("--weights", tmp_path / "w.safetensors")
    for args, says in (
        (run, "give --output FILE to write one, --verify FILE"),
        ((*run, *out, "--verify", "x"), "give --output FILE to write one, --verify FILE"),
        (out, "no network: give --workdir RUN, or --weights NAME|FILE"),
        ((*run, *weights, *out), "the network is in one of them"),
        ((*run, "--model=resnet18", *out), "--model and --config are about --weights"),
        ((*weights, "--option", "drop=0.1", *out), "name it with --model"),
        ((*weights, "--checkpoint=last", *out), "--checkpoint: is about --workdir"),
        ((*run, "--output", tmp_path / "a.tflite"), "end it with .onnx, .stablehlo, .pt2, or"),
        ((*run, "--output", tmp_path / "a"), "end it with .onnx, .stablehlo, .pt2, or"),
        ((*run, *out, "--format=onx"), "unknown --format 'onx'; did you mean 'onnx'?"),
        ((*run, *out, "--format=pt2"), "has the suffix of another format"),
        ((*run, *out, "--input=uint8"), "unknown --input 'uint8'"),
        ((*run, "--output", tmp_path / "no" / "a.onnx"), "no folder"),
        (("--workdir", tmp_path, *out), "no config.json there"),
        (("--workdir", workdir, *out, "--checkpoint=7"), "no checkpoint 7"),
        ((*weights, *out), "w.safetensors: no such file"),
        (("--verify", tmp_path / "a.onnx"), "no such file"),
    ):
        assert says in refused(EXPORT, *args)
    assert not os.listdir(tmp_path)


def test_an_output_that_exists_is_kept(refused, workdir, tmp_path, monkeypatch):
    monkeypatch.setattr("jaxnets.export.source.load_member", lambda *_: pytest.fail("work"))
    path = tmp_path / "a.onnx"
    path.write_text("mine")
    said = refused(EXPORT, "--workdir", workdir, "--output", path)
    assert "is there already; --force replaces it" in said
    assert path.read_text() == "mine"


def test_a_run_that_cannot_be_used(refused, tmp_path):
    fake_run(tmp_path / "a", change=lambda s: s._replace(params=jax.tree.map(_spoilt, s.params)))
    args = ("--output", tmp_path / "a.onnx")
    assert "is not finite" in refused(EXPORT, "--workdir", tmp_path / "a", *args)
    for path in (tmp_path / "a" / "best").rglob("*"):
        if path.is_file():
            path.write_bytes(b"x")
    assert "is damaged" in refused(EXPORT, "--workdir", tmp_path / "a", *args)
    assert os.listdir(tmp_path) == ["a"]


def _spoilt(x: jax.Array) -> jax.Array:
    return x * np.nan


def test_a_full_disk(refused, run, tmp_path):
    with small_disk(tmp_path / "disk", 8) as disk:
        args = ("--workdir", run.workdir, "--output", disk / "a.stablehlo")
        assert "cannot be written (No space left on device)" in refused(EXPORT, *args)
        assert not os.listdir(disk)


@pytest.mark.parametrize("missing", ["onnxruntime", "onnxscript", "onnx", "torch"])
def test_packages_that_are_not_installed(refused, workdir, tmp_path, missing, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *_: None if name == missing else find(name)
    )
    said = refused(EXPORT, "--workdir", workdir, "--output", tmp_path / "a.onnx")
    assert f"needs {missing}, not installed here; pip install 'jaxnets[export]'" in said


# Files of others


def foreign_onnx() -> bytes:
    from onnx import TensorProto, helper

    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in ("a", "b")]
    graph = helper.make_graph([helper.make_node("Relu", ["a"], ["b"])], "g", value[:1], value[1:])
    opset = [helper.make_opsetid("", 20)]
    return helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString()


def zipped(members: dict[str, bytes | str]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_files_of_others_are_refused(refused, run, tmp_path):
    about = json.loads(members(run.file["stablehlo"])["jaxnets.json"])

    def stablehlo(**change) -> bytes:
        return zipped({"jaxnets.json": json.dumps(about | change), "program.bin": b"x"})

    for name, data, says in (
        ("a.onnx", foreign_onnx(), "no export of jaxnets, or damaged"),
        ("a.onnx", b"", "no .onnx file, or damaged"),
        ("a.onnx", run.file["onnx"].read_bytes()[:-2000], "no .onnx file, or damaged"),
        ("a.onnx", run.file["pt2"].read_bytes(), "no .onnx file, or damaged"),
        ("a.stablehlo", run.file["onnx"].read_bytes(), "no .stablehlo file, or damaged"),
        ("a.stablehlo", run.file["pt2"].read_bytes(), "no .stablehlo file, or damaged"),
        ("a.stablehlo", stablehlo(version=2), "of another version of jaxnets"),
        ("a.stablehlo", stablehlo(mean=[1, 2]), "no export of jaxnets, or damaged"),
        ("a.stablehlo", stablehlo(probe_logits="x"), "no export of jaxnets, or damaged"),
        ("a.stablehlo", stablehlo(image_size=10**9), "no export of jaxnets, or damaged"),
        ("a.stablehlo", stablehlo(), "cannot be opened"),
        ("a.pt2", zipped({"a/b": b""}), "no export of jaxnets, or damaged"),
        ("a.pt2", b"x", "no .pt2 file, or damaged"),
    ):
        (tmp_path / name).write_bytes(data)
        assert says in refused(EXPORT, "--verify", tmp_path / name), (name, says)


CONFIG = "data/weights/model_weights_config.json"


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        (CONFIG, b'"use_pickle": false', b'"use_pickle": true'),
        (CONFIG, b'"path_name": "weight_0"', b'"path_name": "custom_obj_0"'),
        ("models/model.json", b"positive=True", b"positive=print(1)"),
        ("models/model.json", b"torch.ops.aten.relu.default", b"torch.hub.load"),
        ("models/model.json", b'"guards_code": []', b'"guards_code": ["print(1)"]'),
        ("data/sample_inputs/model.pt", b"", b""),
        ("data/constants/custom_obj_0", None, b"x"),
        ("data/weights/model.pt", None, b"x"),
        ("data/aotinductor/model/x.so", None, b"x"),
    ],
)
def test_a_pt2_that_would_run_code_is_not_given_to_torch(
    refused, run, tmp_path, monkeypatch, name, before, after
):
    import torch

    class Evil:
        def __reduce__(self):
            return print, ("run",)

    found = members(run.file["pt2"])
    full = f"{next(iter(found)).partition('/')[0]}/{name}"
    if before is None:
        found[full] = after
    elif name.endswith(".pt"):
        file = io.BytesIO()
        torch.save((Evil(),), file)
        found[full] = file.getvalue()
    else:
        assert before in found[full]
        found[full] = found[full].replace(before, after)
    (tmp_path / "a.pt2").write_bytes(zipped(found))
    monkeypatch.setattr(torch.export, "load", lambda *_, **__: pytest.fail("given to torch"))
    assert "cannot be opened" in refused(EXPORT, "--verify", tmp_path / "a.pt2")


def test_a_stablehlo_that_calls_out_is_refused(refused, run, tmp_path):
    from jax import export

    orthogonal = jax.jit(lambda x: jax.numpy.linalg.qr(x)[0])  # by a library beside the program
    made = export.export(orthogonal)(jax.ShapeDtypeStruct((4, 4), np.float32))
    found = members(run.file["stablehlo"]) | {"program.bin": bytes(made.serialize())}
    (tmp_path / "a.stablehlo").write_bytes(zipped(found))
    assert "which no network needs" in refused(EXPORT, "--verify", tmp_path / "a.stablehlo")


def test_a_source_is_what_its_weights_are(run):
    source = from_workdir(run.workdir)
    assert isinstance(source, Source)
    weights = {**source.weights, "linear.bias": source.weights["linear.bias"] + 1}
    other = Source(source.model, weights, source.config, source.class_names, source.origin)
    assert other.sha256() != source.sha256()
