"""How good a network's output is: accuracy, scores of each class, confusion, calibration, loss.

numpy alone, but for the scores of each class, which need scikit-learn.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxnets.errors import UserError

SCORES = ("precision", "recall", "f1")
BINS = 15  # of confidence


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """x - log sum exp x along the last axis."""
    return logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)


def log_mean(logs: Sequence[np.ndarray]) -> np.ndarray:
    """The log of the mean of exp, over the sequence."""
    return np.logaddexp.reduce(np.stack(logs), axis=0) - np.log(len(logs))


def loss(logs: np.ndarray, labels: np.ndarray) -> float:
    """Mean cross entropy in nats of log probabilities (N, K)."""
    return -float(np.mean(logs[np.arange(len(labels)), labels]))


def headline(logs: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """n, loss, accuracy, top5 and calibration error (ece) of log probabilities (N, K)."""
    return {
        "n": len(labels),
        "loss": loss(logs, labels),
        **accuracies(first_five(logs), labels),
        "ece": calibration(np.exp(logs), labels)["ece"],
    }


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
        return dict(zip(SCORES, map(float, scores(average)), strict=False))

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


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts (num_classes, num_classes), int64: rows are true classes, columns predicted ones.

    Args:
        labels, predictions: (N,) integers in 0..num_classes-1.

    Raises:
        UserError: lengths that differ, or a class outside the range.

    >>> confusion_matrix([0, 0, 1], [0, 1, 1], 2).tolist()
    [[1, 1], [0, 1]]
    """
    labels, predictions = np.asarray(labels, np.int64), np.asarray(predictions, np.int64)
    if labels.shape != predictions.shape or labels.ndim != 1:
        raise UserError(f"{labels.shape} labels and {predictions.shape} predictions: one per image")
    for kind, values in (("label", labels), ("prediction", predictions)):
        wrong = values[(values < 0) | (values >= num_classes)]
        if wrong.size:
            raise UserError(f"{kind} {wrong[0]}: the classes are 0 to {num_classes - 1}")
    flat = np.bincount(labels * num_classes + predictions, minlength=num_classes**2)
    return flat.reshape(num_classes, num_classes)


def normalise_rows(matrix: np.ndarray) -> np.ndarray:
    """Fractions (K, K) of the true class: rows sum to 1; an absent class is a row of zeros."""
    matrix = np.asarray(matrix)
    return matrix / np.maximum(matrix.sum(1, keepdims=True), 1)


def bin_of(confidence: np.ndarray, bins: int = BINS) -> np.ndarray:
    """The bin (N,) int of each confidence (N,) in 0..1: bin b is (b / bins, (b + 1) / bins]."""
    edges = np.linspace(0, 1, bins + 1)
    return np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)


def calibration(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> dict[str, Any]:
    """Calibration of the most probable class, ready for JSON (Guo et al. 2017, section 2).

    ECE = sum_b n_b / N |acc(b) - conf(b)| and MCE = max_b |acc(b) - conf(b)| over bins b of equal
    width in confidence, the largest probability; acc(b) is the share that is right among the n_b
    images of the bin and conf(b) their mean confidence.

    Args:
        probabilities: (N, K), N at least 1.
        labels: (N,) integers in 0..K-1.

    Returns:
        A dict of ece, mce, accuracy, confidence (both means), n and bins: low, high, count,
        accuracy, confidence of each; the last two are None where a bin is empty.
    """
    confidence = probabilities.max(1)
    right = probabilities.argmax(1) == labels
    place = bin_of(confidence, bins)
    rows, gaps = [], []
    for b in range(bins):
        here = place == b
        count = int(here.sum())
        row = {"low": b / bins, "high": (b + 1) / bins, "count": count}
        row |= {
            "accuracy": float(right[here].mean()) if count else None,
            "confidence": float(confidence[here].mean()) if count else None,
        }
        rows.append(row)
        gaps.append(abs(row["accuracy"] - row["confidence"]) if count else 0.0)
    shares = [row["count"] / len(labels) for row in rows]
    return {
        "ece": sum(share * gap for share, gap in zip(shares, gaps, strict=True)),
        "mce": max(gaps),
        "accuracy": float(right.mean()),
        "confidence": float(confidence.mean()),
        "n": len(labels),
        "bins": rows,
    }
