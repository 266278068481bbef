"""Evaluation of a network on a whole split, a few batches on the device."""

import functools
from typing import NamedTuple

import jax
import numpy as np

from jaxnets.parallel import AXIS
from jaxnets.train_step import Task, eval_step


class Evaluation(NamedTuple):
    """Means over the split, and every image's logits."""

    loss: float
    accuracy: float
    logits: np.ndarray
    """(N, K)."""


class Evaluator:
    """Evaluates weights on one split, kept on the device: uint8 (N, H, W, 3) and int32 (N,)."""

    def __init__(self, task: Task, images: np.ndarray, labels: np.ndarray, batch_size: int):
        self._count = len(images)
        size = min(batch_size, self._count)
        size += -size % task.layout.size
        fill = -self._count % size
        mask = np.arange(self._count + fill) < self._count
        arrays = _pad(images, fill), _pad(labels, fill), mask
        sharding = task.layout.sharding(AXIS)
        self._batches = [
            jax.device_put(tuple(array[i : i + size] for array in arrays), sharding)
            for i in range(0, len(mask), size)
        ]
        self._step = jax.jit(functools.partial(eval_step, task))

    def __call__(self, params: dict, stats: dict) -> Evaluation:
        """Loss (without label smoothing), accuracy (0..1) and logits of the weights."""
        results = [self._step(params, stats, *batch) for batch in self._batches]
        totals = jax.device_get([totals for totals, _ in results])
        logits = np.concatenate(jax.device_get([logits for _, logits in results]))
        return Evaluation(
            loss=float(sum(t.loss for t in totals)) / self._count,
            accuracy=float(sum(t.correct for t in totals)) / self._count,
            logits=logits[: self._count],
        )


def _pad(array: np.ndarray, fill: int) -> np.ndarray:
    return np.concatenate([array, np.zeros((fill, *array.shape[1:]), array.dtype)])
