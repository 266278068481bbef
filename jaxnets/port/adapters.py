"""Weights that others wrote, brought into the form of the models here.

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

from jaxnets.models.torch_names import StateDict

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

    def apply(self, tensors: Mapping[str, "object"]) -> StateDict:
        """The tensors with new names and shapes, in their order; others as they are."""
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
