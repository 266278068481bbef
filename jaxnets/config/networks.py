"""The networks by name, and their options with defaults, without importing any of them.

The options are read out of the signatures of `jaxnets.models`: to import those takes jax, which
neither a command line nor the PyTorch twin may need.
"""

import ast
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxnets import checks
from jaxnets.errors import UserError, unknown

_SOURCES = Path(__file__).parent.parent / "models"
_NOT_OPTIONS = ("dtype", "param_dtype", "rngs")


class Entry(NamedTuple):
    """Where a model is defined, and the document that it rebuilds."""

    module: str
    cls: str
    source: str


MODELS = {
    "se_resnet": Entry("se_resnet", "SEResNet", "S2, S3"),
    "mish_se_resnet18": Entry("mish_se_resnet", "MishSEResNet18", "S1"),
    "dense_se_resnet": Entry("dense_se_resnet", "DenseSEResNet", "S3"),
    "cifar100_v1": Entry("cifar100", "Cifar100v1", "S0"),
    "cifar100_v2": Entry("cifar100", "Cifar100v2", "S0"),
    "cifar100_v3": Entry("cifar100", "Cifar100v3", "S0"),
    "cifar100_v4": Entry("cifar100", "Cifar100v4", "S0"),
    "cifar100_v5": Entry("cifar100", "Cifar100v5", "S0"),
    "resnet18": Entry("resnet18", "ResNet18", "kuangliu/pytorch-cifar"),
}


class Option(NamedTuple):
    """A keyword of a network's class: the type that its values have, and its default."""

    type: type
    default: Any


def entry(name: str, kind: str = "model") -> Entry:
    """The entry of the model called `name`; a UserError names the nearest one otherwise."""
    if name not in MODELS:
        raise unknown(kind, name, MODELS)
    return MODELS[name]


def options(name: str, kind: str = "model") -> Mapping[str, Option]:
    """The options of the model called `name`."""
    module, cls, _ = entry(name, kind)
    return _signature(module, cls)


@functools.cache
def _signature(module: str, cls: str) -> Mapping[str, Option]:
    body = ast.parse((_SOURCES / f"{module}.py").read_text()).body
    network = next(x for x in body if isinstance(x, ast.ClassDef) and x.name == cls)
    init = next(x for x in network.body if isinstance(x, ast.FunctionDef) and x.name == "__init__")
    types = {"bool": bool, "float": float, "int": int, "str": str, "Sequence[int]": tuple}
    return {
        arg.arg: Option(
            types[ast.unparse(arg.annotation).removesuffix(" | None")], ast.literal_eval(default)
        )
        for arg, default in zip(init.args.kwonlyargs, init.args.kw_defaults, strict=True)
        if arg.arg not in _NOT_OPTIONS
    }


def check_options(name: str, given: Mapping[str, Any]) -> None:
    """Raises a UserError that names the nearest option if the model lacks one that is given."""
    known = options(name)
    for key in given:
        if key not in known:
            raise unknown(f"option of {name}", key, known)


def parse_options(name: str, pairs: Sequence[str]) -> dict[str, Any]:
    """The options of the model called `name` from their text, "K=V" each.

    Raises:
        UserError: an unknown model or option, or a value of another type.

    >>> parse_options("se_resnet", ["se=block", "num_blocks=3,3,3"])
    {'se': 'block', 'num_blocks': (3, 3, 3)}
    """
    known = options(name)
    for pair in pairs:
        if "=" not in pair:
            raise UserError(f"--option {pair}: write it as K=V; K is one of {', '.join(known)}")
    given = dict(pair.split("=", 1) for pair in pairs)
    check_options(name, given)
    return {key: checks.parsed(f"--option {key}", v, *known[key]) for key, v in given.items()}


def model_options(config: Any, data_classes: int) -> tuple[int, dict[str, Any]]:
    """The class count of `config.model` and the options that its model takes.

    Raises:
        UserError: fewer classes than the data has.
    """
    options = config.model.to_dict()
    del options["name"]
    num_classes = options.pop("num_classes", None)
    if num_classes is None:
        num_classes = data_classes
    if num_classes < data_classes:
        raise UserError(
            f"config.model.num_classes={num_classes}: at least {data_classes}, the classes of "
            f"{config.data.name}"
        )
    return num_classes, options
