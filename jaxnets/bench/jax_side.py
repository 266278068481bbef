"""What is timed in JAX: the steps, the evaluation and the network that runs use."""

import functools
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.data import Dataset
from jaxnets.timing import Clock, Work, timed
from jaxnets.train.evaluator import Evaluator
from jaxnets.train.step import Totals, TrainState, predict
from jaxnets.train.stepper import Stepper
from jaxnets.train.task import Run, build


class JaxSide:
    """A run of a recipe: `train`, `evaluate` and `latency` are its work, in images.

    A call trains one step, or a whole epoch where runs do (`steps_per_call`), and so does the one
    that `first_step_seconds` is about, the first after compilation.
    """

    def __init__(self, config: Any, data: Dataset, clock: Clock = time.perf_counter):
        self.device = jax.local_devices()[0]
        run = build(config, data)
        task, layout = run.task, run.task.layout
        # Copies: training donates its own buffers.
        weights = jax.tree.map(jnp.copy, (run.state.params, run.state.stats))
        weights = layout.unreplicate(layout.replicate(weights))
        self.parameters = sum(p.size for p in run.state.params.values())
        self.compile_seconds = timed(functools.partial(self._compile, run, config), clock)
        self.first_step_seconds = timed(lambda: self._train(1), clock)
        self.train = Work(self._train, self.images_per_call)

        evaluator = Evaluator(task, data.test_images, data.test_labels, task.batch_size)
        self.evaluate = Work(
            lambda units: [evaluator(*weights) for _ in range(units)], len(data.test_labels)
        )

        self.latency = latency(run, weights)

    @property
    def state(self) -> TrainState:
        """After the steps so far."""
        return self._state[0]

    def _compile(self, run: Run, config: Any) -> None:
        self._stepper = Stepper(
            run.task, run.data, run.state, whole_epochs=config.epoch_in_one_call
        )
        self._state = self._stepper.replicate(run.state, Totals.zero())
        jax.block_until_ready(self._state)
        steps = run.task.steps_per_epoch
        whole = self._stepper.whole_epochs
        self._calls = 1 if whole else steps  # in an epoch
        self.steps_per_call = steps if whole else 1
        self.images_per_call = self.steps_per_call * run.task.batch_size
        self._done = 0

    def _train(self, calls: int) -> None:
        for _ in range(calls):
            epoch, index = divmod(self._done, self._calls)
            if index == 0:
                self._stepper.start_epoch(epoch)
            if self._stepper.whole_epochs:
                self._state = self._stepper.epoch(*self._state)
            else:
                self._state = self._stepper.step(*self._state, index)
            self._done += 1
        jax.block_until_ready(self._state)


def product(dtype: str, on_cpu: bool) -> tuple[Work, int]:
    """A square matrix product, in operations, and its size: what the device can do at best."""
    size = 1024 if on_cpu else 8192
    x = jax.random.normal(jax.random.key(0), (size, size), jnp.dtype(dtype))
    multiply = jax.jit(jnp.matmul)

    def run(units: int) -> None:
        for _ in range(units):
            result = multiply(x, x)
        result.block_until_ready()

    return Work(run, 2 * size**3), size


def latency(run: Run, weights: tuple) -> Work:
    """One test image after the other through the network; weights as (params, stats)."""
    image = jax.device_put(run.data.test_images[:1], run.task.layout.sharding())
    forward = jax.jit(functools.partial(predict, run.task))
    return Work(functools.partial(_one_by_one, forward, weights, image))


def _one_by_one(forward, weights: tuple, image: np.ndarray, units: int) -> None:
    """One image at a time: the next one is sent when the logits of the last are there."""
    for _ in range(units):
        forward(*weights, image).block_until_ready()
