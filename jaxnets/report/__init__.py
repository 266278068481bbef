"""What a run learned, as one HTML page: curves, confusion, classes, calibration, mistakes.

Imports inference, runs and data; python -m jaxnets.report calls it, evaluate for the matrix and the
curves, training for what it shows in TensorBoard, and parity for its figures.
"""

from jaxnets.inference.scores import classification_report, confusion_matrix
from jaxnets.report.sections.classes import format_report
from jaxnets.report.sections.confusion import plot_confusion
from jaxnets.report.sections.curves import plot_curves, read_metrics

__all__ = [
    "classification_report",
    "confusion_matrix",
    "format_report",
    "plot_confusion",
    "plot_curves",
    "read_metrics",
]
