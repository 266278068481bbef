"""Which model a state_dict belongs to, detected from its names, shapes and shared tensors."""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxnets import checks
from jaxnets.errors import UserError
from jaxnets.models import create_empty, create_model, model_options
from jaxnets.models.dense_se_resnet import SHARED_STAGES
from jaxnets.models.torch_names import Slot, StateDict, check_names, slots

Shapes = Mapping[str, tuple[int, ...]]

# The last bias of every model; its length is the number of classes.
_LAST = ("linear.bias", "fc.bias", "classifier.2.bias")
# Channels of the first convolution at width 1.
_CIFAR100 = {
    "cifar100_v1": ("conv_block1.0.weight", 128),
    "cifar100_v2": ("conv1.0.weight", 96),
    "cifar100_v3": ("conv1.0.weight", 64),
    "cifar100_v4": ("conv1.0.weight", 96),
    "cifar100_v5": ("conv1.0.weight", 96),
}


class Model(NamedTuple):
    """A network as `create_model` takes it."""

    name: str
    num_classes: int | None
    options: dict[str, object]

    def __str__(self) -> str:
        options = {"num_classes": self.num_classes, **self.options}
        return ", ".join([self.name, *(f"{k}={v}" for k, v in options.items())])

    def build(self, dtype: str) -> nnx.Module:
        """The Flax model, parameters in `dtype`, all zeros."""
        options = {"param_dtype": jnp.dtype(dtype), **self.options}
        return create_empty(self.name, self.num_classes, **options)

    @property
    def defaults(self) -> dict[str, object]:
        """The options that are left at their defaults."""
        known = model_options(self.name)
        return {k: v for k, v in known.items() if k not in self.options and v is not None}


def describe(model: Model, held: int | None = None) -> list[Slot]:
    """The slots of a model, in PyTorch's order, without drawing a weight.

    Args:
        held: the number of tensors in the file, which bounds the number of blocks.

    Raises:
        UserError: no such model, or options that do not fit it.
    """
    if held is not None:
        checks.held(model.options, held)
    found: list[Slot] = []

    def trace() -> None:
        # Traced here: a model out of eval_shape has its attributes sorted.
        for slot in slots(create_model(model.name, model.num_classes, **model.options)):
            value = slot.variable[...]
            shape = jax.ShapeDtypeStruct(value.shape, value.dtype)
            found.append(slot._replace(variable=type(slot.variable)(shape)))

    jax.eval_shape(trace)
    return found


def never_read(model: Model) -> tuple[str, ...]:
    """Prefixes of the parameters that the forward pass never reads."""
    return tuple(f"{name}." for name in getattr(model.build("float32"), "unused", ()))


def num_classes(shapes: Shapes) -> int | None:
    """The number of classes, where the last layer has one of the models' names."""
    return next((shapes[k][0] for k in _LAST if len(shapes.get(k, ())) == 1), None)


def guess(state_dict: StateDict) -> Model:
    """The model whose names and shapes are exactly those of a state_dict.

    Of Dense SE-ResNet, whose names do not depend on `share`, it is the one that shares most among
    those whose shared tensors are the same in the file.  What leaves no trace (dropout rates,
    activations) is left at its default.

    Raises:
        UserError: no model fits; it names what is wrong with the nearest one.
    """
    shapes = {k: v.shape for k, v in state_dict.items()}
    nearest: tuple[int, Model, Shapes] | None = None

    def same(a: str, b: str) -> bool:
        return np.array_equal(state_dict[a], state_dict[b])

    for name, read in _READERS.items():
        try:
            model = Model(name, num_classes(shapes), read(shapes))
            if name == "dense_se_resnet":
                model.options["share"] = most_sharing(same, model.options["depth"])
            wanted = {s.name: s.shape for s in describe(model, len(shapes))}
        except Exception:  # whatever the names or numbers are, they are not this model's
            continue
        if wanted == shapes:
            return model
        common = len(wanted.items() & shapes.items())
        if nearest is None or common > nearest[0]:
            nearest = common, model, wanted
    if nearest is None or nearest[0] == 0:
        raise UserError(
            f"these are the tensors of no model here (the first is {next(iter(shapes))!r}); "
            "name one with --model if that is wrong"
        )
    try:
        check_names(nearest[2], shapes)
    except UserError as e:
        raise UserError(f"no model fits; the nearest is {nearest[1]}: {e}", e.details) from e
    raise AssertionError("a model that fits was passed over")


def with_shared_names(tensors: StateDict) -> StateDict:
    """Adds the other names of tensors that the Dense SE-ResNet shares, and that NNX stores once.

    Of each stage's shared kernel there is one name, any, or there are all: then it is not shared.
    """
    shapes = {name: value.shape for name, value in tensors.items()}
    try:
        model = Model("dense_se_resnet", num_classes(shapes), {**_dense(shapes), "share": "all"})
        entries = describe(model)
    except Exception:  # whatever the names are, they are not this model's
        return tensors
    groups: dict[str, list[str]] = {}
    for slot in entries:
        groups.setdefault(slot.path, []).append(slot.name)
    added = dict(tensors)
    for names in groups.values():
        there = [name for name in names if name in tensors]
        if len(there) == 1:
            added |= dict.fromkeys(names, tensors[there[0]])
    return added


def _count(shapes: Shapes, prefix: str) -> int:
    """How many children, named "0", "1", ..., a Sequential has."""
    return len({k[len(prefix) :].partition(".")[0] for k in shapes if k.startswith(prefix)})


def _se_resnet(shapes: Shapes) -> dict[str, object]:
    stages = range(_count(shapes, "residual_layers."))
    block = "residual_layers.{}.0".format
    sizes = [shapes[f"{block(i)}.conv1.weight"][2] for i in stages]
    shortcuts = [shapes.get(f"{block(i)}.shortcut.0.weight", (0, 0, 1))[2] for i in stages]
    options: dict[str, object] = {
        "num_blocks": tuple(_count(shapes, f"residual_layers.{i}.") for i in stages),
        "num_channels": shapes["conv1.weight"][0],
        "se": "stem"
        if "seblock.conv1.weight" in shapes
        else "block"
        if f"{block(0)}.seblock.conv1.weight" in shapes
        else "none",
    }
    options |= _reduction(shapes, "conv1")
    if "whiten.0.weight" in shapes:
        options["whiten"] = True
    if set(sizes) != {3}:
        options["conv_kernel_sizes"] = tuple(sizes)
    if set(shortcuts) != {1}:
        options["shortcut_kernel_sizes"] = tuple(shortcuts)
    return options


def _widths(shapes: Shapes, stages: int) -> tuple[int, ...]:
    return tuple(shapes[f"layer{i}.0.conv1.weight"][0] for i in range(1, stages + 1))


def _blocks(shapes: Shapes, stages: int) -> tuple[int, ...]:
    return tuple(_count(shapes, f"layer{i}.") for i in range(1, stages + 1))


def _reduction(shapes: Shapes, squeeze: str) -> dict[str, object]:
    """The reduction of the excitations, where it is not the default.

    Args:
        squeeze: the last name of the layer that reduces.
    """
    pairs = {
        (shape[1], shape[0])
        for name, shape in shapes.items()
        if re.search(rf"\bse(block)?\.(.*\.)?{re.escape(squeeze)}\.weight$", name)
    }
    usual = all(channels // 16 == reduced for channels, reduced in pairs)
    if not pairs or usual:
        return {}
    channels, reduced = max(pairs)
    return {"se_reduction": channels // reduced}


def _mish(shapes: Shapes) -> dict[str, object]:
    stages = 1
    while f"layer{stages + 1}.0.conv1.weight" in shapes:
        stages += 1
    return {
        "se": "layer1.0.se.se.1.weight" in shapes,
        "widths": _widths(shapes, stages),
        "num_blocks": _blocks(shapes, stages),
        **_reduction(shapes, "se.1"),
    }


def _dense(shapes: Shapes) -> dict[str, object]:
    return {
        "depth": _count(shapes, "layer1."),
        "widths": _widths(shapes, 3),
        **_reduction(shapes, "fc.0"),
    }


def _resnet18(shapes: Shapes) -> dict[str, object]:
    return {"num_blocks": _blocks(shapes, 4), "num_channels": shapes["conv1.weight"][0]}


def _cifar100(name: str) -> Callable[[Shapes], dict[str, object]]:
    first, channels = _CIFAR100[name]

    def read(shapes: Shapes) -> dict[str, object]:
        options: dict[str, object] = {"width": shapes[first][0] / channels}
        cell = _cell(shapes) if name == "cifar100_v5" else "fire"
        return options if cell == "fire" else options | {"cell": cell}

    return read


def _cell(shapes: Shapes) -> str:
    """The cell of the hybrid, whose first stage has it behind three layers."""
    blocks, inside = [], {"squeeze": "fire", "conv": "residual"}
    while True:
        prefix = f"conv1.{3 + len(blocks)}."
        first = next((k.removeprefix(prefix) for k in shapes if k.startswith(prefix)), "")
        if (kind := first.partition(".")[0]) not in inside:
            return "+".join(blocks)
        blocks.append(inside[kind])


def most_sharing(same: Callable[[str, str], bool], depth: int) -> str:
    """The `share` that shares most among those whose names, as `same` tells, are one tensor."""
    if depth == 1:  # then no kernel has a second name
        return "none"
    agree = set()
    for stage in range(3):
        blocks = f"layer{stage + 1}.{{}}.conv{{}}.weight".format
        names = [blocks(b, i) for b in range(1, depth) for i in (1, 2)]
        if all(same(blocks(0, 2), name) for name in names):
            agree.add(stage)
    fitting = [share for share, stages in SHARED_STAGES.items() if agree.issuperset(stages)]
    return max(fitting, key=lambda share: len(SHARED_STAGES[share]))


_READERS: dict[str, Callable[[Shapes], dict[str, object]]] = {
    "se_resnet": _se_resnet,
    "mish_se_resnet18": _mish,
    "dense_se_resnet": _dense,
    "resnet18": _resnet18,
    **{name: _cifar100(name) for name in _CIFAR100},
}
