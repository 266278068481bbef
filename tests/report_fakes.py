"""A run that never was, to report on, and a reader of the page that comes out."""

from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import numpy as np

from jaxnets.augment.samples import Samples
from jaxnets.config import decisive_keys, default_config
from jaxnets.inference.scores import calibration, classification_report, log_softmax, loss
from jaxnets.report.run import RunData

NASTY = ("<script>alert(1)</script>", 'a"b&c', "$x^2$ y$", "é\nnewline", "x" * 60)


class Page(HTMLParser):
    """Tags, their attributes and all text of a page."""

    def __init__(self, path: Path):
        super().__init__()
        self.tags, self.text = [], ""
        self.source = path.read_text()
        self.feed(self.source)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def all(self, attribute: str) -> list[str]:
        return [attrs[attribute] for _, attrs in self.tags if attribute in attrs]


def assert_self_contained(page: Page, *, least_images: int = 10, least_links: int = 8) -> None:
    tags = Counter(tag for tag, _ in page.tags)
    assert not tags.keys() & {"script", "iframe", "object", "embed", "video", "base", "form"}
    for attribute in ("src", "srcset", "href"):
        assert all(url.startswith(("data:", "#")) for url in page.all(attribute))
    assert [attrs["href"] for tag, attrs in page.tags if tag == "link"] == ["data:,"]
    assert "url(" not in page.source
    assert "@import" not in page.source
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    images = [attrs for tag, attrs in page.tags if tag == "img"]
    assert len(images) > least_images
    assert all(attrs["alt"].strip() for attrs in images)
    ids = page.all("id")
    assert len(set(ids)) == len(ids)
    links = [url[1:] for url in page.all("href") if url.startswith("#")]
    assert len(links) > least_links
    assert set(links) <= set(ids)


def fake(name: str = "fake", *, names=NASTY, right: bool = False, selected_on: str = "val"):
    """A run that never was, of five classes; the last one has no image."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (40, 32, 32, 3), np.uint8), np.arange(40) % 4
    logits = 9.0 * np.eye(5)[labels] if right else rng.normal(size=(40, 5))
    logs = log_softmax(logits)
    p = np.exp(logs)
    return RunData(
        name=name,
        workdir=Path(f"runs/<b>{name}</b>"),
        model="resnet18",
        source="data/<i>x</i>",
        checkpoint="best",
        step=9,
        epoch=1,
        selected_on=selected_on,
        parameters=1234,
        class_names=names,
        records=[{"step": 9, "epoch": 1, "eval/loss": 1.0, "val/loss": 2.0, "lr": 0.1}],
        images=images,
        labels=labels,
        probabilities=p,
        scores=classification_report(logits, labels, names),
        calibration=calibration(p, labels),
        loss=loss(logs, labels),
        samples=Samples(
            np.arange(2), labels[:2], images[:2], np.repeat(images[:2, None], 6, 1), ("flip",)
        ),
        config=decisive_keys(default_config()) | {"seed": int(right)},
        start={
            "command": f"python -m jaxnets.train --config configs/resnet18.py --workdir '{name}'"
        },
    )
