"""Runs summed up: a row for each configuration, over its seeds."""

import json
import math
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxnets import config as configs
from jaxnets.errors import UserError
from jaxnets.results.record import best_row, chosen_on, figures
from jaxnets.runs.log import METRICS, first_start, read_rows
from jaxnets.runs.workdir import read_config

_COLUMNS = (
    "run", "parameters", "epochs", "n", "last epoch", "95 % interval", "best epoch", "seconds",
    "hardware", "versions",
)  # fmt: skip


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
    lines = []
    for row in rows:
        done, epochs = row["epochs_done"], row["epochs"]
        chosen = " (chosen on test)" if row["selected_on"] == "test" else ""
        cells = [
            row["name"],
            f"{row['parameters']:,}" if row["parameters"] else "?",
            str(epochs) if done == epochs else f"{done} of {epochs}",
            str(row["n"]),
            mean(row["last"], " %"),
            interval(row["last"], " %"),
            mean(row["best"], " %") + chosen,
            mean(row["seconds"], "", 0),
            row["hardware"],
            ", ".join(f"{k} {v}" for k, v in row["versions"].items() if k in ("jax", "flax")),
        ]
        if target is not None:
            reached = row["to_target"]
            cells.append(f"{mean(reached, ' s', 1)} ({reached['n']} of {row['n']})")
        lines.append(cells)
    return "\n".join([table(columns, lines), "", *(f"    {row['command']}" for row in rows)])


def table(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    rows = [columns, ["---"] * len(columns), *lines]
    return "\n".join(f"| {' | '.join(cells)} |".replace("| --- ", "|---") for cells in rows)


def _read(workdir: Path, target: float | None) -> dict[str, Any]:
    config = read_config(workdir)
    log = read_rows(workdir / METRICS) if (workdir / METRICS).exists() else []
    needed = {"epoch", "seconds", "eval/accuracy", *(["val/accuracy"] * any(map(_has_val, log)))}
    log = [row for row in log if all(row.get(key) is not None for key in needed)]
    if not log:
        raise UserError(f"{workdir}: no finished epoch in {METRICS}; train into it first")
    best = best_row(log)
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
        "selected_on": chosen_on(log),
        "last": 100 * log[-1]["eval/accuracy"],
        "best": 100 * best["eval/accuracy"],
        "val": 100 * best["val/accuracy"] if _has_val(best) else None,
        "seconds": log[-1]["seconds"],
        **_kept(figures(workdir)),
        "to_target": hits[0] if hits and target is not None else None,
        "start": first_start(workdir),
    }


def _has_val(row: dict[str, Any]) -> bool:
    return "val/accuracy" in row


def _kept(found: dict[str, Any]) -> dict[str, Any]:
    """What figures.json adds to a log: top-5 and calibration error in per cent, seconds."""
    scores = {
        f"{which}_{key}": None if (value := found.get(which, {}).get(key)) is None else 100 * value
        for which in ("last", "best")
        for key in ("top5", "ece")
    }
    return scores | {key: found.get(key) for key in ("compile_seconds", "total_seconds")}


def _row(runs: Sequence[dict[str, Any]], target: float | None) -> dict[str, Any]:
    first, start = runs[0], runs[0]["start"]
    keys = [
        "last",
        "best",
        "val",
        "seconds",
        *_kept({}),
        *([] if target is None else ["to_target"]),
    ]
    measured = {key: statistics_of([r[key] for r in runs if r[key] is not None]) for key in keys}
    return {
        **{key: first[key] for key in ("name", "epochs", "selected_on")},
        "epochs_done": min(run["epochs_done"] for run in runs),
        "n": len(runs),
        "workdirs": [run["workdir"] for run in runs],
        "parameters": start.get("parameters"),
        "hardware": start.get("hardware", "unknown"),
        "versions": start.get("versions", {}),
        "command": start.get("command", "unknown"),
        **measured,
    }


def statistics_of(values: Sequence[float]) -> dict[str, Any]:
    """Count, mean, standard deviation (n - 1) and 95 % interval of the mean over runs.

    The interval is Student's: mean +- t sd / sqrt(n), t the 97.5 % quantile of n - 1 degrees.
    """
    return {
        "n": len(values),
        "mean": statistics.fmean(values) if values else None,
        "sd": statistics.stdev(values) if len(values) > 1 else None,
        "interval": _interval(values) if len(values) > 1 else None,
        "values": list(values),
    }


def _interval(values: Sequence[float]) -> list[float]:
    from scipy.special import stdtrit  # which a command that shows no figures need not wait for

    n, middle = len(values), statistics.fmean(values)
    half = float(stdtrit(n - 1, 0.975)) * statistics.stdev(values) / math.sqrt(n)
    return [middle - half, middle + half]


def interval(figure: dict[str, Any], unit: str, digits: int = 2) -> str:
    """The 95 % interval of a figure's mean; empty for one run."""
    if figure["interval"] is None:
        return ""
    low, high = figure["interval"]
    return f"{low:.{digits}f} to {high:.{digits}f}{unit}"


def mean(figure: dict[str, Any], unit: str, digits: int = 2) -> str:
    """A figure's mean over its runs, and the standard deviation where there are several."""
    if figure["mean"] is None:
        return "not reached"
    spread = "" if figure["sd"] is None else f" ± {figure['sd']:.{digits}f}"
    return f"{figure['mean']:.{digits}f}{spread}{unit}"
