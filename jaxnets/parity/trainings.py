"""Two trainings side by side, with the same initial weights, batches, augmentation and dropout.

Each framework takes the step of its trainer.  Only the dropout masks, which each draws in its own
way, go from JAX to PyTorch.
"""

import functools
import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.data.batches import epoch_order
from jaxnets.models.torch_names import StateDict, to_state_dict
from jaxnets.parity.masks import dropout_masks, force_masks
from jaxnets.train.step import Task, Totals, TrainState, dropout_key, train_step
from jaxnets.train.task import Run, build

if TYPE_CHECKING:
    import torch

    import torch_ref.step


class Side(NamedTuple):
    """A step in one framework."""

    lr: float
    loss: float
    """The batch's mean."""
    grad_norm: float
    """Before clipping."""


class Row(NamedTuple):
    """One step in both frameworks, and how far apart they are after it."""

    step: int
    """Steps done."""
    jax: Side
    torch: Side
    parameters: float
    """|jax - torch| / |torch|, over all parameters together."""
    statistics: float
    """The same over all of BatchNorm's means and variances."""
    furthest: str
    """The parameter, by PyTorch's name, that adds most to that distance."""


def compare(config: Any, steps: int, seen: Callable[[Row], None] = lambda row: None) -> list[Row]:
    """Trains for `steps` steps in both frameworks, from JAX's initial weights, on one device each.

    Args:
        config: of the recipe; its dtype needs `jaxnets.devices.runtime.setup` before.
        seen: is called with each row as it comes.
    """
    import torch

    from torch_ref.loop import batch
    from torch_ref.step import train_step as torch_step

    # In TF32 neither framework would compute in float32.
    torch.backends.cudnn.allow_tf32 = False
    config = config.copy_and_resolve_references()
    config.parallel, config.devices = "jit", 1
    run = build(config)
    task, data, state = run.task, run.data, run.state
    twin = _make_twin(config, run)
    arrays = jax.device_put((data.train_images, data.train_labels))
    jax_step = jax.jit(functools.partial(train_step, task), static_argnames="size")
    masks = jax.jit(functools.partial(_masks, task, _shapes(state)), static_argnums=1)
    zero = jax.tree.map(lambda x: x.astype(float), Totals.zero())  # float64 where there is one
    rows = []
    with jax.default_matmul_precision("highest"):
        for step in range(steps):
            epoch, index = divmod(step, task.steps_per_epoch)
            order = epoch_order(task.seed, epoch, len(data.train_labels))
            images, labels = batch(twin, data, order, index)
            lrs = float(task.optimizer.lr(state.updates)), twin.optimizer.lr
            force_masks(twin.net, masks(step, tuple(images.shape)))
            state, in_jax = jax_step(state, zero, *arrays, order, size=len(labels))
            in_torch = torch_step(twin, step, images, labels)
            sides = [_side(*pair) for pair in zip(lrs, (in_jax, in_torch), strict=True)]
            rows.append(Row(step + 1, *sides, *_distances(task, state, twin.net)))
            seen(rows[-1])
    return rows


def _make_twin(config: Any, run: Run) -> "torch_ref.step.Task":
    import torch

    import torch_ref.task

    weights = to_state_dict(run.task.network.merge(run.state.params, run.state.stats))
    tensors = {name: torch.tensor(value) for name, value in weights.items()}
    return torch_ref.task.build(config, run.data, tensors)


def _shapes(state: TrainState) -> tuple[Any, Any]:
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), (state.params, state.stats)
    )


def _masks(task: Task, shapes: tuple[Any, Any], step: jax.Array, shape: tuple[int, ...]) -> dict:
    """The masks of step `step` (from 0) for images of `shape`: no value of the network matters."""
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    images = jnp.zeros(shape, task.dtype)
    return dropout_masks(task.network, *zeros, images, dropout_key(task.seed, step))


def _side(lr: float, totals: Any) -> Side:
    """From the totals of one step."""
    return Side(lr, float(totals.loss) / float(totals.images), float(totals.grad_norm))


def _distances(task: Task, state: TrainState, net: "torch.nn.Module") -> tuple[float, float, str]:
    in_jax = to_state_dict(task.network.merge(state.params, state.stats))
    # `named_parameters` has a shared kernel once.
    parameters, furthest = _distance(in_jax, net.named_parameters())
    buffers = ((k, v) for k, v in net.named_buffers() if not k.endswith("num_batches_tracked"))
    return parameters, _distance(in_jax, buffers)[0], furthest


def _distance(
    in_jax: StateDict, in_torch: "Iterable[tuple[str, torch.Tensor]]"
) -> tuple[float, str]:
    """|in_jax - in_torch| / |in_torch| over all tensors, and the name of the furthest one."""
    apart, total = {}, 0.0
    with np.errstate(over="ignore", invalid="ignore"):  # the verdict says it: NOT FINITE
        for name, tensor in in_torch:
            value = tensor.detach().cpu().double().numpy()
            apart[name] = float(np.square(in_jax[name].astype(np.float64) - value).sum())
            total += float(np.square(value).sum())
    return math.sqrt(sum(apart.values()) / total), max(apart, key=apart.__getitem__)
