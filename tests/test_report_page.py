"""The report of a run: what the command writes, the page in a browser, images for TensorBoard."""

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxnets.data import load_dataset
from jaxnets.errors import UserError
from jaxnets.inference import evaluation, network
from jaxnets.inference.scores import calibration, confusion_matrix, log_softmax
from jaxnets.report import run as report_run
from jaxnets.report.__main__ import write_report
from jaxnets.report.figure import to_png
from jaxnets.report.sections.classes import format_report
from jaxnets.report.sections.confusion import confusion_figure
from jaxnets.runs.log import RunLog, read_rows
from tests import chromium
from tests.report_fakes import NASTY, Page, assert_self_contained, fake

CONFIG = str(Path(__file__).parent / "tiny_config.py")
PARTS = (
    "curves", "training", "confusion", "classes", "pairs", "confident_mistakes",
    "miscalibrated_mistakes", "calibration", "distribution", "augmentation",
)  # fmt: skip
FIGURES = {"loss", "accuracy", "learning_rate", "confusion_normalised", *PARTS}
FIGURES -= {"curves", "training"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """The workdir of a finished run, with a report folder that holds other files too."""
    from jaxnets.train import __main__ as train

    workdir = tmp_path_factory.mktemp("runs") / "tiny"
    args = ["--config", CONFIG, "--workdir", str(workdir), "--config.num_epochs=2"]
    assert train.main(args) == 0
    (workdir / "report").mkdir()
    (workdir / "report" / "index.html").write_text("of an earlier report")
    (workdir / "report" / "mine.txt").write_text("mine")
    return workdir


@pytest.fixture(scope="module")
def report(trained) -> Path:
    """The folder of its report."""
    from jaxnets.report.__main__ import main

    calls, logits = [], network.Member.logits
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network.Member, "logits", lambda *a, **k: calls.append(a) or logits(*a, **k))
        assert main(["--workdir", str(trained)]) == 0
    assert len(calls) == 1
    return trained / "report"


@pytest.fixture(scope="module")
def logits(trained) -> np.ndarray:
    """Of the best checkpoint on the test set."""
    return network.load_member(trained).logits(load_dataset("digits").test_images)


def stored(folder: Path, name: str):
    return json.loads((folder / f"{name}.json").read_text())


def test_the_folder_holds_a_png_and_a_json_of_each_part(report):
    names = {path.name for path in report.iterdir()}
    made = {"index.html", "summary.json"}
    made |= {f"{name}.json" for name in PARTS} | {f"{name}.png" for name in FIGURES}
    assert names == made | {"mine.txt"}
    assert (report / "mine.txt").read_text() == "mine"
    for path in report.glob("*.png"):
        with Image.open(path) as image:
            assert all(low < high for low, high in image.convert("RGB").getextrema())


def test_the_numbers_are_those_of_the_run(report, trained, logits):
    rows = read_rows(trained / "metrics.jsonl")
    best = max(rows, key=lambda row: row["eval/accuracy"])
    (summary,) = stored(report, "summary")
    assert summary["accuracy"] == pytest.approx(best["eval/accuracy"])
    assert summary["loss"] == pytest.approx(best["eval/loss"], rel=1e-5)
    assert (summary["step"], summary["epoch"], summary["epochs"]) == (
        best["step"], best["epoch"], 2,
    )  # fmt: skip
    assert (summary["selected_on"], summary["images"]) == ("test", 359)
    p, labels = np.exp(log_softmax(logits)), load_dataset("digits").test_labels
    assert summary["ece"] == pytest.approx(calibration(p, labels)["ece"], rel=1e-6)
    assert stored(report, "calibration")["ece"] == summary["ece"]

    confusion = stored(report, "confusion")
    matrix = confusion_matrix(labels, logits.argmax(1), 10)
    assert confusion["counts"] == matrix.tolist()
    np.testing.assert_allclose(np.sum(confusion["normalised"], 1), 1)
    distribution = stored(report, "distribution")
    assert [row["true"] for row in distribution] == np.bincount(labels, minlength=10).tolist()
    said = np.bincount(logits.argmax(1), minlength=10)
    assert [row["predicted"] for row in distribution] == said.tolist()
    curves = stored(report, "curves")["tiny"]
    assert curves["train/loss"] == {"epochs": [1, 2], "values": [r["train/loss"] for r in rows]}
    assert curves["lr"]["values"] == [r["lr"] for r in rows]


def test_the_mistakes_are_mistakes(report, logits):
    p, labels = np.exp(log_softmax(logits)), load_dataset("digits").test_labels
    wrong = p.argmax(1) != labels
    for name in ("confident_mistakes", "miscalibrated_mistakes"):
        rows = stored(report, name)
        assert len(rows) == min(24, wrong.sum())
        for row in rows:
            i = row["index"]
            assert wrong[i]
            assert (row["true"], row["predicted"]) == (str(labels[i]), str(p[i].argmax()))
            assert row["confidence"] == pytest.approx(p[i].max(), rel=1e-6)
            assert row["probability_of_true"] == pytest.approx(p[i, labels[i]], rel=1e-6)
    highest = np.sort(p.max(1)[wrong])[::-1][:24]
    shown = [row["confidence"] for row in stored(report, "confident_mistakes")]
    np.testing.assert_allclose(shown, highest, rtol=1e-6)
    pairs = stored(report, "pairs")
    assert pairs[0]["count"] == max(pair["count"] for pair in pairs)
    for pair in pairs:
        both = (labels == int(pair["true"])) & (p.argmax(1) == int(pair["predicted"]))
        assert pair["count"] == both.sum()
        assert all(both[example["index"]] for example in pair["examples"])


def test_the_page_needs_nothing_else(report, trained):
    page = Page(report / "index.html")
    assert_self_contained(page)
    (summary,) = stored(report, "summary")
    assert f"{summary['accuracy']:.2%}" in page.text
    assert f"{summary['ece']:.2%}" in page.text
    assert "chosen on the test set itself" in page.text
    start = json.loads((trained / "starts.jsonl").read_text())
    for fact in (
        "tests/tiny_config.py", "num_epochs=2", "learning rate 0.1, momentum 0.9", start["date"],
        start["hardware"], f"jax {start['versions']['jax']}", start["command"], "weighted mean",
    ):  # fmt: skip
        assert fact in page.text
    assert stored(report, "training")["start"] == start
    for title in ("Confusion matrix", "Calibration", "Augmentation", "Most confused pairs"):
        assert title in page.text


@pytest.fixture(scope="module")
def several(tmp_path_factory) -> Path:
    """The folder of a report on two runs; the second one is always right."""
    folder = tmp_path_factory.mktemp("several")
    runs = [fake("first"), fake("second", right=True, selected_on="test")]
    written = write_report(folder, runs)
    assert len(written) == len(set(written)) == sum(path.is_file() for path in folder.rglob("*"))
    return folder


def test_names_are_text_whatever_they_are(several):
    page = Page(several / "index.html")
    assert_self_contained(page)
    for name in (*NASTY, "runs/<b>first</b>", "data/<i>x</i>"):
        assert name in page.text


def test_several_runs_are_compared(several):
    page = Page(several / "index.html")
    runs = (fake("first"), fake("second", right=True))
    for name, figures in {
        "test accuracy": [f"{run.scores['accuracy']:.2%}" for run in runs],
        "test loss": [f"{run.loss:.4f}" for run in runs],
        "ECE": [f"{run.calibration['ece']:.2%}" for run in runs],
        "epoch": ["1 of 1"] * 2,
        "parameters": ["1,234"] * 2,
        "seed": ["0", "1"],  # what differs
    }.items():
        cells = "".join(f"<td>{figure}</td>" for figure in figures)
        assert f'<th scope="row">{name}</th>{cells}' in page.source
    assert page.source.count('<th scope="row">seed</th>') == 1
    assert '<th scope="row">batch_size</th>' not in page.source  # is the same
    for run in runs:
        for name in ("confusion.png", "confusion.json"):
            assert (several / run.name / name).is_file()
    assert [run["run"] for run in stored(several, "summary")] == ["first", "second"]
    curves = stored(several, "curves")
    assert curves.keys() == {"first", "second"}
    assert curves["first"].keys() == {"eval/loss", "val/loss", "lr"}


def test_the_report_says_what_chose_the_best(several):
    page = Page(several / "index.html")
    assert [run["selected_on"] for run in stored(several, "summary")] == ["val", "test"]
    assert "<td>validation</td>" in page.source
    assert page.text.count("chosen on the validation split") == 1
    assert page.text.count("chosen on the test set itself") == 1


def test_the_checkpoint_says_what_chose_the_best(trained, monkeypatch):
    member = network.load_member(trained)
    monkeypatch.setattr(report_run, "load_member", lambda *_: member)
    for meta, expected in (({}, "test"), ({"selected_on": "val"}, "val")):
        member.meta = {"epoch": 1, **meta}
        (run,) = report_run.read_runs([trained])
        assert run.selected_on == expected


def test_data_of_other_classes_is_refused(trained, monkeypatch):
    member = network.load_member(trained)
    member.known_classes = ("zero", *member.known_classes[1:])
    monkeypatch.setattr(report_run, "load_member", lambda *_: member)
    with pytest.raises(UserError, match="class 0 is 'zero' and '0'"):
        report_run.read_runs([trained])


def test_a_run_without_mistakes(several):
    assert Page(several / "index.html").text.count("every image is right") == 3
    for name in ("pairs", "confident_mistakes", "miscalibrated_mistakes"):
        assert stored(several / "second", name) == []


def test_mistakes_of_the_user(trained, tmp_path, refused):
    module = "jaxnets.report.__main__"
    assert "no config.json" in refused(module, "--workdir", tmp_path)
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "config.json").write_text((trained / "config.json").read_text())
    assert "metrics.jsonl" in refused(module, "--workdir", empty)
    (empty / "metrics.jsonl").write_text((trained / "metrics.jsonl").read_text())
    before = {path: path.read_bytes() for path in (trained / "report").glob("*.*")}
    assert "--output" in refused(module, "--workdir", trained, trained)
    assert {path: path.read_bytes() for path in (trained / "report").glob("*.*")} == before
    output = tmp_path / "several"
    assert "no checkpoint" in refused(module, "--workdir", trained, empty, "--output", output)
    assert not output.exists()
    assert not (empty / "report").exists()
    assert "steps" in refused(module, "--workdir", trained, "--checkpoint", "7")
    (tmp_path / "file").write_text("mine")
    for output in (tmp_path / "file" / "x", tmp_path / "file", tmp_path / ("x" * 300)):
        err = refused(module, "--workdir", trained, "--output", output)
        assert f"{output}: cannot be written" in err


def test_evaluation_draws_the_same_confusion_matrix(report, trained, tmp_path, command):
    args = ("--workdir", trained, "--output", tmp_path / "x")
    assert command("jaxnets.evaluate", *args).code == 0
    drawn = (tmp_path / "x" / "confusion.png").read_bytes()
    assert drawn == (report / "confusion.png").read_bytes()


def test_the_table_has_the_words_of_the_terminal(report, trained, command):
    terminal = format_report(stored(report, "classes") | {"confusion": []})
    page = Page(report / "index.html")
    for words in ("mean", "weighted mean"):
        assert re.search(rf"^{words} +\d", terminal, re.M)
        assert f"<td>{words}</td>" in page.source or f">{words}<" in page.source
    assert "mean of" not in page.text


def test_another_checkpoint_has_its_own_folder_and_was_not_chosen(
    report, trained, command, monkeypatch
):
    """On data that is no longer that of training, which is noted."""
    data = load_dataset("digits")
    images = data.test_images.copy()
    images[5] = 255 - images[5]
    monkeypatch.setattr(evaluation, "load", lambda _: data._replace(test_images=images))
    before = {path: path.read_bytes() for path in report.iterdir()}
    result = command("jaxnets.report.__main__", "--workdir", trained, "--checkpoint", "last")
    assert result.code == 0, result.err
    assert "chosen on" not in result.out
    assert result.err == (f"note: not the data that {trained} was trained with: pixels of test\n")
    assert {path: path.read_bytes() for path in report.iterdir()} == before
    (summary,) = stored(trained / "report-last", "summary")
    assert (summary["checkpoint"], summary["selected_on"]) == ("last", None)
    page = Page(trained / "report-last" / "index.html")
    assert "No set chose it." in page.text
    assert "chosen on" not in page.text


def test_missing_data_is_said(trained, tmp_path, refused):
    for name in ("config.json", "metrics.jsonl", "best", "checkpoints"):
        (tmp_path / name).symlink_to(trained / name)
    config = json.loads((trained / "config.json").read_text())
    config["data"] |= {"name": "folder"}
    (tmp_path / "config.json").unlink()
    (tmp_path / "config.json").write_text(json.dumps(config))
    nowhere = tmp_path / "nowhere"
    err = refused(
        "jaxnets.report.__main__", "--workdir", tmp_path, "--data-dir", nowhere,
        "--output", tmp_path / "out",
    )  # fmt: skip
    assert str(nowhere) in err
    assert not (tmp_path / "out").exists()


def test_ci_has_a_browser(monkeypatch):
    """Without one the test below is skipped, and named; in CI it fails."""
    monkeypatch.setattr(chromium, "PROGRAM", None)
    for ci, outcome in (("true", pytest.fail.Exception), ("", pytest.skip.Exception)):
        monkeypatch.setenv("CI", ci)
        with pytest.raises(outcome, match="no Chromium"):
            chromium.require()
    lines = (Path(__file__).parents[1] / ".ci" / "run").read_text().splitlines()
    (test,) = (i for i, line in enumerate(lines) if line.endswith("make test"))
    assert lines.index("export CI=true") < test


@pytest.fixture
def browser(tmp_path):
    chromium.require()
    with chromium.Chromium(tmp_path / "profile") as opened:
        yield opened


def test_the_page_in_a_browser(report, several, browser):
    shots = []
    for folder, width, dark in (
        (report, 1280, False), (report, 390, False), (report, 390, True), (several, 390, False)
    ):  # fmt: skip
        url = (folder / "index.html").as_uri()
        seen = browser.open(url, width=width, dark=dark)
        assert seen.messages == []
        assert [u for u in seen.requests if not u.startswith("data:")] == [url]
        assert min(size for _, size, _ in seen.page["images"]) > 0
        assert seen.page["wide"] == seen.page["inner"] == width
        assert seen.page["scrolls"] == []
        assert all(seen.page["anchors"])
        assert {"Confusion matrix", "Calibration"} <= set(seen.page["headings"])
        image = np.asarray(Image.open(io.BytesIO(seen.screenshot)).convert("RGB"))
        assert image.shape[0] > 2000
        assert len(np.unique(image[::7, ::7].reshape(-1, 3), axis=0)) > 100
        shots.append(image.mean())
    assert min(shots[1], shots[3]) > 180
    assert shots[2] < 100


def events(workdir: Path) -> list:
    """What TensorBoard reads: records of a length, its checksum, the event, its checksum."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(workdir.glob("events.*")):
        data, at = path.read_bytes(), 0
        while at < len(data):
            size = int.from_bytes(data[at : at + 8], "little")
            found.append(Event.FromString(data[at + 12 : at + 12 + size]))
            at += 16 + size
    return found


def test_tensorboard_gets_two_images_at_the_end(trained):
    images = {
        value.tag: (event.step, value.image)
        for event in events(trained)
        for value in event.summary.value
        if value.HasField("image")
    }
    assert images.keys() == {"confusion_matrix", "augmented_samples"}
    for step, image in images.values():
        assert step == read_rows(trained / "metrics.jsonl")[-1]["step"]
        with Image.open(io.BytesIO(image.encoded_image_string)) as png:
            assert png.size == (image.width, image.height)
    data = load_dataset("digits")
    logits = network.load_member(trained, "last").logits(data.test_images)
    matrix = confusion_matrix(data.test_labels, logits.argmax(1), 10)
    png = to_png(lambda theme: confusion_figure(matrix, data.class_names, theme), dpi=100)
    assert images["confusion_matrix"][1].encoded_image_string == png


def test_a_run_ends_well_without_matplotlib(tmp_path):
    log = RunLog(tmp_path)

    def draw():
        raise ImportError("matplotlib")

    log.images(3, draw)
    log.close()
    assert not any(event.HasField("summary") for event in events(tmp_path))
