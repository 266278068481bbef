"""Sums up finished runs: one row a recipe, over its seeds, as RESULTS.md wants it.

    python -m jaxnets.results runs/se_resnet_0 runs/se_resnet_1 runs/se_resnet_2
    python -m jaxnets.results runs/fast_* --target 95.6 --json

Runs that differ in nothing but the seed share a row: mean and standard deviation (n - 1) of the
test accuracy after the last epoch and at the best one, and the seconds of training, without
compilation and evaluation.  A best epoch that the test set chose is marked: it reads high.  A run
that is named twice, or beside a copy of itself, counts once.
"""

import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxnets import cli
from jaxnets import config as configs
from jaxnets.errors import UserError
from jaxnets.runs import starts
from jaxnets.runs.log import METRICS, read_rows
from jaxnets.runs.workdir import read_config

_COLUMNS = (
    "run", "parameters", "epochs", "n", "last epoch", "best epoch", "seconds", "hardware",
    "versions",
)  # fmt: skip


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns its exit code."""
    parser = cli.Parser("jaxnets.results", __doc__)
    parser.add_argument("workdirs", nargs="+", type=Path, metavar="WORKDIR")
    parser.add_argument(
        "--target",
        type=cli.real(0, 100),
        metavar="PERCENT",
        help="also the seconds to this test accuracy",
    )
    cli.add_json(parser, "instead of Markdown")
    args = parser.parse_args(argv)
    rows = summarize(args.workdirs, args.target)
    if args.json:
        cli.print_json(args.json, {"rows": rows})
    else:
        print(markdown(rows, args.target))
    return 0


def summarize(workdirs: Sequence[Path], target: float | None = None) -> list[dict[str, Any]]:
    """A row for each configuration among the runs, in their order; accuracies in per cent.

    Raises:
        UserError: a folder without a configuration, or a run that has not finished an epoch.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    seen: dict[str, Path] = {}
    for workdir in workdirs:
        run = _read(workdir, target)
        # Not by its path: a copy of the folder is no second run either.  Two trainings of the same
        # seed differ in their seconds.
        fingerprint = run.pop("fingerprint")
        if fingerprint in seen:
            first = seen[fingerprint]
            print(f"note: {workdir} is the same run as {first}; counted once", file=sys.stderr)
            continue
        seen[fingerprint] = workdir
        groups.setdefault(run.pop("key"), []).append(run)
    return [_row(runs, target) for runs in groups.values()]


def markdown(rows: Sequence[dict[str, Any]], target: float | None = None) -> str:
    """The rows as a table, and below it the command of each."""
    columns = [*_COLUMNS, *([] if target is None else [f"to {target:g} %"])]
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    for row in rows:
        done, epochs = row["epochs_done"], row["epochs"]
        chosen = " (chosen on test)" if row["selected_on"] == "test" else ""
        cells = [
            row["name"],
            f"{row['parameters']:,}" if row["parameters"] else "?",
            str(epochs) if done == epochs else f"{done} of {epochs}",
            str(row["n"]),
            _mean(row["last"], " %"),
            _mean(row["best"], " %") + chosen,
            _mean(row["seconds"], "", 0),
            row["hardware"],
            ", ".join(f"{k} {v}" for k, v in row["versions"].items() if k in ("jax", "flax")),
        ]
        if target is not None:
            reached = row["to_target"]
            cells.append(f"{_mean(reached, ' s', 1)} ({reached['n']} of {row['n']})")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", *(f"    {row['command']}" for row in rows)])


def _read(workdir: Path, target: float | None) -> dict[str, Any]:
    config = read_config(workdir)
    log = read_rows(workdir / METRICS) if (workdir / METRICS).exists() else []
    needed = {"epoch", "seconds", "eval/accuracy", *(["val/accuracy"] * any(map(_has_val, log)))}
    log = [row for row in log if all(row.get(key) is not None for key in needed)]
    if not log:
        raise UserError(f"{workdir}: no finished epoch in {METRICS}; train into it first")
    selected_on = "val" if _has_val(log[-1]) else "test"
    by = "val/accuracy" if selected_on == "val" else "eval/accuracy"
    best = max(log, key=lambda row: row[by])  # the first of equals, as in training
    hits = [row["seconds"] for row in log if 100 * row["eval/accuracy"] >= (target or 0)]
    keys = configs.decisive_keys(config)
    same = {k: v for k, v in keys.items() if k != "seed"}
    return {
        "key": json.dumps(same, sort_keys=True),
        "fingerprint": json.dumps([keys, log], sort_keys=True),
        "workdir": str(workdir),
        "name": config.name,
        "epochs": config.num_epochs,
        "epochs_done": log[-1]["epoch"],
        "selected_on": selected_on,
        "last": 100 * log[-1]["eval/accuracy"],
        "best": 100 * best["eval/accuracy"],
        "seconds": log[-1]["seconds"],
        "to_target": hits[0] if hits and target is not None else None,
        "start": starts.first(workdir),
    }


def _has_val(row: dict[str, Any]) -> bool:
    return "val/accuracy" in row


def _row(runs: Sequence[dict[str, Any]], target: float | None) -> dict[str, Any]:
    first, start = runs[0], runs[0]["start"]
    figures = {
        key: _statistics([run[key] for run in runs if run[key] is not None])
        for key in ("last", "best", "seconds", *(() if target is None else ("to_target",)))
    }
    return {
        **{key: first[key] for key in ("name", "epochs", "selected_on")},
        "epochs_done": min(run["epochs_done"] for run in runs),
        "n": len(runs),
        "workdirs": [run["workdir"] for run in runs],
        "parameters": start.get("parameters"),
        "hardware": start.get("hardware", "unknown"),
        "versions": start.get("versions", {}),
        "command": start.get("command", "unknown"),
        **figures,
    }


def _statistics(values: Sequence[float]) -> dict[str, Any]:
    return {
        "n": len(values),
        "mean": statistics.fmean(values) if values else None,
        "sd": statistics.stdev(values) if len(values) > 1 else None,
        "values": list(values),
    }


def _mean(figure: dict[str, Any], unit: str, digits: int = 2) -> str:
    if figure["mean"] is None:
        return "not reached"
    spread = "" if figure["sd"] is None else f" ± {figure['sd']:.{digits}f}"
    return f"{figure['mean']:.{digits}f}{spread}{unit}"


if __name__ == "__main__":
    cli.run(main)
