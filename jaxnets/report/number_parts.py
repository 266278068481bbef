"""The parts of a report that show numbers: what each says, draws and stores."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxnets.report import html
from jaxnets.report.calibration import FEW, reliability_figure
from jaxnets.report.classification import MEANS
from jaxnets.report.confusion import TITLE, confusion_figure, normalise_rows
from jaxnets.report.curves import (
    Panel,
    Runs,
    curves_data,
    curves_figure,
    drawable,
    legend_lines,
    series,
)
from jaxnets.report.dots import class_counts, dots_figure
from jaxnets.report.figure import Theme
from jaxnets.report.part import MANY, Part, Plot
from jaxnets.report.run import RunData


def curves(runs: Runs) -> Part:
    """Loss, accuracy and learning rate of one run, or of several over one another."""
    panels = drawable(runs)
    about = (
        "Training is dashed, validation (where there is one) dotted, test solid"
        f"{'; each run has its colour' if len(runs) > 1 else ''}. Training averages over the epoch "
        "while the weights still change; the learning rate is that of an epoch's last step."
    )
    lines = max((legend_lines(runs, [panel]) for panel in panels), default=0)
    plots = tuple(_panel_plot(runs, panel, lines) for panel in panels)
    data = curves_data(runs, panels)
    return Part("curves", "Loss, accuracy, learning rate", about, plots, data)


def _panel_plot(runs: Runs, panel: Panel, lines: int) -> Plot:
    last = [
        f"{key} {series(records, key)[1][-1]:.4g}"
        for records in runs.values()
        for key in panel.keys
        if series(records, key)[0]
    ]
    return Plot(
        panel.title.lower().replace(" ", "_"),
        lambda theme: curves_figure(runs, [panel], theme, lines=lines),
        f"{panel.title} against the epoch; at the end: {', '.join(last)}",
    )


FIT = 12  # classes whose matrix a phone shows whole


def confusion(run: RunData) -> Part:
    """The confusion matrix, in images and in shares of the true class."""
    matrix = np.array(run.scores["confusion"])
    n, right = matrix.sum(), np.trace(matrix)
    about = (
        "A row holds the images of one true class, a column those said to be of one class; the "
        "diagonal is right. Shades are not linear, so that the few errors show."
    )

    def plot(name: str, title: str, normalise: bool) -> Plot:
        def draw(theme: Theme):
            return confusion_figure(
                matrix, run.class_names, theme, normalise=normalise, title=title
            )

        alt = f"{title}: {right:,} of {n:,} images on the diagonal"
        size = "" if len(matrix) <= FIT else "wide" if len(matrix) <= MANY else "huge"
        return Plot(name, draw, alt, size)

    plots = (
        plot("confusion", TITLE, False),
        plot("confusion_normalised", f"{TITLE}, % of the true class", True),
    )
    data = {
        "classes": run.class_names,
        "counts": matrix.tolist(),
        "normalised": normalise_rows(matrix).tolist(),
    }
    return Part("confusion", "Confusion matrix", about, plots, data)


def classes(run: RunData) -> Part:
    """Precision, recall and F1 of each class."""
    scores = ("precision", "recall", "f1")
    rows = run.scores["classes"]
    worst = sorted(rows, key=lambda row: row["f1"])
    shown = worst if len(rows) > MANY else rows
    heads = ("class", "precision", "recall", "F1", "images")

    def cells(row: Mapping[str, Any], name: str, n: int) -> list[str]:
        p, r, f = (f"{100 * row[s]:.2f}" for s in scores)
        return [name, p, r, f, f"{n:,}"]

    lines = [cells(row, row["name"], row["support"]) for row in shown]
    means = [
        cells(run.scores["macro"], MEANS[0], run.scores["n"]),
        cells(run.scores["weighted"], MEANS[1], run.scores["n"]),
    ]
    body = html.table(heads, [*lines[:MANY], *means])
    if len(lines) > MANY:
        body = f'<p class="quiet">The {MANY} with the lowest F1.</p>{body}'
        body += html.details(f"The other {len(lines) - MANY}", html.table(heads, lines[MANY:]))
    values = {s.replace("f1", "F1"): [100 * row[s] for row in shown] for s in ("f1", *scores[:2])}
    least = worst[0]
    plot = Plot(
        "classes",
        lambda theme: dots_figure(
            [row["name"] for row in shown], values, "%", "Precision, recall and F1", theme
        ),
        f"Precision, recall and F1 of each class: lowest F1 {least['f1']:.2%}, {least['name']}",
    )
    about = (
        "Precision: of the images said to be of the class, how many are. Recall: of the images of "
        "the class, how many are found. F1: their harmonic mean. All in per cent."
    )
    data = {key: value for key, value in run.scores.items() if key != "confusion"}
    return Part("classes", "Classes", about, (plot,), data, body)


def reliability(run: RunData) -> Part:
    """The expected calibration error and the reliability diagram."""
    found = run.calibration
    says, holds = found["confidence"], found["accuracy"]
    about = (
        f"The network says {says:.2%} on average and is right {holds:.2%} of the time: it is "
        f"{'over' if says > holds else 'under'}confident. The expected calibration error (ECE) "
        f"averages the gap between the two over {len(found['bins'])} levels of confidence, "
        f"weighted by images. Bars of fewer than {FEW} images are pale: they say little."
    )
    alt = f"Reliability diagram: ECE {found['ece']:.2%}, largest gap {found['mce']:.1%}"
    heads = ("confidence", "images", "mean confidence", "accuracy", "gap")
    rows = [
        (
            f"{b['low']:.0%} to {b['high']:.0%}",
            f"{b['count']:,}",
            f"{b['confidence']:.2%}",
            f"{b['accuracy']:.2%}",
            f"{100 * (b['accuracy'] - b['confidence']):+.2f}",
        )
        for b in found["bins"]
        if b["count"]
    ]
    body = html.table(heads, rows)
    plot = Plot("calibration", lambda theme: reliability_figure(found, theme), alt)
    return Part("calibration", "Calibration", about, (plot,), found, body)


def distribution(run: RunData) -> Part:
    """How often each class is, and how often it is said."""
    truth, said = class_counts(np.array(run.scores["confusion"]))
    order = list(range(len(truth)))
    if len(order) > MANY:
        order.sort(key=lambda i: truth[i] - said[i])
    names = [run.class_names[i] for i in order]
    values = {"predicted": [said[i] for i in order], "true": [truth[i] for i in order]}
    plot = Plot(
        "distribution",
        lambda theme: dots_figure(names, values, "images", "Predicted and true classes", theme),
        "Images predicted to be of each class and images of it: largest difference "
        f"{max(abs(a - b) for a, b in zip(truth, said, strict=True)):,}",
    )
    data = [
        {"class": name, "true": a, "predicted": b}
        for name, a, b in zip(run.class_names, truth, said, strict=True)
    ]
    about = "How many images each class has, and how many are said to be of it."
    return Part("distribution", "Label distribution", about, (plot,), data)
