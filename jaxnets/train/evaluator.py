"""Passes over a whole split: how good weights are on it, and the statistics that go with them."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.augment.pipeline import normalize
from jaxnets.devices.layout import AXIS, Layout
from jaxnets.models.functional import Arrays
from jaxnets.optim import averaging as averages
from jaxnets.train.step import Task, TrainState, eval_step
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
        rows = _rows(self._count, batch_size, layout)
        if layout.many_processes:
            self._fixed, step = (images, layout.replicate(labels)), _gathering_step
            arrays = (rows,)
        else:
            self._fixed, step = (), eval_step
            arrays = _filled(images, rows), _filled(labels, rows), rows < self._count
        self._batches = [self._put(batch) for batch in zip(*arrays, strict=True)]

        def evaluate(params: dict, stats: dict, fixed: tuple, batch: tuple):
            return step(task, params, stats, *fixed, *batch)

        self._step = _compiled(evaluate, layout)

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


def _rows(count: int, batch_size: int, layout: Layout) -> np.ndarray:
    """Of `count` images in batches that the devices divide, int32 (batches, size).

    Those from `count` on only fill the last one up.
    """
    size = min(batch_size, count)
    size += -size % layout.size
    return np.arange(count + -count % size, dtype=np.int32).reshape(-1, size)


def _filled(array: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The values of so many rows, zeros where there are no more, in their shape."""
    fill = np.zeros((rows.size - len(array), *array.shape[1:]), array.dtype)
    return np.concatenate([array, fill]).reshape(*rows.shape, *array.shape[1:])


def _compiled(step: Callable, layout: Layout) -> Callable:
    """For one process or many, all of which then have the result whole."""
    return jax.jit(step, **({"out_shardings": layout.sharding()} if layout.many_processes else {}))


class Statistics:
    """Recomputes the statistics that an average of the weights is evaluated with.

    Each is the mean over batches of the training images, as they are: not augmented, in their
    order, without dropout.  `torch.optim.swa_utils.update_bn` does so, with dropout.

    images: uint8 (N, H, W, 3), as `Layout.shard` keeps them; count: N.
    """

    def __init__(self, task: Task, images: np.ndarray, count: int, batch_size: int):
        self._task, self._images, self._count = task, images, count
        self._rows = _rows(count, batch_size, task.layout)
        self._step = _compiled(self._add, task.layout)

    def _add(
        self, params: Arrays, sums: Arrays, k: jax.Array, images: jax.Array, rows: jax.Array
    ) -> Arrays:
        """The statistics of k batches and one more, of whose rows some only fill it up."""
        layout, count = self._task.layout, self._count
        mask = rows < count
        if layout.many_processes:
            images = layout.gather(images, jnp.minimum(rows, count - 1))
            mask = layout.local_slice(mask)
        images = normalize(images, self._task.mean, self._task.std, jnp.dtype(self._task.dtype))
        found = self._task.network.batch_statistics(params, sums, images, mask)

        def mean(old: jax.Array, new: jax.Array) -> jax.Array:
            return jnp.where(k == 0, new, old + (new - old) / jnp.asarray(k + 1, old.dtype))

        return {
            name: mean(old, found[name]) if jnp.issubdtype(old.dtype, jnp.floating) else old
            for name, old in sums.items()
        }

    def _batches(self) -> Iterator[tuple[jax.Array, jax.Array]]:
        layout = self._task.layout
        for rows in self._rows:
            if layout.many_processes:
                yield self._images, layout.replicate(rows)
                continue
            images = _filled(self._images[rows[0] : rows[-1] + 1], rows)
            yield jax.device_put((images, rows), layout.sharding(AXIS))

    def refreshed(
        self, kind: str, state: TrainState, stopped: Callable[[], bool] = lambda: False
    ) -> TrainState | None:
        """The state with the statistics of its average of that kind.

        An average that has not taken any weights keeps theirs.  `stopped` is asked between batches;
        once it says so the pass is given up: None.
        """
        kept = averages.averages_of(state.opt_state)
        average = kept[kind]
        if int(average.n_averaged) == 0:
            return state
        params, stats = state.params | average.params, average.stats
        for k, batch in enumerate(self._batches()):
            if k and stopped():
                return None
            stats = self._step(params, stats, np.int32(k), *batch)
        average = average._replace(stats=stats)
        return state._replace(opt_state=state.opt_state._replace(averages={**kept, kind: average}))
