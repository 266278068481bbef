"""Ablations: named settings of one recipe, and what a document claims of each."""

import dataclasses
import runpy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxnets import config as configs
from jaxnets.config import recipes
from jaxnets.errors import UserError, unknown

KEY = "setting"
"""The one key of a trial."""


class Setting(NamedTuple):
    """One row of an ablation.

    overrides: "KEY=VALUE" each, without --config.
    claim: what the document says of it, if it gives a figure.
    recipe: another one than the ablation's.
    """

    overrides: tuple[str, ...] = ()
    claim: str = ""
    recipe: str = ""


@dataclasses.dataclass(frozen=True)
class Ablation:
    """Named settings, trained like a grid of one key.

    overrides: "--config.KEY=VALUE" each, below those of the settings.
    """

    recipe: str
    overrides: tuple[str, ...]
    rows: Mapping[str, Setting]

    @property
    def values(self) -> Mapping[str, tuple[str, ...]]:
        """As a grid has them: the one key, and the names."""
        return {KEY: tuple(self.rows)}

    def settings(self) -> list[dict[str, str]]:
        """Every setting, by its name."""
        return [{KEY: name} for name in self.rows]

    def config(self, setting: Mapping[str, str]) -> Any:
        """The configuration of one setting.

        Raises:
            UserError: a key or value that is wrong, with the nearest name.
        """
        row = self.rows[setting[KEY]]
        given = [f"--config.{override}" for override in row.overrides]
        return configs.read(row.recipe or self.recipe, [*self.overrides, *given])

    def described(self) -> dict[str, Any]:
        """As JSON: what makes it another ablation."""
        return {"ablation": {name: list(row) for name, row in self.rows.items()}}


def named(given: str, folder: str) -> Path:
    """A file by its path, or by its name among those of configs/FOLDER that come with jaxnets.

    Raises:
        UserError: there is none, with the nearest name.
    """
    if Path(given).is_file():
        return Path(given)
    beside = next(iter(recipes.recipes().values())).parent / folder
    known = {path.stem: path for path in sorted(beside.glob("[!_]*.py"))}
    if given in known:
        return known[given]
    raise unknown(f"file --{folder[:-1]}", given, known)


def read(path: Path) -> tuple[str, dict[str, Setting]]:
    """RECIPE and SETTINGS of a file.

    Raises:
        UserError: not such a file.
    """
    try:
        found = runpy.run_path(str(path))
        recipe, rows = str(found["RECIPE"]), dict(found["SETTINGS"])
    except UserError:
        raise
    except Exception as e:
        raise UserError(f"--ablation {path}: no ablation ({type(e).__name__}: {e})") from e
    plain = all(isinstance(k, str) and isinstance(v, Setting) for k, v in rows.items())
    if not rows or not plain:
        raise UserError(f"--ablation {path}: SETTINGS are Setting(...) by name, at least one")
    return recipe, rows


def claims(rows: Mapping[str, Sequence[Any]]) -> dict[str, str]:
    """What is claimed of each setting that something is claimed of, from `described()`."""
    return {name: str(row[1]) for name, row in rows.items() if len(row) > 1 and row[1]}
