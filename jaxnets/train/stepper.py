"""The compiled training steps of a run, with its data on the devices; how far a loop runs ahead."""

import functools
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from jaxnets.data import Dataset
from jaxnets.data.batches import epoch_order
from jaxnets.devices import cpu_memory
from jaxnets.devices.layout import AXIS
from jaxnets.train.step import Task, Totals, TrainState, advance, train_step, train_steps

_MANY = "many"  # the program of as many steps as it is told


class Stepper:
    """Runs the steps of an epoch: one a call, or many.

    On a CPU a loop of convolutions inside one program is far slower than one program a step, and
    on an accelerator a call a step leaves it waiting for Python: `whole_epochs` says which.  The
    last step of an epoch is always a call of its own if its batch is smaller.

    Between `replicate` and `unreplicate` the state belongs to the devices: each call donates it to
    the next.  Nothing but `start_epoch` and `read` moves data between the host and the devices, but
    for the number of steps, when it is a new one.
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
        self._data = layout.replicate((data.train_images, data.train_labels))
        self.start_epoch(0)
        example = (*layout.replicate((state, Totals.zero())), *self._data, self._order)
        self._example = jax.tree.map(self._described, example)
        self._programs: dict[int | str, Callable] = {}
        self._numbers: dict[int, jax.Array] = {}
        sizes = {task.batch_size, self._last_size}
        if whole_epochs:
            self._compile([_MANY, *(sizes - {task.batch_size})])
        else:
            self._compile(sorted(sizes, reverse=True))

    @property
    def _last_size(self) -> int:
        return self._count - (self._task.steps_per_epoch - 1) * self._task.batch_size

    @property
    def full_steps(self) -> int:
        """How many steps of an epoch have a whole batch: all, or all but the last."""
        return self._count // self._task.batch_size

    def _compile(self, programs: Sequence[int | str]) -> None:
        """Compiles, side by side, the program of many steps or of one step of that many images."""

        def name(program: int | str) -> str:
            size = self._task.batch_size if program == _MANY else program
            return f"the step{'s' * (program == _MANY)} for batches of {size}"

        def compile_one(program: int | str) -> tuple[Callable, float]:
            started, task, layout = time.perf_counter(), self._task, self._task.layout
            if program == _MANY:
                step = functools.partial(train_steps, task)
                args = (*self._example, self._described(self._number(1)))
            else:
                step, args = functools.partial(train_step, task, size=program), self._example
            if layout.kind == "pmap":
                mapped = jax.pmap(step, AXIS, devices=layout.devices, donate_argnums=0)
            else:
                mapped = jax.jit(step, donate_argnums=0, out_shardings=layout.sharding())
            return mapped.lower(*args).compile(), time.perf_counter() - started

        self._say(f"compiling {' and '.join(map(name, programs))} ...")
        with ThreadPoolExecutor() as pool:
            done = pool.map(compile_one, programs)
            for program, (compiled, seconds) in zip(programs, done, strict=True):
                self._programs[program] = compiled
                self._say(f"compiled {name(program)} in {seconds:.1f} s")
        if self._task.layout.devices[0].platform == "cpu":
            cpu_memory.give_back()
            cpu_memory.keep(max(map(_temporaries, self._programs.values())))

    def _described(self, array: jax.Array) -> jax.ShapeDtypeStruct:
        """What compiling needs to know of an argument; pmap decides for itself where it lies."""
        sharding = None if self._task.layout.kind == "pmap" else array.sharding
        return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=sharding)

    def _number(self, count: int) -> jax.Array:
        """An int32 on the devices."""
        if count not in self._numbers:
            self._numbers[count] = self._task.layout.replicate(np.int32(count))
        return self._numbers[count]

    def start_epoch(self, epoch: int) -> None:
        """Sends the order of the epoch's images to the devices."""
        order = epoch_order(self._task.seed, epoch, self._count)
        self._order = self._task.layout.replicate(order)

    def replicate(self, state: TrainState, totals: Totals) -> tuple[TrainState, Totals]:
        """The state as `step` takes it, on every device; donates its argument."""
        return self._task.layout.replicate((state, totals))

    def unreplicate(self, state: TrainState, totals: Totals) -> tuple[TrainState, Totals]:
        """One copy of the state."""
        return self._task.layout.unreplicate((state, totals))

    def step(self, state: TrainState, totals: Totals, index: int) -> tuple[TrainState, Totals]:
        """Step `index` (from 0) of the epoch that `start_epoch` named; does not wait for it."""
        last = index + 1 == self._task.steps_per_epoch
        size = self._last_size if last else self._task.batch_size
        return self._programs[size](state, totals, *self._data, self._order)

    def steps(
        self, state: TrainState, totals: Totals, count: int
    ) -> tuple[TrainState, Totals, jax.Array]:
        """The next `count` steps in one call, `full_steps` at most; what `train_steps` returns."""
        program = self._programs[_MANY]
        return program(state, totals, *self._data, self._order, self._number(count))

    def epoch(self, state: TrainState, totals: Totals) -> tuple[TrainState, Totals]:
        """A whole epoch in as few calls as can be."""
        done = 0
        if self.whole_epochs:
            done = self.full_steps
            state, totals, _ = self.steps(state, totals, done)
        for index in range(done, self._task.steps_per_epoch):
            state, totals = self.step(state, totals, index)
        return state, totals

    def skip(self, state: TrainState) -> TrainState:
        """The state after a step whose batch is left out."""
        return advance(state, 1)

    def read(self, values: Any) -> Any:
        """Totals, or what `steps` says of each, as numpy; waits for the steps before."""
        one = (lambda x: x[0]) if self._task.layout.kind == "pmap" else lambda x: x
        return jax.tree.map(lambda x: one(np.asarray(x)), jax.device_get(values))


def _temporaries(program: Any) -> int:
    """Bytes that a compiled program takes on all devices of this process while it runs."""
    return program.memory_analysis().temp_size_in_bytes * jax.local_device_count()


class Ahead:
    """Bounds the steps that the devices have been given and have not done yet.

    They cannot be taken back: whoever asks a loop to stop waits for them.  On a CPU there are two
    calls at most, and on accelerators, which must never wait for Python, what they do in `SECONDS`,
    and at least two calls.  Nothing is moved to the host for it.
    """

    SECONDS = 0.5

    def __init__(self, platform: str):
        """`platform`: of the devices, as jax calls it."""
        self._by_time = platform != "cpu"
        self._sent: deque[tuple[int, Any]] = deque()
        self._outstanding = 0
        self._before = 0.0  # when the last call that was waited for was done
        self._rate = 0.0  # steps a second
        self._largest = 1

    @property
    def steps(self) -> int:
        """How many steps one call may do where it may do many; grows from 1."""
        return max(1, min(int(self._rate * self.SECONDS), 2 * self._largest))

    def send(self, steps: int, result: Any) -> list[Any]:
        """Notes a call of so many steps, and its result: arrays that no later call takes.

        Waits where that is too much ahead; returns the results that it has waited for.
        """
        if not self._sent:
            self._before = time.perf_counter()
        self._sent.append((steps, result))
        self._outstanding += steps
        self._largest = max(self._largest, steps)
        done = []
        while len(self._sent) > 1 and self._outstanding > self._allowed:
            done.append(self._wait())
        return done

    def rest(self) -> list[Any]:
        """Waits for all calls; returns the results that `send` has not."""
        return [self._wait() for _ in range(len(self._sent))]

    @property
    def _allowed(self) -> float:
        return self._rate * self.SECONDS if self._by_time else 0

    def _wait(self) -> Any:
        steps, result = self._sent.popleft()
        self._outstanding -= steps
        jax.block_until_ready(result)
        now = time.perf_counter()
        self._rate = steps / max(now - self._before, 1e-6)
        self._before = now
        return result
