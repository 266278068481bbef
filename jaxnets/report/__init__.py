"""What a run learned, as one HTML page: curves, confusion, classes, calibration, mistakes.

Imports inference, runs and data; python -m jaxnets.report calls it, evaluate for the matrix and the
curves, training for what it shows in TensorBoard, and parity for its figures.
"""

from jaxnets.report.classification import classification_report, format_report
from jaxnets.report.confusion import confusion_matrix, plot_confusion
from jaxnets.report.curves import plot_curves, read_metrics

__all__ = [
    "classification_report",
    "confusion_matrix",
    "format_report",
    "plot_confusion",
    "plot_curves",
    "read_metrics",
]
