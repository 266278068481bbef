"""A run goes on on the data that it began with, and on no other."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxnets.checkpoints.store import latest_meta
from jaxnets.data import Dataset, load_dataset, split_validation
from jaxnets.data.identity import changes, check_same, identity
from jaxnets.errors import UserError
from jaxnets.train import loop, task
from tests.stopping import stop_after

CONFIG = str(Path(__file__).parent / "tiny_config.py")
DIGITS = load_dataset("digits")
FEW = DIGITS._replace(
    train_images=DIGITS.train_images[:80],
    train_labels=DIGITS.train_labels[:80],
    test_images=DIGITS.test_images[:30],
    test_labels=DIGITS.test_labels[:30],
)
KNOWN = split_validation(FEW, 0.2, seed=0)


def changed(name: str, change: Any, data: Dataset = KNOWN) -> Dataset:
    array = getattr(data, name).copy()
    return data._replace(**{name: change(array)})


def other_value(array: np.ndarray) -> np.ndarray:
    array[3] = (array[3] + 1) % 10
    return array


OTHERS = {
    "renamed": (KNOWN._replace(class_names=("zero", *KNOWN.class_names[1:])),
                ["classes (class 0 is '0' and 'zero')"]),
    "a class more": (KNOWN._replace(class_names=(*KNOWN.class_names, "10")),
                     ["classes (10 and 11)"]),
    "a label": (changed("train_labels", other_value), ["labels of train"]),
    "an image": (changed("train_images", other_value), ["pixels of train"]),
    "another order": (changed("train_images", lambda x: x[::-1]), ["pixels of train"]),
    "a test image": (changed("test_images", other_value), ["pixels of test"]),
    "a validation label": (changed("val_labels", other_value), ["labels of val"]),
    "fewer to test": (KNOWN._replace(test_images=KNOWN.test_images[1:],
                                     test_labels=KNOWN.test_labels[1:]), ["test images 30 -> 29"]),
    "no split": (FEW, [f"train images {len(KNOWN.train_images)} -> 80",
                       f"val images {len(KNOWN.val_images)} -> 0"]),
}  # fmt: skip


@pytest.mark.parametrize("other", OTHERS)
def test_what_differs_is_named(other):
    data, expected = OTHERS[other]
    assert changes(identity(KNOWN), identity(data)) == expected
    with pytest.raises(UserError, match="runs/x holds a run on other data than here: "):
        check_same(identity(KNOWN), identity(data), Path("runs/x"), "here")


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_every_image_counts(split):
    images = getattr(KNOWN, f"{split}_images")
    for i in range(0, len(images), 7):
        other = images.copy()
        other[i] = 255 - other[i]
        found = changes(identity(KNOWN), identity(KNOWN._replace(**{f"{split}_images": other})))
        assert found == [f"pixels of {split}"]


def test_the_same_data_is_the_same_wherever_it_lies():
    known = identity(KNOWN)
    assert json.loads(json.dumps(known)) == known
    fortran = np.asfortranarray(KNOWN.train_images)
    again = KNOWN._replace(
        source="elsewhere",
        train_images=fortran,
        train_labels=KNOWN.train_labels.astype(np.int64),
        notes=("a note",),
    )
    assert identity(again) == known
    assert changes(known, identity(again)) == []


@pytest.mark.parametrize(
    "nothing",
    [None, 3, [1], {}, {"classes": 3}, {"classes": [], "train": 3},
     {"classes": [], "train": {"images": "many", "labels": "", "pixels": ""}},
     {"classes": [], "train": {"images": 3}}],
)  # fmt: skip
def test_a_checkpoint_that_does_not_say_is_like_any(nothing):
    assert changes(nothing, identity(KNOWN)) == []


@pytest.fixture
def few(monkeypatch):
    """Makes training load this data."""

    def serve(data: Dataset) -> None:
        monkeypatch.setattr(task, "load", lambda *_, **__: data)

    serve(KNOWN)
    return serve


def contents(workdir: Path) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in workdir.rglob("*") if p.is_file() and p.name != ".lock"}


def test_a_run_goes_on_on_its_own_data_alone(few, tmp_path, command, refused, monkeypatch):
    """Stopped by a version that did not note the data, which then is noted; then it is known."""
    args = ("--config", CONFIG, "--config.batch_size=40", "--workdir", tmp_path / "x")
    with monkeypatch.context() as patch:
        meta = loop._Loop._meta
        without = lambda *a: {k: v for k, v in meta(*a).items() if k != "data"}  # noqa: E731
        patch.setattr(loop._Loop, "_meta", without)
        patch.setattr(loop, "StopSignal", stop_after(1))
        assert command("jaxnets.train", *args).code == 143
    assert "data" not in latest_meta(tmp_path / "x")
    with monkeypatch.context() as patch:
        patch.setattr(loop, "StopSignal", stop_after(2))
        stopped = command("jaxnets.train", *args)
    assert (stopped.code, "resuming" in stopped.out) == (143, True)
    assert latest_meta(tmp_path / "x")["data"] == identity(KNOWN)

    before = contents(tmp_path / "x")
    for data, expected in OTHERS.values():
        few(data)
        said = refused("jaxnets.train", *args)
        assert said == (
            f"error: --workdir {tmp_path / 'x'} holds a run on other data than {data.source}: "
            f"{'; '.join(expected)}. Name its own data by --config.data.dir, or choose another "
            "--workdir\n"
        )
    assert contents(tmp_path / "x") == before
    few(KNOWN)
    assert "done: 3 epochs" in command("jaxnets.train", *args).out
