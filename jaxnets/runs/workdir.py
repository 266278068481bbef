"""The folder of a run: whose it is, and that only one process at a time writes into it.

Imports neither jax nor torch: the trainers of both frameworks use it.
"""

import contextlib
import fcntl
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxnets import config as configs
from jaxnets.errors import UserError
from jaxnets.files.atomic import write_text, writing
from jaxnets.files.regular import open_file, read_text
from jaxnets.runs.log import METRICS, STARTS, read_rows

CONFIG = "config.json"
# A run begun by one trainer is not resumed by the other: these are how it is told.
CHECKPOINTS = {"jaxnets.train": ("checkpoints", "best"), "torch_ref.train": ("last.pt", "best.pt")}


def read_config(workdir: Path) -> Any:
    """The configuration that the run in `workdir` was started with."""
    path = workdir / CONFIG
    try:
        return configs.from_json(read_text(path))
    except (FileNotFoundError, NotADirectoryError) as e:
        raise UserError(
            f"--workdir {workdir}: no {CONFIG} there; give the folder of a training run"
        ) from e
    except (OSError, ValueError) as e:
        raise UserError(f"{path}: cannot be read ({e})") from e


def report_folder(workdir: Path, checkpoint: str, split: str = "test") -> Path:
    """Where what is said about a checkpoint goes; only that of the best on the test set is plain.

    >>> report_folder(Path("runs/x"), "best"), report_folder(Path("runs/x"), "last", "val")
    (PosixPath('runs/x/report'), PosixPath('runs/x/report-last-val'))
    """
    parts = [part for part in (checkpoint, split) if part not in ("best", "test")]
    return workdir / "-".join(["report", *parts])


def note_older(path: Path, step: int, command: str) -> None:
    """Says that JSON beside what was just written is about another step: training has gone on.

    Args:
        path: an object, or a list of them, with a "step"; nothing is said where there is none.
        step: of what was just written.
        command: what wrote it.
    """
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
        found = json.loads(path.read_text())
        other = (found[0] if isinstance(found, list) else found)["step"]
        if other != step:
            print(
                f"note: {path.name} and what else {command} wrote there is of step {other}",
                file=sys.stderr,
            )


def check_workdir(workdir: Path, config: Any, trainer: str) -> bool:
    """Whether config.json in `workdir` is that of this run by `trainer`, a key of CHECKPOINTS.

    If not it is for `begin` to write: a new run's, also where nothing was trained yet, or that of a
    run that is made longer.

    Raises:
        UserError: it holds another run, or is no folder.
    """
    if workdir.exists() and not workdir.is_dir():
        raise UserError(f"--workdir {workdir}: not a folder")
    for other, names in CHECKPOINTS.items():
        for name in names:
            if other != trainer and _holds_checkpoint(workdir / name):
                raise UserError(
                    f"--workdir {workdir} holds a run of {other} ({name}); choose another --workdir"
                )
    path = workdir / CONFIG
    if not path.exists():
        return False
    try:
        old = configs.from_json(read_text(path))
        different = configs.differences(old, config)
    except (ValueError, OSError) as e:
        if isinstance(e, ValueError) and not _trained(workdir):
            return False
        raise UserError(f"{path}: cannot be read ({e}); choose another --workdir") from e
    if not different:
        return True
    if not _trained(workdir):
        return False
    reason = ""
    if len(different) == 1 and config.num_epochs > old.num_epochs:
        planned = configs.planned_over(config)
        if planned is None:
            return False
        reason = f": {planned}, so the epochs done would have been others"
    raise UserError(
        f"--workdir {workdir} holds a run of another configuration: {'; '.join(different)}{reason}."
        " Choose another --workdir, or delete that one"
    )


def begin(workdir: Path, config: Any) -> None:
    """Writes config.json into a workdir that is claimed; starts that trained nothing go."""
    with contextlib.suppress(OSError):
        if (workdir / CONFIG).exists() and not _trained(workdir):
            (workdir / STARTS).unlink(missing_ok=True)
    write_text(workdir / CONFIG, configs.to_json(config) + "\n")


def _trained(workdir: Path) -> bool:
    """Whether there is something to lose: a checkpoint, or the log of a finished epoch."""
    if any(_holds_checkpoint(workdir / n) for names in CHECKPOINTS.values() for n in names):
        return True
    try:
        return bool(read_rows(workdir / METRICS))
    except OSError:
        return (workdir / METRICS).exists()


def _holds_checkpoint(path: Path) -> bool:
    """Whether a file or folder of CHECKPOINTS has more in it than what a kill left half-written."""
    if not path.is_dir():
        return path.exists()
    return any(p.name.isdigit() or p.name.endswith((".damaged", ".old")) for p in path.iterdir())


@contextlib.contextmanager
def held(workdir: Path, config: Any, trainer: str) -> Iterator[None]:
    """Claims the workdir of a run by `trainer`, and sees to its config.json.

    Raises:
        UserError: as `claim` and `check_workdir`.
    """
    with claim(workdir):
        if not check_workdir(workdir, config, trainer):  # now nobody else writes
            begin(workdir, config)
        yield


def claim(workdir: Path):
    """Makes the workdir and locks it against a second process until the returned file is closed."""
    with writing(f"--workdir {workdir}"):
        workdir.mkdir(parents=True, exist_ok=True)
        lock = open_file(workdir / ".lock", "w")  # held until the run ends
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as e:
        lock.close()
        raise UserError(f"--workdir {workdir}: another process is training there") from e
    return lock
