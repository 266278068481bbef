"""What a sweep is: the same for all of its workers, and kept in its workdir and its storage."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from jaxnets import config as configs
from jaxnets.errors import UserError
from jaxnets.files.atomic import write_text
from jaxnets.files.regular import parse_json, read_text
from jaxnets.runs.workdir import CONFIG
from jaxnets.sweep import grid, storage
from jaxnets.sweep.grid import Listed
from jaxnets.sweep.space import Space

FILE = "sweep.json"
_KEPT = "sweep"  # the study's attribute that holds what it is


@dataclasses.dataclass(frozen=True)
class Sweep:
    """A sweep, as its command describes it.

    config: of the recipe alone.
    seeds: runs of each setting, from the recipe's seed on.
    trials: settings to train; None for all that are listed.
    budget, macs: of a network, at most; None for any.
    sampler, pruner: names, see `storage`.
    url: of the storage.
    """

    workdir: Path
    search: Listed | Space
    config: Any
    seeds: int
    trials: int | None
    budget: int | None
    macs: int | None
    sampler: str
    pruner: str
    url: str

    @property
    def is_listed(self) -> bool:
        """Whether the settings are known beforehand, and each is trained once."""
        return not isinstance(self.search, Space)

    @property
    def study(self) -> str:
        """The study's name in the storage, which may hold several sweeps."""
        return self.workdir.as_posix()

    def propose(self, trial: Any) -> Any:
        """The configuration of a trial; raises as `Space.propose`."""
        if isinstance(self.search, Space):
            return self.search.propose(trial)
        return grid.propose(self.search, trial)

    def folder(self, origin: int) -> Path:
        """Where the runs of a trial are, see `claims.origin`."""
        return self.workdir / f"trial{origin}"

    def described(self) -> dict[str, Any]:
        """What makes it another sweep, as JSON; `trials` may be raised."""
        mine = {key: getattr(self, key) for key in ("seeds", "budget", "macs")}
        if not self.is_listed:
            mine |= {"sampler": self.sampler, "pruner": self.pruner}
        return {"config": configs.decisive_keys(self.config), **self.search.described(), **mine}


def check_workdir(sweep: Sweep) -> None:
    """Raises a UserError where the workdir holds something else; makes it this sweep's."""
    path = sweep.workdir / FILE
    if sweep.workdir.exists() and not sweep.workdir.is_dir():
        raise UserError(f"--workdir {sweep.workdir}: not a folder")
    if (sweep.workdir / CONFIG).exists():
        raise UserError(f"--workdir {sweep.workdir} holds a run of a trainer; choose another one")
    if path.exists():
        _check_same(read(sweep.workdir)["sweep"], sweep, f"--workdir {sweep.workdir}")
        return
    url = storage.without_password(sweep.url)
    content = {"study": sweep.study, "storage": url, "sweep": sweep.described()}
    write_text(path, json.dumps(content, indent=2) + "\n")


def check_study(study: Any, sweep: Sweep) -> None:
    """Raises a UserError where the study is of another sweep; makes a new one this sweep's."""
    kept = study.user_attrs.get(_KEPT)
    if kept is None:
        if study.get_trials(deepcopy=False):
            raise UserError(f"--storage: its study {sweep.study!r} is of no sweep of jaxnets")
        study.set_user_attr(_KEPT, sweep.described())
        return
    _check_same(kept, sweep, f"--storage: the sweep {sweep.study!r} in it")


def read(workdir: Path) -> dict[str, Any]:
    """sweep.json of a workdir: study, storage, sweep.

    Raises:
        UserError: it is not there, or not such a file.
    """
    path = workdir / FILE
    try:
        found = parse_json(read_text(path))
        if not isinstance(found["sweep"], dict) or not isinstance(found["study"], str):
            raise ValueError("not a sweep's")
    except (FileNotFoundError, NotADirectoryError) as e:
        raise UserError(f"{workdir}: no {FILE} there; give the workdir of a sweep") from e
    except (OSError, ValueError, LookupError, TypeError) as e:
        raise UserError(f"{path}: cannot be read ({e})") from e
    return found


def _check_same(kept: dict[str, Any], sweep: Sweep, where: str) -> None:
    asked = json.loads(json.dumps(sweep.described()))
    before, now = ({**s, **s.get("config", {})} for s in (kept, asked))
    before.pop("config", None), now.pop("config", None)
    different = [key for key in dict.fromkeys([*before, *now]) if before.get(key) != now.get(key)]
    if different:
        shown = ", ".join(
            key
            if key in ("grid", "ablation", "space")
            else f"{key} {before.get(key)} -> {now.get(key)}"
            for key in different
        )
        raise UserError(f"{where} holds another sweep ({shown}); choose another --workdir")
