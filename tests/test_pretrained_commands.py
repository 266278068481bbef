"""The commands on weights that lie in no workdir: evaluate, predict, the list."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

import jaxnets
from jaxnets.port import read_weights
from jaxnets.pretrained import index, weights
from jaxnets.report import sheet as sheets
from jaxnets.report.plots import image_grid
from tests.fake_run import IMAGES, NAMES, fake_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run, and its weights in a file."""
    workdir = tmp_path_factory.mktemp("runs") / "a"
    fake_run(workdir, data__mean=(0.5, 0.4, 0.3))
    found = read_weights(workdir)
    file = workdir.with_name("a.safetensors")
    weights.save(file, found.tensors, found.config, {**found.meta, "step": 7})
    return workdir, file


@pytest.fixture
def photos(tmp_path):
    """A folder of the images, as files."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i, image in enumerate(IMAGES):
        Image.fromarray(image).save(folder / f"{i:02}.png")
    return folder


def expected(run) -> np.ndarray:
    return jaxnets.load(run[0]).predict_proba(IMAGES)


def test_evaluate(run, command, tmp_path):
    workdir, file = run
    figures = []
    for flag, source in (("--workdir", workdir), ("--weights", file)):
        output = tmp_path / flag
        result = command("jaxnets.evaluate", flag, source, "--output", output)
        assert result.code == 0, result.err
        figures.append(json.loads((output / "metrics.json").read_text()))
    for key in ("loss", "accuracy", "confusion"):
        assert figures[0][key] == figures[1][key]
    assert (figures[1]["workdir"], figures[1]["step"]) == (str(file), 7)
    assert f"{file} (step 7, epoch 1): test set of 359 images" in result.out
    before = set(tmp_path.rglob("*"))
    alone = command("jaxnets.evaluate", "--weights", file)
    assert "nothing written; --output DIR keeps the report" in alone.out
    assert set(tmp_path.rglob("*")) == before


def test_a_photo_is_answered_at_once(run, photos, command):
    for options, count in (([], 5), (["--topk", 2], 2)):
        result = command(
            "jaxnets.predict", "--weights", run[1], "--input", photos / "03.png", *options
        )
        assert result.code == 0, result.err
        lines = result.out.split("\n03.png\n")[1].splitlines()
        p = expected(run)[3]
        best = np.argsort(-p)[:count]
        assert [line.split() for line in lines] == [[f"{p[i]:.2%}", NAMES[i]] for i in best]


def test_several_photos(run, photos, command):
    files = [photos / "00.png", photos / "04.png"]
    out = command("jaxnets.predict", "--weights", run[1], "--input", *files, "--topk", 1).out
    p = expected(run)
    for i in (0, 4):
        assert f"{i:02}.png\n  {p[i].max():8.2%}  {NAMES[p[i].argmax()]}\n" in out


def test_a_folder_as_csv_also_with_a_run(run, photos, command, tmp_path):
    def rows(name, *networks):
        output = tmp_path / name
        result = command(
            "jaxnets.predict", *networks, "--input", photos, "--output", output, "--proba"
        )
        assert result.code == 0, result.err
        return list(csv.reader(output.read_text().splitlines()))

    of_file = rows("file.csv", "--weights", run[1])
    assert of_file == rows("run.csv", "--workdir", run[0])
    both = rows("both.csv", "--workdir", run[0], "--weights", run[1])
    np.testing.assert_allclose(
        np.array(both[1:])[:, 2:].astype(float), expected(run), rtol=0, atol=1e-5
    )


def test_a_contact_sheet(run, photos, command, tmp_path, monkeypatch):
    drawn = []

    def noted(rows, title, *args, captions):
        drawn.append(([x for row in rows for x in row], [x for row in captions for x in row]))
        return image_grid(rows, title, *args, captions=captions)

    monkeypatch.setattr(sheets, "image_grid", noted)
    sheet = tmp_path / "sheet.png"
    for force in ([], ["--force"]):
        result = command(
            "jaxnets.predict", "--weights", run[1], "--input", photos, "--sheet", sheet, *force
        )
        assert result.code == 0, result.err
    assert f"wrote {sheet}" in result.out
    with Image.open(sheet) as image:
        assert image.width > 1500  # twelve columns
        assert image.height > 300  # two rows
    images, captions = drawn[0]
    np.testing.assert_array_equal(np.stack(images), IMAGES)
    p = expected(run)
    assert captions == [f"{NAMES[q.argmax()]} {q.max():.0%}\n{i:02}.png" for i, q in enumerate(p)]


def test_a_sheet_of_many_says_that_it_is_cut(run, command, tmp_path, monkeypatch):
    monkeypatch.setattr(sheets, "MOST", 3)
    np.save(tmp_path / "images.npy", IMAGES)
    sheet = tmp_path / "sheet.png"
    result = command(
        "jaxnets.predict", "--weights", run[1], "--input", tmp_path / "images.npy",
        "--sheet", sheet, "--output", tmp_path / "all.csv",
    )  # fmt: skip
    assert f"note: {sheet} shows the first 3 of 17 images" in result.err
    assert len((tmp_path / "all.csv").read_text().splitlines()) == 18


def test_mistakes(run, photos, refused, tmp_path):
    file, photo = run[1], photos / "00.png"
    predict = ("jaxnets.predict", "--weights", file, "--input")
    assert "no network: name a run" in refused("jaxnets.predict", "--input", photo)
    assert "no network: name a run" in refused("jaxnets.evaluate", "--split", "test")
    assert "the same twice" in refused("jaxnets.evaluate", "--weights", file, file)
    assert "no such file" in refused("jaxnets.predict", "--weights", "x.pt", "--input", photo)
    assert "unknown weights" in refused("jaxnets.evaluate", "--weights", "se_resnt_smal")
    assert "by --output, or -" in refused(*predict, photos)
    assert "--proba: a column" in refused(*predict, photo, "--proba")
    assert "end its name with .png" in refused(*predict, photo, "--sheet", tmp_path / "a.jpg")
    assert "is the input" in refused(*predict, photo, "--sheet", photo)
    assert "--force replaces it" in refused(*predict, photo, "--sheet", photos / "01.png")


def test_the_list(command, refused):
    result = command("jaxnets.models", "--pretrained")
    assert result.code == 0, result.err
    for entry in index.read().values():
        accuracy = f"{entry.record['test']['accuracy']:.2%}"
        (line,) = [line for line in result.out.splitlines() if line.split()[:1] == [entry.name]]
        assert accuracy in line
        assert ("cut" in line) == (not entry.record["finished"])
    listed = json.loads(command("jaxnets.models", "se_resnet", "--pretrained", "--json").out)
    assert [entry["name"] for entry in listed] == jaxnets.list_pretrained("se_resnet")
    assert listed[0]["sha256"] == index.entry(listed[0]["name"]).sha256
    assert "did you mean 'se_resnet'" in refused("jaxnets.models", "se_resnt", "--pretrained")
    assert "a list of its own" in refused("jaxnets.models", "--pretrained", "--budget", "3")
