"""Weights and whole runs between Flax and PyTorch.

Files of both worlds, networks that differ in form, optimizers.  Imports models, optim, checkpoints,
runs and the state of training, and torch lazily; python -m jaxnets.port, parity and the Python API
call it.
"""

import os
from pathlib import Path

from flax import nnx

from jaxnets.models.torch_names import check_names, from_state_dict, slots, to_state_dict
from jaxnets.port.adapters import fitting
from jaxnets.port.files import is_run, load, save
from jaxnets.port.modules import from_torch, to_torch
from jaxnets.port.weights import read_weights

__all__ = [
    "from_state_dict",
    "from_torch",
    "load",
    "load_weights",
    "read_weights",
    "save",
    "to_state_dict",
    "to_torch",
]


def load_weights(
    model: nnx.Module, path: str | os.PathLike, checkpoint: str | int = "best"
) -> nnx.Module:
    """Fills a model from a file or a training run, whole or not at all; returns the model.

    Args:
        path: a PyTorch state_dict (.pt, .pth: bare, or under net, state_dict, model or
            model_state_dict; `module.` is left out of names), a .safetensors file, the workdir
            of a run of jaxnets.train, a folder that jaxnets.port wrote, or an orbax checkpoint
            of another program.
        checkpoint: of a workdir: "best", "last" or a step.

    Values are cast to the model's dtypes; squeeze-and-excitation of other forms is adapted, see
    `jaxnets.port.adapters`.

    Raises:
        UserError: what is wrong with the file, or which tensors do not fit the model.

    >>> load_weights(create_model("se_resnet"), "se_resnet.pth")  # doctest: +SKIP
    """
    path = Path(path)
    if is_run(path):
        _load_run(model, path, checkpoint)
    else:
        weights = load(path, checkpoint)
        wanted = {slot.name: slot.shape for slot in slots(model)}
        plan = fitting({name: value.shape for name, value in weights.items()}, wanted)
        from_state_dict(model, plan.adapt(weights))
    return model


def _load_run(model: nnx.Module, workdir: Path, checkpoint: str | int) -> None:
    from jaxnets.checkpoints import store
    from jaxnets.models.functional import flat, update

    state = store.read(workdir, checkpoint).state
    current = flat(model, nnx.Param) | flat(model, nnx.BatchStat)
    stored = state["params"] | state["stats"]
    check_names({k: v.shape for k, v in current.items()}, {k: v.shape for k, v in stored.items()})
    update(model, {name: value.astype(current[name].dtype) for name, value in stored.items()})
