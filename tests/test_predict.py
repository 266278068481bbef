"""jaxnets.predict against the networks themselves, on checkpoints with random weights."""

import csv
import errno
import json
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxnets.checkpoints import store
from jaxnets.errors import UserError
from jaxnets.inference.network import load_member, log_probabilities
from jaxnets.inference.predictor import load
from tests.fake_run import IMAGES, NAMES, direct_logits, fake_run, softmax

N = len(IMAGES)


class Run:
    """A workdir, and what its network says of IMAGES."""

    def __init__(self, workdir: Path, *args, **kwargs):
        self.workdir = workdir
        self.state = fake_run(workdir, *args, **kwargs)

    def logits(self, images: np.ndarray = IMAGES) -> np.ndarray:
        return direct_logits(self.workdir, self.state, images)

    def probabilities(self, images: np.ndarray = IMAGES) -> np.ndarray:
        return softmax(self.logits(images))


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    return Run(tmp_path_factory.mktemp("runs") / "a")


@pytest.fixture
def npy(tmp_path) -> Path:
    np.save(tmp_path / "images.npy", IMAGES)
    return tmp_path / "images.npy"


@pytest.fixture
def predict(command, tmp_path):
    """Runs the command into a new file; returns its rows, the header left out."""
    count = iter(range(100))

    def call(workdirs, source, *args):
        output = tmp_path / f"predictions{next(count)}.csv"
        workdirs = workdirs if isinstance(workdirs, list) else [workdirs]
        given = source if isinstance(source, list) else [source]
        result = command(
            "jaxnets.predict", "--workdir", *workdirs, "--input", *given, "--output", output, *args
        )
        assert result.code == 0, result.err
        call.result, call.path = result, output
        with open(output, newline="", encoding="utf-8") as file:
            call.header, *rows = csv.reader(file)
        return rows

    return call


def probabilities_of(rows) -> np.ndarray:
    return np.array([row[-10:] for row in rows], float)


def test_probabilities_and_classes_are_the_networks(run, npy, predict):
    rows = predict(run.workdir, npy, "--proba", "--topk", 3)
    p = run.probabilities()
    assert len(set(p.argmax(1))) > 2  # else this shows little
    ranked = np.argsort(-p, 1)
    assert predict.header[:4] == ["ID", "Labels", "top1", "top1_proba"]
    assert predict.header[8:] == [f"proba_{i}" for i in range(10)]
    assert [row[0] for row in rows] == [str(i) for i in range(N)]
    assert [row[1] for row in rows] == [str(i) for i in ranked[:, 0]]
    assert [row[2:8:2] for row in rows] == [[str(i) for i in best[:3]] for best in ranked]
    top = np.array([row[3:8:2] for row in rows], float)
    np.testing.assert_allclose(top, -np.sort(-p, 1)[:, :3], atol=2e-6)
    np.testing.assert_allclose(probabilities_of(rows), p, atol=2e-6)
    assert "images/s" in predict.result.out


def test_the_last_batch_is_filled_up_and_one_program_compiled(run):
    member = load_member(run.workdir)
    whole = member.logits(IMAGES, N)
    np.testing.assert_allclose(
        whole, direct_logits(run.workdir, run.state, IMAGES), rtol=1e-5, atol=1e-5
    )
    cut, traced = load_member(run.workdir), []
    forward = cut._forward
    cut._forward = lambda *args: traced.append(args) or forward(*args)
    cut.compile(5)
    np.testing.assert_allclose(cut.logits(IMAGES, 5), whole, rtol=1e-5, atol=1e-5)
    assert len(traced) == 1
    assert cut.logits(IMAGES[:0], 5).shape == (0, 10)


def test_batch_size_does_not_show_in_the_file(run, npy, predict):
    wide = predict(run.workdir, npy, "--proba")
    narrow = predict(run.workdir, npy, "--proba", "--batch-size", 6)
    assert [row[:2] for row in narrow] == [row[:2] for row in wide]
    np.testing.assert_allclose(probabilities_of(narrow), probabilities_of(wide), atol=2e-6)


# The outermost pixels differ from their neighbours, so that a reflected border is no repeated one.
VIEWED = np.roll(IMAGES, (1, 1), (1, 2))


def airbench(run, tta: str) -> np.ndarray:
    """infer_mirror and infer_mirror_translate of airbench94.py, written out."""

    def infer_mirror(images):
        return 0.5 * run.logits(images) + 0.5 * run.logits(images[:, :, ::-1])

    if tta == "flip":
        return softmax(infer_mirror(VIEWED))
    n, height, width, _ = VIEWED.shape
    padded = np.zeros((n, height + 2, width + 2, 3), np.uint8)
    padded[:, 1:-1, 1:-1] = VIEWED
    padded[:, 0, 1:-1], padded[:, -1, 1:-1] = VIEWED[:, 1], VIEWED[:, -2]  # the border reflected
    padded[:, :, 0], padded[:, :, -1] = padded[:, :, 2], padded[:, :, -3]
    first = infer_mirror(padded[:, 0:height, 0:width])
    second = infer_mirror(padded[:, 2 : height + 2, 2 : width + 2])
    return softmax(0.5 * infer_mirror(VIEWED) + 0.5 * (first + second) / 2)


@pytest.mark.parametrize("tta", ["flip", "flip_translate"])
def test_views_are_averaged_as_airbench_does(tta, run, tmp_path, predict):
    np.save(tmp_path / "images.npy", VIEWED)
    rows, wanted = (
        predict(run.workdir, tmp_path / "images.npy", "--proba", "--tta", tta),
        airbench(run, tta),
    )
    np.testing.assert_allclose(probabilities_of(rows), wanted, atol=2e-6)
    other = {"flip": "flip_translate", "flip_translate": "flip"}[tta]
    for wrong in (run.probabilities(VIEWED), airbench(run, other)):
        assert np.abs(wanted - wrong).max() > 1e-3
    again = load(run.workdir).predict_proba(VIEWED, tta=tta, batch_size=5)
    np.testing.assert_allclose(again, wanted, atol=2e-6)


def test_an_ensemble_is_the_mean_of_its_members(run, npy, tmp_path, predict):
    other = Run(
        tmp_path / "b", 1, data__mean=(0.5, 0.4, 0.3), data__std=(0.2, 0.3, 0.4), model__drop=0.0,
        model__num_channels=8,
    )  # fmt: skip
    rows = predict([run.workdir, other.workdir], npy, "--proba")
    p, q = run.probabilities(), other.probabilities()
    assert np.abs(p - q).max() > 0.1
    np.testing.assert_allclose(probabilities_of(rows), (p + q) / 2, atol=2e-6)
    assert [row[1] for row in rows] == [str(i) for i in (p + q).argmax(1)]


def test_a_workdir_given_again_is_one_more_member(run, npy, tmp_path, predict, command):
    other = Run(tmp_path / "other", 1)
    together = predict([run.workdir, other.workdir], npy, "--proba")
    apart = ("--workdir", run.workdir, "--workdir", other.workdir, "--input", npy, "--proba")
    printed = command("jaxnets.predict", *apart, "--output", "-")
    assert printed.code == 0
    # On standard output there is nothing but the CSV.
    assert list(csv.reader(printed.out.splitlines())) == [predict.header, *together]
    assert printed.err.count("step 1") == 2
    assert not Path("-").exists()


def test_slow_weights_are_taken_where_the_run_says_so(tmp_path):
    slow = Run(tmp_path / "slow", eval_weights="slow")
    logits = load_member(slow.workdir).logits(IMAGES)
    expected = slow.state._replace(params=slow.state.opt_state.slow)
    np.testing.assert_allclose(
        logits, direct_logits(slow.workdir, expected, IMAGES), rtol=1e-4, atol=1e-5
    )
    assert np.abs(logits - direct_logits(slow.workdir, slow.state, IMAGES)).max() > 0.01


def planes(dtype=np.uint8):
    return IMAGES.transpose(0, 3, 1, 2).astype(dtype)


def write_pickle(content, **options):
    return lambda path: path.write_bytes(pickle.dumps(content, **options))


def write_npz(**arrays):
    return lambda path: np.savez(path, **arrays)


LAYOUTS = {
    "nhwc.pkl": write_pickle({"data": IMAGES}),
    "bytes_keys.pkl": write_pickle({b"data": IMAGES, b"ids": list(range(N))}, protocol=2),
    "planes.pickle": write_pickle({"data": planes()}),
    "flat": write_pickle({"data": planes().reshape(N, -1), "labels": [0] * N}),
    "planes.npy": lambda path: np.save(path, planes()),
    "flat.npy": lambda path: np.save(path, planes().reshape(N, -1)),
    "fortran.npy": lambda path: np.save(path, np.asfortranarray(IMAGES)),
    "nhwc.npz": write_npz(data=IMAGES),
    "planes.npz": write_npz(images=planes(), ids=np.arange(N)),
    "flat.npz": write_npz(x=planes().reshape(N, -1)),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_is_the_same_images(name, tmp_path):
    from jaxnets.inference.inputs import read_inputs

    LAYOUTS[name](tmp_path / name)
    images, ids, notes = read_inputs(tmp_path / name, 32)
    np.testing.assert_array_equal(images, IMAGES)
    assert (images.dtype, type(images)) == (np.uint8, np.ndarray)
    assert ids == [str(i) for i in range(N)]
    assert notes == []


def test_layouts_give_the_same_file(run, tmp_path, predict):
    files = []
    for name in ("nhwc.pkl", "planes.npy", "flat.npz"):
        LAYOUTS[name](tmp_path / name)
        predict(run.workdir, tmp_path / name, "--proba", "--tta", "flip")
        files.append(predict.path.read_bytes())
    assert files[0] == files[1] == files[2]


@pytest.mark.parametrize(
    ("ids", "wanted"),
    [
        ([f"im,{i}" for i in range(N)], [f"im,{i}" for i in range(N)]),
        ([b"%d.png" % i for i in range(N)], [f"{i}.png" for i in range(N)]),
        (np.arange(N, dtype=np.int64)[::-1] + 5, [str(N + 4 - i) for i in range(N)]),
    ],
)
def test_ids_of_the_file(ids, wanted, run, tmp_path, predict):
    write_pickle({"data": IMAGES, "ids": ids})(tmp_path / "x.pkl")
    assert [row[0] for row in predict(run.workdir, tmp_path / "x.pkl")] == wanted


def test_repeated_ids_are_noted(run, tmp_path, predict):
    write_npz(data=IMAGES, ids=np.array(["a", "b"] + ["c"] * (N - 2)))(tmp_path / "x.npz")
    rows = predict(run.workdir, tmp_path / "x.npz")
    assert [row[0] for row in rows] == ["a", "b"] + ["c"] * (N - 2)
    assert "1 of the ids occur more than once, as 'c'" in predict.result.err


def save_images(folder: Path) -> None:
    """IMAGES 0 to 4, of which two have another size and all another mode."""
    (folder / "deep").mkdir(parents=True)
    rgb = [Image.fromarray(image) for image in IMAGES[:5]]
    rgb[0].save(folder / "0.png")
    rgb[1].convert("L").save(folder / "1.png")
    rgb[2].resize((64, 48)).convert("P").save(folder / "2.gif")
    rgb[3].resize((20, 20)).convert("RGBA").save(folder / "deep" / "3.png")
    rgb[4].convert("CMYK").save(folder / "deep" / "4.tif")
    Image.fromarray(np.full((32, 32), 40000, np.uint16)).save(folder / "deep" / "5.png")
    (folder / "notes.txt").write_text("no image")


def test_a_folder_of_images_of_any_mode_and_size(run, tmp_path, predict):
    save_images(tmp_path / "images")
    rows = predict(run.workdir, tmp_path / "images", "--proba")
    assert [row[0] for row in rows] == [
        "0.png", "1.png", "2.gif", "deep/3.png", "deep/4.tif", "deep/5.png",
    ]  # fmt: skip
    assert predict.result.err == (
        "note: 2 of 6 images had another size: cut to squares and resized to 32x32\n"
    )
    grey = np.asarray(Image.fromarray(IMAGES[1]).convert("L").convert("RGB"))
    deep = np.full((32, 32, 3), round(40000 / 257), np.uint8)
    p = run.probabilities(np.stack([IMAGES[0], grey, deep]))
    np.testing.assert_allclose(probabilities_of(rows)[[0, 1, 5]], p, atol=2e-6)


def test_one_image(run, tmp_path, predict):
    Image.fromarray(IMAGES[3]).save(tmp_path / "cat.png")
    ((name, label),) = predict(run.workdir, tmp_path / "cat.png")
    assert (name, label) == ("cat.png", str(run.probabilities()[3].argmax()))


def test_bad_images_are_left_out_only_if_told(run, tmp_path, predict, refused):
    folder = tmp_path / "images"
    save_images(folder)
    whole = (folder / "0.png").read_bytes()
    (folder / "bad.png").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.jpg").write_bytes(b"")
    output = tmp_path / "x.csv"
    args = ("--workdir", run.workdir, "--input", folder, "--output", output)
    err = refused("jaxnets.predict", *args)
    assert "2 of 8 images" in err
    assert "bad.png" in err
    assert "--skip-bad" in err
    assert not output.exists()
    rows = predict(run.workdir, folder, "--skip-bad")
    assert len(rows) == 6
    assert "bad.png" not in [row[0] for row in rows]
    err = predict.result.err
    assert "empty.jpg" in err
    assert "bad.png" in err
    assert "skipped 2 of 8 images" in err


def test_names_with_commas_and_quotes(tmp_path, npy, predict, command):
    names = ("cat, wild", 'the "dog"', *NAMES[2:])
    named = Run(tmp_path / "named", names=names)
    rows = predict(named.workdir, npy, "--names", "--topk", 1, "--proba", "--label-column", "class")
    best = named.probabilities().argmax(1)
    assert predict.header == [
        "ID", "class", "top1", "top1_proba", *(f"proba_{name}" for name in names),
    ]  # fmt: skip
    assert [row[1] for row in rows] == [names[i] for i in best]
    assert [row[2] for row in rows] == [names[i] for i in best]


def test_a_folder_that_was_ported(tmp_path, npy, predict, refused):
    """It says the model and its number of classes, but neither their names nor the data."""
    bare = Run(tmp_path / "bare", names=None, model__num_classes=10)
    model = json.loads((bare.workdir / "config.json").read_text())["model"]
    (bare.workdir / "config.json").write_text(json.dumps({"model": model}))
    rows = predict(bare.workdir, npy)
    assert [row[1] for row in rows] == [str(i) for i in bare.probabilities().argmax(1)]
    assert "CIFAR-10 and its normalisation are assumed" in predict.result.err
    args = ("--workdir", bare.workdir, "--input", npy, "--output", tmp_path / "x.csv")
    assert "names no classes" in refused("jaxnets.predict", *args, "--names")


def test_an_existing_file_is_kept_unless_forced(run, npy, tmp_path, command, refused):
    output = tmp_path / "x.csv"
    output.write_text("mine")
    args = ("jaxnets.predict", "--workdir", run.workdir, "--input", npy, "--output", output)
    assert "--force" in refused(*args)
    assert output.read_text() == "mine"
    assert command(*args, "--force").code == 0
    assert output.read_text().startswith("ID,Labels\n0,")
    assert sorted(tmp_path.iterdir()) == [npy, output]


def test_a_file_that_cannot_be_finished_is_not_begun(run, npy, tmp_path, refused, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    output = tmp_path / "x.csv"
    output.write_text("mine")
    monkeypatch.setattr(Path, "replace", full)
    args = ("--workdir", run.workdir, "--input", npy, "--output", output, "--force")
    assert "No space left" in refused("jaxnets.predict", *args)
    assert output.read_text() == "mine"
    assert sorted(tmp_path.iterdir()) == [npy, output]


@pytest.mark.parametrize(
    ("args", "hint"),
    [
        (["--output", "nowhere/x.csv"], "no folder nowhere"),
        (["--output", "."], "is a folder; name a file"),
        (["--output", "images.npy", "--force"], "is the input"),
        (["--input", "nothing.npy"], "no such file"),
        (["--workdir", "nothing"], "no config.json there"),
        (["--checkpoint", "7"], "there are steps 1, 2"),
        (["--checkpoint", "worst"], "best, last or a step"),
        (["--batch-size", "0"], "at least 1"),
        (["--topk", "11"], "at most 10"),
        (["--topk", "-1"], "at least 0"),
        (["--label-column", "ID"], "another column"),
        (["--topk", "1", "--label-column", "top1"], "another column"),
        (["--tta", "rotate"], "unknown --tta 'rotate'. Known: flip, flip_translate, none"),
        (["--prob"], "did you mean --proba"),
    ],
)
def test_a_wrong_argument_is_one_line(args, hint, run, npy, tmp_path, refused, monkeypatch):
    monkeypatch.chdir(tmp_path)
    defaults = {"--workdir": run.workdir, "--input": npy.name, "--output": "x.csv"}
    given = [x for key in defaults if key not in args for x in (key, defaults[key])]
    assert hint in refused("jaxnets.predict", *given, *args)
    assert list(tmp_path.iterdir()) == [npy]


def test_a_mistyped_flag_is_named_before_a_missing_one(refused):
    assert "--workdr; did you mean --workdir?" in refused("jaxnets.predict", "--workdr=x")


class Evil:
    def __reduce__(self):
        return (Path.touch, (Path("touched"),))


@pytest.mark.parametrize(
    ("name", "write", "hint"),
    [
        ("x.pkl", write_pickle({"images": IMAGES}), "no 'data' in it (keys: images)"),
        ("x.pkl", write_pickle(IMAGES), "not a dict with 'data'"),
        ("x.pkl", write_pickle({"data": Evil()}), "nothing of it was run"),
        ("x.pkl", write_pickle({"data": IMAGES.tolist()}), "a list, not an array"),
        ("x.pkl", write_pickle({"data": IMAGES, "ids": [1, 2]}), "17 images but 2 ids"),
        ("x.pkl", write_pickle({"data": IMAGES, "ids": [0.5] * N}), "no flat list"),
        ("x.pkl", write_pickle({"data": IMAGES, "ids": [[1], [1, 2]]}), "no flat list"),
        ("x.pkl", lambda path: path.write_bytes(pickle.dumps({"data": IMAGES})[:999]), "truncated"),
        ("x.npy", lambda path: np.save(path, planes(np.float32)), "pixels are float32"),
        ("x.npy", lambda path: np.save(path, IMAGES[0]), "shape (32, 32, 3); known are (N, 32,"),
        ("x.npy", lambda path: np.save(path, IMAGES[:, :28, :28]), "shape (17, 28, 28, 3)"),
        ("x.npy", lambda path: np.save(path, IMAGES[:0]), "no images in it"),
        ("x.npy", lambda path: np.save(path, np.array([Evil()])), "no readable .npy"),
        ("x.npy", lambda path: path.write_bytes(b""), "no readable .npy"),
        ("x.npz", write_npz(pixels=IMAGES), "no 'data' or 'images' or 'x' in it (keys: pixels)"),
        ("x.npz", write_npz(data=np.array([Evil()])), "no readable .npz"),
        ("x.npz", lambda path: path.write_bytes(b"PK\3\4"), "no readable .npz"),
        ("x.csv", lambda path: path.write_text("1,2"), "no image of a known kind"),
        ("x", lambda path: path.mkdir(), "no images in that folder"),
    ],
)
def test_bad_input_is_one_line(name, write, hint, tmp_path, monkeypatch):
    from jaxnets.inference.inputs import read_inputs

    monkeypatch.chdir(tmp_path)
    write(Path(name))
    with pytest.raises(UserError) as error:
        read_inputs(Path(name), 32)
    assert hint in str(error.value)
    assert name in str(error.value)
    assert not Path("touched").exists()


def test_nothing_is_written_for_bad_input(run, tmp_path, refused):
    write_pickle({"data": IMAGES, "ids": [1, 2]})(tmp_path / "x.pkl")
    output = tmp_path / "x.csv"
    args = ("--workdir", run.workdir, "--input", tmp_path / "x.pkl", "--output", output)
    assert "2 ids" in refused("jaxnets.predict", *args)
    assert not output.exists()


def spoilt(name, value):
    return lambda state: state._replace(params=state.params | {name: value(state.params[name])})


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        (spoilt("linear.bias", lambda x: x.at[3].set(np.nan)), "linear.bias is not finite"),
        (spoilt("bn1.scale", lambda x: 0 * x + 3e38), "not finite for 17 of 17 images"),
        (spoilt("linear.bias", lambda x: x[:9]), "linear.bias"),
    ],
)
def test_weights_that_cannot_be_used(change, hint, tmp_path, npy, refused):
    fake_run(tmp_path / "bad", change=change)
    args = ("--workdir", tmp_path / "bad", "--input", npy, "--output", tmp_path / "x.csv")
    err = refused("jaxnets.predict", *args)
    assert hint in err
    assert "bad" in err
    assert not (tmp_path / "x.csv").exists()


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"names": ("cat", *NAMES[1:])}, "class 0 is '0' and 'cat'"),
        ({"names": NAMES[:9]}, "10 and 9"),
        ({"data__image_size": 40, "data__name": "folder"}, "32 and 40"),
    ],
)
def test_members_that_do_not_fit_each_other(options, hint, run, tmp_path, npy, refused):
    fake_run(tmp_path / "b", **options)
    args = ("--workdir", run.workdir, tmp_path / "b", "--input", npy, "--output", "x.csv")
    assert hint in refused("jaxnets.predict", *args)


ELSEWHERE = """
import sys, numpy as np
from pathlib import Path
import jax
from jaxnets.inference.network import load_member
from jaxnets.devices.layout import make_layout
from tests.fake_run import fake_run
workdir = Path(sys.argv[1])
fake_run(workdir, change=make_layout().replicate)
assert jax.device_count() == 4
images = np.load(workdir / "images.npy")
np.save(workdir / "logits.npy", load_member(workdir).logits(images, 6))
"""


def test_a_run_of_four_devices_is_read_on_one(tmp_path, monkeypatch):
    np.save(tmp_path / "images.npy", IMAGES)
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=4")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    subprocess.run([sys.executable, "-c", ELSEWHERE, str(tmp_path)], check=True, timeout=120)
    here = load_member(tmp_path).logits(IMAGES)
    np.testing.assert_allclose(here, np.load(tmp_path / "logits.npy"), rtol=1e-5, atol=1e-5)
    assert store.read(tmp_path, "best").state["params"]["linear.bias"].shape == (10,)


def test_log_probabilities_stay_finite(run):
    """Far from the likeliest class the probability is 0, its logarithm is not."""
    member = load_member(run.workdir)
    logits = member.logits(IMAGES)
    member.logits = lambda *_: 1e4 * logits
    logs = log_probabilities([member, member], IMAGES)
    assert np.isfinite(logs).all()
    np.testing.assert_array_equal(np.exp(logs).max(1).round(6), 1)


def test_the_pickle_of_the_publishers_layout():
    from jaxnets.inference.inputs import read_inputs

    path = Path(__file__).parent.parent / "data" / "cifar_test_nolabel.pkl"
    if not path.exists():
        pytest.skip("no data/cifar_test_nolabel.pkl")
    images, ids, notes = read_inputs(path, 32)
    assert images.shape == (10000, 32, 32, 3)
    assert ids == [str(i) for i in range(10000)]
    assert notes == []


SHARED = [0]
for _ in range(60):
    SHARED = [SHARED, SHARED]  # 2**60 numbers in a file of a kilobyte


@pytest.mark.parametrize(
    ("name", "write", "hint"),
    [
        ("x.pkl", write_pickle({"data": IMAGES, "ids": SHARED}), "no flat list"),
        ("x.pkl", write_pickle({"data": IMAGES, "ids": [SHARED] * N}), "no flat list"),
        ("x.pkl", write_pickle({"data": SHARED}), "a list, not an array"),
        ("x.pkl", write_pickle({"data": IMAGES, "ids": ["\ud800"] * N}), "is no text"),
        ("x.pkl", write_pickle({"data": IMAGES, "ids": ["a" * 5000] * N}), "over 4096 letters"),
        ("x.npz", write_npz(data=IMAGES, ids=np.full(N, -1, "i4").view("U1")), "is no text"),
        (
            "x.npz",
            lambda path: np.savez_compressed(path, data=np.zeros(3 << 27, "u1")),
            "grow from",
        ),
    ],
)
def test_small_files_cost_little(name, write, hint, tmp_path, monkeypatch):
    from jaxnets.inference.inputs import read_inputs

    monkeypatch.chdir(tmp_path)
    write(Path(name))
    before = time.process_time()
    with pytest.raises(UserError) as error:
        read_inputs(Path(name), 32)
    assert hint in str(error.value)
    assert time.process_time() - before < 5


@pytest.mark.parametrize("suffix", [".pkl", "", ".npy", ".npz", ".png"])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_file_is_refused_at_once(suffix, kind, tmp_path):
    from jaxnets.inference.inputs import read_inputs

    path = tmp_path / f"x{suffix}"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    with pytest.raises(UserError, match=r"(is no regular file)|(no images in that folder)"):
        read_inputs(path, 32)


def test_several_images(run, predict, refused, tmp_path):
    for i, place in enumerate(("x/a.png", "x/y/b.png", "c.png")):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(IMAGES[i]).save(tmp_path / place)
    several = [tmp_path / place for place in ("c.png", "x/a.png")]
    rows = predict(run.workdir, several, "--proba")
    assert [row[0] for row in rows] == ["c.png", "x/a.png"]  # below the folder of both
    np.testing.assert_allclose(probabilities_of(rows), run.probabilities()[[2, 0]], atol=2e-6)
    rows = predict(run.workdir, [tmp_path / "x/a.png", tmp_path / "x/y/b.png"])
    assert [row[0] for row in rows] == ["a.png", "y/b.png"]
    np.save(tmp_path / "images.npy", IMAGES)
    for other in (tmp_path / "x", tmp_path / "images.npy"):
        err = refused(
            "jaxnets.predict", "--workdir", run.workdir, "--output", tmp_path / "p.csv",
            "--input", several[0], other,
        )  # fmt: skip
        assert f"--input {other}: no image; several inputs are images" in err
