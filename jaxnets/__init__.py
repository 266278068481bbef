"""Small CIFAR classifiers in JAX beside their PyTorch twins, proved to compute the same numbers.

>>> import jaxnets
>>> model = jaxnets.create_model("se_resnet", num_channels=16)
>>> model.eval()
"""

from jaxnets import signals

if signals.is_command():  # before what takes time to import
    signals.listen()

import importlib
from collections.abc import Callable
from typing import Any

from jaxnets.errors import UserError

__version__ = "0.1.0"


def lazily(package: str, names: dict[str, str]) -> tuple[Callable[[str], Any], list[str]]:
    """The `__getattr__` of a package, and its names: each is imported at its first use.

    The commands set jax up before anything imports it, and --help is shown without it.

    Args:
        names: in a text, the names that a module of the package has; none: the module itself.
    """
    of_module = {name: module for module, text in names.items() for name in text.split()}

    def get(name: str) -> Any:
        if name in of_module:
            return getattr(importlib.import_module(f"{package}.{of_module[name]}"), name)
        if names.get(name) == "":
            return importlib.import_module(f"{package}.{name}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return get, sorted([*of_module, *(module for module, text in names.items() if not text)])


__getattr__, _NAMES = lazily(
    __name__,
    {
        "models.registry": "create_model list_models model_options",
        "pretrained": "list_pretrained",
        "inference.predictor": "load",
        "port.weights": "load_weights",
        "augment.pipeline": "normalize",
        # The packages that users call functions of, as jaxnets.port.load(...).
        **dict.fromkeys(("data", "models", "optim", "port"), ""),
    },
)
__all__ = ["UserError", "__version__", *_NAMES]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
