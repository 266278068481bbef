"""The compiled training steps of a run, with its data on the devices."""

import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxnets.data import Dataset
from jaxnets.data.batches import epoch_order
from jaxnets.train_step import Task, Totals, TrainState, train_step


class Stepper:
    """Compiles the step for each batch size of an epoch: the full one and the last, smaller one.

    Between `put` and `take` the state belongs to the devices: each step donates it to the next.
    """

    def __init__(
        self,
        task: Task,
        data: Dataset,
        state: TrainState,
        say: Callable[[str], None] = lambda _: None,
    ):
        self._task, self._count = task, len(data.train_labels)
        layout = task.layout
        self._data = layout.put((data.train_images, data.train_labels))
        self.start_epoch(0)
        example = (*layout.put((state, Totals.zero())), *self._data, self._order)
        self._steps = {}
        for size in sorted({task.batch_size, self._last_size}, reverse=True):
            started = time.perf_counter()
            step = functools.partial(train_step, task, size=size)
            self._steps[size] = layout.compile(step, *example, donate=2)
            say(f"compiled the step for batches of {size} in {time.perf_counter() - started:.1f} s")

    @property
    def _last_size(self) -> int:
        return self._count - (self._task.steps_per_epoch - 1) * self._task.batch_size

    def start_epoch(self, epoch: int) -> None:
        """Sends the order of the epoch's images to the devices."""
        order = epoch_order(self._task.seed, epoch, self._count)
        self._order = self._task.layout.put(order)

    def put(self, state: TrainState, totals: Totals) -> tuple[TrainState, Totals]:
        """The state as `step` takes it; do not use the one given again."""
        return self._task.layout.put((state, totals))

    def take(self, state: TrainState, totals: Totals) -> tuple[TrainState, Totals]:
        """The state as everybody else takes it."""
        return self._task.layout.take((state, totals))

    def step(self, state: TrainState, totals: Totals, index: int) -> tuple[TrainState, Totals]:
        """Step `index` (from 0) of the epoch that `start_epoch` named; does not wait for it."""
        last = index + 1 == self._task.steps_per_epoch
        size = self._last_size if last else self._task.batch_size
        return self._steps[size](state, totals, *self._data, self._order)

    def read(self, totals: Totals) -> Any:
        """The totals as numpy scalars; waits for the steps before."""
        return jax.tree.map(lambda x: np.asarray(x).reshape(-1)[0], jax.device_get(totals))
