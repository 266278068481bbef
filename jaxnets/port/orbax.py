"""Orbax checkpoints as weights by PyTorch's names: our folders, and those of other programs.

A folder of ours is the workdir of a run of jaxnets.train, or a port wrote it in the same form:

    config.json   {"model": {"name", "num_classes", and the options}}, of a run: all of it
    best/0        the checkpoint: params and stats by NNX path, in the dtypes that they came in

Of other programs these are read:

    {"params": ..., "batch_stats": ...}    nested dictionaries, of NNX or of Linen
    nnx.State                              every leaf under "value"; or its pure dictionary
    a train state, several items           the "params" in it, and the statistics beside them
    a folder of such by their steps        as orbax's CheckpointManager keeps them

Attribute paths become names as `jaxnets.models.torch_names` says, and Linen's `layers_0` is
`layers.0`.  A linear layer behind a flattened image is taken to be in PyTorch's order, channels
first.
"""

import json
import logging
import math
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx

from jaxnets.checkpoints import store as checkpoints
from jaxnets.errors import UserError, one_line
from jaxnets.files import regular
from jaxnets.files.regular import parse_json, read_text
from jaxnets.models.torch_names import Slot, StateDict, check_names, name_by_rank
from jaxnets.port.guess import Model, describe, num_classes
from jaxnets.runs.workdir import CONFIG

# What orbax writes beside the arrays of a tree.
_METADATA = "_METADATA"
_STEP = re.compile(r"(?:.*_)?(\d+)")
_STATISTICS = {"mean", "var", "num_batches_tracked"}
# Where a model's state lies in something larger, if nothing there is called "params".
_WRAPPERS = ("model", "state", "model_state", "net")
_OPTIMIZERS = {"opt_state", "optimizer", "opt"}
_SMALL, _RATIO = 2**24, 1000  # bytes, and of arrays to those of their files: zeros compress well

Leaves = dict[tuple[str, ...], Any]


def resolve(path: Path, checkpoint: str) -> tuple[Path, str]:
    """The workdir and the checkpoint of a path that is either's."""
    if path.name.isdigit() and path.parent.name in (checkpoints.LAST, checkpoints.BEST):
        return path.parent.parent, path.name
    return path, checkpoint


def load(workdir: Path, checkpoint: str, model: Model | None = None) -> StateDict:
    """The weights of a run by PyTorch's names.

    Args:
        checkpoint: "best", "last" or a step.
        model: if not the one in config.json.
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
    """The model in config.json."""
    path = workdir / CONFIG
    try:
        return model_in(parse_json(read_text(path)))
    except FileNotFoundError as e:
        raise UserError(f"{workdir}: no {CONFIG} there that names its model") from e
    except (OSError, ValueError, LookupError, TypeError) as e:
        raise UserError(f"{path}: no configuration with a model in it, or damaged") from e


def model_in(config: Mapping) -> Model:
    """The model in a configuration, given as nested dictionaries.

    Raises:
        LookupError, TypeError, ValueError: it names none.
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


class Found(NamedTuple):
    """The weights of a checkpoint."""

    tensors: StateDict
    notes: list[str]
    """What is not as a PyTorch state_dict has it, a line each."""


def is_foreign(path: Path) -> bool:
    """Whether the folder is an orbax checkpoint, or holds some by their steps."""
    return path.is_dir() and bool(_items(path) or _steps(path))


def read_foreign(path: Path, checkpoint: str) -> Found:
    """The weights in a folder that `is_foreign` is true of.

    Args:
        checkpoint: of a folder with several: a step; "last" and "best" are the newest.

    Raises:
        UserError: damaged, no weights in it, or no such step.
    """
    notes, steps = [], {} if _items(path) else _steps(path)
    if steps:
        if checkpoint not in ("best", "last", *map(str, steps)):
            have = ", ".join(map(str, steps))
            raise UserError(f"{path}: no checkpoint {checkpoint}; there are steps {have}")
        step = max(steps) if checkpoint in ("best", "last") else int(checkpoint)
        if checkpoint == "best" and len(steps) > 1:
            notes.append(
                f"of steps {', '.join(map(str, steps))} the newest: none is marked as best"
            )
        path = steps[step]
    items = {name: _restore(item) for name, item in _items(path).items()}
    leaves = _flatten(items.popitem()[1] if len(items) == 1 else items)
    weights, left_out = _weights(leaves)
    if left_out:
        notes.append(f"left out: {', '.join(left_out)}")
    tensors: StateDict = {}
    for parts, value in weights.items():
        name, axes = name_by_rank(".".join(map(_linen, parts)), np.ndim(value))
        value = np.asarray(value)
        tensors[name] = value if axes is None else np.ascontiguousarray(value.transpose(axes))
    if not tensors:
        raise UserError(f"{path}: no weights in it")
    means = [name for name in tensors if name.endswith(".running_mean")]
    counters = {name.replace("running_mean", "num_batches_tracked") for name in means}
    if counters and not counters & tensors.keys():
        tensors |= dict.fromkeys(sorted(counters), np.zeros((), np.int64))
        notes.append(f"{len(counters)} counters of BatchNorm that are not there: 0")
    return Found(tensors, notes)


def _items(path: Path) -> dict[str, Path]:
    """The trees of one checkpoint: itself, or the folders in it that are not steps."""
    if (path / _METADATA).is_file():
        return {"": path}
    inside = sorted(path.iterdir())
    return {p.name: p for p in inside if (p / _METADATA).is_file() and not _STEP.fullmatch(p.name)}


def _steps(path: Path) -> dict[int, Path]:
    named = ((_STEP.fullmatch(p.name), p) for p in path.iterdir() if p.is_dir())
    return dict(sorted((int(name[1]), p) for name, p in named if name and _items(p)))


def _restore(item: Path) -> Any:
    """A tree as it was stored, in the dtypes that it was stored in.

    Raises:
        UserError: it cannot be read, or pretends to be far more than its files can hold.
    """
    import orbax.checkpoint as ocp

    logging.getLogger("absl").setLevel(logging.CRITICAL)  # it reports what it raises as well
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    try:
        regular.check_below(item)  # orbax would wait for a pipe
        # Else float64 comes back as float32.
        with jax.enable_x64(True), ocp.Checkpointer(ocp.StandardCheckpointHandler()) as orbax:
            path = item.absolute()
            found = orbax.metadata(path).item_metadata
            if found is None:
                raise ValueError("what its arrays are cannot be read")
            size = sum(map(_bytes, jax.tree.leaves(found.tree)))
            stored = sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
            if size > _SMALL + _RATIO * stored:
                raise ValueError(f"{size:,} bytes of arrays in {stored:,} of files")
            args = ocp.args.StandardRestore(None, fallback_sharding=here)
            return orbax.restore(path, args=args)
    except Exception as e:
        reason = one_line(e)
        raise UserError(f"{item}: an orbax checkpoint that cannot be read ({reason})") from e


def _bytes(leaf: Any) -> int:
    shape, dtype = getattr(leaf, "shape", None) or (), getattr(leaf, "dtype", None)
    return math.prod(shape) * getattr(dtype, "itemsize", 8)


def _flatten(tree: Any, path: tuple[str, ...] = ()) -> Leaves:
    """The leaves by their keys, without NNX's "value" and without what drives dropout."""
    if isinstance(tree, Mapping | list | tuple):
        items = tree.items() if isinstance(tree, Mapping) else enumerate(tree)
        return {k: v for key, value in items for k, v in _flatten(value, (*path, str(key))).items()}
    if tree is None or "rngs" in path:
        return {}
    return {path[:-1] if path[-1:] == ("value",) else path: tree}


def _weights(leaves: Leaves) -> tuple[Leaves, list[str]]:
    """The parameters and statistics by attribute path, and the names of what else there is."""
    places = {path[: path.index("params")] for path in leaves if "params" in path[:-1]}
    places = {place for place in places if not _OPTIMIZERS & {*place}}
    if not places:
        start = next(_wrapped(leaves), ())
        found = {p[len(start) :]: v for p, v in leaves.items() if p[: len(start)] == start}
        rest = [path for path in leaves if path[: len(start)] != start]
        return found, _tops(rest)
    start = min(places, key=len)
    while any(path[: len(start) + 2] == (*start, "params", "params") for path in leaves):
        start = (*start, "params")
    beside: dict[tuple[str, ...], Leaves] = {}
    rest, depth = [], len(start) + 1
    for path, value in leaves.items():
        if path[: depth - 1] == start and len(path) > depth:
            beside.setdefault(path[:depth], {})[path[depth:]] = value
        else:
            rest.append(path)
    found = beside.pop((*start, "params"))
    for collection, inside in beside.items():
        if {path[-1] for path in inside} <= _STATISTICS:
            found |= inside
        else:
            rest.append(collection)
    return found, _tops(
        [path[len(start) :] if path[: len(start)] == start else path for path in rest]
    )


def _wrapped(leaves: Leaves) -> Iterator[tuple[str, ...]]:
    tops = {path[0] for path in leaves if len(path) > 1}
    yield from ((name,) for name in _WRAPPERS if name in tops)


def _tops(paths: list[tuple[str, ...]]) -> list[str]:
    return list(dict.fromkeys(path[0] for path in paths))


def _linen(part: str) -> str:
    """`layers_0` and `layers_0_1` with dots; Linen's automatic names, as `Conv_0`, as they are."""
    return part if part[:1].isupper() else re.sub(r"_(?=\d+(?:_\d+)*$)", ".", part)
