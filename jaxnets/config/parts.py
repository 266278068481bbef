"""Parts of a network by how PyTorch's names begin: what is frozen, what learns at its own rate.

Both trainers ask here, so that a prefix means the same in both.  A prefix ends at a dot: `conv1` is
`conv1.weight`, not `conv10.weight`.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from jaxnets.config.keys import flatten
from jaxnets.errors import UserError

Names = Mapping[str, Sequence[str]]
"""A parameter's key, of the caller's choice, and all of its names in PyTorch: a shared one's many.
"""


class Parts(NamedTuple):
    """What `config.optim` says of single parameters, by their keys."""

    frozen: frozenset[str] = frozenset()
    """They stay what they are."""
    scales: Mapping[str, float] = {}
    """Factors of the learning rate, where they are not 1."""


def parts(optim: Any, parameters: Names) -> Parts:
    """What `config.optim.freeze` and `config.optim.lr_scale` say of the parameters.

    A shared parameter belongs to a part if any of its names does.

    Raises:
        UserError: a prefix that no name begins with; nothing is left to train; a factor of what is
            frozen, or two factors for one parameter.
    """
    frozen: set[str] = set()
    for prefix in optim.freeze:
        frozen |= matching("config.optim.freeze", prefix, parameters)
    if frozen and len(frozen) == len(parameters):
        raise UserError(
            f"config.optim.freeze={','.join(optim.freeze)}: freezes all parameters, so that "
            "nothing is left to train"
        )
    scales: dict[str, float] = {}
    for prefix, factor in flatten(optim.lr_scale).items():
        key = f"config.optim.lr_scale.{prefix}"
        found = matching("config.optim.lr_scale", prefix, parameters)
        if found <= frozen:
            raise UserError(f"{key}: all of it is frozen by config.optim.freeze; leave one out")
        for name in found - frozen:
            if scales.setdefault(name, factor) != factor:
                raise UserError(
                    f"{key}={factor}: {parameters[name][0]} has the factor {scales[name]} already"
                )
    return Parts(frozenset(frozen), {k: v for k, v in scales.items() if v != 1})


def frozen_norms(frozen: Iterable[str], norms: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """The BatchNorm layers, of `norms` with their parameters' keys, that keep their statistics.

    Those of which every parameter is frozen.
    """
    frozen = set(frozen)
    return tuple(norm for norm, keys in norms.items() if frozen.issuperset(keys))


def begins(name: str, prefix: str) -> bool:
    """Whether a dotted name is the prefix or lies within it."""
    return name == prefix or name.startswith(f"{prefix}.")


def matching(key: str, prefix: str, parameters: Names) -> set[str]:
    """The parameters with a name that begins so; a UserError with the nearest names if none has."""
    found = {
        parameter
        for parameter, names in parameters.items()
        if any(begins(name, prefix) for name in names)
    }
    if found:
        return found
    names = [name for names in parameters.values() for name in names]
    near = difflib.get_close_matches(prefix, _prefixes(names), n=3, cutoff=0.5)
    hint = f"the nearest are {', '.join(near)}" if near else f"there is {', '.join(_tops(names))}"
    raise UserError(f"{key}: no parameter's name begins with {prefix!r}; {hint}")


def _prefixes(names: Iterable[str]) -> list[str]:
    """Every prefix that names have, whole ones too, in their order."""
    found = {}
    for name in names:
        parts = name.split(".")
        found |= dict.fromkeys(".".join(parts[: i + 1]) for i in range(len(parts)))
    return list(found)


def _tops(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(name.partition(".")[0] for name in names))


def new_head(
    head: Iterable[str],
    wanted: Mapping[str, tuple[int, ...]],
    given: Mapping[str, tuple[int, ...]],
) -> list[str]:
    """The tensors of the last layer that must be drawn anew: all of them, or none.

    They are, where weights are of a network with other classes, or of one without its last layer.

    Args:
        head: PyTorch's names of its tensors.
        wanted, given: the shapes of all tensors, of the network and of the weights.
    """
    head = list(head)
    absent = all(name not in given for name in head)
    other = all(name in given and given[name][1:] == wanted[name][1:] for name in head)
    other = other and len({given[name][0] for name in head}) == 1
    same = other and all(given[name] == wanted[name] for name in head)
    return head if absent or (other and not same) else []
