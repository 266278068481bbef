"""Figures and tables about a run, against numbers worked out by hand."""

import json
import math

import numpy as np
import pytest
from PIL import Image

from jaxnets.config import decisive_keys, default_config
from jaxnets.errors import UserError
from jaxnets.report import (
    classification_report,
    confusion_matrix,
    format_report,
    plot_confusion,
    plot_curves,
    read_metrics,
)
from jaxnets.report.sections.curves import PANELS, curves_figure, legend_lines, series
from jaxnets.report.sections.training import describe, read_command

LABELS = np.array([0, 0, 0, 1, 1, 2])
PREDICTIONS = np.array([0, 0, 1, 1, 0, 1])
MATRIX = [[2, 1, 0], [1, 1, 0], [0, 1, 0]]


def pixels(path):
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def has_colour(image, colour):
    """Whether more than a speck of the image is of this hexadecimal colour."""
    rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return (np.abs(image.astype(int) - rgb).max(-1) < 12).sum() > 100


def test_confusion_matrix():
    matrix = confusion_matrix(LABELS, PREDICTIONS, 3)
    assert matrix.tolist() == MATRIX
    assert confusion_matrix([], [], 2).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize(
    ("labels", "predictions", "hint"),
    [([0, 3], [0, 1], "label 3"), ([0], [-1], "prediction -1"), ([0, 1], [0], "one per image")],
)
def test_confusion_matrix_refuses(labels, predictions, hint):
    with pytest.raises(UserError, match=hint):
        confusion_matrix(labels, predictions, 3)


def test_classification_report():
    logits = np.eye(3)[PREDICTIONS] * 2.0
    report = classification_report(logits, LABELS, ["cat", "dog", "emu"])
    assert json.loads(json.dumps(report)) == report
    assert report["n"] == 6
    assert report["accuracy"] == 0.5
    assert report["top5"] == 1.0
    assert report["confusion"] == MATRIX
    cat, dog, emu = report["classes"]
    assert cat == {
        "name": "cat",
        "precision": pytest.approx(2 / 3),
        "recall": pytest.approx(2 / 3),
        "f1": pytest.approx(2 / 3),
        "support": 3,
    }
    assert (dog["precision"], dog["recall"], dog["support"]) == (pytest.approx(1 / 3), 0.5, 2)
    assert dog["f1"] == pytest.approx(0.4)
    assert (emu["precision"], emu["recall"], emu["f1"], emu["support"]) == (0, 0, 0, 1)
    assert report["macro"]["recall"] == pytest.approx((2 / 3 + 1 / 2) / 3)
    assert report["weighted"]["recall"] == pytest.approx(0.5)
    assert report["weighted"]["precision"] == pytest.approx((3 * 2 / 3 + 2 / 3) / 6)
    assert report["macro"]["f1"] == pytest.approx((2 / 3 + 0.4) / 3)


def test_top5_and_ties():
    names = list("abcdefgh")
    logits = np.tile(np.arange(8.0, 0, -1), (4, 1))
    assert classification_report(logits, np.array([0, 4, 5, 7]), names)["top5"] == 0.5
    equal = classification_report(np.zeros((2, 8)), np.array([4, 5]), names)
    assert (equal["accuracy"], equal["top5"]) == (0.0, 0.5)
    assert equal["confusion"][4][0] == 1


@pytest.mark.parametrize(
    ("logits", "labels", "hint"),
    [
        (np.zeros((2, 4)), [0, 1], "do not fit"),
        (np.zeros((2, 3)), [0], "do not fit"),
        (np.zeros((0, 3)), [], "no images"),
        (np.zeros((2, 3)), [0, 3], "label 3"),
        ([[math.nan, 0, 0], [1, 2, 3]], [0, 1], "1 of 2 images have NaN"),
    ],
)
def test_classification_report_refuses(logits, labels, hint):
    with pytest.raises(UserError, match=hint):
        classification_report(logits, np.array(labels, int), ["a", "b", "c"])


def test_format_report():
    names = ["a", *(f"class_{i}" for i in range(98)), "a_rather_long_class_name"]
    labels = np.arange(300) % 100
    logits = np.eye(100)[np.where(labels == 0, 1, labels)]
    lines = format_report(classification_report(logits, labels, names)).splitlines()
    rows = lines[:101] + lines[102:104]
    assert len({len(row) for row in rows}) == 1
    assert lines[1].split() == ["a", "0.00", "0.00", "0.00", "3"]
    assert lines[2].split() == ["class_0", "50.00", "100.00", "66.67", "3"]
    assert lines[-1].startswith("accuracy 99.00%, top-5 ")


def records(n=4, shift=0.0):
    for epoch in range(1, n + 1):
        yield {"epoch": epoch - 0.5, "step": 2 * epoch - 1, "train/loss": 2 / epoch, "lr": 0.1}
        yield {"epoch": epoch, "step": 2 * epoch, "train/loss": 1 / epoch, "train/accuracy": 0.5}
        yield {"epoch": epoch, "step": 2 * epoch, "eval/loss": 3 / epoch, "eval/accuracy": shift}


def test_read_metrics_survives_a_kill(tmp_path):
    path = tmp_path / "metrics.jsonl"
    rows = list(records())
    lines = [json.dumps(row) for row in rows]
    # Killed in mid-line, resumed (so that its first row is lost in the same line), killed again.
    path.write_text("\n".join([*lines[:3], lines[3][:20] + lines[3], *lines[4:], lines[0][:15]]))
    assert read_metrics(path) == rows[:3] + rows[4:]
    path.write_bytes(lines[0].encode() + b'\n{"epoch": 2, "tr\xff\xfe')
    assert read_metrics(path) == rows[:1]


def test_read_metrics_refuses(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.jsonl: No such file"):
        read_metrics(tmp_path / "nowhere.jsonl")
    (tmp_path / "empty.jsonl").write_text("hello\n3\n")
    with pytest.raises(UserError, match="no metrics"):
        read_metrics(tmp_path / "empty.jsonl")


def test_series_lets_the_later_row_stand():
    rows = [{"epoch": 1, "lr": 0.3}, {"epoch": 2, "lr": 0.2}, {"epoch": 1, "lr": 0.1}, {"lr": 9}]
    rows += [{"epoch": 0.5, "lr": 0.4}, {"epoch": 3, "lr": None}]
    assert series(rows, "lr") == ([0.5, 1, 2], [0.4, 0.1, 0.2])


def test_plot_curves(tmp_path):
    path = plot_curves({"one": list(records())}, tmp_path / "new" / "curves.png")
    image = pixels(path)
    assert image.shape[1] > 2.5 * image.shape[0]
    assert has_colour(image, "#0072B2")
    assert has_colour(image, "#D55E00")
    assert [file.name for file in path.parent.iterdir()] == ["curves.png"]


def test_plot_curves_overlays_runs(tmp_path):
    runs = {name: list(records(shift=0.1 * i)) for i, name in enumerate("abc")}
    image = pixels(plot_curves(runs, tmp_path / "three.png"))
    assert all(has_colour(image, colour) for colour in ("#0072B2", "#D55E00", "#009E73"))
    many = {f"run {i}": [{"epoch": 1, "eval/loss": i + 1.0}] for i in range(9)}
    image = pixels(plot_curves(many, tmp_path / "nine.png"))
    assert has_colour(image, "#440154")


def test_plot_curves_takes_what_there_is(tmp_path):
    only_lr = pixels(plot_curves({"lr": [{"epoch": 1, "lr": 0.1}]}, tmp_path / "lr.png"))
    rows = [{"epoch": 1, "eval/loss": math.nan}, {"epoch": 2, "eval/loss": 0.0, "lr": 0.1}]
    two = pixels(plot_curves({"nan": rows}, tmp_path / "nan.png"))
    assert two.shape[1] == 2 * only_lr.shape[1]
    with pytest.raises(UserError, match="no loss"):
        plot_curves({"none": [{"epoch": 1}]}, tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


@pytest.mark.parametrize("normalise", [False, True])
def test_plot_confusion(tmp_path, normalise):
    path = tmp_path / "confusion.png"
    plot_confusion(MATRIX, ["cat", "dog", "emu"], path, normalise=normalise)
    image = pixels(path)
    assert has_colour(image, "#08306b")  # the darkest blue: the largest cell
    assert has_colour(image, "#f7fbff")  # the lightest: an empty one
    with pytest.raises(UserError, match="2 class names"):
        plot_confusion(MATRIX, ["cat", "dog"], path)


def test_plot_confusion_of_100_classes_has_room_for_names(tmp_path):
    names = [f"class_{i}" for i in range(100)]
    path = plot_confusion(np.eye(100, dtype=int), names, tmp_path / "confusion.png")
    assert min(pixels(path).shape[:2]) > 100 * 14


def test_a_figure_that_cannot_be_written_harms_nothing(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="cannot be written"):
        plot_confusion(MATRIX, ["a", "b", "c"], tmp_path / "file" / "confusion.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(UserError, match="cannot be written"):
        plot_confusion(MATRIX, ["a", "b", "c"], tmp_path / "folder.png")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "folder.png"]
    assert (tmp_path / "file").read_text() == "mine"


def test_figures_beside_one_another_line_up():
    rows = [
        {"epoch": e, "train/loss": 1e4 / e, "eval/loss": 2e4 / e, "eval/accuracy": 0.5, "lr": 1e-5}
        for e in (1, 2, 3)
    ]
    runs = {"a": rows, "b": rows}
    lines = max(legend_lines(runs, [panel]) for panel in PANELS)
    assert len({legend_lines(runs, [panel]) for panel in PANELS}) > 1
    places = set()
    for panel in PANELS:
        figure = curves_figure(runs, [panel], lines=lines)
        figure.canvas.draw()
        places.add((*figure.get_size_inches(), *figure.axes[0].get_position().bounds))
    assert len(places) == 1


@pytest.mark.parametrize(
    ("command", "recipe", "overrides"),
    [
        (
            "python -m jaxnets.train --config=c.py --config.seed 3 --config.a=b",
            "c.py",
            ["seed=3", "a=b"],
        ),
        ("python -m jaxnets.train --workdir w --config 'a b.py:x'", "a b.py:x", []),
        ("", None, []),
    ],
)
def test_recipe_and_overrides_of_a_command(command, recipe, overrides):
    assert read_command(command) == (recipe, overrides)


def test_a_run_that_kept_no_list_says_unknown():
    facts = describe(decisive_keys(default_config()), {})
    assert (facts["recipe"], facts["command"], facts["started"]) == ("run", "unknown", "unknown")
