"""The folder of a run: whose it is, and that only one process at a time writes into it.

Imports neither jax nor torch: the trainers of both frameworks use it.
"""

import fcntl
from pathlib import Path
from typing import Any

from jaxnets import config as configs
from jaxnets.errors import UserError
from jaxnets.regular import open_file, read_text

CONFIG = "config.json"
# A run begun by one trainer is not gone on with by the other: these are how it is told.
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


def check_workdir(workdir: Path, config: Any, trainer: str) -> bool:
    """Whether `workdir` holds a run of this configuration by `trainer`, a key of CHECKPOINTS.

    Raises:
        UserError: it holds another one's, or is no folder.
    """
    if workdir.exists() and not workdir.is_dir():
        raise UserError(f"--workdir {workdir}: not a folder")
    for other, names in CHECKPOINTS.items():
        for name in names:
            if other != trainer and (workdir / name).exists():
                raise UserError(
                    f"--workdir {workdir} holds a run of {other} ({name}); choose another --workdir"
                )
    path = workdir / CONFIG
    if not path.exists():
        return False
    try:
        old = configs.from_json(read_text(path))
    except (ValueError, OSError) as e:
        raise UserError(f"{path}: cannot be read ({e}); choose another --workdir") from e
    different = configs.differences(old, config)
    if different:
        raise UserError(
            f"--workdir {workdir} holds a run of another configuration: {'; '.join(different)}. "
            "Choose another --workdir, or delete that one"
        )
    return True


def claim(workdir: Path):
    """Makes the workdir and locks it against a second process until the returned file is closed."""
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        lock = open_file(workdir / ".lock", "w")  # held until the run ends
    except OSError as e:
        raise UserError(f"--workdir {workdir}: cannot be written ({e.strerror})") from e
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as e:
        lock.close()
        raise UserError(f"--workdir {workdir}: another process is training there") from e
    return lock
