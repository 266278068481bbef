"""How far the plan is: what is done, what is missing and what that would take."""

from collections.abc import Sequence
from typing import NamedTuple

from jaxnets.reproduce import commands
from jaxnets.reproduce.training import workdir
from jaxnets.results import record
from jaxnets.results.plan import DEVICES, Commands, Plan, Row, Training


class State(NamedTuple):
    """How far a row is.

    done: parts that need nothing any more, of `parts`: seeds, or one for commands.
    began: what is said of an unfinished part, such as "seed 1: 7 of 50 epochs"; or "".
    share: of the row that is missing, 0..1.
    """

    done: int
    parts: int
    began: str
    share: float

    @property
    def missing(self) -> bool:
        return self.done < self.parts


def of(plan: Plan, row: Row) -> State:
    """How far a row is, by its results and by the runs of this folder."""
    if not isinstance(row, Training):
        assert isinstance(row, Commands)
        done = commands.is_done(plan, row)
        return State(int(done), 1, "", float(not done))
    done, began, share = 0, [], 0.0
    for seed in row.seeds:
        if record.is_done(plan, row, seed):
            done += 1
            continue
        epochs = plan.config(row, seed).num_epochs
        here = record.epochs_done(workdir(row, seed))
        share += 1 - min(here, epochs) / epochs
        kept = record.epochs_done(plan.folder(row, seed))
        if here or kept:
            elsewhere = f" (kept: {kept})" if kept > here else ""
            began.append(f"seed {seed}: {here} of {epochs} epochs{elsewhere}")
    return State(done, len(row.seeds), "; ".join(began), share / len(row.seeds))


def minutes(row: Row, state: State, device: str) -> float | None:
    """What the missing part would roughly take there; None where it is not meant for it."""
    if device not in row.minutes:
        return None
    return row.minutes[device] * state.share * state.parts


def show(plan: Plan, device: str | None, named: Sequence[Row] = ()) -> None:
    """Prints a line for each row named, or for all in the order of the device, or of the file."""
    from jaxnets.results.pages import published, span
    from jaxnets.tables import show as show_table
    from jaxnets.tables import table_of

    devices = DEVICES if device is None else (device,)
    rows = named or [plan.row(n) for n in (plan.rows if device is None else plan.order[device])]
    table = table_of("row", "state", *(f"{d}>" for d in devices), "published", fold="state")
    total = dict.fromkeys(devices, 0.0)
    missing = 0
    for row in rows:
        found = of(plan, row)
        missing += found.missing
        needs = {d: minutes(row, found, d) for d in devices}
        for d, value in needs.items():
            total[d] += value or 0.0
        cells = ["" if not value else span(round(value, 1)) for value in needs.values()]
        figure = published(row.published) if isinstance(row, Training) else ""
        table.add_row(row.name, _words(found), *cells, figure)
    show_table(table)
    sums = ", ".join(
        f"about {span(round(total[d], 1))} on a {d.upper()}" for d in devices if total[d]
    )
    print(f"{len(rows) - missing} of {len(rows)} rows done" + (f"; missing: {sums}" * bool(sums)))


def _words(state: State) -> str:
    if not state.missing:
        return "done"
    some = f"{state.done} of {state.parts} seeds done" if state.done else ""
    return "; ".join(filter(None, (some, state.began))) or "missing"
