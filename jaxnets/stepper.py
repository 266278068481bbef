"""The compiled training steps of a run, with its data on the devices."""

import functools
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from jaxnets import _cpu_memory
from jaxnets.data import Dataset
from jaxnets.data.batches import epoch_order
from jaxnets.train_step import Task, Totals, TrainState, advance, train_epoch, train_step


class Stepper:
    """Runs the steps of an epoch: one a call, or all of them in one.

    On a CPU a loop of convolutions inside one program is far slower than one program a step, and
    on an accelerator a call a step leaves it waiting for Python: `whole_epochs` says which.

    Between `put` and `take` the state belongs to the devices: each call donates it to the next.
    Nothing but `start_epoch` and `read` moves data between the host and the devices.
    """

    def __init__(
        self,
        task: Task,
        data: Dataset,
        state: TrainState,
        say: Callable[[str], None] = lambda _: None,
        *,
        whole_epochs: bool | None = None,
    ):
        """Compiles what a run needs; `whole_epochs` None: on everything but a CPU."""
        self._task, self._count, self._say = task, len(data.train_labels), say
        layout = task.layout
        if whole_epochs is None:
            whole_epochs = layout.devices[0].platform != "cpu"
        self.whole_epochs = whole_epochs
        self._data = layout.put((data.train_images, data.train_labels))
        self.start_epoch(0)
        example = (*layout.put((state, Totals.zero())), *self._data, self._order)
        self._example = jax.tree.map(layout.describe, example)
        self._programs: dict[int | str, Callable] = {}
        sizes = sorted({task.batch_size, self._last_size}, reverse=True)
        self._compile(["epoch"] if whole_epochs else sizes)

    @property
    def _last_size(self) -> int:
        return self._count - (self._task.steps_per_epoch - 1) * self._task.batch_size

    def _compile(self, programs: Sequence[int | str]) -> None:
        """Compiles, side by side, the program of an "epoch" or of one step of that many images."""

        def compile_one(program: int | str) -> tuple[Callable, float]:
            started = time.perf_counter()
            if program == "epoch":
                step = functools.partial(train_epoch, self._task, last_size=self._last_size)
            else:
                step = functools.partial(train_step, self._task, size=program)
            compiled = self._task.layout.compile(step, *self._example, donate=2)
            return compiled, time.perf_counter() - started

        with ThreadPoolExecutor() as pool:
            done = pool.map(compile_one, programs)
            for program, (compiled, seconds) in zip(programs, done, strict=True):
                self._programs[program] = compiled
                what = "an epoch" if program == "epoch" else f"the step for batches of {program}"
                self._say(f"compiled {what} in {seconds:.1f} s")
        if self._task.layout.devices[0].platform == "cpu":
            _cpu_memory.keep(max(map(_temporaries, self._programs.values())))

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
        if size not in self._programs:  # an epoch that cannot be run whole
            self._compile([size])
        return self._programs[size](state, totals, *self._data, self._order)

    def epoch(self, state: TrainState, totals: Totals) -> tuple[TrainState, Totals, jax.Array]:
        """All steps of the epoch in one call, and what `train_epoch` says of each, (steps,)."""
        return self._programs["epoch"](state, totals, *self._data, self._order)

    def skip(self, state: TrainState) -> TrainState:
        """The state after a step whose batch is left out."""
        return advance(state, 1)

    def read(self, totals: Totals) -> Any:
        """The totals, or what `epoch` says of the steps, as numpy; waits for the steps before."""
        one = (lambda x: x[0]) if self._task.layout.kind == "pmap" else lambda x: x
        return jax.tree.map(lambda x: one(np.asarray(x)), jax.device_get(totals))


def _temporaries(program: Any) -> int:
    """Bytes that a compiled program takes on all devices of this process while it runs."""
    return program.memory_analysis().temp_size_in_bytes * jax.local_device_count()
