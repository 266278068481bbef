"""What augmentation makes of training images."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from jaxnets.augment.samples import Samples
from jaxnets.report import html
from jaxnets.report.figure import LIGHT, Theme
from jaxnets.report.plots import image_grid, short
from jaxnets.report.sections import Plot, Section

if TYPE_CHECKING:
    from jaxnets.report.run import RunData


def section(run: "RunData") -> Section:
    """Training images beside what augmentation makes of them."""
    samples, heads = run.samples, run.samples.heads
    names = [run.class_names[i] for i in samples.labels]
    rows = ""
    for name, row in zip(names, samples.table, strict=True):
        thumbs = [html.thumb(i, f"{name}, {head}") for i, head in zip(row, heads, strict=True)]
        cells = "".join(f"<td>{thumb}</td>" for thumb in thumbs)
        title = f'<th scope="rowgroup" colspan="{len(heads)}">{html.escape(name)}</th>'
        rows += f"<tbody><tr>{title}</tr><tr>{cells}</tr></tbody>"
    head = "".join(f'<th scope="col">{text}</th>' for text in heads)
    body = f'<table class="samples"><thead><tr>{head}</tr></thead>{rows}</table>'
    ops = ", ".join(op.replace("_", " ") for op in samples.ops) or "none"
    about = (
        f"Augmentation of this recipe: {ops}. Beside the original training images, those that "
        f"training feeds the network in epochs 1 to {len(heads) - 1}."
    )
    data = {
        "ops": samples.ops,
        "columns": heads,
        "images": [
            {"index": int(i), "class": name} for i, name in zip(samples.rows, names, strict=True)
        ],
    }
    plot = Plot("augmentation", lambda theme: samples_figure(samples, run.class_names, theme))
    return Section("augmentation", "Augmentation", about, (plot,), data, body)


def samples_figure(samples: Samples, class_names: Sequence[str], theme: Theme = LIGHT):
    """The matplotlib figure of the samples."""
    names = [short(class_names[i]) for i in samples.labels]
    return image_grid(
        samples.table, "Augmentation", theme, row_names=names, column_names=samples.heads
    )
