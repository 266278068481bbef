"""From a configuration to a network in training."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from jaxnets import checks
from jaxnets.config import model_options
from jaxnets.data import Dataset
from jaxnets.data.batches import steps_per_epoch
from jaxnets.errors import UserError
from jaxnets.files import pt_check
from jaxnets.files.regular import open_file, read_bytes
from torch_ref.augment import make_augment
from torch_ref.models import create_model
from torch_ref.optim import make_optimizer
from torch_ref.step import Task, param_dtype


def build(config: Any, data: Dataset, weights: Mapping[str, Tensor] | None = None) -> Task:
    """Everything a run needs, on the GPU if there is one.

    Args:
        weights: the initial ones; if left out they are torch's own, drawn from `config.seed`.

    Raises:
        UserError: a value of the configuration, or weights, that do not fit.
    """
    count = len(data.train_images)
    if config.batch_size > count:
        raise UserError(f"config.batch_size={config.batch_size}: at most the {count} images")
    with _blaming("config"):
        augment = make_augment(config.augment)
    net = _network(config, len(data.class_names))
    with _blaming("config.model"):
        height, width, _ = data.train_images.shape[1:]
        with torch.no_grad():  # what the options cannot compute, they say here
            net.eval()(torch.zeros(1, 3, height, width))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    net.to(device, param_dtype(config.dtype), memory_format=torch.channels_last)
    if weights is not None:  # before the optimizer: Lookahead's slow weights start here too
        with _blaming("the initial weights"):
            net.load_state_dict(weights)
    steps = steps_per_epoch(count, config.batch_size)
    with _blaming("config.optim or config.schedule"):
        optimizer = make_optimizer(
            net.parameters(),
            config.optim,
            config.schedule,
            steps_per_epoch=steps,
            num_epochs=config.num_epochs,
        )
    return Task(
        net=net,
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
    )


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


def read_weights(path: Path) -> dict[str, Tensor]:
    """The state_dict of a .pt file, bare or under `net`, or of a .safetensors file.

    Raises:
        UserError: no such file, or not one of weights.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load

            return load(read_bytes(path))
        with open_file(path) as file:
            pt_check.check(file)
            content = torch.load(file, map_location="cpu", weights_only=True)
        return content.get("net", content)
    except FileNotFoundError as e:
        raise UserError(f"--init {path}: no such file") from e
    except Exception as e:  # its text would advise to open the file in a way that may run code
        raise UserError(f"--init {path}: not a .pt or .safetensors file of weights") from e


@contextlib.contextmanager
def _blaming(key: str) -> Iterator[None]:
    """Turns what torch and the twins refuse into a mistake of the user in this part."""
    try:
        yield
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as e:
        raise UserError(f"{key}: {' '.join(str(e).split())[:300]}") from e
