"""Mistakes to look at: the commonest, the most confident, the worst calibrated."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxnets.inference.scores import bin_of, normalise_rows
from jaxnets.report import html
from jaxnets.report.plots import image_grid, in_rows, short
from jaxnets.report.sections import Plot, Section

if TYPE_CHECKING:
    from jaxnets.report.run import RunData

_NONE = "<p>There are none: every image is right.</p>"


def pairs(run: "RunData") -> Section:
    """The most confused pairs of classes, with examples."""
    matrix = np.array(run.scores["confusion"])
    found = confused_pairs(matrix)
    shown = [examples(run.probabilities, run.labels, pair) for pair in found]
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
            "examples": [_prediction(run, i) for i in indices],
        }
        for pair, indices in zip(found, shown, strict=True)
    ]
    about = "The commonest mistakes, with the images that the network is most confident about."
    return Section("pairs", "Most confused pairs", about, (plot,), data, body)


def confident_mistakes(run: "RunData") -> Section:
    """The mistakes with the highest confidence."""
    indices = most_confident(run.probabilities, run.labels)
    about = "Wrong, with the highest probability for the wrong class."
    return _mistakes(run, indices, "confident_mistakes", "Most confident mistakes", about)


def miscalibrated_mistakes(run: "RunData") -> Section:
    """The mistakes where its confidence exceeds its accuracy most."""
    indices = worst_calibrated(run.probabilities, run.labels, run.calibration)
    about = (
        "Mistakes in the bins of the reliability diagram that add most to the calibration error "
        "with more confidence than accuracy."
    )
    bins = run.calibration["bins"]
    places = bin_of(run.probabilities[indices].max(1), len(bins))
    notes = [f"{bins[b]['accuracy']:.0%} right at this level" for b in places]
    return _mistakes(
        run, indices, "miscalibrated_mistakes", "Worst-calibrated mistakes", about, notes
    )


def _mistakes(
    run: "RunData",
    indices: np.ndarray,
    key: str,
    title: str,
    about: str,
    notes: Sequence[str] = (),
) -> Section:
    def caption(i: int) -> str:
        found = _prediction(run, i)
        return f"{short(found['predicted'])} {found['confidence']:.1%}\nis {short(found['true'])}"

    plot = Plot(
        key,
        lambda theme: image_grid(
            in_rows(run.images[indices]),
            title if len(indices) else "No mistakes",
            theme,
            captions=in_rows([caption(i) for i in indices]),
        ),
    )
    data = [_prediction(run, i) for i in indices]
    body = _gallery(run, indices, notes) if len(indices) else _NONE
    return Section(key, title, about, (plot,), data, body)


def _images(count: int) -> str:
    return f"{count:,} image{'s' * (count != 1)}"


def _prediction(run: "RunData", i: int) -> dict[str, Any]:
    """The network's prediction for test image `i`, ready for JSON."""
    p = run.probabilities[i]
    return {
        "index": int(i),
        "true": run.class_names[run.labels[i]],
        "predicted": run.class_names[p.argmax()],
        "confidence": float(p.max()),
        "probability_of_true": float(p[run.labels[i]]),
    }


def _gallery(
    run: "RunData", indices: np.ndarray, notes: Sequence[str] = (), *, small: bool = False
) -> str:
    found = [_prediction(run, i) for i in indices]
    alts = [
        f"test image {s['index']}: a {s['true']}, taken for {s['predicted']}, {s['confidence']:.1%}"
        for s in found
    ]
    captions = [
        f"{s['confidence']:.1%}"
        if small
        else f"<b>{html.escape(s['predicted'])}</b> {s['confidence']:.1%}<br>"
        f"is <b>{html.escape(s['true'])}</b>"
        for s in found
    ]
    if notes:
        captions = [
            f'{caption}<br><span class="quiet">{html.escape(note)}</span>'
            for caption, note in zip(captions, notes, strict=True)
        ]
    return html.gallery(run.images[indices], alts, captions, small=small)


class Pair(NamedTuple):
    """Images of class `true` that are taken for `predicted`: their number, and share of `true`."""

    true: int
    predicted: int
    count: int
    share: float


def confused_pairs(matrix: np.ndarray, most: int = 10) -> list[Pair]:
    """The largest entries beside the diagonal of a confusion matrix (K, K), largest first.

    Of equal counts the larger share of the true class comes first, then the first class.
    """
    shares = normalise_rows(matrix)
    pairs = [
        Pair(int(i), int(j), int(matrix[i, j]), float(shares[i, j]))
        for i, j in np.argwhere(matrix > 0)
        if i != j
    ]
    return sorted(pairs, key=lambda p: (-p.count, -p.share, p.true, p.predicted))[:most]


def examples(
    probabilities: np.ndarray, labels: np.ndarray, pair: Pair, most: int = 6
) -> np.ndarray:
    """Indices of images that make up `pair`, the most confident first."""
    is_pair = (labels == pair.true) & (probabilities.argmax(1) == pair.predicted)
    return _by_confidence(probabilities, np.flatnonzero(is_pair))[:most]


def most_confident(probabilities: np.ndarray, labels: np.ndarray, most: int = 24) -> np.ndarray:
    """Indices of the mistakes with the highest probability for the wrong class, highest first."""
    wrong = np.flatnonzero(probabilities.argmax(1) != labels)
    return _by_confidence(probabilities, wrong)[:most]


def worst_calibrated(
    probabilities: np.ndarray, labels: np.ndarray, found: Mapping[str, Any], most: int = 24
) -> np.ndarray:
    """Indices of mistakes where confidence exceeds accuracy, bin by bin of the calibration.

    First those of the bin that adds most to the calibration error by more confidence than accuracy,
    n_b (conf(b) - acc(b)); within a bin the most confident first.

    Args:
        found: what `calibration` found of these.
    """
    excess = np.array(
        [b["count"] * (b["confidence"] - b["accuracy"]) if b["count"] else 0 for b in found["bins"]]
    )
    wrong = _by_confidence(probabilities, np.flatnonzero(probabilities.argmax(1) != labels))
    bins = bin_of(probabilities[wrong].max(1), len(excess))
    return wrong[np.argsort(-excess[bins], kind="stable")][:most]


def _by_confidence(probabilities: np.ndarray, indices: np.ndarray) -> np.ndarray:
    return indices[np.argsort(-probabilities[indices].max(1), kind="stable")]
