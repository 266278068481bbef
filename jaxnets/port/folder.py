"""Orbax folders: the workdirs of jaxnets.train, and those that a port writes in their likeness.

config.json   {"model": {"name", "num_classes", and the options}}, of a run: all of it
best/0        the checkpoint: params and stats by NNX path, in the dtypes that they came in
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from flax import nnx

from jaxnets.checkpoints import store as checkpoints
from jaxnets.errors import UserError
from jaxnets.files.regular import parse_json, read_text
from jaxnets.models.names import check_names
from jaxnets.models.torch_names import Slot, StateDict
from jaxnets.port.guess import Model, describe, num_classes
from jaxnets.runs.workdir import CONFIG


def resolve(path: Path, checkpoint: str) -> tuple[Path, str]:
    """The workdir and the checkpoint of a path that is either's."""
    if path.name.isdigit() and path.parent.name in (checkpoints.LAST, checkpoints.BEST):
        return path.parent.parent, path.name
    return path, checkpoint


def load(workdir: Path, checkpoint: str, model: Model | None = None) -> StateDict:
    """The weights of a run by PyTorch's names.

    Args:
        checkpoint: "best", "last" or a step.
        model: if not the one that config.json says.
    """
    with jax.enable_x64(True):  # else float64 comes back as float32
        state = checkpoints.read(workdir, checkpoint).state
        arrays = state["params"] | state["stats"]
        stored = {name: np.asarray(value) for name, value in arrays.items()}
    return by_torch_name(stored, model or read_model(workdir))


def by_torch_name(stored: Mapping[str, np.ndarray], model: Model) -> StateDict:
    """The arrays of a checkpoint, by NNX path, under PyTorch's names and in its layouts."""
    if model.num_classes is None:
        model = model._replace(num_classes=num_classes({k: v.shape for k, v in stored.items()}))
    entries = describe(model, len(stored))
    check_names(
        {slot.path: slot.variable.get_value().shape for slot in entries},
        {name: value.shape for name, value in stored.items()},
    )
    made: dict[str, np.ndarray] = {}
    for slot in entries:
        if slot.path not in made:
            value = slot.to_torch(stored[slot.path])
            # Training in JAX counts batches in 32 bits, PyTorch in 64.
            made[slot.path] = value.astype(np.int64) if value.dtype == np.int32 else value
    return {slot.name: made[slot.path] for slot in entries}


def read_model(workdir: Path) -> Model:
    """The model that config.json says."""
    path = workdir / CONFIG
    try:
        return model_in(parse_json(read_text(path)))
    except FileNotFoundError as e:
        raise UserError(f"{workdir}: no {CONFIG} there that says which model it is") from e
    except (OSError, ValueError, LookupError, TypeError) as e:
        raise UserError(f"{path}: no configuration with a model in it, or damaged") from e


def model_in(config: Mapping) -> Model:
    """The model that a configuration, as nested dictionaries, says.

    Raises:
        LookupError, TypeError, ValueError: it says none.
    """
    given = dict(config["model"])
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
    return Model(options.pop("name"), options.pop("num_classes", None), options)


def save(workdir: Path, state_dict: Mapping[str, np.ndarray], model: Model) -> None:
    """Writes a state_dict that fits `model` as a folder."""
    workdir.mkdir()
    state = by_path(state_dict, describe(model))
    config = {"name": model.name, "num_classes": model.num_classes, **model.options}
    with jax.enable_x64(True):
        store = checkpoints.Checkpoints(workdir, keep=1)
        # A checkpoint of a run is a pair: the state, and the sums of an epoch in progress.
        store.save_best(0, (state, {"steps": np.int32(0)}), {"model": config})
    shutil.rmtree(workdir / checkpoints.LAST, ignore_errors=True)
    (workdir / CONFIG).write_text(json.dumps({"model": config}, indent=2) + "\n")


def by_path(state_dict: StateDict, entries: Sequence[Slot]) -> dict[str, dict[str, np.ndarray]]:
    """A state_dict as a checkpoint holds it: "params" and "stats" by NNX path."""
    state: dict[str, dict[str, np.ndarray]] = {"params": {}, "stats": {}}
    for slot in entries:
        kind = "params" if isinstance(slot.variable, nnx.Param) else "stats"
        value = slot.from_torch(np.asarray(state_dict[slot.name]))
        state[kind][slot.path] = np.asarray(value, order="C")
    return state


def is_ported(workdir: Path) -> bool:
    """Whether the folder holds what `save` writes and nothing else."""
    inside = {entry.name for entry in workdir.iterdir()}
    return inside <= {CONFIG, checkpoints.BEST} and (workdir / checkpoints.BEST / "0").is_dir()
