"""Own images as a data set: read, cached, refused with a reason, trained on."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxnets import config as configs
from jaxnets.checkpoints import store
from jaxnets.data import folder as folders
from jaxnets.data import load as load_configured
from jaxnets.data import load_dataset
from jaxnets.data.__main__ import moments
from jaxnets.errors import UserError
from tests.fake_run import fake_run

TINY = Path(__file__).parent / "tiny_config.py"
COLOURS = {"cat": (200, 60, 60), "dog": (60, 60, 200), "ant": (60, 200, 60)}


def draw(seed: int, name: str, height: int = 32, width: int = 32) -> Image.Image:
    noise = np.random.default_rng(seed).normal(COLOURS[name], 30, (height, width, 3))
    return Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8))


def write(root: Path, classes=("cat", "dog"), train: int = 6, test: int = 2) -> Path:
    for split, count in (("train", train), ("test", test)):
        for label, name in enumerate(classes):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                image = draw(100 * label + i + 50 * (split == "test"), name)
                image.save(root / split / name / f"{i}.png")
    return root


@pytest.fixture
def mine(tmp_path):
    return write(tmp_path / "mine")


def load(root, size: int = 32, **options):
    return load_dataset("folder", root, image_size=size, **options)


def test_what_is_read(tmp_path):
    data = load(write(tmp_path / "mine", ("dog", "cat", "ant")), cache=False)
    assert data.class_names == ("ant", "cat", "dog")
    assert data.train_images.shape == (18, 32, 32, 3)
    assert data.test_images.shape == (6, 32, 32, 3)
    assert data.train_images.dtype == data.test_images.dtype == np.uint8
    assert data.train_labels.dtype == np.int32
    assert data.train_labels.tolist() == [0] * 6 + [1] * 6 + [2] * 6
    assert data.test_labels.tolist() == [0, 0, 1, 1, 2, 2]
    np.testing.assert_array_equal(data.train_images[7], np.asarray(draw(101, "cat")))
    np.testing.assert_array_equal(data.test_images[5], np.asarray(draw(51, "dog")))
    assert data.source == str(tmp_path / "mine")
    assert (data.val_images, data.val_labels, data.notes) == (None, None, ())


def test_notes_say_what_was_resized_and_left_out(mine):
    draw(0, "cat", 20, 30).save(mine / "train" / "cat" / "wide.jpg")
    (mine / "train" / "cat" / "notes.txt").touch()
    (mine / "test" / "stray.png").touch()
    for hidden in ("test/.DS_Store", "test/cat/.DS_Store", "test/cat/._0.png"):
        (mine / hidden).touch()
    data = load(mine)
    strays = "stray files left out (no images, or beside the class folders): 2"
    assert data.notes == (
        strays,
        "1 of 17 images were not 32x32: their central squares were resized",
    )
    assert load(mine).notes == data.notes
    assert load(mine, 48).notes[1].startswith("17 of 17 images were not 48x48")


def test_class_folders_may_hold_folders_and_links(mine):
    (mine / "train" / "cat" / "more").mkdir()
    draw(9, "cat").save(mine / "train" / "cat" / "more" / "x.png")
    (mine / "train" / "cat" / "loop").symlink_to(mine / "train" / "cat")
    (mine / "train" / "dog").rename(mine.parent / "dogs")
    (mine / "train" / "dog").symlink_to(mine.parent / "dogs")
    assert np.bincount(load(mine).train_labels).tolist() == [7, 6]


@pytest.fixture
def reads(monkeypatch):
    """A list that grows by one whenever images are read."""
    calls = []
    original = folders.read_images
    monkeypatch.setattr(
        folders, "read_images", lambda *a, **k: calls.append(a) or original(*a, **k)
    )
    return calls


def test_the_second_load_reads_the_copy_alone(mine, reads):
    first, second = load(mine), load(mine)
    assert len(reads) == 2
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)
    assert [p.name for p in (mine / ".jaxnets-cache").iterdir()] == ["folder-32.npz"]


def test_every_size_has_its_copy(mine, reads):
    assert load(mine, 16).train_images.shape == (12, 16, 16, 3)
    assert load(mine, 24).train_images.shape == (12, 24, 24, 3)
    assert load(mine, 16).train_images.shape == (12, 16, 16, 3)
    assert len(reads) == 4


def change_pixels(root):
    draw(77, "cat").save(root / "train" / "cat" / "3.png")


def rename_class(root):
    for split in ("train", "test"):
        (root / split / "cat").rename(root / split / "cow")  # in the same place of the order


def swap_classes(root):
    for split in ("train", "test"):
        (root / split / "cat").rename(root / split / "x")
        (root / split / "dog").rename(root / split / "cat")
        (root / split / "x").rename(root / split / "dog")


CHANGES = {
    "pixels": change_pixels,
    "one more": lambda root: draw(7, "cat").save(root / "test" / "cat" / "more.png"),
    "one less": lambda root: (root / "train" / "cat" / "0.png").unlink(),
    "moved to the other class": lambda root: (root / "train" / "cat" / "0.png").rename(
        root / "train" / "dog" / "new.png"
    ),
    "class renamed": rename_class,
    "classes swapped": swap_classes,
    "a stray file": lambda root: (root / "train" / "stray.txt").touch(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_copy_is_made_anew_when_the_files_change(change, mine):
    before = load(mine)
    CHANGES[change](mine)
    after, fresh = load(mine), load(mine, cache=False)
    for one, other in zip(after, fresh, strict=True):
        np.testing.assert_array_equal(one, other)
    assert any(not np.array_equal(x, y) for x, y in zip(before, after, strict=True))


def empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def remove(folder: Path) -> None:
    empty(folder)
    folder.rmdir()


BAD = {
    "no folder": (lambda r: r.rename(r.parent / "x"), "mine: no such folder; name a folder"),
    "no train": (lambda r: (r / "train").rename(r / "Train"), "mine: no folder train in it"),
    "no test": (lambda r: (r / "test").rename(r / "val"), "mine: no folder test in it"),
    "test is a file": (
        lambda r: (r / "test").rename(r / "x") and (r / "test").touch(),
        "no folder test in it",
    ),
    "empty class": (lambda r: empty(r / "train" / "dog"), "train: no images in .* dog; add some"),
    "empty test class": (lambda r: empty(r / "test" / "cat"), "test: no images in .* cat; add"),
    "no such test class": (lambda r: remove(r / "test" / "cat"), r"test: lacks .* cat of .*train"),
    "no such train class": (
        lambda r: remove(r / "train" / "cat"),
        r"train: lacks .* cat of .*test",
    ),
    "one class": (
        lambda r: [remove(r / s / "cat") for s in ("train", "test")],
        r"train: has 1 class folder\(s\), but needs two",
    ),
    "no class": (
        lambda r: [remove(r / s / c) for s in ("train", "test") for c in ("cat", "dog")],
        r"train: has 0 class folder\(s\)",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_mistakes_are_answered_in_one_line(case, mine, refused, tmp_path):
    change, says = BAD[case]
    change(mine)
    with pytest.raises(UserError, match=says) as error:
        load(mine)
    assert "--config.data.dir" in str(error.value) or "class" in str(error.value)
    args = (f"--config={TINY}", "--config.data.name=folder", f"--config.data.dir={mine}")
    workdir = tmp_path / "run"
    assert str(error.value) in refused("jaxnets.train", *args, f"--workdir={workdir}")
    assert not workdir.exists()


def test_bad_images_are_counted_and_named_and_left_out_only_when_told(mine, command, refused):
    for path in ("train/cat/0.png", "train/dog/1.png", "test/dog/0.png", "train/dog/3.png"):
        (mine / path).write_bytes((mine / path).read_bytes()[:99])
    err = refused("jaxnets.data.__main__", "--name=folder", "--dir", mine)
    assert "4 of 16 images cannot be read" in err
    assert f"{mine}/train/cat/0.png: " in err
    assert "and 1 more" in err
    assert "leave them out by --skip-bad\n" in err
    code, _, err = command("jaxnets.data.__main__", "--dir", mine, "--skip-bad")
    assert (code, err.count("\n")) == (0, 1)
    assert err.startswith("note: left out: 4 of 16 images cannot be read (")
    data = load(mine, skip_bad=True)
    assert (np.bincount(data.train_labels).tolist(), len(data.test_labels)) == ([5, 4], 3)
    np.testing.assert_array_equal(data.train_images[0], np.asarray(draw(1, "cat")))
    (note,) = data.notes
    assert note.startswith("left out: 4 of 16 images cannot be read (")
    assert load(mine, skip_bad=True).notes == data.notes
    with pytest.raises(UserError, match="4 of 16"):  # not what the copy holds
        load(mine)


def test_a_class_without_a_readable_image_is_an_error(mine):
    for path in (mine / "test" / "dog").iterdir():
        path.write_bytes(b"noise")
    with pytest.raises(UserError, match=r"test: no image of the class\(es\) dog can be read"):
        load(mine, skip_bad=True)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (
            ["--config.data.name=folder", "--config.data.image_size=0"],
            "image_size=0: a whole number, at least 1, at most 1024",
        ),
        (["--config.data.name=folder", "--config.data.image_size=1025"], "image_size=1025"),
        (["--config.data.image_size=48"], "only for config.data.name=folder"),
        (["--config.data.name=foldr"], "did you mean 'folder'"),
        (
            ["--config.data.name=folder", "--config.data.test_fraction=1"],
            "test_fraction=1.0: a number in [0, 1)",
        ),
        (["--config.data.test_fraction=0.2"], "only for config.data.name=folder; digits has a"),
    ],
)
def test_image_size_is_checked(args, says, refused):
    assert says in refused("jaxnets.train", f"--config={TINY}", *args)


def test_a_network_of_one_size_says_so(mine, command):
    args = ("--config=configs/cifar100.py:v4", "--config.data.name=folder")
    args += (f"--config.data.dir={mine}", "--config.batch_size=4", "--config.data.image_size=48")
    code, _, err = command("jaxnets.train", *args)
    assert code == 2
    says = "error: config.data.image_size=48: cifar100_v4 does not take images of that size"
    assert err.splitlines()[-1].startswith(says)


def test_the_command_counts_and_gives_the_constants(mine, command):
    code, out, err = command("jaxnets.data.__main__", "--dir", mine, "--image-size=16")
    assert (code, err.count("\n")) == (0, 1)
    lines = out.splitlines()
    assert lines[0] == f"{mine}: images of 16x16"
    assert [line.split() for line in lines[2:6]] == [
        ["class", "train", "test"], ["cat", "6", "2"], ["dog", "6", "2"], ["all", "12", "4"],
    ]  # fmt: skip
    config = configs.read(str(TINY), lines[-1].split())
    pixels = load(mine, 16).train_images / 255
    np.testing.assert_allclose(config.data.mean, pixels.mean((0, 1, 2)), atol=6e-5)
    np.testing.assert_allclose(config.data.std, pixels.std((0, 1, 2)), atol=6e-5)


@pytest.fixture
def classes(tmp_path):
    """A folder of class folders alone, of ten images each."""
    write(tmp_path / "both", ("cat", "dog", "ant"), train=10, test=0)
    return (tmp_path / "both" / "train").rename(tmp_path / "classes")


def test_a_share_of_each_class_is_the_test_set(classes):
    data = load(classes, test_fraction=0.3)
    assert data.class_names == ("ant", "cat", "dog")
    assert np.bincount(data.train_labels).tolist() == [7, 7, 7]
    assert np.bincount(data.test_labels).tolist() == [3, 3, 3]
    pixels = [image.tobytes() for image in (*data.train_images, *data.test_images)]
    assert len(set(pixels)) == 30  # each is in one of them
    again = load(classes, test_fraction=0.3, cache=False)
    np.testing.assert_array_equal(again.test_images, data.test_images)
    before = {image.tobytes() for image in data.test_images}
    draw(99, "cat").save(classes / "cat" / "more.png")
    after = {image.tobytes() for image in load(classes, test_fraction=0.3).test_images}
    assert len(before - after) <= 1
    assert len(load(classes, test_fraction=0.01).test_images) == 3
    assert len(load(classes, test_fraction=0.99).train_images) == 3


def test_mistakes_with_a_share(classes, mine, tmp_path, refused):
    with pytest.raises(UserError, match=r"no folders train and test in it, but the classes ant, "):
        load(classes)
    err = refused("jaxnets.data.__main__", "--dir", classes)
    assert err.rstrip().endswith("by --test-fraction=0.2")
    with pytest.raises(UserError, match="has folders train and test"):
        load(mine, test_fraction=0.2)
    for path in list((classes / "dog").iterdir())[1:]:
        path.unlink()
    with pytest.raises(UserError, match=r"fewer than two images in the class folder\(s\) dog"):
        load(classes, test_fraction=0.2)


def test_errors_name_the_flag_of_the_command(mine, refused, command, tmp_path):
    (mine / "test").rename(mine / "val")
    assert "by --dir\n" in refused("jaxnets.data.__main__", "--dir", mine)
    err = refused("jaxnets.data.__main__", "--dir", mine, "--image-size", 2000)
    assert "--image-size=2000: a whole number, at least 1, at most 1024" in err
    fake_run(tmp_path / "run", data__name="folder")
    for module in ("jaxnets.evaluate", "jaxnets.report.__main__"):
        (tmp_path / "run" / "metrics.jsonl").write_text('{"step": 1, "epoch": 1}\n')
        err = refused(module, "--workdir", tmp_path / "run", "--data-dir", mine)
        assert "no folder test in it; name a folder" in err
        assert "by --data-dir\n" in err


def test_training_on_a_folder_of_classes(classes, command, tmp_path):
    args = (f"--config={TINY}", "--config.data.name=folder", f"--config.data.dir={classes}")
    args += ("--config.data.test_fraction=0.2", "--config.augment.ops=none")
    args += ("--config.batch_size=4", "--config.num_epochs=1", f"--workdir={tmp_path / 'run'}")
    code, out, err = command("jaxnets.train", *args)
    assert code == 0, err
    assert f"{classes}: 24 + 6 images" in out
    assert json.loads((tmp_path / "run" / "config.json").read_text())["augment"]["ops"] == []


def test_images_in_train_and_test_are_counted(mine, command, capsys):
    """Under another name, in another format and class; and within train, where it is split."""
    draw(0, "cat").save(mine / "test" / "dog" / "again.bmp")
    draw(101, "dog").save(mine / "test" / "dog" / "again.png")
    code, _, err = command("jaxnets.data.__main__", "--dir", mine)
    assert code == 0
    note = "images are in train too, pixel for pixel: figures on the"
    assert err == f"note: 2 of 6 test {note} test set will be too good\n"
    for i in range(6, 12):
        draw(0, "cat").save(mine / "train" / "cat" / f"{i}.png")
    config = configs.default_config()
    config.data.update(name="folder", dir=str(mine), val_fraction=0.5)
    data = load_configured(config)
    shown = [image.tobytes() for image in data.train_images]
    count = sum(image.tobytes() in shown for image in data.val_images)
    assert count > 1
    err = capsys.readouterr().err
    assert f"note: {count} of 9 validation {note} validation set will be too good\n" in err


def test_constants_of_one_colour_can_be_divided_by():
    mean, std = moments(np.full((2, 4, 4, 3), 51, np.uint8))
    np.testing.assert_allclose(mean, 0.2)
    np.testing.assert_array_equal(std, 1)


def test_training_and_evaluation_on_own_images(mine, command, tmp_path):
    for path in (mine / "train" / "cat").iterdir():  # of another size than the network's images
        Image.open(path).resize((40, 50)).save(path)
    workdir = tmp_path / "run"
    args = (f"--config={TINY}", "--config.data.name=folder", f"--config.data.dir={mine}")
    args += ("--config.data.image_size=16", "--config.data.val_fraction=0.3")
    args += ("--config.batch_size=4", "--config.num_epochs=2", f"--workdir={workdir}")
    code, out, err = command("jaxnets.train", *args)
    assert code == 0, err
    assert "note: 16 of 16 images were not 16x16" in err
    assert f"{mine}: 8 + 4 images" in out
    meta = store.read(workdir, "last").meta
    assert meta["class_names"] == ["cat", "dog"]
    code, out, err = command("jaxnets.evaluate", "--workdir", workdir)
    assert code == 0, err
    metrics = json.loads((workdir / "report" / "metrics.json").read_text())
    assert [(row["name"], row["support"]) for row in metrics["classes"]] == [("cat", 2), ("dog", 2)]
