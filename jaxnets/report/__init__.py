"""Figures and tables about a run: learning curves, confusion matrix, per-class report."""

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
