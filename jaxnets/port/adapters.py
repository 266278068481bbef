"""Weights in the form of a model here: adapted, checked and compared.

Squeeze-and-excitation: its two layers are 1x1 convolutions, weight (out, in, 1, 1), in se_resnet
and mish_se_resnet18, and linear, weight (out, in), in dense_se_resnet.  On a 1x1 map both compute
the same, so each of these models takes the weights of either.  The block may be called se, seblock,
se_block, se_layer, selayer or se_module, and its layers conv1 and conv2, fc1 and fc2, linear1 and
linear2, 0 and 2, 1 and 3, or the latter two within fc, se or excitation.

kuangliu/pytorch-cifar's ResNet18 needs none: its names and shapes are those of resnet18.
"""

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import ml_dtypes
import numpy as np

from jaxnets.errors import UserError
from jaxnets.models.torch_names import Slot, StateDict, check_names

DTYPES = {
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float32": np.dtype(np.float32),
    "float64": np.dtype(np.float64),
}

Shapes = Mapping[str, tuple[int, ...]]


class Form(NamedTuple):
    """How a model writes squeeze-and-excitation."""

    block: str
    layers: tuple[str, str]
    ndim: int
    """Of the weights: 4 for convolutions, 2 for linear layers."""


FORMS = {
    "se_resnet": Form("seblock", ("conv1", "conv2"), 4),
    "mish_se_resnet18": Form("se", ("se.1", "se.3"), 4),
    "dense_se_resnet": Form("se", ("fc.0", "fc.2"), 2),
}
_BLOCKS = ("se", "seblock", "se_block", "se_layer", "selayer", "se_module")
_NUMBERED = (("0", "2"), ("1", "3"))
_LAYERS = (
    ("conv1", "conv2"),
    ("fc1", "fc2"),
    ("linear1", "linear2"),
    *_NUMBERED,
    *((f"{a}.{i}", f"{a}.{j}") for a in ("fc", "se", "excitation") for i, j in _NUMBERED),
)
_POSITION = {layer: i for pair in _LAYERS for i, layer in enumerate(pair)}
_NAME = re.compile(
    rf"((?:.+?\.)?)({'|'.join(_BLOCKS)})\.({'|'.join(map(re.escape, _POSITION))})\.(weight|bias)"
)


class Plan(NamedTuple):
    """What an adapter changes."""

    changes: dict[str, tuple[str, tuple[int, ...]]]
    """For each tensor that changes: its new name and shape."""

    def adapt(self, tensors: Mapping[str, "object"]) -> StateDict:
        """The tensors with new names and shapes, in their order; the rest as they are."""
        out = {}
        for name, value in tensors.items():
            new, shape = self.changes.get(name, (name, value.shape))
            out[new] = value.reshape(shape)
        return out

    def notes(self, shapes: Shapes) -> list[str]:
        """What is changed, a line each; `shapes` are those before."""
        reshaped = [k for k, (_, shape) in self.changes.items() if shape != tuple(shapes[k])]
        renamed = [k for k, (name, _) in self.changes.items() if name != k]
        found = []
        if reshaped:
            to_conv = len(shapes[reshaped[0]]) == 2
            kinds = ("(out, in)", "(out, in, 1, 1)")
            before, after = kinds if to_conv else kinds[::-1]
            found.append(f"{len(reshaped)} squeeze-and-excitation weights {before} -> {after}")
        if renamed:
            found.append(f"{len(renamed)} names: {renamed[0]} -> {self.changes[renamed[0]][0]}")
        return found


def plan(shapes: Shapes, form: Form) -> Plan:
    """What turns the squeeze-and-excitation that is found in names and shapes into `form`.

    >>> shapes = {"seblock.fc1.weight": (4, 64), "conv1.weight": (64, 3, 3, 3)}
    >>> plan(shapes, FORMS["se_resnet"]).changes
    {'seblock.fc1.weight': ('seblock.conv1.weight', (4, 64, 1, 1))}
    """
    changes = {}
    for name, shape in shapes.items():
        match = _NAME.fullmatch(name)
        if match is None:
            continue
        parent, _, layer, leaf = match.groups()
        new = f"{parent}{form.block}.{form.layers[_POSITION[layer]]}.{leaf}"
        wanted = tuple(shape)
        if leaf == "weight" and len(shape) in (2, 4) and tuple(shape[2:]) in ((), (1, 1)):
            wanted = (*shape[:2], 1, 1)[: form.ndim]
        if (new, wanted) != (name, tuple(shape)):
            changes[name] = new, wanted
    kept = shapes.keys() - changes.keys()
    new_names = [new for new, _ in changes.values()]
    if len(set(new_names)) < len(new_names) or kept & set(new_names):
        return Plan({})  # two tensors under one name: not what this is for
    return Plan(changes)


def plans(shapes: Shapes) -> Iterator[Plan]:
    """Nothing first, then what turns the tensors into each model's form, where it changes any."""
    yield Plan({})
    yield from (found for form in FORMS.values() if (found := plan(shapes, form)).changes)


def fitting(shapes: Shapes, wanted: Shapes) -> Plan:
    """The one of `plans` after which most tensors fit names and shapes of a model."""

    def fits(candidate: Plan) -> int:
        after = dict(candidate.changes.get(k, (k, tuple(shape))) for k, shape in shapes.items())
        return len(after.items() & {k: tuple(v) for k, v in wanted.items()}.items())

    return max(plans(shapes), key=fits)


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
