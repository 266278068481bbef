"""What a run leaves in results/ROW/seedK/: its log, configuration, run record and figures.

    config.json, metrics.jsonl, starts.jsonl   copies of the workdir's
    figures.json                               test figures of the last and the best epoch, seconds

The folder reads like a workdir without checkpoints, so `summary` sums it up like one.
"""

import contextlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxnets.errors import UserError
from jaxnets.files import jsonl
from jaxnets.files.atomic import write_text, writing
from jaxnets.files.regular import parse_json, read_text
from jaxnets.results.plan import Plan, Training
from jaxnets.runs.log import METRICS, STARTS, read_rows
from jaxnets.runs.workdir import CONFIG

FIGURES = "figures.json"
CALLS = "calls.jsonl"
"""In a workdir, a line for each call that trained there: what the run's log does not time."""


class Call(NamedTuple):
    """One call that went on with a run; in seconds.

    total: of its process, from the start to the last figure.
    compile: of XLA, over all threads; 0 for the twin.
    closing: from the end of training on: evaluating and writing.
    """

    date: str
    total: float
    compile: float
    closing: float


def add_call(workdir: Path, call: Call) -> None:
    """Notes a call.  Raises: UserError, where nothing can be written."""
    jsonl.append(workdir / CALLS, call._asdict())


def calls(workdir: Path) -> list[Call]:
    """All calls that ended by themselves."""
    found = []
    with contextlib.suppress(OSError):
        for row in jsonl.read(workdir / CALLS):
            with contextlib.suppress(TypeError):
                found.append(Call(**row))
    return found


def epochs_done(workdir: Path) -> int:
    """How many epochs the log in a workdir, or in results, has; 0 where there is none."""
    try:
        rows = read_rows(workdir / METRICS)
    except OSError:
        return 0
    return rows[-1]["epoch"] if rows else 0


def chosen_on(rows: Sequence[Mapping[str, Any]]) -> str:
    """The split that chose the best epoch of a log."""
    return "val" if "val/accuracy" in rows[-1] else "test"


def best_row(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The best epoch of a log: the first of equals, as in training."""
    key = "val/accuracy" if chosen_on(rows) == "val" else "eval/accuracy"
    return max(rows, key=lambda row: row[key])


def figures_of_log(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Epoch, step, loss and accuracy of the last and the best epoch; top5 and ece are None."""
    return {
        which: {
            "epoch": row["epoch"],
            "step": row["step"],
            "loss": row["eval/loss"],
            "accuracy": row["eval/accuracy"],
            "top5": None,
            "ece": None,
        }
        for which, row in (("last", rows[-1]), ("best", best_row(rows)))
    }


def keep(
    plan: Plan,
    row: Training,
    seed: int,
    workdir: Path,
    found: Mapping[str, Mapping[str, Any]] | None = None,
) -> Path | None:
    """Copies what a run says of itself into the results; figures.json comes last.

    A run that got less far than what is kept already, as one begun anew on another machine, leaves
    that alone, and so does one without a finished epoch.

    Args:
        found: top5 and ece of "last" and "best", with their steps, where they were evaluated.

    Returns:
        The folder, or None where nothing was copied.
    """
    epochs = plan.config(row, seed).num_epochs
    folder, done = plan.folder(row, seed), epochs_done(workdir)
    if not done or done < epochs_done(folder):
        return None
    rows = read_rows(workdir / METRICS)
    figures = figures_of_log(rows)
    for which, of_log in figures.items():
        evaluated = (found or {}).get(which)
        if evaluated is not None and evaluated["step"] == of_log["step"]:
            of_log |= {key: evaluated[key] for key in ("top5", "ece")}
    made = calls(workdir)
    content = {
        "row": row.name,
        "trainer": row.trainer,
        "seed": seed,
        "epoch": done,
        "epochs": epochs,
        "finished": done >= epochs,
        "selected_on": chosen_on(rows),
        **figures,
        "train_seconds": rows[-1]["seconds"],
        "compile_seconds": sum(call.compile for call in made) if made else None,
        "total_seconds": sum(call.total for call in made) if made else None,
        "calls": len(made),
    }
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name in (CONFIG, METRICS, STARTS):
            if (workdir / name).exists():
                shutil.copyfile(workdir / name, folder / name)
    write_text(folder / FIGURES, json.dumps(content, indent=2) + "\n")
    return folder


def figures(folder: Path) -> dict[str, Any]:
    """figures.json of a folder; empty where there is none."""
    path = folder / FIGURES
    try:
        found = parse_json(read_text(path))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as e:
        raise UserError(f"{path}: cannot be read ({e})") from e
    if not isinstance(found, dict):
        raise UserError(f"{path}: not the figures of a run")
    return found


def is_done(plan: Plan, row: Training, seed: int) -> bool:
    """Whether a run has reached its last epoch; its figures may still lack some."""
    return bool(figures(plan.folder(row, seed)).get("finished"))
