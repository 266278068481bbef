"""Whether weights fit a model, and whether two sets of them are the same."""

from collections.abc import Mapping

import ml_dtypes
import numpy as np

from jaxnets.errors import UserError
from jaxnets.models.names import check_names
from jaxnets.models.torch_names import Slot, StateDict

DTYPES = {
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float32": np.dtype(np.float32),
    "float64": np.dtype(np.float64),
}


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
