"""The one naming rule that ports every model between Flax and PyTorch.

An NNX variable's attribute path, joined with dots, is its PyTorch name, but for the last part:

    Conv.kernel (H, W, in, out)   <->  weight (out, in, H, W)
    Linear.kernel (in, out)       <->  weight (out, in)
    BatchNorm.scale, bias         <->  weight, bias
    BatchNorm.mean, var           <->  running_mean, running_var
    BatchNorm.num_batches_tracked <->  num_batches_tracked (int64)

A parameter shared by several layers is one variable under several names: it is written under each
of them, and read only if all of them agree.
"""

import difflib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxnets.errors import UserError
from jaxnets.models.functional import update

StateDict = dict[str, np.ndarray]

# For each NNX leaf: PyTorch's leaf, and the axes that turn the NNX array into PyTorch's.
_LEAVES: dict[type, dict[str, tuple[str, tuple[int, ...] | None]]] = {
    nnx.Conv: {"kernel": ("weight", (3, 2, 0, 1)), "bias": ("bias", None)},
    nnx.Linear: {"kernel": ("weight", (1, 0)), "bias": ("bias", None)},
    nnx.Module: {
        "scale": ("weight", None),
        "bias": ("bias", None),
        "mean": ("running_mean", None),
        "var": ("running_var", None),
        "num_batches_tracked": ("num_batches_tracked", None),
    },
}


class Slot(NamedTuple):
    """One PyTorch name and the NNX variable behind it."""

    name: str
    """PyTorch's name."""
    path: str
    """The NNX path; the same for all names of a shared variable."""
    axes: tuple[int, ...] | None
    """Transposition from NNX to PyTorch; None where the layouts agree."""
    variable: nnx.Variable

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape in PyTorch's layout."""
        shape = self.variable.get_value().shape
        return shape if self.axes is None else tuple(shape[a] for a in self.axes)

    def to_torch(self, value: np.ndarray) -> np.ndarray:
        """An array in the variable's layout, in PyTorch's."""
        return value if self.axes is None else np.ascontiguousarray(value.transpose(self.axes))

    def from_torch(self, value: np.ndarray) -> np.ndarray:
        """An array in PyTorch's layout, in the variable's."""
        return value if self.axes is None else value.transpose(np.argsort(self.axes))


def slots(model: nnx.Module) -> list[Slot]:
    """Every entry of the model's PyTorch state_dict, in PyTorch's order, aliases included."""
    first: dict[int, str] = {}
    found = []
    for path, module, leaf, variable in _variables(model, ()):
        kind = next(k for k in _LEAVES if isinstance(module, k))
        torch_leaf, axes = _LEAVES[kind][leaf]
        name = ".".join((*path, torch_leaf))
        canonical = first.setdefault(id(variable), ".".join((*path, leaf)))
        found.append(Slot(name, canonical, axes, variable))
    return found


def _variables(module: nnx.Module, path: tuple[str, ...]) -> Iterator[tuple]:
    for name, value in vars(module).items():
        if isinstance(value, nnx.Param | nnx.BatchStat):
            yield path, module, name, value
        elif isinstance(value, nnx.Module):
            yield from _variables(value, (*path, name))


def to_state_dict(model: nnx.Module) -> StateDict:
    """The model's parameters and statistics under PyTorch's names and in its layouts."""
    out = {}
    for slot in slots(model):
        value = slot.to_torch(np.asarray(slot.variable[...]))
        if slot.name.endswith("num_batches_tracked"):
            value = value.astype(np.int64)
        out[slot.name] = value
    return out


def from_state_dict(model: nnx.Module, state_dict: Mapping[str, np.ndarray]) -> None:
    """Writes a PyTorch state_dict into the model: each tensor used and each variable filled once.

    Values are cast to the model's dtypes.

    Raises:
        UserError: names missing (-), unexpected (+) or of another shape (~), or copies of a shared
            parameter that differ.  The model is then untouched.
    """
    entries = slots(model)
    check_names({s.name: s.shape for s in entries}, {k: np.shape(v) for k, v in state_dict.items()})
    values: dict[str, np.ndarray] = {}
    origin: dict[str, str] = {}
    for slot in entries:
        value = slot.from_torch(np.asarray(state_dict[slot.name]))
        if slot.path in values:
            if not np.array_equal(values[slot.path], value, equal_nan=True):
                raise UserError(
                    f"{slot.name} and {origin[slot.path]} differ, but the model shares one tensor "
                    "between them; load it into a model with less sharing"
                )
            continue
        values[slot.path] = value
        origin[slot.path] = slot.name
    dtypes = {slot.path: slot.variable[...].dtype for slot in entries}
    update(model, {path: jnp.asarray(v, dtypes[path]) for path, v in values.items()})


def check_names(
    expected: Mapping[str, tuple[int, ...]], given: Mapping[str, tuple[int, ...]]
) -> None:
    """Raises a UserError that lists what is missing (-), unexpected (+) and misshapen (~)."""
    unexpected = [k for k in given if k not in expected]
    lines = []
    for name in expected:
        if name not in given:
            near = difflib.get_close_matches(name, unexpected, n=1)
            lines.append(f"- {name}" + (f" (nearest: {near[0]})" if near else ""))
        elif tuple(given[name]) != tuple(expected[name]):
            lines.append(f"~ {name} {_shape(given[name])} vs {_shape(expected[name])}")
    lines += [f"+ {name}" for name in unexpected]
    if lines:
        shown = "; ".join(lines[:12]) + (f"; and {len(lines) - 12} more" if len(lines) > 12 else "")
        raise UserError(
            f"the tensors do not fit the model (- missing, + unexpected, ~ shape): {shown}"
        )


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"
