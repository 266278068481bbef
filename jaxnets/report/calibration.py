"""Whether a network is right as often as it says: expected calibration error, reliability."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxnets.report.figure import LIGHT, Theme

BINS = 15
FEW = 10  # images; a bin of fewer says little and is drawn pale


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities (N, K), float64, of logits (N, K)."""
    logits = np.asarray(logits, np.float64)
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


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


def reliability_figure(found: Mapping[str, Any], theme: Theme = LIGHT):
    """The reliability diagram of what `calibration` found, over how many images each bin has.

    A bar is full up to the smaller of accuracy and confidence; what is missing to the larger has
    the colour of its kind.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    figure = Figure(figsize=(5.2, 6.2), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    figure.suptitle(f"ECE {found['ece']:.2%}, largest gap {found['mce']:.1%}", fontsize=12)
    kinds = {
        "right, as promised": theme.colours[0],
        "right beyond the promise (underconfident)": theme.colours[2],
        "promised, but wrong (overconfident)": theme.colours[4],
    }
    met, beyond, missed = kinds.values()
    for row in found["bins"]:
        if not row["count"]:
            continue
        centre = (row["low"] + row["high"]) / 2
        width = 0.92 * (row["high"] - row["low"])
        accuracy, confidence = row["accuracy"], row["confidence"]
        low, high = sorted((accuracy, confidence))
        pale = {"alpha": 1.0 if row["count"] >= FEW else 0.35}
        upper.bar(centre, low, width, color=met, **pale)
        upper.bar(
            centre, high - low, width, low, color=beyond if high == accuracy else missed, **pale
        )
        lower.bar(centre, row["count"], width, color=theme.grey)
        text = {"textcoords": "offset points", "ha": "center", "fontsize": 7}
        lower.annotate(f"{row['count']:,}", (centre, row["count"]), (0, 2), **text)
    upper.plot((0, 1), (0, 1), color=theme.ink, linestyle=(0, (4, 2)), linewidth=1.2)
    handles = [Patch(color=colour) for colour in kinds.values()]
    figure.legend(handles, kinds, loc="outside lower center", fontsize=10)
    upper.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="accuracy")
    lower.set(xlabel="confidence", ylabel="images")
    lower.margins(y=0.22)
    lower.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    lower.grid(axis="x", visible=False)
    upper.xaxis.set_major_formatter(PercentFormatter(1))
    upper.yaxis.set_major_formatter(PercentFormatter(1))
    return figure
