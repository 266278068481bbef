"""How well each class is recognised: precision, recall and F1."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jaxnets.inference.scores import SCORES
from jaxnets.report import html
from jaxnets.report.plots import dots_figure
from jaxnets.report.sections import MANY, Plot, Section

if TYPE_CHECKING:
    from jaxnets.report.run import RunData

MEANS = ("mean", "weighted mean")  # what a table calls "macro" and "weighted"


def section(run: "RunData") -> Section:
    """Precision, recall and F1 of each class."""
    rows = run.scores["classes"]
    worst = sorted(rows, key=lambda row: row["f1"])
    shown = worst if len(rows) > MANY else rows
    heads = ("class", "precision", "recall", "F1", "images")

    def cells(row: Mapping[str, Any], name: str, n: int) -> list[str]:
        p, r, f = (f"{100 * row[s]:.2f}" for s in SCORES)
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
    values = {s.replace("f1", "F1"): [100 * row[s] for row in shown] for s in ("f1", *SCORES[:2])}
    least = worst[0]
    plot = Plot(
        "classes",
        lambda theme: dots_figure(
            [row["name"] for row in shown], values, "%", "Precision, recall and F1", theme
        ),
        f"Precision, recall and F1 of each class: lowest F1 {least['f1']:.2%}, {least['name']}",
    )
    about = (
        "Precision: how many of the images predicted as the class are of it. Recall: how many of "
        "the images of the class are predicted as it. F1: their harmonic mean. All in per cent."
    )
    data = {key: value for key, value in run.scores.items() if key != "confusion"}
    return Section("classes", "Classes", about, (plot,), data, body)


# Heading, and letters of the column with its gap; the first ones are the first to go.
_COLUMNS = {"images": 8, "precision": 11, "recall": 8, "f1": 7}


def format_report(report: Mapping, width: float = math.inf) -> str:
    """The report as a table of fixed columns, in per cent, for a terminal of `width` letters.

    Columns that do not fit are left out and named in a line below.
    """
    classes = report["classes"]
    names = max(len(MEANS[1]), *(len(row["name"]) for row in classes))
    left_out: list[str] = []
    for column in list(_COLUMNS)[:-1]:
        if names + sum(_COLUMNS.values()) - sum(_COLUMNS[c] for c in left_out) > width:
            left_out.append(column)
    kept = [c for c in (*SCORES, "images") if c not in left_out]

    def line(name: str, cells: Mapping[str, str]) -> str:
        return f"{name:{names}}" + "".join(f"{cells[c]:>{_COLUMNS[c]}}" for c in kept)

    def scores(row: Mapping[str, float], images: int) -> dict[str, str]:
        return {s: f"{100 * row[s]:.2f}" for s in SCORES} | {"images": f"{images:,}"}

    n = report["n"]
    lines = [line("class", {c: c for c in kept})]
    lines += [line(row["name"], scores(row, row["support"])) for row in classes]
    lines.append("-" * len(lines[0]))
    lines.append(line(MEANS[0], scores(report["macro"], n)))
    lines.append(line(MEANS[1], scores(report["weighted"], n)))
    if left_out:
        lines.append(f"left out, for a wider terminal: {', '.join(left_out)}")
    lines.append(f"accuracy {report['accuracy']:.2%}, top-5 {report['top5']:.2%} of {n:,} images")
    return "\n".join(lines)
