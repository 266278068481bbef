"""A row of other commands: each in a process of its own, what they write kept together."""

import json
import shlex
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from jaxnets.errors import UserError
from jaxnets.files.atomic import make_folder, write_text, writing
from jaxnets.files.regular import parse_json, read_text
from jaxnets.reproduce.training import RUNS
from jaxnets.results.plan import Commands, Plan
from jaxnets.runs import children

SUMMARY = "commands.json"


def is_done(plan: Plan, row: Commands) -> bool:
    """Whether all commands of the row have been run to their end."""
    path = plan.folder(row) / SUMMARY
    try:
        return bool(parse_json(read_text(path))["finished"])
    except FileNotFoundError:
        return False
    except (OSError, ValueError, LookupError, TypeError) as e:
        raise UserError(f"{path}: cannot be read ({e})") from e


def run(plan: Plan, row: Commands, deadline: float | None, environment: Mapping[str, str]) -> int:
    """Runs those that have not ended yet, until `deadline` by time.monotonic; keeps their JSON.

    An answer of "no" (exit code 1), where it is in JSON, is a result as well, and is kept.

    Returns:
        0, or 128 + the signal that ended it.
    """
    out = RUNS / row.folder
    make_folder(out)
    path = out / SUMMARY
    done: list[dict] = []
    if path.exists():
        done = parse_json(read_text(path))["commands"]
    for words in row.commands[len(done) :]:
        args = [word.replace("{out}", str(out)) for word in shlex.split(words)]
        started, before = time.monotonic(), _written(out)
        ended = children.wait(["-m", *args], {**environment, **row.environment}, deadline)
        if ended.signal:
            return 128 + ended.signal
        if ended.told:
            print(f"{row.name}: no time for the rest; the same command goes on", flush=True)
            return 0
        # A traceback's exit code is 1 as well: an answer is one that was written down.
        if ended.code > 1 or ended.code < 0 or (ended.code and _written(out) == before):
            raise UserError(f"{row.name}: `python -m {' '.join(args)}` ended with {ended.code}")
        seconds = round(time.monotonic() - started, 1)
        done.append({"command": args, "exit_code": ended.code, "seconds": seconds})
        finished = len(done) == len(row.commands)
        content = {"row": row.name, "finished": finished, "commands": done}
        write_text(path, json.dumps(content, indent=2) + "\n")
    kept = _keep(plan, row, out)
    print(f"{row.name}: {len(done)} commands run; kept in {kept}", flush=True)
    return 0


def _written(out: Path) -> dict[Path, int]:
    """The JSON there, and when each was written."""
    return {path: path.stat().st_mtime_ns for path in out.rglob("*.json")}


def _keep(plan: Plan, row: Commands, out: Path) -> Path:
    folder = plan.folder(row)
    with writing(folder):
        for path in sorted(out.rglob("*.json"), key=lambda path: path.name == SUMMARY):
            target = folder / path.relative_to(out)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    return folder
