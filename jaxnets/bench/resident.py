"""The most memory that a training holds on a CPU: each side in a process that does nothing else.

Data of CIFAR's size, compilation without a cache, eight steps and an evaluation of two batches, and
both once more.
"""

import contextlib
import os
from typing import Any

import numpy as np

from jaxnets import config as configs
from jaxnets.bench.case import Case, synthetic
from jaxnets.bench.peak import peak_resident
from jaxnets.data import Dataset

STEPS, ROUNDS = 8, 2
JAX, TORCH = "jax", "torch"


def resident(case: Case, side: str) -> int:
    """Bytes that this process held at most, after a training of one side; for a process of its own.

    Args:
        side: JAX or TORCH.
    """
    config = configs.from_json(case.config)
    data = synthetic(config, on_cpu=False)
    most = 2 * config.eval_batch_size
    data = data._replace(test_images=data.test_images[:most], test_labels=data.test_labels[:most])
    (_train_jax if side == JAX else _train_torch)(config, data)
    return peak_resident()


def _train_jax(config: Any, data: Dataset) -> None:
    os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
    from jaxnets.devices import cpu_memory, runtime

    runtime.setup(config.dtype, one_heap=True)

    from jaxnets.train.evaluator import Evaluator
    from jaxnets.train.step import Totals
    from jaxnets.train.stepper import Ahead, Stepper
    from jaxnets.train.task import build

    run = build(config, data)
    stepper = Stepper(run.task, data, run.state, whole_epochs=config.epoch_in_one_call)
    evaluator = Evaluator(run.task, data.test_images, data.test_labels, config.eval_batch_size)
    evaluator.compile(run.state.params, run.state.stats)
    cpu_memory.give_back()
    state, ahead = run.state, Ahead(run.task.layout.devices[0].platform)
    for _ in range(ROUNDS):
        on_devices, totals = stepper.replicate(state, Totals.zero())
        for index in range(min(STEPS, stepper.full_steps)):
            on_devices, totals = stepper.step(on_devices, totals, index)
            ahead.send(1, totals)
        ahead.rest()
        state, _ = stepper.unreplicate(on_devices, totals)
        cpu_memory.give_back()
        evaluator(state.params, state.stats)
        cpu_memory.give_back()


def _train_torch(config: Any, data: Dataset) -> None:
    import torch

    from torch_ref.loop import batch
    from torch_ref.step import evaluate, train_step
    from torch_ref.task import build

    with contextlib.suppress(AttributeError):
        torch.set_num_threads(len(os.sched_getaffinity(0)))
    task = build(config, data)
    order = np.arange(len(data.train_labels))
    test = torch.from_numpy(data.test_images), torch.from_numpy(data.test_labels).long()
    for _ in range(ROUNDS):
        for index in range(min(STEPS, len(order) // config.batch_size)):
            train_step(task, index, *batch(task, data, order, index))
        with torch.no_grad():
            evaluate(task, *test, config.eval_batch_size)
