"""Evaluation of a network on a whole split, a few batches on the device."""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.devices.layout import AXIS
from jaxnets.train.step import Task, eval_step
from jaxnets.train.stepper import Ahead


class Evaluation(NamedTuple):
    """Means over the split, and every image's logits."""

    loss: float
    accuracy: float
    logits: np.ndarray
    """(N, K)."""


class Evaluator:
    """Evaluates weights on one split, kept on the devices; a call a batch.

    images: uint8 (N, H, W, 3), as `Layout.shard` keeps them; labels: int32 (N,).
    """

    def __init__(self, task: Task, images: np.ndarray, labels: np.ndarray, batch_size: int):
        self._layout, self._count = task.layout, len(labels)
        layout = self._layout
        size = min(batch_size, self._count)
        size += -size % layout.size
        fill = -self._count % size
        rows = np.arange(self._count + fill, dtype=np.int32)
        if layout.many_processes:
            self._fixed, step = (images, layout.replicate(labels)), _gathering_step
            arrays = (rows,)
        else:
            self._fixed, step = (), eval_step
            arrays = _pad(images, fill), _pad(labels, fill), rows < self._count
        stacked = [array.reshape(-1, size, *array.shape[1:]) for array in arrays]
        self._batches = [self._put(batch) for batch in zip(*stacked, strict=True)]

        def evaluate(params: dict, stats: dict, fixed: tuple, batch: tuple):
            return step(task, params, stats, *fixed, *batch)

        replicated = {"out_shardings": layout.sharding()} if layout.many_processes else {}
        self._step = jax.jit(evaluate, **replicated)

    def _put(self, arrays: Sequence[np.ndarray]) -> tuple[jax.Array, ...]:
        if self._layout.many_processes:
            return self._layout.replicate(tuple(arrays))
        return jax.device_put(tuple(arrays), self._layout.sharding(AXIS))

    def compile(self, params: dict, stats: dict) -> float:
        """Compiles for weights like these, which every device then has whole; the seconds."""
        started, everywhere = time.perf_counter(), self._layout.sharding()
        weights = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=everywhere), (params, stats)
        )
        self._step = self._step.lower(*weights, self._fixed, self._batches[0]).compile()
        return time.perf_counter() - started

    def __call__(
        self, params: dict, stats: dict, stopped: Callable[[], bool] = lambda: False
    ) -> Evaluation | None:
        """Loss (without label smoothing), accuracy (0..1) and logits of the weights.

        `stopped` is asked between batches; once it says so the evaluation is given up: None.
        """
        ahead, results = Ahead(self._layout.devices[0].platform), []
        for batch in self._batches:
            if results and stopped():
                return None
            results.append(self._step(params, stats, self._fixed, batch))
            ahead.send(1, results[-1])
        totals, logits = zip(*jax.device_get(results), strict=True)
        classes = logits[0].shape[-1]
        return Evaluation(
            loss=float(sum(t.loss.sum() for t in totals)) / self._count,
            accuracy=float(sum(t.correct.sum() for t in totals)) / self._count,
            logits=np.concatenate(logits).reshape(-1, classes)[: self._count],
        )


def _gathering_step(task: Task, params: dict, stats: dict, images, labels, rows):
    """`eval_step` on rows of a split of which every process holds a part; the last ones fill up."""
    count, layout = len(labels), task.layout
    mask, rows = layout.local_slice(rows < count), jnp.minimum(rows, count - 1)
    batch, rows = layout.gather(images, rows), layout.local_slice(rows)
    return eval_step(task, params, stats, batch, labels[rows], mask)


def _pad(array: np.ndarray, fill: int) -> np.ndarray:
    return np.concatenate([array, np.zeros((fill, *array.shape[1:]), array.dtype)])
