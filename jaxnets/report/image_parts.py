"""The parts of a report that show images: mistakes, and what augmentation does."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxnets.report import html, mistakes
from jaxnets.report.grid import image_grid, in_rows, short
from jaxnets.report.part import Part, Plot
from jaxnets.report.run import RunData
from jaxnets.report.samples import samples_figure


def pairs(run: RunData) -> Part:
    """The most confused pairs of classes, with examples."""
    matrix = np.array(run.scores["confusion"])
    found = mistakes.confused_pairs(matrix)
    shown = [mistakes.examples(run.probabilities, run.labels, pair) for pair in found]
    names = run.class_names

    body = ""
    for pair, indices in zip(found, shown, strict=True):
        title = html.escape(f"{names[pair.true]} taken for {names[pair.predicted]}")
        count = f"{_images(pair.count)}, {pair.share:.1%} of the class"
        body += f'<div><h4>{title}<span class="quiet">: {count}</span></h4>'
        body += f"{_gallery(run, indices, small=True)}</div>"
    body = f'<div class="pairs">{body}</div>' if body else _NONE
    plot = Plot(
        "pairs",
        lambda theme: image_grid(
            [run.images[i] for i in shown],
            "Most confused pairs" if found else "No mistakes",
            theme,
            captions=[[f"{run.probabilities[i].max():.1%}" for i in row] for row in shown],
            row_names=[
                f"{short(names[pair.true])}\ntaken for\n"
                f"{short(names[pair.predicted])}\n({_images(pair.count)})"
                for pair in found
            ],
        ),
    )
    data = [
        {
            "true": names[pair.true],
            "predicted": names[pair.predicted],
            "count": pair.count,
            "share_of_true": pair.share,
            "examples": [_said(run, i) for i in indices],
        }
        for pair, indices in zip(found, shown, strict=True)
    ]
    about = "The commonest mistakes, with the images that the network is most confident about."
    return Part("pairs", "Most confused pairs", about, (plot,), data, body)


def confident_mistakes(run: RunData) -> Part:
    """The mistakes that the network is surest of."""
    indices = mistakes.most_confident(run.probabilities, run.labels)
    about = "Wrong, with the highest probability for the wrong class."
    return _mistakes(run, indices, "confident_mistakes", "Most confident mistakes", about)


def miscalibrated_mistakes(run: RunData) -> Part:
    """The mistakes where its confidence exceeds its accuracy most."""
    indices = mistakes.worst_calibrated(run.probabilities, run.labels, run.calibration)
    about = (
        "Mistakes at those levels of confidence that add most to the calibration error by "
        "promising more than they hold (the bins of the reliability diagram)."
    )
    bins = run.calibration["bins"]
    places = mistakes.bin_of(run.probabilities[indices].max(1), len(bins))
    notes = [f"{bins[b]['accuracy']:.0%} right at this level" for b in places]
    return _mistakes(
        run, indices, "miscalibrated_mistakes", "Worst-calibrated mistakes", about, notes
    )


def _mistakes(
    run: RunData,
    indices: np.ndarray,
    key: str,
    title: str,
    about: str,
    notes: Sequence[str] = (),
) -> Part:
    def caption(i: int) -> str:
        said = _said(run, i)
        return f"{short(said['predicted'])} {said['confidence']:.1%}\nis {short(said['true'])}"

    plot = Plot(
        key,
        lambda theme: image_grid(
            in_rows(run.images[indices]),
            title if len(indices) else "No mistakes",
            theme,
            captions=in_rows([caption(i) for i in indices]),
        ),
    )
    data = [_said(run, i) for i in indices]
    body = _gallery(run, indices, notes) if len(indices) else _NONE
    return Part(key, title, about, (plot,), data, body)


def augmentation(run: RunData) -> Part:
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
        f"Augmentation of this recipe: {ops}. Beside the training images as they are, the very "
        f"images that training feeds the network in epochs 1 to {len(heads) - 1}."
    )
    data = {
        "ops": samples.ops,
        "columns": heads,
        "images": [
            {"index": int(i), "class": name} for i, name in zip(samples.rows, names, strict=True)
        ],
    }
    plot = Plot("augmentation", lambda theme: samples_figure(samples, run.class_names, theme))
    return Part("augmentation", "Augmentation", about, (plot,), data, body)


_NONE = "<p>There are none: every image is right.</p>"


def _images(count: int) -> str:
    return f"{count:,} image{'s' * (count != 1)}"


def _said(run: RunData, i: int) -> dict[str, Any]:
    """What the network says of test image `i`, for JSON."""
    p = run.probabilities[i]
    return {
        "index": int(i),
        "true": run.class_names[run.labels[i]],
        "predicted": run.class_names[p.argmax()],
        "confidence": float(p.max()),
        "probability_of_true": float(p[run.labels[i]]),
    }


def _gallery(
    run: RunData, indices: np.ndarray, notes: Sequence[str] = (), *, small: bool = False
) -> str:
    said = [_said(run, i) for i in indices]
    alts = [
        f"test image {s['index']}: a {s['true']}, taken for {s['predicted']}, {s['confidence']:.1%}"
        for s in said
    ]
    captions = [
        f"{s['confidence']:.1%}"
        if small
        else f"<b>{html.escape(s['predicted'])}</b> {s['confidence']:.1%}<br>"
        f"is <b>{html.escape(s['true'])}</b>"
        for s in said
    ]
    if notes:
        captions = [
            f'{caption}<br><span class="quiet">{html.escape(note)}</span>'
            for caption, note in zip(captions, notes, strict=True)
        ]
    return html.gallery(run.images[indices], alts, captions, small=small)
