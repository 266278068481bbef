"""From a configuration to what a run works with: data, network, optimizer, first state."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnets import checks
from jaxnets.augment.options import read_mix
from jaxnets.augment.pipeline import make_augment
from jaxnets.config import PARAM_DTYPES, model_options
from jaxnets.config.averaging import averaging
from jaxnets.config.loss_scale import read_loss_scaling
from jaxnets.config.muon import check_kernels
from jaxnets.config.parts import frozen_norms, parts
from jaxnets.data import Dataset, load
from jaxnets.data.batches import steps_per_epoch
from jaxnets.data.identity import identity
from jaxnets.data.whitening import whitening_kernel
from jaxnets.devices.layout import make_layout
from jaxnets.errors import UserError
from jaxnets.models import create_model
from jaxnets.models.functional import Network, split
from jaxnets.models.torch_names import parameter_names, slots
from jaxnets.optim import make_optimizer
from jaxnets.train.step import Task, TrainState, init_state


class Run(NamedTuple):
    """A task with its data and the state it starts from."""

    task: Task
    data: Dataset
    state: TrainState
    identity: dict[str, Any]
    """Of the data, for its checkpoints: where several processes train, each holds a part of it."""


def build_model(config: Any, data_classes: int) -> nnx.Module:
    """The network of `config.model`, its initial weights drawn from `config.seed`."""
    num_classes, options = model_options(config, data_classes)
    try:
        _check_parameters(config.model.name, num_classes, options)
        return create_model(
            config.model.name,
            num_classes,
            dtype=jnp.dtype(config.dtype),
            param_dtype=jnp.dtype(PARAM_DTYPES[config.dtype]),
            rngs=nnx.Rngs(config.seed),
            **options,
        )
    except UserError as e:
        raise UserError(f"config.model: {e}") from e


def _check_parameters(name: str, num_classes: int, options: dict[str, Any]) -> None:
    """Raises a UserError where the weights would not fit into any memory, before they are drawn."""
    numbers = [x for x in jax.tree.leaves((num_classes, options)) if isinstance(x, int | float)]
    if max(numbers) < 1024:  # an ordinary network, not worth the time of tracing it
        return
    model = nnx.eval_shape(lambda: create_model(name, num_classes, **options))
    count = sum(math.prod(x.shape) for x in jax.tree.leaves(nnx.state(model, nnx.Param)))
    checks.parameters(name, count)


def build(
    config: Any, data: Dataset | None = None, fill: Callable[[nnx.Module], None] | None = None
) -> Run:
    """Loads the data, unless it is given, and builds everything a run needs.

    Args:
        fill: puts other initial weights into the network than those drawn from `config.seed`.

    Raises:
        UserError: a value of the configuration that does not fit, or data that is not there.
    """
    layout = make_layout(config.parallel, config.devices)
    if config.batch_size < layout.size:
        raise UserError(
            f"config.batch_size={config.batch_size}: at least one image for each of the "
            f"{layout.size} devices; raise it, or lower config.devices"
        )
    augment = make_augment(config.augment)
    mix = read_mix(config.augment, config.batch_size)
    # A dry run of the optimizer's checks: a typo there must not wait for the data.
    make_optimizer(config.optim, config.schedule, steps_per_epoch=1, num_epochs=config.num_epochs)
    data = load(config) if data is None else data
    count = len(data.train_images)
    if config.batch_size > count:
        raise UserError(f"config.batch_size={config.batch_size}: at most the {count} images")
    model = build_model(config, len(data.class_names))
    if config.model.get("whiten"):
        kernel = whitening_kernel(data.train_images, config.data.mean, config.data.std)
        held = model.whiten[0].kernel
        held.set_value(jnp.asarray(kernel, held[...].dtype))
    if fill is not None:
        fill(model)
    network, params, stats = split(model)
    found = parts(config.optim, parameter_names(slots(model)))
    norms = {name.removesuffix(".mean") for name in stats if name.endswith(".mean")}
    network = network._replace(
        frozen=found.frozen,
        fixed_norms=frozen_norms(found.frozen, {n: (f"{n}.scale", f"{n}.bias") for n in norms}),
    )
    check_kernels(config.optim, {name: p.ndim for name, p in params.items()}, found.frozen)
    steps = steps_per_epoch(count, config.batch_size)
    optimizer = make_optimizer(
        config.optim,
        config.schedule,
        steps_per_epoch=steps,
        num_epochs=config.num_epochs,
        scales=found.scales,
        loss_scaling=read_loss_scaling(config),
    )
    _check_size(config, network, params, stats, data.train_images.shape[1:])
    task = Task(
        network=network,
        optimizer=optimizer,
        augment=augment,
        mean=tuple(config.data.mean),
        std=tuple(config.data.std),
        dtype=config.dtype,
        label_smoothing=config.loss.label_smoothing,
        seed=config.seed,
        batch_size=config.batch_size,
        steps_per_epoch=steps,
        layout=layout,
        averaging=averaging(config.optim, steps),
        mix=mix,
    )
    known = identity(data)
    data = data._replace(
        train_images=layout.shard(data.train_images),
        test_images=layout.shard(data.test_images),
        val_images=layout.shard(data.val_images),
    )
    state = init_state(params, stats, optimizer.tx, network.frozen, task.averaging)
    return Run(task, data, state, known)


def _check_size(config: Any, network: Network, params: dict, stats: dict, shape: tuple) -> None:
    """Every network takes 32x32 images; some end in a layer that takes no other size."""
    if shape[:2] == (32, 32):
        return
    image = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    try:
        jax.eval_shape(functools.partial(network.apply, train=False), params, stats, image)
    except (IndexError, TypeError, ValueError) as e:
        raise UserError(
            f"config.data.image_size={shape[0]}: {config.model.name} does not take images of that "
            "size; 32 suits every network"
        ) from e
