"""Small CIFAR classifiers in JAX beside their PyTorch twins, proved to compute the same numbers.

>>> import jaxnets
>>> model = jaxnets.create_model("se_resnet", num_channels=16)
>>> model.eval()
"""

from jaxnets import signals

if signals.is_command():  # before what takes time to import
    signals.listen()

import importlib

from jaxnets.errors import UserError

__version__ = "0.1.0"

# Resolved at first use: the commands set jax up before anything imports it.
_LAZY = {
    "create_model": "jaxnets.models",
    "list_models": "jaxnets.models",
    "list_pretrained": "jaxnets.pretrained",
    "model_options": "jaxnets.models",
    "load": "jaxnets.inference.predictor",
    "load_weights": "jaxnets.port",
    "normalize": "jaxnets.augment.pipeline",
}
# So are the packages that users call functions of, as jaxnets.port.load(...).
_PACKAGES = ("data", "models", "optim", "port")

__all__ = ["UserError", "__version__", *_LAZY, *_PACKAGES]


def __getattr__(name: str):
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    if name in _PACKAGES:
        return importlib.import_module(f"jaxnets.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
