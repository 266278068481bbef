"""Whether tensors fit a network: their names and shapes against those that it has."""

import difflib
from collections.abc import Mapping

from jaxnets.errors import UserError

_COMPARISONS = 10_000  # of names, to find the nearest ones: two seconds


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
