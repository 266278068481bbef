"""Calibration: whether the network's confidence is its accuracy."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jaxnets.report import html
from jaxnets.report.figure import LIGHT, Theme
from jaxnets.report.sections import Plot, Section

if TYPE_CHECKING:
    from jaxnets.report.run import RunData

_FEW = 10  # images; a bin of fewer is unreliable and drawn pale


def section(run: "RunData") -> Section:
    """The expected calibration error and the reliability diagram."""
    found = run.calibration
    confidence, accuracy = found["confidence"], found["accuracy"]
    about = (
        f"The mean confidence is {confidence:.2%}, the accuracy {accuracy:.2%}: the network is "
        f"{'over' if confidence > accuracy else 'under'}confident. The expected calibration error "
        f"(ECE) averages the gap between the two over {len(found['bins'])} bins of confidence, "
        f"weighted by images. Bars of fewer than {_FEW} images are pale: they are unreliable."
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
    return Section("calibration", "Calibration", about, (plot,), found, body)


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
        pale = {"alpha": 1.0 if row["count"] >= _FEW else 0.35}
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
