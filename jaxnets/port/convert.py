"""From one file to another: which model, whether it fits, written, read back, and run."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import ml_dtypes
import numpy as np

from jaxnets.errors import UserError, unknown
from jaxnets.port import folder
from jaxnets.port.files import SUFFIXES, check_destination, load, save
from jaxnets.port.guess import Model, describe, guess, num_classes
from jaxnets.port.names import Slot, StateDict, check_names
from jaxnets.port.verify import Differences, differences

DTYPES = {
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float32": np.dtype(np.float32),
    "float64": np.dtype(np.float64),
}


class Ported(NamedTuple):
    """What a port did."""

    model: Model
    told_by: str
    """How the model is known."""
    state_dict: StateDict
    differences: Differences


def port(
    src: Path,
    dst: Path,
    *,
    model: Model | None = None,
    checkpoint: str = "best",
    dtype: str | None = None,
    force: bool = False,
) -> Ported:
    """Writes the weights of `src` to `dst`: every tensor used once, every slot filled once.

    Before `dst` gets its name it is read back, compared bit for bit with what was meant, and both
    frameworks compute the same logits from source and destination.

    Args:
        src: as for `load`.
        dst: as for `save`.
        model: whose weights they are; else config.json says it, or names and shapes do.
        checkpoint: of a workdir: "best", "last" or a step.
        dtype: a key of DTYPES for all floating tensors; kept as they are if left out.
        force: replace `dst`.

    Raises:
        UserError: what does not fit, in one line; `dst` is then what it was.
    """
    src, dst = Path(src), Path(dst)
    if dtype is not None and dtype not in DTYPES:
        raise unknown("--dtype", dtype, DTYPES)
    check_destination(dst, force)
    if src.is_dir() and src.suffix not in SUFFIXES:
        workdir, checkpoint = folder.resolve(src, checkpoint)
        told_by = "given" if model else f"by {workdir / folder.CONFIG}"
        model = model or folder.read_model(workdir)
        state_dict = folder.load(workdir, checkpoint, model)
    else:
        state_dict = load(src)
        told_by = "given" if model else "by names and shapes"
        model = model or guess(state_dict)
    if model.num_classes is None:
        counted = num_classes({k: v.shape for k, v in state_dict.items()})
        model = model._replace(num_classes=counted)
    try:
        state_dict = fit(state_dict, describe(model), dtype)
    except UserError as e:
        raise UserError(f"{src}: {e}") from e
    found: list[Differences] = []

    def check(aside: Path) -> None:
        written = load(aside)
        compare(written, state_dict)
        found.append(differences(model, state_dict, written, written_by_jax=not dst.suffix))

    save(dst, state_dict, model=model, force=force, check=check)
    return Ported(model, told_by, state_dict, found[0])


def fit(
    state_dict: Mapping[str, np.ndarray], entries: list[Slot], dtype: str | None = None
) -> StateDict:
    """The state_dict in the model's order, names of one variable being one array.

    Raises:
        UserError: tensors that are missing (-), unexpected (+), of another shape (~) or dtype, or
            not finite; copies of a shared one that differ.
    """
    check_names({s.name: s.shape for s in entries}, {k: v.shape for k, v in state_dict.items()})
    made: dict[str, tuple[str, np.ndarray]] = {}
    for slot in entries:
        value = state_dict[slot.name]
        if slot.path not in made:
            made[slot.path] = slot.name, _checked(slot, value, dtype)
        first = made[slot.path][0]
        if not _same(state_dict[first], value):
            raise UserError(
                f"{slot.name} and {first} differ, but {len(entries) - len(made)} or more names of "
                "this model are one shared tensor; name a model with less sharing by --option share"
            )
    return {slot.name: made[slot.path][1] for slot in entries}


def _checked(slot: Slot, value: np.ndarray, dtype: str | None) -> np.ndarray:
    counter = slot.name.endswith("num_batches_tracked")
    allowed = ("int32", "int64") if counter else DTYPES
    if value.dtype.name not in allowed:
        raise UserError(f"{slot.name}: of dtype {value.dtype}, not {' or '.join(allowed)}")
    if counter:
        return value.astype(np.int64)
    bad = value.size - int(np.isfinite(value).sum())
    if bad:
        raise UserError(f"{slot.name}: {bad} of {value.size} values are NaN or infinite")
    if dtype is None:
        return value
    with np.errstate(over="ignore"):
        value = value.astype(DTYPES[dtype])
    if not np.isfinite(value).all():
        raise UserError(f"{slot.name}: has values beyond the range of {dtype}")
    return value


def compare(written: StateDict, meant: StateDict) -> None:
    """Raises a UserError if names, shapes, dtypes or any bit differ."""
    if written.keys() != meant.keys():
        raise UserError("reading it back gave other names; this is a bug")
    for name, value in meant.items():
        if not _same(written[name], value):
            raise UserError(f"reading it back gave another {name}; is the disk sound?")


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
