"""How often each class is, and how often it is predicted."""

from typing import TYPE_CHECKING

import numpy as np

from jaxnets.report.plots import dots_figure
from jaxnets.report.sections import MANY, Plot, Section

if TYPE_CHECKING:
    from jaxnets.report.run import RunData


def section(run: "RunData") -> Section:
    """How often each class is, and how often it is predicted."""
    true, predicted = class_counts(np.array(run.scores["confusion"]))
    order = list(range(len(true)))
    if len(order) > MANY:
        order.sort(key=lambda i: true[i] - predicted[i])
    names = [run.class_names[i] for i in order]
    values = {"predicted": [predicted[i] for i in order], "true": [true[i] for i in order]}
    plot = Plot(
        "distribution",
        lambda theme: dots_figure(names, values, "images", "Predicted and true classes", theme),
        "Images predicted as each class and images of it: largest difference "
        f"{max(abs(a - b) for a, b in zip(true, predicted, strict=True)):,}",
    )
    data = [
        {"class": name, "true": a, "predicted": b}
        for name, a, b in zip(run.class_names, true, predicted, strict=True)
    ]
    about = "How many images each class has, and how many are predicted as it."
    return Section("distribution", "Label distribution", about, (plot,), data)


def class_counts(matrix: np.ndarray) -> tuple[list[int], list[int]]:
    """Images of each class, and images predicted as it, from a confusion matrix (K, K)."""
    return matrix.sum(1).tolist(), matrix.sum(0).tolist()
