"""Evaluation of a network on a whole split, a few batches on the device."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
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
    """Evaluates weights on one split, kept on the devices.

    images: uint8 (N, H, W, 3), as `Layout.cut` keeps them; labels: int32 (N,).
    """

    def __init__(self, task: Task, images: np.ndarray, labels: np.ndarray, batch_size: int):
        self._count = len(labels)
        size = min(batch_size, self._count)
        size += -size % task.layout.size
        fill = -self._count % size
        rows = np.arange(self._count + fill)
        starts, layout = range(0, len(rows), size), task.layout
        if layout.many_processes:
            labels = layout.put(labels)
            self._batches = [
                (images, labels, layout.put(rows[i : i + size].astype(np.int32))) for i in starts
            ]
            step = functools.partial(_gathering_step, task)
            self._step = jax.jit(step, out_shardings=layout.sharding())
        else:
            arrays = _pad(images, fill), _pad(labels, fill), rows < self._count
            self._batches = [
                jax.device_put(
                    tuple(array[i : i + size] for array in arrays), layout.sharding(AXIS)
                )
                for i in starts
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


def _gathering_step(task: Task, params: dict, stats: dict, images, labels, rows):
    """`eval_step` on rows of a split of which every process holds a part; the last ones fill up."""
    count, layout = len(labels), task.layout
    mask, rows = layout.my_share(rows < count), jnp.minimum(rows, count - 1)
    batch, rows = layout.gather(images, rows), layout.my_share(rows)
    return eval_step(task, params, stats, batch, labels[rows], mask)


def _pad(array: np.ndarray, fill: int) -> np.ndarray:
    return np.concatenate([array, np.zeros((fill, *array.shape[1:]), array.dtype)])
