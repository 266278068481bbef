"""What a configuration is before it is trained: its network's size, and whether it is valid."""

import functools
import os
from typing import Any, NamedTuple

from jaxnets import config as configs
from jaxnets.data import load

_CLASSES = {"cifar10": 10, "cifar100": 100, "digits": 10}


class Size(NamedTuple):
    """Parameters, and multiply-accumulates of one image's forward pass."""

    parameters: int
    macs: int


def measure(config: Any) -> Size:
    """The audit of a configuration's network, and a dry run of its other parts' checks.

    Nothing is built, and no device is taken from the processes that train.

    Raises:
        UserError: a value that does not fit.
    """
    _import_jax()
    import jax

    from jaxnets.augment.pipeline import make_augment
    from jaxnets.models.audit import audit_model
    from jaxnets.optim import make_optimizer
    from jaxnets.train.task import build_model

    make_augment(config.augment)
    make_optimizer(config.optim, config.schedule, steps_per_epoch=1, num_epochs=config.num_epochs)
    side, found = config.data.image_size, []
    jax.eval_shape(
        lambda: found.append(audit_model(build_model(config, _classes(config)), (side, side, 3)))
    )
    return Size(found[0].parameters, found[0].macs)


def _classes(config: Any) -> int:
    """How many classes the data has; only those of own images must be read for it."""
    data = config.data
    if data.name in _CLASSES:
        return _CLASSES[data.name]
    return _counted(configs.to_json(config))


@functools.lru_cache
def _counted(config: str) -> int:
    return len(load(configs.from_json(config), split=False).class_names)


def _import_jax() -> None:
    """For its shapes alone: it must not reserve a GPU's memory in a process that only waits."""
    before = os.environ.get("JAX_PLATFORMS")
    os.environ["JAX_PLATFORMS"] = "cpu"
    try:
        import jax  # noqa: F401 - which reads it once
    finally:
        if before is None:
            del os.environ["JAX_PLATFORMS"]
        else:
            os.environ["JAX_PLATFORMS"] = before
