"""Muon's options and the parameters that it updates: shared by the optimizer and its twin."""

from collections.abc import Container, Iterable, Mapping
from typing import Any, NamedTuple

from jaxnets.checks import Section, require
from jaxnets.config.keys import MUON
from jaxnets.config.parts import begins, matching
from jaxnets.errors import UserError

PATH = "config.optim.muon"


class MuonOptions(NamedTuple):
    """`config.optim.muon`; what is said of them there holds."""

    momentum: float
    nesterov: bool
    weight_decay: float
    ns_steps: int
    ns_dtype: str
    adjust_lr: str
    rest: str
    rest_lr_scale: float
    exclude: tuple[str, ...]


def read_muon(optim: Any) -> MuonOptions:
    """The options in `config.optim.muon`, each at its default where it is absent or None.

    Raises:
        UserError: a value that is not allowed; it names the key.
    """
    section, default = Section(PATH, getattr(optim, "muon", None)), MUON
    exclude = section.get("exclude", ())
    listed = not isinstance(exclude, str) and all(isinstance(name, str) for name in exclude)
    require(listed, section.key("exclude"), exclude, "a tuple of modules' names")
    return MuonOptions(
        momentum=section.number("momentum", "[0, 1)", default["momentum"]),
        nesterov=section.flag("nesterov", default["nesterov"]),
        weight_decay=section.number("weight_decay", "[0, inf)", default["weight_decay"]),
        ns_steps=section.whole("ns_steps", 1, 99, default=default["ns_steps"]),
        ns_dtype=section.choice("ns_dtype", ("float32", "bfloat16"), default["ns_dtype"]),
        adjust_lr=section.choice(
            "adjust_lr", ("original", "match_rms_adamw", "none"), default["adjust_lr"]
        ),
        rest=section.choice("rest", ("sgd", "adamw"), default["rest"]),
        rest_lr_scale=section.number("rest_lr_scale", "[0, inf)", default["rest_lr_scale"]),
        exclude=tuple(exclude),
    )


def kernels(ranks: Mapping[str, int], exclude: Iterable[str] = ()) -> list[str]:
    """Names of the parameters that Muon updates: kernels of convolutions outside of `exclude`.

    Args:
        ranks: how many axes each parameter has, by its name in either framework: modules are called
            alike in both.
    """
    return [
        name
        for name, rank in ranks.items()
        if rank == 4 and not any(begins(_module(name), prefix) for prefix in exclude)
    ]


def check_kernels(optim: Any, ranks: Mapping[str, int], frozen: Container[str] = ()) -> None:
    """Raises a UserError if Muon has no kernel to update, or if `exclude` names no module.

    Args:
        ranks: of all parameters, as for `kernels`.
        frozen: those that no optimizer updates.
    """
    if optim.name != "muon":
        return
    exclude = read_muon(optim).exclude
    for prefix in exclude:
        matching(f"{PATH}.exclude", prefix, {name: [_module(name)] for name in ranks})
    if all(name in frozen for name in kernels(ranks, exclude)):
        given = [f"{PATH}.exclude={','.join(exclude)}"] if exclude else []
        given += [f"config.optim.freeze={','.join(optim.freeze)}"] if optim.freeze else []
        why = ", ".join(given) or "the network has none"
        raise UserError(
            f"config.optim.name=muon: no kernel of a convolution is left for it ({why}); "
            "biases and scales alone are for sgd or adamw"
        )


def _module(name: str) -> str:
    return name.rpartition(".")[0]
