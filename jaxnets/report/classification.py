"""How well each class is recognised."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from jaxnets.errors import UserError
from jaxnets.report.confusion import confusion_matrix


def classification_report(
    logits: np.ndarray, labels: np.ndarray, class_names: Sequence[str]
) -> dict[str, object]:
    """Accuracy, top-5 and precision, recall and F1 of every class, ready for JSON.

    precision = right / predicted as the class, recall = right / of the class, f1 their harmonic
    mean; 0 where the denominator is.  `macro` averages over all classes alike, `weighted` by their
    support, the number of images of the class.  Of equal logits the first class ranks first.

    Args:
        logits: (N, K) logits or probabilities.
        labels: (N,) integers in 0..K-1.
        class_names: K names.

    Returns:
        A dict of n, accuracy, top5, macro, weighted, classes, confusion.  macro and weighted hold
        precision, recall, f1; classes lists those with name and support; confusion is K lists of
        counts, rows = true class.  Scores are fractions of 1; top5 is how often the label is among
        the min(5, K) highest logits.

    Raises:
        UserError: no images, shapes that do not fit, labels out of range, NaN.
    """
    from sklearn.metrics import precision_recall_fscore_support

    logits, labels = np.asarray(logits), np.asarray(labels)
    k = len(class_names)
    if logits.ndim != 2 or logits.shape[1] != k or labels.shape != logits.shape[:1]:
        raise UserError(
            f"{logits.shape} logits, {labels.shape} labels and {k} class names do not fit"
        )
    if not len(labels):
        raise UserError("no images to report on")
    if np.isnan(logits).any():
        raise UserError(f"{np.isnan(logits).any(1).sum()} of {len(labels)} images have NaN logits")
    ranked = first_five(logits)
    matrix = confusion_matrix(labels, ranked[:, 0], k)

    def scores(average: str | None):
        return precision_recall_fscore_support(
            labels, ranked[:, 0], labels=range(k), average=average, zero_division=0
        )

    def means(average: str) -> dict[str, float]:
        return dict(zip(_SCORES, map(float, scores(average)), strict=False))

    return {
        "n": len(labels),
        **accuracies(ranked, labels),
        "classes": [
            {"name": name, "precision": p, "recall": r, "f1": f, "support": n}
            for name, p, r, f, n in zip(
                class_names, *(s.tolist() for s in scores(None)), strict=True
            )
        ],
        "macro": means("macro"),
        "weighted": means("weighted"),
        "confusion": matrix.tolist(),
    }


def first_five(logits: np.ndarray) -> np.ndarray:
    """The classes (N, min(5, K)) of the highest logits (N, K), the highest first."""
    # Stable, so that equal logits rank as argmax ranks them.
    return np.argsort(-logits, axis=1, kind="stable")[:, :5]


def accuracies(ranked: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """How often the label (N,) is the first of the ranked classes, and among all of them."""
    return {
        "accuracy": float(np.mean(ranked[:, 0] == labels)),
        "top5": float(np.mean((ranked == labels[:, None]).any(1))),
    }


_SCORES = ("precision", "recall", "f1")
MEANS = ("mean", "weighted mean")  # what a table calls "macro" and "weighted"


# Heading, and letters of the column with its gap; the first ones are the first to go.
_COLUMNS = {"images": 8, "precision": 11, "recall": 8, "f1": 7}


def format_report(report: Mapping, width: float = math.inf) -> str:
    """The report as a table of fixed columns, in per cent, for a terminal of `width` letters.

    Columns that do not fit are left out, which a line below says.
    """
    classes = report["classes"]
    names = max(len(MEANS[1]), *(len(row["name"]) for row in classes))
    left_out: list[str] = []
    for column in list(_COLUMNS)[:-1]:
        if names + sum(_COLUMNS.values()) - sum(_COLUMNS[c] for c in left_out) > width:
            left_out.append(column)
    kept = [c for c in (*_SCORES, "images") if c not in left_out]

    def line(name: str, cells: Mapping[str, str]) -> str:
        return f"{name:{names}}" + "".join(f"{cells[c]:>{_COLUMNS[c]}}" for c in kept)

    def scores(row: Mapping[str, float], images: int) -> dict[str, str]:
        return {s: f"{100 * row[s]:.2f}" for s in _SCORES} | {"images": f"{images:,}"}

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
