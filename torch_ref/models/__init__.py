"""The PyTorch twins: the same file, class, attribute and option names as `jaxnets.models`."""

import importlib

from torch import nn

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


def create_model(name: str, num_classes: int | None = None, **options) -> nn.Module:
    """The twin of `jaxnets.create_model(name, num_classes, **options)`, on NCHW tensors."""
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}; known: {', '.join(MODELS)}")
    module, cls = MODELS[name]
    if num_classes is not None:
        options["num_classes"] = num_classes
    return getattr(importlib.import_module(f"torch_ref.models.{module}"), cls)(**options)
