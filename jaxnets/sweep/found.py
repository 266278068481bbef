"""What came out of a sweep so far: a row for each trial that counts, as table, JSON and CSV."""

import csv
import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState
from rich.markup import escape

from jaxnets.files.atomic import make_folder, write_text
from jaxnets.results.summary import mean, statistics_of
from jaxnets.sweep import ablation, claims
from jaxnets.tables import show, table_of

TABLE_JSON, TABLE_CSV = "table.json", "table.csv"
_FIGURES = ("val", "last", "best", "seconds")


@dataclasses.dataclass(frozen=True)
class Row:
    """A trial that counts.

    number: of the trial that had its setting first, which names its folder.
    claim: what a document says of the setting.
    state: done, pruned, refused, failed, running or waiting.
    value: its accuracy, 0..1, by which trials are compared; None for one that is not done.
    why: of a trial that is pruned, refused or failed.
    parameters, macs: of its network, where they were counted.
    runs: those that reached their end, see `trial.Run`.
    epochs: validation accuracy after each epoch of the first run.
    recipe: its text.
    """

    number: int
    state: str
    setting: Mapping[str, Any]
    value: float | None
    why: str
    parameters: int | None
    macs: int | None
    runs: Sequence[Mapping[str, Any]]
    epochs: Mapping[int, float]
    recipe: str
    claim: str = ""

    @property
    def counted(self) -> str:
        """The figure by which a trial that has runs is compared."""
        return "last" if self.runs[0]["val"] is None else "val"

    @property
    def figures(self) -> dict[str, dict[str, Any]]:
        """Mean, deviation and number of runs, of accuracies in per cent and seconds."""
        return {
            key: statistics_of([r[key] for r in self.runs if r[key] is not None])
            for key in _FIGURES
        }


def is_listed(described: Mapping[str, Any]) -> bool:
    """Whether a sweep's settings were known beforehand, by `Sweep.described()`."""
    return "space" not in described


def rows(study: Any, described: Mapping[str, Any]) -> list[Row]:
    """All trials that count, in the order in which they were begun."""
    trials = claims.counted(study.get_trials(deepcopy=False), unique=is_listed(described))
    said = ablation.claims(described.get("ablation", {}))
    return [_row(trial, said.get(trial.params.get(ablation.KEY, ""), "")) for trial in trials]


def _row(trial: FrozenTrial, claim: str) -> Row:
    said = trial.user_attrs
    state = {
        TrialState.COMPLETE: "done",
        TrialState.PRUNED: "refused" if "refused" in said else "pruned",
        TrialState.FAIL: "failed",
        TrialState.RUNNING: "running",
        TrialState.WAITING: "waiting",
    }[trial.state]
    return Row(
        number=claims.origin(trial),
        state=state,
        setting=trial.params,
        value=trial.value if state == "done" else None,
        why=said.get("refused") or said.get("pruned") or said.get("error") or "",
        parameters=said.get("parameters"),
        macs=said.get("macs"),
        runs=said.get("runs", []),
        epochs=trial.intermediate_values,
        recipe=said.get("recipe", ""),
        claim=claim,
    )


def done(rows: Sequence[Row]) -> list[Row]:
    """The trials that have a value, the best one first."""
    return sorted((r for r in rows if r.value is not None), key=lambda r: -r.value)


def keys(rows: Sequence[Row]) -> list[str]:
    """The keys of all settings."""
    return list(dict.fromkeys(key for row in rows for key in row.setting))


def print_table(rows: Sequence[Row]) -> None:
    """A line for each trial: a column for each key of the settings, then what it reached."""
    shown = cells(rows)
    texts = ("trial", *keys(rows), "state", "claimed")
    table = table_of(
        *(head if head in texts else f"{head}>" for head in shown),
        fold="state",
        drop=("seconds", "MACs", "n", "parameters"),
    )
    for line in zip(*shown.values(), strict=True):
        table.add_row(*map(escape, line))
    show(table)


def has_validation(rows: Sequence[Row]) -> bool:
    """Whether some run has figures of a validation split."""
    return any(r["val"] is not None for row in rows for r in row.runs)


def text(value: Any) -> str:
    """A value of a setting as tables have it.

    >>> text(0.09983986416723048), text(1e-05), text(True), text("sgd")
    ('0.09984', '1e-05', 'True', 'sgd')
    """
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def cells(rows: Sequence[Row]) -> dict[str, list[str]]:
    """The columns of the table by their headings, as texts."""

    def accuracy(row: Row, key: str) -> str:
        figure = row.figures[key]
        return "" if figure["mean"] is None else mean(figure, " %")

    columns = {"trial": [str(row.number) for row in rows]}
    columns |= {key: [text(row.setting.get(key, "")) for row in rows] for key in keys(rows)}
    if has_validation(rows):
        columns["validation"] = [accuracy(row, "val") for row in rows]
    columns["test, last"] = [accuracy(row, "last") for row in rows]
    if any(row.claim for row in rows):
        columns["claimed"] = [row.claim for row in rows]
    columns["n"] = [str(len(row.runs)) for row in rows]
    columns["parameters"] = ["" if r.parameters is None else f"{r.parameters:,}" for r in rows]
    columns["MACs"] = ["" if r.macs is None else f"{r.macs / 1e6:,.2f} M" for r in rows]
    columns["seconds"] = [mean(r.figures["seconds"], "", 0) if r.runs else "" for r in rows]
    columns["state"] = [f"{r.state}: {r.why}" if r.why else r.state for r in rows]
    return columns


def write(rows: Sequence[Row], folder: Path) -> list[Path]:
    """table.json and table.csv; the paths."""
    written = [folder / TABLE_JSON, folder / TABLE_CSV]
    make_folder(folder)
    write_text(written[0], json.dumps([_as_dict(row) for row in rows], indent=1) + "\n")
    write_text(written[1], as_csv(rows))
    return written


def _as_dict(row: Row) -> dict[str, Any]:
    kept = {k: v for k, v in vars(row).items() if k != "recipe"}
    return kept | {"setting": dict(row.setting), "figures": row.figures}


def as_csv(rows: Sequence[Row]) -> str:
    """A line for each trial; figures are means over its runs, in per cent and seconds."""
    names = keys(rows)
    lines = io.StringIO()
    out = csv.writer(lines, lineterminator="\n")
    measured = [f"{key}_{what}" for key in _FIGURES for what in ("mean", "sd")]
    out.writerow(["trial", *names, "claim", "state", "n", *measured, "parameters", "macs", "why"])
    for row in rows:
        figures = row.figures
        values = [figures[key][what] for key in _FIGURES for what in ("mean", "sd")]
        setting = [row.setting.get(name) for name in names]
        out.writerow(
            [row.number, *setting, row.claim, row.state, len(row.runs), *values, row.parameters,
             row.macs, row.why]
        )  # fmt: skip
    return lines.getvalue()
