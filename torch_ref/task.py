"""From a configuration to a network in training."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from jaxnets import checks
from jaxnets.augment.options import read_mix
from jaxnets.config import model_options
from jaxnets.config.averaging import averaging
from jaxnets.config.loss_scale import read_loss_scaling
from jaxnets.config.muon import check_kernels
from jaxnets.config.parts import frozen_norms, parts
from jaxnets.data import Dataset
from jaxnets.data.batches import steps_per_epoch
from jaxnets.errors import UserError
from torch_ref.augment import make_augment
from torch_ref.averaging import begin
from torch_ref.models import create_model
from torch_ref.optim import groups, make_optimizer
from torch_ref.step import Task, param_dtype
from torch_ref.whitening import whitening_kernel


def build(
    config: Any,
    data: Dataset,
    weights: Mapping[str, Tensor] | None = None,
    fill: Callable[[nn.Module], None] | None = None,
) -> Task:
    """Everything a run needs, on the GPU if there is one.

    Args:
        weights: the initial ones; if left out they are torch's own, drawn from `config.seed`.
        fill: puts others into the network.

    Raises:
        UserError: a value of the configuration, or weights, that do not fit.
    """
    count = len(data.train_images)
    if config.batch_size > count:
        raise UserError(f"config.batch_size={config.batch_size}: at most the {count} images")
    mix = read_mix(config.augment, config.batch_size)
    with _blaming("config"):
        augment = make_augment(config.augment)
    net = _network(config, len(data.class_names))
    found = parts(config.optim, parameter_names(net))
    with _blaming("config.model"):
        height, width, _ = data.train_images.shape[1:]
        with torch.no_grad():  # what the options cannot compute, they say here
            net.eval()(torch.zeros(1, 3, height, width))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    net.to(device, param_dtype(config.dtype), memory_format=torch.channels_last)
    if config.model.get("whiten"):
        images = torch.from_numpy(data.train_images)
        kernel = whitening_kernel(images, config.data.mean, config.data.std)
        net.whiten[0].weight.data.copy_(kernel)
    if weights is not None:  # before the optimizer: Lookahead's slow weights start here too
        with _blaming("the initial weights"):
            net.load_state_dict(weights)
    if fill is not None:
        fill(net)
    check_kernels(config.optim, {name: p.ndim for name, p in net.named_parameters()}, found.frozen)
    steps = steps_per_epoch(count, config.batch_size)
    with _blaming("config.optim or config.schedule"):
        for name, parameter in net.named_parameters():
            parameter.requires_grad_(name not in found.frozen)
        named = found.scales or config.optim.name == "muon"
        trained = {name: p for name, p in net.named_parameters() if p.requires_grad}
        optimizer = make_optimizer(
            groups(trained, found.scales) if named else trained.values(),
            config.optim,
            config.schedule,
            steps_per_epoch=steps,
            num_epochs=config.num_epochs,
        )
    averages, scaling = averaging(config.optim, steps), read_loss_scaling(config)
    scale = {"enabled": False} if scaling is None else scaling._asdict()
    return Task(
        net=net,
        averaging=averages,
        averages=begin(averages, net),
        fixed_norms=_fixed_norms(net),
        optimizer=optimizer,
        augment=augment,
        mean=config.data.mean,
        std=config.data.std,
        dtype=config.dtype,
        device=device,
        label_smoothing=config.loss.label_smoothing,
        seed=config.seed,
        batch_size=config.batch_size,
        steps_per_epoch=steps,
        mix=mix,
        scaler=torch.amp.GradScaler(device.type, **scale),
    )


def parameter_names(net: nn.Module) -> dict[str, list[str]]:
    """Every parameter by its first name, with all the names that it has."""
    found: dict[Tensor, list[str]] = {}
    for name, parameter in net.named_parameters(remove_duplicate=False):
        found.setdefault(parameter, []).append(name)
    return {names[0]: names for names in found.values()}


def _fixed_norms(net: nn.Module) -> tuple[nn.Module, ...]:
    """The BatchNorm layers of which every parameter is frozen."""
    norms = {name: m for name, m in net.named_modules() if isinstance(m, nn.BatchNorm2d)}
    frozen = [id(p) for p in net.parameters() if not p.requires_grad]
    fixed = frozen_norms(frozen, {k: map(id, m.parameters()) for k, m in norms.items()})
    return tuple(norms[name] for name in fixed)


def _network(config: Any, data_classes: int) -> nn.Module:
    """The network of `config.model`, its initial weights drawn from `config.seed`."""
    num_classes, options = model_options(config, data_classes)
    try:
        with torch.device("meta"):  # no memory is asked for
            planned = create_model(config.model.name, num_classes, **options)
        checks.parameters(config.model.name, sum(p.numel() for p in planned.parameters()))
        torch.manual_seed(config.seed)
        return create_model(config.model.name, num_classes, **options)
    except UserError as e:
        raise UserError(f"config.model: {e}") from e


@contextlib.contextmanager
def _blaming(key: str) -> Iterator[None]:
    """Turns what torch and the twins refuse into a mistake of the user in this part."""
    try:
        yield
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as e:
        raise UserError(f"{key}: {' '.join(str(e).split())[:300]}") from e
