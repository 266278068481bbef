"""jaxnets.export --page: the folder it writes, what a browser makes of it, what it refuses."""

import importlib.util
import io
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxnets.config import read
from jaxnets.data import Dataset, load_dataset
from jaxnets.data.images import read_image
from jaxnets.errors import UserError
from jaxnets.export import from_workdir, open_export
from jaxnets.export.compare import Comparison
from jaxnets.export.images import random_images
from jaxnets.export.page import runtime, samples
from jaxnets.export.page.folder import MODELS, check_folder
from jaxnets.export.page.render import Model, render
from jaxnets.export.page.write import write_page
from jaxnets.export.write import Exported, Refused
from tests import chromium, web_runtime
from tests.fake_run import NAMES, fake_run
from tests.small_disk import small_disk
from tests.web_runtime import Server, served, stand_in, stand_in_answers

for package in ("torch", "onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(package)

EXPORT = "jaxnets.export.__main__"
FILES = {
    "index.html", "model.onnx", "model.int8.onnx", "page.js", "resize.js",
    *(f"samples/{i}.png" for i in range(1, 9)),
    f"onnxruntime/{runtime.MODULE}", f"onnxruntime/{runtime.WASM}",
}  # fmt: skip
NASTY = "</script><b>&amp; \"'"


def squares(workdir: Path) -> Dataset:
    """Images that a network of random weights tells apart, for --int8."""
    random = np.random.default_rng(0)
    images = random.choice([0, 40, 255], (300, 4, 4, 3), p=(0.4, 0.2, 0.4)).astype(np.uint8)
    images = images.repeat(8, axis=1).repeat(8, axis=2)
    labels = from_workdir(workdir).logits(images).argmax(1)
    return Dataset(images, labels, images, labels, NAMES, "squares")


class Site:
    """A page of a run with random weights, made by the command, with the stand-in."""

    def __init__(self, folder: Path):
        from jaxnets.export.__main__ import main

        self.workdir, self.folder = folder / "run", folder / "site"
        fake_run(self.workdir)
        data = squares(self.workdir)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("jaxnets.export.images.load", lambda *_, **__: data)
            package = stand_in(folder, patch)
            args = ["--workdir", self.workdir, "--page", self.folder, "--runtime", package]
            args += ["--int8", "--calibration=32", "--max-drop=9"]
            assert main([str(arg) for arg in args]) == 0
            self.runtime = runtime.read_runtime(package)
        self.about, self.int8_about = (
            open_export(self.folder / name, "onnx").about for name in MODELS.values()
        )

    def again(self, folder: Path, *, files=None, models: Sequence[str] = tuple(MODELS)) -> Path:
        """The same network as another page, without the work of exporting it."""

        def export(path: Path) -> Exported:
            path.write_bytes((self.folder / path.name).read_bytes())
            return Exported(self.about, 0, Comparison(1, 0.0, 0.0, 1, 0))

        exports = dict.fromkeys(models, export)
        write_page(folder, exports, read("quickstart"), files or self.runtime)
        return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Site:
    return Site(tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[chromium.Chromium]:
    chromium.require()
    with chromium.Chromium(tmp_path_factory.mktemp("browser") / "profile") as opened:
        yield opened


@pytest.fixture(scope="module")
def server(site) -> Iterator[Server]:
    with served(site.folder) as found:
        yield found


# The folder


def test_the_folder_holds_all_that_the_page_needs(site):
    found = {p.relative_to(site.folder).as_posix() for p in site.folder.rglob("*") if p.is_file()}
    assert found == FILES
    assert sorted(os.listdir(site.folder.parent)) == sorted(("run", "site", runtime.PACKAGE))
    for name in (runtime.MODULE, runtime.WASM):
        assert (site.folder / "onnxruntime" / name).read_bytes() == site.runtime[name]
    page = (site.folder / "index.html").read_text()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="(.*?)"', page)[1]
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    for source in re.findall(r"[\w-]+-src ([^;]*)", policy):
        assert {*source.split()} <= {
            "'none'", "'self'", "'unsafe-inline'", "'wasm-unsafe-eval'", "data:",
        }  # fmt: skip
    texts = [page, *(path.read_text() for path in site.folder.glob("*.js"))]
    assert not re.findall(r"//[\w.]+\.\w+/|https?:(?!//localhost:8000)", "".join(texts))
    assert str(site.workdir.parent) not in page


def test_samples_are_test_images_one_of_a_class(site):
    data = load_dataset("digits")
    found = samples.samples(read("quickstart"))
    assert found.names == ("0", "1", "2", "3", "5", "6", "7", "8")
    for i, name in enumerate(found.names):
        image = np.asarray(Image.open(site.folder / "samples" / f"{i + 1}.png"))
        (first, *_) = data.test_images[data.test_labels == int(name)]
        assert (image == first).all()


def test_samples_of_few_classes_and_of_none(monkeypatch, tmp_path):
    data = load_dataset("digits")
    two = data._replace(test_labels=np.arange(len(data.test_labels)) % 2, class_names=("a", "b"))
    monkeypatch.setattr(samples, "load", lambda *_, **__: two)
    found = samples.samples(None)
    assert found.names == ("a",) * 4 + ("b",) * 4
    assert (found.images == data.test_images[[0, 2, 4, 6, 1, 3, 5, 7]]).all()
    few = two._replace(test_images=two.test_images[:3], test_labels=np.array([0, 1, 0]))
    monkeypatch.setattr(samples, "load", lambda *_, **__: few)
    assert samples.samples(None).names == ("a", "a", "b")
    monkeypatch.undo()
    config = read("se_resnet")
    config.data.dir = str(tmp_path)
    found = samples.samples(config)
    assert (found.images == random_images(8, 32)).all()
    assert "no test images were at hand" in found.origin


def test_what_is_known_of_the_network_stands_there(site):
    origin = site.about["origin"] | {"test_accuracy": 0.625, "selected_on": "val", "epoch": 3}
    about = site.about | {"origin": origin, "class_names": [NASTY] * 10}
    models = [Model("float32", "model.onnx", 1_234_567, about)]
    known = samples.samples(read("quickstart"))._replace(names=(NASTY,) * 8)
    page = render(models, known, site.runtime)
    for said in (
        "62.50%", f"{site.about['parameters']:,}", "num_channels=4",
        "After epoch 3. The best checkpoint is chosen on the validation split",
        site.about["weights_sha256"],
    ):  # fmt: skip
        assert said in page
    assert NASTY not in page
    data = json.loads(re.search(r'id="data">(.*)</script>', page)[1])
    assert data["classes"] == [NASTY] * 10
    assert 'id="switch"' not in page
    models.append(Model("int8", "model.int8.onnx", 1, site.int8_about))
    page = render(models, known, site.runtime)
    assert page.count('type="radio"') == 2
    assert page.count(" checked>") == 1
    assert "in float32, of 300 test images; " in page
    assert "<dt>test accuracy, float32</dt>" in page


# In a browser

READY = "document.body.dataset.state === 'ready'"
ANSWER = "[...document.querySelectorAll('#bars data')].map(e => Number(e.value))"
SHOWN = "[...document.querySelectorAll('#bars span')].map(e => e.textContent)"
SEEN = """(() => {
  const context = new OffscreenCanvas(32, 32).getContext('2d', {willReadFrequently: true});
  context.drawImage(document.getElementById('seen'), 0, 0);
  return [...context.getImageData(0, 0, 32, 32).data];
})()"""
FOCUS = "document.activeElement.id || document.activeElement.innerText"


def seen(tab: chromium.Tab) -> np.ndarray:
    """The pixels that the page gives to the network."""
    return np.array(tab.evaluate(SEEN), np.uint8).reshape(32, 32, 4)[..., :3]


def answers(tab: chromium.Tab, classes: list[str]) -> np.ndarray:
    """The probabilities that it shows, by class."""
    shown = dict(zip(tab.evaluate(SHOWN), tab.evaluate(ANSWER), strict=True))
    assert [*shown.values()] == sorted(shown.values(), reverse=True)
    return np.array([shown[name] for name in classes])


def test_the_page_classifies_the_samples(site, browser, server):
    with browser.tab(server.url) as tab:
        tab.until(READY)
        for i in range(8):
            tab.evaluate(f"document.querySelectorAll('.picks button')[{i}].click()")
            pressed = "[...document.querySelectorAll('.picks button')].map(b => b.ariaPressed)"
            tab.until(f"{pressed}.indexOf('true') === {i} && {READY}")
            image = np.asarray(Image.open(site.folder / "samples" / f"{i + 1}.png"))
            assert (seen(tab) == image).all()
            right = stand_in_answers(image, site.folder / "model.onnx")
            np.testing.assert_allclose(answers(tab, site.about["class_names"]), right, atol=1e-6)
            assert tab.evaluate("document.getElementById('top').innerText") == str(right.argmax())
        time, size = tab.evaluate("[...document.querySelectorAll('dd')].map(e => e.innerText)")[:2]
        assert re.fullmatch(r"\d+\.\d ms", time)
        assert size == f"{(site.folder / 'model.onnx').stat().st_size / 1e6:.2f} MB"
        looked = tab.look()
    assert looked.messages == []
    own = {server.url + path for path in FILES - {"index.html", "model.int8.onnx"}}
    assert own < {*looked.requests}
    assert all(url.startswith(server.url) or url == "data:," for url in looked.requests)


@pytest.mark.parametrize(("width", "dark"), [(390, False), (390, True), (1280, False)])
def test_it_fits_a_phone_on_light_and_on_dark_paper(browser, server, width, dark):
    with browser.tab(server.url, width=width, dark=dark) as tab:
        tab.until(READY)
        looked = tab.look()
    assert looked.messages == []
    assert looked.page["wide"] == looked.page["inner"] == width
    assert min(size for _, size, _ in looked.page["images"]) == 32
    image = np.asarray(Image.open(io.BytesIO(looked.screenshot)).convert("RGB"))
    assert (image.mean() < 100) == dark
    assert (np.median(image) > 200) != dark


def test_nothing_can_leave_the_page(tmp_path, browser, server):
    with served(tmp_path) as other, browser.tab(server.url) as tab:
        tab.until(READY)
        for attempt in (
            f"fetch('{other.url}a').then(() => 'sent', () => 'refused')",
            f"fetch('{other.url}b', {{mode: 'no-cors'}}).then(() => 'sent', () => 'refused')",
            f"import('{other.url}c.js').then(() => 'sent', () => 'refused')",
            f"new Promise(r => {{ const i = new Image(); i.onload = () => r('sent');"
            f" i.onerror = () => r('refused'); i.src = '{other.url}d.png'; }})",
            "new Promise(r => { try { eval('1'); r('sent'); } catch { r('refused'); } })",
        ):
            assert tab.evaluate(attempt) == "refused"
    assert other.asked == []


def photos(folder: Path) -> Iterator[Path]:
    """Image files of all kinds that a browser reads to the bit."""
    random = np.random.default_rng(0)

    def noise(*shape: int) -> np.ndarray:
        coarse = random.integers(0, 256, (shape[0] // 5 + 1, shape[1] // 5 + 1, *shape[2:]))
        fine = coarse.repeat(5, 0).repeat(5, 1)[: shape[0], : shape[1]]
        return np.clip(fine + random.integers(-20, 20, fine.shape), 0, 255).astype(np.uint8)

    for name, array in {
        "wide.png": noise(301, 700, 3), "tall.bmp": noise(1203, 64, 3), "tiny.png": noise(7, 5, 3),
        "grey.png": noise(90, 33), "side.png": noise(40, 32, 3), "odd.webp": noise(33, 35, 3),
        "exact.gif": noise(32, 32),
    }.items():  # fmt: skip
        how = {"lossless": True} if name.endswith("webp") else {}
        Image.fromarray(array).save(folder / name, **how)
        yield folder / name


def test_images_are_resized_as_predict_does_it(tmp_path, browser, server, site):
    with browser.tab(server.url) as tab:
        tab.until(READY)
        before = seen(tab)
        for path in photos(tmp_path):
            right, _ = read_image(path, 32)
            tab.choose("#file", path)
            tab.until(f"document.getElementById('given').ariaLabel.includes('{path.name}')")
            tab.until(READY)
            assert (seen(tab) == right).all(), path.name
            wanted = stand_in_answers(right, site.folder / "model.onnx")
            np.testing.assert_allclose(answers(tab, site.about["class_names"]), wanted, atol=1e-6)
            assert not (right == before).all()
        # What browsers round: half-transparent pixels, and lossy files, by their own decoders.
        noise = np.random.default_rng(1).integers(0, 256, (70, 90, 4), np.uint8)
        clear, lossy = tmp_path / "clear.png", tmp_path / "lossy.jpg"
        Image.fromarray(noise).save(clear)
        smooth = Image.fromarray(noise[..., :3]).resize((640, 480), Image.Resampling.BICUBIC)
        upright = smooth.getexif()
        upright[0x0112] = 6  # how the camera was held
        smooth.save(lossy, quality=90, exif=upright)
        for path, bound in ((clear, 1), (lossy, 2)):
            tab.choose("#file", path)
            tab.until(f"document.getElementById('given').ariaLabel.includes('{path.name}')")
            right, _ = read_image(path, 32)
            assert np.abs(seen(tab).astype(int) - right).max() <= bound, path.name
        assert tab.look().messages == []


def test_what_is_no_image_is_refused_and_the_last_answer_stays(tmp_path, browser, server):
    (tmp_path / "notes.png").write_text("no image")
    with browser.tab(server.url) as tab:
        tab.until(READY)
        before = seen(tab), tab.evaluate(ANSWER)
        tab.choose("#file", tmp_path / "notes.png")
        tab.until("document.body.dataset.state === 'failed'")
        said = tab.evaluate("document.getElementById('status').innerText")
        assert said == "notes.png: this browser cannot read it as an image."
        assert (seen(tab) == before[0]).all()
        assert tab.evaluate(ANSWER) == before[1]


def test_a_file_that_is_missing_is_said_and_asked_for_again(site, tmp_path, browser):
    folder = site.again(tmp_path / "site")
    (folder / "model.int8.onnx").rename(tmp_path / "kept")
    with served(folder) as server, browser.tab(server.url) as tab:
        tab.until(READY)
        float32, int8 = (f"document.querySelectorAll('#switch input')[{i}].click()" for i in (0, 1))
        tab.evaluate(int8)
        tab.until("document.body.dataset.state === 'failed'")
        said = tab.evaluate("document.getElementById('status').innerText")
        assert said == "The network cannot be run here: model.int8.onnx: 404 File not found"
        (tmp_path / "kept").rename(folder / "model.int8.onnx")
        tab.evaluate(f"{float32}; {int8}")
        tab.until(f"{READY} && document.getElementById('how').innerText.startsWith('int8')")


GIVE = """(async () => {
  const blob = await (await fetch('samples/3.png')).blob();
  const files = new DataTransfer();
  files.items.add(new File([blob], 'given.png', {type: 'image/png'}));
  document.dispatchEvent(%s);
})()"""


def test_images_are_dropped_and_pasted(site, browser, server):
    right = np.asarray(Image.open(site.folder / "samples" / "3.png"))
    for event in (
        "new DragEvent('drop', {dataTransfer: files, cancelable: true})",
        "new ClipboardEvent('paste', {clipboardData: files})",
    ):
        with browser.tab(server.url) as tab:
            tab.until(READY)
            assert not (seen(tab) == right).all()
            tab.evaluate(GIVE % event)
            tab.until("document.getElementById('given').ariaLabel === 'The image: given.png'")
            assert (seen(tab) == right).all()


def test_it_is_used_by_keyboard(site, browser):
    image = np.asarray(Image.open(site.folder / "samples" / "2.png"))
    with served(site.folder) as server, browser.tab(server.url) as tab:
        tab.until(READY)
        visited = []
        for _ in range(4):
            tab.press("Tab")
            visited.append(tab.evaluate(FOCUS))
        tab.press("Enter")
        tab.until(f"document.getElementById('given').ariaLabel.endsWith(': 1') && {READY}")
        for model, name in MODELS.items():
            tab.until(f"document.getElementById('how').innerText.startsWith('{model}') && {READY}")
            right = stand_in_answers(image, site.folder / name)
            np.testing.assert_allclose(answers(tab, site.about["class_names"]), right, atol=1e-6)
            if model == "float32":
                tab.press("Tab", shift=True)
                tab.press("Tab", shift=True)
                tab.press("ArrowRight")
        assert tab.look().messages == []
        asked = [path for path in server.asked if path.endswith(".onnx")]
    assert asked == ["/model.onnx", "/model.int8.onnx"]  # the second one only when it is wanted
    assert visited[0] == "file"
    assert visited[2:] == ["0", "1"]


# Of probabilities.  In int8 a value between two steps may go to the other one in a browser.
BOUNDS = {"float32": 1e-5, "int8": 0.02}


def test_the_real_runtime_answers_as_onnxruntime_does(site, tmp_path, browser):
    folder = site.again(tmp_path / "site", files=web_runtime.real())
    names = samples.samples(read("quickstart")).names
    with served(folder) as server, browser.tab(server.url) as tab:
        tab.until(f"document.body.dataset.state === 'failed' || {READY}")
        for i, (model, bound) in enumerate(BOUNDS.items()):
            opened = open_export(folder / MODELS[model], "onnx")
            tab.evaluate(f"document.querySelectorAll('#switch input')[{i}].click()")
            tab.until(f"document.getElementById('how').innerText.startsWith('{model}')")
            for j, name in enumerate(names):
                tab.evaluate(f"document.querySelectorAll('.picks button')[{j}].click()")
                given = f"document.getElementById('given').ariaLabel.endsWith(': {name}')"
                tab.until(f"{given} && {READY}")
                image = np.asarray(Image.open(folder / "samples" / f"{j + 1}.png"))
                _, probabilities = opened.answers(image[None])
                shown = answers(tab, site.about["class_names"])
                np.testing.assert_allclose(shown, probabilities[0], atol=bound)
        looked = tab.look()
    assert looked.messages == []
    assert all(url.startswith(server.url) or url == "data:," for url in looked.requests)


# Bad input


def test_mistakes_in_the_arguments(refused, site, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "none"))
    monkeypatch.setattr("jaxnets.export.source.load_member", lambda *_: pytest.fail("work"))
    page, run = ("--page", tmp_path / "site"), ("--workdir", site.workdir)
    file = tmp_path / "file"
    file.write_text("mine")
    for args, says in (
        ((*run, *page, "--output", "a.onnx"), "--verify FILE to check one, or --page FOLDER"),
        ((*run, "--output", tmp_path / "a.onnx", "--runtime", file), "--runtime: is about --page"),
        ((*run, *page, "--input=float32-nchw"), "leave out --format, --input"),
        ((*run, *page, "--format=pt2"), "leave out --format, --input"),
        ((*run, "--page", file), "is there already, and no folder"),
        ((*run, "--page", file / "site"), "no folder"),
        ((*run, "--page", tmp_path / "no" / "site"), "no folder"),
        ((*run, "--page", site.folder), "is there already; --force replaces a page"),
        ((*run, "--page", site.workdir.parent, "--force"), "which is of no page"),
        ((*run, "--page", ".", "--force"), "is the folder you are in"),
        (page, "no network: give --workdir RUN, or --weights NAME|FILE"),
        ((*run, *page), f"get it by `npm pack onnxruntime-web@{runtime.VERSION}` and give"),
        ((*run, *page, "--runtime", file), f"is not onnxruntime-web {runtime.VERSION}"),
        ((*run, *page, "--runtime", tmp_path / "x.tgz"), "cannot be read (No such file"),
        ((*run, *page, "--runtime", tmp_path), "cannot be read (is a folder)"),
    ):
        assert says in refused(EXPORT, *args), says
    assert os.listdir(tmp_path) == ["file"]


def test_packages_that_are_not_installed(refused, site, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *_: None if name == "onnx" else find(name)
    )
    said = refused(EXPORT, "--workdir", site.workdir, "--page", tmp_path / "site")
    assert "needs onnx, not installed here; pip install" in said


def test_the_runtime_in_the_cache_is_taken(tmp_path, monkeypatch):
    (tmp_path / "jaxnets").mkdir()
    stand_in(tmp_path / "jaxnets", monkeypatch)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert runtime.read_runtime(None)[runtime.WASM] == b"wasm"


def test_a_page_that_cannot_be_finished_leaves_nothing(site, tmp_path):
    def refuse(path):
        path.write_bytes(b"half")
        raise Refused(f"{path}: not written, its answers are not those of JAX")

    with pytest.raises(Refused, match=re.escape(f"{tmp_path}/site/model.onnx: not written")):
        write_page(tmp_path / "site", {"float32": refuse}, read("quickstart"), site.runtime)
    assert not os.listdir(tmp_path)
    with small_disk(tmp_path / "disk", 64) as disk:
        with pytest.raises(UserError, match=r"--page .*site: cannot be written \(No space left"):
            site.again(disk / "site")
        assert not os.listdir(disk)


def test_an_older_page_is_replaced_as_a_whole(site, tmp_path):
    folder, link = tmp_path / "site", tmp_path / "link"
    folder.mkdir()
    check_folder(folder, False)  # an empty one may be filled
    site.again(folder)
    assert (folder / "model.int8.onnx").exists()
    link.symlink_to(folder)
    check_folder(link, True)
    site.again(link, models=("float32",))
    assert link.is_symlink()
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert found == FILES - {"model.int8.onnx"}
    assert sorted(os.listdir(tmp_path)) == ["link", "site"]
