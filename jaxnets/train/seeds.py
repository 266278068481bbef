"""One recipe trained with several seeds, each in a process and a workdir of its own.

Imports neither jax nor torch: the process that waits holds no device.
"""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jaxnets.errors import UserError
from jaxnets.runs import children
from jaxnets.runs.log import METRICS, read_rows
from jaxnets.runs.workdir import CHECKPOINTS, CONFIG


def workdirs(workdir: Path, count: int) -> list[Path]:
    """Where the seeds train."""
    return [workdir / f"seed{i}" for i in range(count)]


def check(workdir: Path) -> None:
    """Raises a UserError if the workdir holds a run itself."""
    for name in (CONFIG, *(n for names in CHECKPOINTS.values() for n in names)):
        if (workdir / name).exists():
            raise UserError(
                f"--workdir {workdir} holds a run itself ({name}); choose another one for --seeds"
            )


def train(
    args: Sequence[str], config: Any, workdir: Path, count: int, say: Callable[[str], None]
) -> int:
    """Trains seeds config.seed, config.seed + 1, ... to their end, one after the other.

    The same call resumes.  `config.stop_after_minutes` holds for all of them together.

    Args:
        args: of jaxnets.train, without --workdir and --seeds.

    Returns:
        0, also where the time was up; the first exit code that is not 0; or 128 + the signal heard.
    """
    started = time.monotonic()
    for i, folder in enumerate(workdirs(workdir, count)):
        more = [f"--workdir={folder}", f"--config.seed={config.seed + i}"]
        if config.stop_after_minutes is not None:
            left = config.stop_after_minutes - (time.monotonic() - started) / 60
            if left <= 0:
                break
            more.append(f"--config.stop_after_minutes={left:.6f}")
        say(f"seed {config.seed + i}, {i + 1} of {count}:")
        ended = children.train([*args, *more], os.environ)
        if ended.code or ended.signal:
            return ended.code or 128 + ended.signal
    return 0


def finished(folder: Path, config: Any) -> bool:
    """Whether a seed has its last epoch."""
    path = folder / METRICS
    rows = read_rows(path) if path.exists() else []
    return bool(rows) and rows[-1].get("epoch") == config.num_epochs
