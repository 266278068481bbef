"""A grid: every combination of values for some keys of a recipe."""

import contextlib
import dataclasses
import io
import itertools
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from jaxnets import config as configs
from jaxnets.config import networks
from jaxnets.errors import UserError


@dataclasses.dataclass(frozen=True)
class Grid:
    """Values for keys of a recipe, as texts of a command line.

    recipe: "RECIPE[:PRESET]".
    overrides: "--config.KEY=VALUE" each, below those of the grid.
    values: by key.
    """

    recipe: str
    overrides: tuple[str, ...]
    values: Mapping[str, tuple[str, ...]]

    def settings(self) -> list[dict[str, str]]:
        """Every combination; the last key changes fastest."""
        keys = list(self.values)
        return [dict(zip(keys, c, strict=True)) for c in itertools.product(*self.values.values())]

    def config(self, setting: Mapping[str, str]) -> Any:
        """The configuration of one combination.

        Raises:
            UserError: a key or value that is wrong, with the nearest name.
        """
        given = [f"--config.{key}={value}" for key, value in setting.items()]
        return configs.read(self.recipe, [*self.overrides, *given])

    def described(self) -> dict[str, Any]:
        """As JSON: what makes it another grid."""
        return {"grid": {key: list(values) for key, values in self.values.items()}}


def parse(recipe: str, overrides: Sequence[str], given: Sequence[str]) -> Grid:
    """The grid of some --grid KEY=VALUE,VALUE,...

    Of a key that holds a list, and wherever there is a semicolon, semicolons part the values:
    model.num_blocks=4,4,3;3,3,3.

    Raises:
        UserError: an unknown key, no value, a key or a value given twice, or a combination that is
            no configuration.
    """
    lists = {key for key, value in _listed(recipe, overrides).items() if isinstance(value, tuple)}
    values: dict[str, tuple[str, ...]] = {}
    for text in given:
        key, _, rest = text.partition("=")
        key = key.strip().removeprefix("--config.").removeprefix("config.")
        several = ";" if ";" in rest or key in lists else ","
        found = tuple(part.strip() for part in rest.split(several))
        if not key or not all(found):
            raise UserError(f"--grid {text}: a key and its values, e.g. --grid optim.lr=.1,.05")
        if key in values or len(set(found)) < len(found):
            raise UserError(f"--grid {text}: the key, or one of the values, is there twice")
        values[key] = found
    grid = Grid(recipe, tuple(overrides), values)
    check(grid, "--grid")
    return grid


class Listed(Protocol):
    """Settings that are known beforehand: a grid, or an ablation."""

    @property
    def values(self) -> Mapping[str, tuple[str, ...]]:
        """Values by the keys of a trial."""

    def settings(self) -> list[dict[str, str]]:
        """All of them, as values by key."""

    def config(self, setting: Mapping[str, str]) -> Any:
        """The configuration of one."""

    def described(self) -> dict[str, Any]:
        """As JSON: what makes it another one."""


def check(listed: Listed, flag: str) -> None:
    """Raises a UserError where a setting is no configuration; says each note about them once."""
    said: dict[str, None] = {}
    for setting in listed.settings():
        notes = io.StringIO()
        try:
            with contextlib.redirect_stderr(notes):
                listed.config(setting)
        except UserError as e:
            raise UserError(f"{flag}: {e}", e.details) from e
        said |= dict.fromkeys(notes.getvalue().splitlines())
    for note in said:
        print(note, file=sys.stderr)


def propose(listed: Listed, trial: Any) -> Any:
    """The configuration of a trial: which setting, the trial says."""
    setting = {k: trial.suggest_categorical(k, v) for k, v in listed.values.items()}
    with contextlib.redirect_stderr(io.StringIO()):  # its notes were said by `check`
        return listed.config(setting)


def _listed(recipe: str, overrides: Sequence[str]) -> dict[str, Any]:
    """Keys and values of a recipe, and the options of its network that it leaves alone."""
    config = configs.read(recipe, overrides)
    options = networks.options(config.model.name)
    unset = {f"model.{k}": () if o.type is tuple else o.default for k, o in options.items()}
    return unset | configs.flatten(config.to_dict())
