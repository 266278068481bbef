"""What a finished run shows in TensorBoard beside its curves."""

from typing import Any

import numpy as np

from jaxnets.augment.pipeline import Augment
from jaxnets.augment.samples import read_samples
from jaxnets.data import Dataset
from jaxnets.inference.scores import confusion_matrix
from jaxnets.report.figure import to_png
from jaxnets.report.sections.augmentation import samples_figure
from jaxnets.report.sections.confusion import confusion_figure


def end_images(
    config: Any, augment: Augment, data: Dataset, logits: np.ndarray
) -> dict[str, bytes]:
    """PNGs by tag: the confusion matrix of the test set, and augmented training images.

    Args:
        data: the run's; without the second where several processes hold a part of it each.
        logits: (N, K) of the test set.

    Raises:
        ImportError: matplotlib is not installed.
    """
    names = [*data.class_names, *map(str, range(len(data.class_names), logits.shape[1]))]
    matrix = confusion_matrix(data.test_labels, logits.argmax(1), len(names))
    figures = {"confusion_matrix": lambda theme: confusion_figure(matrix, names, theme)}
    if isinstance(data.train_images, np.ndarray):
        samples = read_samples(augment, data.train_images, data.train_labels, config)
        figures["augmented_samples"] = lambda theme: samples_figure(samples, names, theme)
    return {tag: to_png(draw, dpi=100) for tag, draw in figures.items()}
