"""Trained networks in Python: images in, classes and probabilities out."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np

from jaxnets.errors import UserError
from jaxnets.inference.inputs import as_images
from jaxnets.inference.network import Member, load_members, log_probabilities
from jaxnets.runs.workdir import read_config


class Predictor:
    """One trained network, or several as an ensemble: the mean of their probabilities.

    members: the networks; each has its weights, its `model()` and its `normalize`.
    class_names: a name for each class; its number where the checkpoint has none.
    image_size: pixels of a side of the images.
    notes: what the user should know, a line each.

    Images are uint8 (N, size, size, 3), (N, 3, size, size) or (N, 3 * size * size), as they are in
    the files: they are normalised here, as in training.
    """

    def __init__(self, members: Sequence[Member]):
        self.members = tuple(members)
        first = self.members[0]
        self.class_names, self.image_size = first.class_names, first.image_size
        self.notes = tuple(note for member in members for note in member.notes)

    def __repr__(self) -> str:
        runs = ", ".join(f"{m.workdir} step {m.step} ({m.config.model.name})" for m in self.members)
        return f"Predictor({runs}; {len(self.class_names)} classes)"

    def predict(
        self,
        images: np.ndarray,
        *,
        flip: bool = False,
        tta: str = "none",
        batch_size: int = 500,
    ) -> np.ndarray:
        """The likeliest class of each image, int (N,), an index into `class_names`.

        Args and errors as `predict_proba`.
        """
        return self.predict_proba(images, flip=flip, tta=tta, batch_size=batch_size).argmax(1)

    def predict_proba(
        self,
        images: np.ndarray,
        *,
        flip: bool = False,
        tta: str = "none",
        batch_size: int = 500,
        progress: Callable[[int], object] = lambda count: None,
    ) -> np.ndarray:
        """The probability of each class, float64 (N, K), of each image.

        Args:
            flip: the same as tta="flip".
            tta: test-time augmentation, the mean of a network's logits over views of each image:
                flip, the image and its mirror image; flip_translate, both also moved by a pixel.
            batch_size: the most images at once.
            progress: called after each batch with the number of its images.

        Raises:
            UserError: images of another type or shape, or an output that is not finite.
        """
        images = as_images(images, self.image_size, "images")
        tta = "flip" if flip and tta == "none" else tta
        size = self.compile(len(images), batch_size)
        parts = []
        for start in range(0, len(images), size):
            batch = images[start : start + size]
            parts.append(np.exp(log_probabilities(self.members, batch, size, tta=tta)))
            progress(len(batch))
        return np.concatenate(parts)

    def compile(self, count: int, batch_size: int = 500) -> int:
        """Compiles ahead what so many images need; returns how many it takes at once.

        A power of two where they are few, so that calls of all lengths share few programs.
        """
        size = min(batch_size, 1 << (count - 1).bit_length())
        for member in self.members:
            member.compile(size)
        return size


def load(*workdirs: str | os.PathLike, checkpoint: str | int = "best") -> Predictor:
    """A run's trained network, with class names and normalisation; of several runs, an ensemble.

    Args:
        workdirs: one run of jaxnets.train or more, of the same classes.
        checkpoint: "best", "last" or a step.

    Raises:
        UserError: no run there, no such checkpoint, damaged or unfitting weights, different
            classes, or a run in float64 while jax has no 64-bit types.

    >>> net = load("runs/quickstart")  # doctest: +SKIP
    >>> [net.class_names[i] for i in net.predict(images)]  # doctest: +SKIP
    ['3', '7']
    """
    if not workdirs:
        raise UserError("load: name the workdir of a run")
    paths = [Path(workdir) for workdir in workdirs]
    for path in paths:
        if read_config(path).dtype == "float64" and not jax.config.jax_enable_x64:
            raise UserError(
                f"{path}: computes in float64; call jax.config.update('jax_enable_x64', True) first"
            )
    return Predictor(load_members(paths, str(checkpoint)))
