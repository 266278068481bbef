"""The PyTorch twins: the same file, class, attribute and option names as `jaxnets.models`."""

import importlib
import inspect

import torch
from torch import nn

from jaxnets import checks
from jaxnets.errors import unknown
from jaxnets.pretrained.weights import find

MODELS = {
    "se_resnet": ("se_resnet", "SEResNet"),
    "mish_se_resnet18": ("mish_se_resnet", "MishSEResNet18"),
    "dense_se_resnet": ("dense_se_resnet", "DenseSEResNet"),
    "cifar100_v1": ("cifar100", "Cifar100v1"),
    "cifar100_v2": ("cifar100", "Cifar100v2"),
    "cifar100_v3": ("cifar100", "Cifar100v3"),
    "cifar100_v4": ("cifar100", "Cifar100v4"),
    "cifar100_v5": ("cifar100", "Cifar100v5"),
    "resnet18": ("resnet18", "ResNet18"),
}


def create_model(
    name: str, num_classes: int | None = None, *, pretrained: bool | str = False, **options
) -> nn.Module:
    """The twin of `jaxnets.create_model(name, num_classes, **options)`, on NCHW tensors.

    Args:
        pretrained: weights that come with the project, as there.

    Raises:
        UserError: unknown name, option or value, in the same line as there.
    """
    if name not in MODELS:
        raise unknown("model", name, MODELS)
    module, cls = MODELS[name]
    twin = getattr(importlib.import_module(f"torch_ref.models.{module}"), cls)
    parameters = inspect.signature(twin).parameters.items()
    known = {key: p.default for key, p in parameters if key != "num_classes"}
    for option in options:
        if option not in known:
            raise unknown(f"option of {name}", option, known)
    weights = find(name, pretrained, num_classes, options) if pretrained else None
    if weights is not None:
        num_classes, options = weights.num_classes, weights.options | options
    checks.network(name, num_classes, known | options)
    if num_classes is not None:
        options["num_classes"] = num_classes
    model = twin(**options)
    if weights is not None:
        tensors = {key: torch.tensor(value) for key, value in weights.tensors.items()}
        model.load_state_dict(tensors)
    return model
