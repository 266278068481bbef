"""The plan of all measurements: the rows of a plan.py, and where what they leave belongs."""

import argparse
import dataclasses
import difflib
import runpy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxnets import config as configs
from jaxnets.errors import UserError

DEVICES = ("cpu", "gpu")
DEFAULT = Path("results/plan.py")


@dataclasses.dataclass(frozen=True)
class Published:
    """A figure of somebody else's, test accuracy in per cent.

    text: as the table has it, such as "53.65 % best".
    source: where it stands.
    curves: names in results/published/s0_curves.json of runs of that recipe.
    """

    accuracy: float
    text: str
    source: str
    curves: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """Something to measure.

    name: in the tables and on the command line; "/" and ":" become "_" in `folder`.
    minutes: roughly, for one seed, by each of DEVICES that it is meant for.
    """

    name: str
    minutes: Mapping[str, float]

    @property
    def folder(self) -> str:
        return self.name.replace("/", "_").replace(":", "_")

    def check(self) -> None:
        """Raises a UserError where the row says nothing or nonsense."""
        if not self.name or not self.minutes or self.minutes.keys() - set(DEVICES):
            raise UserError(f"row {self.name!r}: a name, and minutes on {' or '.join(DEVICES)}")
        if not all(value > 0 for value in self.minutes.values()):
            raise UserError(f"row {self.name!r}: minutes are more than 0")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training(Row):
    """A recipe trained with each of the seeds.

    recipe: "FILE[:PRESET]", from the folder above the plan's.
    overrides: "KEY=VALUE" each, without --config.
    trainer: "jaxnets" or its twin, "torch_ref".
    beside: the row whose curves are drawn beside this one's.
    """

    recipe: str
    parameters: int
    overrides: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0,)
    trainer: str = "jaxnets"
    published: Published | None = None
    beside: str | None = None

    def check(self) -> None:
        super().check()
        if self.trainer not in ("jaxnets", "torch_ref"):
            raise UserError(f"row {self.name!r}: trainer {self.trainer!r}: jaxnets or torch_ref")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise UserError(f"row {self.name!r}: at least one seed, each once")

    def arguments(self, recipe: str, seed: int, workdir: str) -> list[str]:
        """What its trainer is called with."""
        overrides = [f"--config.{override}" for override in (*self.overrides, f"seed={seed}")]
        return ["--config", recipe, *overrides, "--workdir", workdir]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Commands(Row):
    """Commands of jaxnets that write JSON, one after the other, each in a process of its own.

    commands: what stands after `python -m` in a shell; {out} is a folder whose JSON is kept.
    environment: for all of them.
    """

    commands: tuple[str, ...]
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Plan:
    """The rows by name, and in which order each device takes them.

    path: of the plan.py; what is measured is kept in the folders beside it.
    """

    path: Path
    rows: Mapping[str, Row]
    order: Mapping[str, tuple[str, ...]]

    @property
    def results(self) -> Path:
        """The folder of all results."""
        return self.path.parent

    @property
    def root(self) -> Path:
        """The folder that recipes and pages are named from."""
        return self.results.parent

    @property
    def trainings(self) -> list[Training]:
        return [row for row in self.rows.values() if isinstance(row, Training)]

    def row(self, name: str) -> Row:
        """A row by its name, or by that of its folder."""
        for row in self.rows.values():
            if name in (row.name, row.folder):
                return row
        near = difflib.get_close_matches(name, self.rows, n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UserError(f"no row {name!r} in {self.path}{hint} (--list shows all)")

    def recipe(self, row: Training) -> str:
        """The recipe's path from here."""
        return str(self.root / row.recipe)

    def config(self, row: Training, seed: int) -> Any:
        """The configuration of a training."""
        args = row.arguments(self.recipe(row), seed, "")
        return configs.read(args[1], [arg for arg in args if arg.startswith("--config.")])

    def folder(self, row: Row, seed: int | None = None) -> Path:
        """Where the results of a row, or of one of its seeds, are kept."""
        folder = self.results / row.folder
        return folder if seed is None else folder / f"seed{seed}"


def add_flag(parser: argparse.ArgumentParser, what: str) -> None:
    """Adds --plan, for `read`."""
    about = f"{what} (default: {DEFAULT})"
    parser.add_argument("--plan", type=Path, default=DEFAULT, metavar="FILE", help=about)


def read(path: Path = DEFAULT) -> Plan:
    """The plan in a file: `ROWS`, and `ORDER`, names by device.

    Raises:
        UserError: no such file, or one that is not a plan.
    """
    if not path.is_file():
        raise UserError(
            f"{path}: no such plan; run in the repository's folder, or name one with --plan"
        )
    try:
        found = runpy.run_path(str(path))
        rows: Sequence[Row] = found["ROWS"]
        order = {device: tuple(found["ORDER"][device]) for device in DEVICES}
        for row in rows:
            row.check()
    except UserError as e:
        raise UserError(f"{path}: {e}") from e
    except Exception as e:
        raise UserError(f"{path}: not a plan ({type(e).__name__}: {e})") from e
    plan = Plan(path, {row.name: row for row in rows}, order)
    if len(plan.rows) < len(rows) or len({row.folder for row in rows}) < len(rows):
        raise UserError(f"{path}: two rows of one name, or of one folder")
    for device, names in order.items():
        for name in names:
            if device not in plan.row(name).minutes:
                raise UserError(f"{path}: row {name!r} has no minutes on a {device}")
    return plan
