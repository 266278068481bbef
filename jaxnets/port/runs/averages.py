"""Averages of the weights between jaxnets.train and torch.optim.swa_utils.AveragedModel.

    Average.n_averaged              <->  n_averaged
    Average.params[path]            <->  module.NAME
    Average.stats[path]             <->  module.NAME

AveragedModel holds frozen parameters too: they are the weights'.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxnets.config.averaging import averaging
from jaxnets.errors import UserError
from jaxnets.files.pt_file import clean_names
from jaxnets.models.torch_names import Slot, StateDict
from jaxnets.optim.averaging import Average, AveragedState
from jaxnets.port import adapters, orbax
from jaxnets.port.adapters import fit
from jaxnets.port.files import to_numpy, to_tensors
from jaxnets.port.guess import Model

COUNT = "n_averaged"


class Averaged(NamedTuple):
    """One average."""

    count: int
    """How many weights are in it."""
    weights: StateDict
    """All tensors of the network."""


def from_jax(
    found: Mapping[str, Mapping[str, Any]],
    tensors: Mapping[str, np.ndarray],
    model: Model,
    entries: list[Slot],
) -> dict[str, Averaged]:
    """Of a checkpoint of jaxnets.train, whose weights and statistics are `tensors`."""
    return {
        kind: Averaged(
            int(average[COUNT]),
            fit(
                orbax.by_torch_name({**tensors, **average["params"], **average["stats"]}, model),
                entries,
            ),
        )
        for kind, average in found.items()
    }


def to_jax(
    averages: Mapping[str, Averaged], inner: Any, params: Sequence[Slot], entries: Sequence[Slot]
) -> Any:
    """The optimizer's state with the averages around it; `params` are those that are trained."""
    if not averages:
        return inner

    def average(given: Averaged) -> Average:
        parts = orbax.by_path(given.weights, entries)
        stats = {
            name: value.astype(np.int32) if value.dtype.kind == "i" else value
            for name, value in parts["stats"].items()
        }
        mine = {slot.path: parts["params"][slot.path] for slot in params}
        return Average(np.int32(given.count), mine, stats)

    return AveragedState({kind: average(given) for kind, given in averages.items()}, inner)


def from_torch(found: Any, plan: adapters.Plan, entries: list[Slot]) -> dict[str, Averaged]:
    """Of a checkpoint of torch_ref.train, by kind state_dicts of AveragedModel.

    Raises:
        UserError: they are none, or of another network.
    """
    averages = {}
    try:
        for kind, state in found.items():
            tensors = to_numpy(state)
            count = int(tensors.pop(COUNT))
            averages[kind] = Averaged(count, fit(plan.adapt(clean_names(tensors)), entries))
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as e:
        raise UserError("its averages are not those of AveragedModel") from e
    return averages


def to_torch(averages: Mapping[str, Averaged]) -> dict[str, dict[str, Any]]:
    """State_dicts of AveragedModel, by kind."""
    return {
        kind: to_tensors(
            {
                COUNT: np.array(given.count, np.int64),
                **{f"module.{name}": value for name, value in given.weights.items()},
            }
        )
        for kind, given in averages.items()
    }


def settled(
    averages: Mapping[str, Averaged], optim: Any, weights: StateDict
) -> dict[str, Averaged]:
    """The averages without what is of no consequence: those that took nothing are the weights.

    Raises:
        UserError: they are not those of the configuration.
    """
    planned = averaging(optim, 1)
    kinds = planned.kinds if planned else ()
    if set(averages) != set(kinds):
        raise UserError(
            f"it has the averages {', '.join(averages) or 'none'}, its configuration "
            f"{', '.join(kinds) or 'none'}"
        )
    return {
        kind: given if given.count else Averaged(0, weights) for kind, given in averages.items()
    }
