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
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxnets.errors import UserError
from jaxnets.models.functional import update

StateDict = dict[str, np.ndarray]
_COMPARISONS = 10_000  # of names, to find the nearest ones: two seconds

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


def name_by_rank(path: str, ndim: int) -> tuple[str, tuple[int, ...] | None]:
    """PyTorch's name, and the axes to it, of an NNX path of which only the array is known.

    >>> name_by_rank("layer1.0.conv1.kernel", 4)
    ('layer1.0.conv1.weight', (3, 2, 0, 1))
    """
    parent, dot, leaf = path.rpartition(".")
    for leaves in _LEAVES.values():
        name, axes = leaves.get(leaf, (leaf, None))
        if leaf in leaves and (axes is None or len(axes) == ndim):
            return parent + dot + name, axes
    return path, None


def parameters(entries: Sequence[Slot]) -> list[Slot]:
    """What an optimizer sees: every parameter once, a shared one under its first name."""
    first = {s.path: s for s in reversed(entries) if isinstance(s.variable, nnx.Param)}
    return [slot for slot in entries if first.get(slot.path) is slot]


def parameter_names(entries: Sequence[Slot]) -> dict[str, list[str]]:
    """Every parameter by its NNX path, with all of its PyTorch names: a shared one has many."""
    found: dict[str, list[str]] = {}
    for slot in entries:
        if isinstance(slot.variable, nnx.Param):
            found.setdefault(slot.path, []).append(slot.name)
    return found


def to_state_dict(model: nnx.Module) -> StateDict:
    """The model's parameters and statistics under PyTorch's names and in its layouts: copies.

    Names of a shared parameter are one array.
    """
    made: dict[str, np.ndarray] = {}
    entries = slots(model)
    for slot in entries:
        if slot.path not in made:
            value = np.array(slot.to_torch(np.asarray(slot.variable[...])))
            if slot.name.endswith("num_batches_tracked"):
                value = value.astype(np.int64)
            made[slot.path] = value
    return {slot.name: made[slot.path] for slot in entries}


def from_state_dict(model: nnx.Module, state_dict: Mapping[str, np.ndarray]) -> None:
    """Writes a PyTorch state_dict into the model: each tensor used and each variable filled once.

    Values are copied, and cast to the model's dtypes.

    Raises:
        UserError: names or shapes that do not fit (see `check_names`), or copies of a shared
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
    # Copies: jax may keep the memory of what it is given, which the caller may write to later.
    update(model, {path: jnp.array(v, dtypes[path]) for path, v in values.items()})


def check_names(
    expected: Mapping[str, tuple[int, ...]], given: Mapping[str, tuple[int, ...]]
) -> None:
    """Raises a UserError unless names and shapes agree.

    Its details list all that is missing (-), misshapen (~ given vs expected) and unexpected (+).
    """
    unexpected = [k for k in given if k not in expected]
    missing, misshapen = [], []
    for name, shape in expected.items():
        if name not in given:
            slow = len(missing) * len(unexpected) > _COMPARISONS
            near = [] if slow else difflib.get_close_matches(name, unexpected, n=1)
            missing.append(f"- {name}" + (f" (nearest: {near[0]})" if near else ""))
        elif tuple(given[name]) != tuple(shape):
            misshapen.append(f"~ {name} {_shape(given[name])} vs {_shape(shape)}")
    lines = [*missing, *misshapen, *(f"+ {name}" for name in unexpected)]
    if lines:
        raise UserError(
            f"the tensors do not fit the model: {len(missing)} missing (-), {len(misshapen)} of "
            f"another shape (~), {len(unexpected)} unexpected (+), of {len(expected)}: {lines[0]}",
            lines,
        )


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"
