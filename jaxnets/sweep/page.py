"""What a sweep has found: on a terminal, as pictures, as one HTML page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxnets.files.atomic import write_text
from jaxnets.report import html
from jaxnets.report import page as pages
from jaxnets.report.figure import DARK, LIGHT, to_png
from jaxnets.report.figure import write as write_file
from jaxnets.report.sections import Plot, Section
from jaxnets.results.summary import mean
from jaxnets.sweep import analysis, figures, found
from jaxnets.sweep.found import Row

PICTURE, PICTURE_DARK = "accuracy.png", "accuracy_dark.png"
SHOWN = 10
"""Of the best trials, so many are listed on a terminal."""
MOST_SETTINGS = 40  # of a grid, in one picture


class Front(NamedTuple):
    """The trials that none beats in both accuracy and a cost.

    key: of its files.
    unit: of the costs, which are by trial.
    """

    key: str
    unit: str
    costs: Mapping[int, float]
    rows: Sequence[Row]

    def text(self, row: Row) -> str:
        """What a trial costs."""
        cost = self.costs[row.number]
        return f"{cost:,}" if isinstance(cost, int) else f"{cost:,.3f}"


class Shown(NamedTuple):
    """What there is to say of a sweep.

    kept: its sweep.json.
    """

    workdir: Path
    kept: Mapping[str, Any]
    rows: Sequence[Row]
    best: Sequence[Row]
    importance: Mapping[str, float]
    fronts: Sequence[Front]

    @property
    def is_listed(self) -> bool:
        return found.is_listed(self.kept["sweep"])


def gather(
    study: Any, rows: Sequence[Row], kept: Mapping[str, Any], workdir: Path, *, latency: bool
) -> Shown:
    """Everything; with `latency` those of the trials on the other fronts are measured here."""
    best = found.done(rows)
    sized = [row for row in best if row.parameters is not None and row.macs is not None]
    fronts = []
    for key, unit, costs in (
        ("parameters", "parameters", {r.number: r.parameters for r in sized}),
        ("macs", "MACs", {r.number: r.macs for r in sized}),
    ):
        if sized:
            fronts.append(Front(key, unit, costs, analysis.front(sized, costs)))
    if latency and fronts:
        there = {row.number: row for front in fronts for row in front.rows}
        costs = analysis.latencies(list(there.values()))
        rows_ = analysis.front(list(there.values()), costs)
        fronts.append(Front("latency", "latency of one image here (ms)", costs, rows_))
    return Shown(workdir, kept, rows, best, analysis.importance(study, rows), fronts)


def print_shown(shown: Shown) -> None:
    """Tables on a terminal: the best trials, importance, fronts, and how many there are of each."""
    from jaxnets.tables import show, table_of

    rows = shown.rows if shown.is_listed else shown.best[:SHOWN]
    if rows:
        found.print_table(rows)
    print(counts(shown.rows))
    if shown.importance:
        table = table_of("key", "importance>", fold="key")
        for key, share in shown.importance.items():
            table.add_row(key, f"{share:.1%}")
        show(table)
    for front in shown.fronts:
        table = table_of("trial>", f"{front.unit}>", "accuracy>", fold="trial")
        for row in front.rows:
            table.add_row(str(row.number), front.text(row), f"{100 * row.value:.2f} %")
        show(table)


def counts(rows: Sequence[Row]) -> str:
    """How many trials are in which state."""
    states = ("done", "pruned", "refused", "failed", "running", "waiting")
    of = {state: sum(row.state == state for row in rows) for state in states}
    listed = ", ".join(f"{n} {state}" for state, n in of.items() if n)
    return f"{len(rows)} trials: {listed}"


def write(shown: Shown, folder: Path) -> list[Path]:
    """The tables, a PNG and a JSON of each part, and index.html; the paths, the page last."""
    parts = _parts(shown)
    picture = pages.drawn(parts)
    title = f"Sweep {shown.workdir}"
    content = [
        f"<header><h1>{html.escape(title)}</h1>{_head(shown)}</header>",
        pages.navigation(pages.links(parts)),
        *(pages.section_html(part, picture) for part in parts),
    ]
    written = found.write(shown.rows, folder)
    for part in parts:
        written += pages.write_section(folder, part, picture)
    return [*written, pages.write_page(folder, pages.document(title, content))]


def write_picture(rows: Sequence[Row], folder: Path, *, is_listed: bool) -> list[Path]:
    """Accuracy of the settings of a grid, or of a search against parameters; light and dark."""
    best = found.done(rows)
    if not best:
        return []
    plot = _settings(rows) if is_listed else None
    if plot is None:
        sized = [row for row in best if row.parameters is not None]
        costs = {row.number: row.parameters for row in sized}
        front = Front("parameters", "parameters", costs, analysis.front(sized, costs))
        plot = _front_plot(best, front)
    return [
        write_file(folder / name, to_png(plot.draw, theme))
        for name, theme in ((PICTURE, LIGHT), (PICTURE_DARK, DARK))
    ]


def export(shown: Shown, path: Path) -> None:
    """Writes the best trial as a recipe."""
    best = shown.best[0]
    figure = best.figures[best.counted]
    split = "test, last epoch" if best.counted == "last" else "validation, best epoch"
    first, _, rest = best.recipe.partition("\n")
    said = f"Reached {mean(figure, ' %')} ({split}), n = {len(best.runs)}."
    command = f"    python -m jaxnets.train --config {path}"
    write_text(path, f"{first}\n\n{said}\n\n{command}\n{rest}")


def _parts(shown: Shown) -> list[Section]:
    made = [_best(shown)]
    if shown.importance:
        made.append(_importance(shown.importance))
    if shown.best:
        made.append(_history(shown))
    for front in shown.fronts:
        made.append(_front(shown, front))
    return [*made, _all(shown), _definition(shown)]


def _head(shown: Shown) -> str:
    tiles = {"trials": str(len(shown.rows)), "done": str(len(shown.best))}
    if shown.best:
        best = shown.best[0]
        tiles |= {"best trial": str(best.number), "its accuracy": f"{100 * best.value:.2f} %"}
        if best.parameters is not None:
            tiles["its parameters"] = f"{best.parameters:,}"
    about = f"{counts(shown.rows)}. {_measure_text(shown)}"
    return f'<p class="quiet">{html.escape(about)}</p>{html.tiles(tiles)}'


def _measure_text(shown: Shown) -> str:
    if found.has_validation(shown.rows):
        return (
            "Trials are compared by the accuracy on the validation split at the best epoch; the "
            "test set had no say in it. Of many trials the best one's figure reads high."
        )
    return "Trials are compared by the accuracy on the test set after the last epoch."


def _best(shown: Shown) -> Section:
    rows = list(shown.best[:SHOWN])
    plot = _settings(shown.rows) if shown.is_listed else None
    return Section(
        "best",
        "Best trials",
        "Means over the seeds, and the standard deviation (n - 1) where there are several.",
        () if plot is None else (plot,),
        None,
        _table(rows),
    )


def _settings(rows: Sequence[Row]) -> Plot | None:
    trained = [row for row in rows if row.runs]
    if not trained or len(trained) > MOST_SETTINGS:
        return None
    keys = found.keys(trained)
    values = ", ".join(
        f"{figures.name(row, keys)} {mean(row.figures[row.counted], ' %')}" for row in trained
    )
    return Plot(
        "settings",
        lambda theme: figures.settings(trained, keys, theme),
        f"Accuracy of each setting: {values}",
    )


def _importance(shares: Mapping[str, float]) -> Section:
    listed = ", ".join(f"{key} {share:.0%}" for key, share in shares.items())
    return Section(
        "importance",
        "Importance",
        "The share of each key in how much the accuracy varies over the trials that are done "
        "(functional ANOVA, Hutter et al. 2014). It says nothing of values that were not tried.",
        (
            Plot(
                "importance",
                lambda theme: figures.importances(shares, theme),
                f"Importance of the keys: {listed}",
            ),
        ),
        dict(shares),
    )


def _history(shown: Shown) -> Section:
    best = shown.best[0]
    return Section(
        "history",
        "History",
        "Each trial in the order in which it was begun, and the best one so far. A cross is what a "
        "trial had reached when the pruner gave it up.",
        (
            Plot(
                "history",
                lambda theme: figures.history(shown.rows, theme),
                f"Accuracy by trial: the best, trial {best.number}, has {100 * best.value:.2f} %",
            ),
        ),
        [{"trial": row.number, "state": row.state, "value": row.value} for row in shown.rows],
    )


def _front(shown: Shown, front: Front) -> Section:
    heads = ("trial", front.unit, "accuracy", *found.keys(front.rows))
    rows = [
        (
            str(row.number),
            front.text(row),
            f"{100 * row.value:.2f} %",
            *(found.text(row.setting.get(key, "")) for key in heads[3:]),
        )
        for row in front.rows
    ]
    return Section(
        f"front_{front.key}",
        f"Accuracy against {front.unit}",
        "The trials that no other one beats in both (Pareto front).",
        (_front_plot(shown.best, front),),
        [
            {"trial": r.number, front.key: front.costs[r.number], "value": r.value}
            for r in front.rows
        ],
        html.table(heads, rows),
    )


def _front_plot(best: Sequence[Row], front: Front) -> Plot:
    rows = [row for row in best if row.number in front.costs]
    listed = ", ".join(f"trial {row.number} {100 * row.value:.2f} %" for row in front.rows)
    return Plot(
        f"front_{front.key}",
        lambda theme: figures.front(rows, front.rows, front.costs, front.unit, theme),
        f"Accuracy against {front.unit}: not beaten are {listed}",
    )


def _all(shown: Shown) -> Section:
    return Section(
        "trials",
        "All trials",
        "What every trial was, and what became of it.",
        (),
        None,
        _table(list(shown.rows)),
    )


def _table(rows: Sequence[Row]) -> str:
    columns = found.cells(rows)
    return html.table([*columns], list(zip(*columns.values(), strict=True)))


def _definition(shown: Shown) -> Section:
    said = shown.kept["sweep"]
    facts = {key: str(value) for key, value in said.items() if key not in ("config", "space")}
    facts["model"] = str(said["config"].get("model.name"))
    facts["data"] = str(said["config"].get("data.name"))
    body = html.facts(facts)
    if "space" in said:
        body += html.details("The space", f"<pre>{html.escape(said['space'])}</pre>")
    keys = html.table(("key", "value"), [(k, str(v)) for k, v in said["config"].items()])
    body += html.details("The recipe", keys)
    return Section("sweep", "The sweep", "What it was asked to do.", (), None, body)
