"""The tables of RESULTS.md, README.md and docs/performance.md, between their markers."""

import re
import shlex
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jaxnets import config as configs
from jaxnets.errors import UserError
from jaxnets.files.atomic import write_text
from jaxnets.files.regular import parse_json, read_text
from jaxnets.results.plan import Commands, Plan, Published, Training
from jaxnets.results.record import epochs_done
from jaxnets.results.summary import mean, summarize, table
from jaxnets.runs.workdir import read_config

RESULTS, README, PERFORMANCE = "RESULTS.md", "README.md", Path("docs/performance.md")
BENCH = "bench_cpu"
"""The row of the plan whose bench.json the table of docs/performance.md is made of."""
_ACCURACIES = ("row", "parameters", "epochs", "published", "own, last", "own, best", "n")
_CONDITIONS = (
    "row", "top-5", "calibration error", "seconds", "compiling", "hardware", "versions", "logs",
)  # fmt: skip

_BENCHED = (
    "recipe", "batch", "jaxnets, images/s", "torch's best", "ratio", "jaxnets, GB", "torch, GB",
)  # fmt: skip


def write(plan: Plan) -> list[Path]:
    """Rewrites what is between the markers of both pages; the paths of those that changed.

    A page that is not there, or has no markers, is left alone.

    Raises:
        UserError: a marker without its other one, results that cannot be read, or no such column.
    """
    written = []
    for path, blocks in blocks_of(plan).items():
        if not path.is_file():
            continue
        old = read_text(path)
        new = old
        for name, render in blocks.items():
            new = replaced(new, name, render, path)
        if new != old:
            write_text(path, new)
            written.append(path)
    return written


def blocks_of(plan: Plan) -> dict[Path, dict[str, Callable[[str], str]]]:
    """Of each page and marker, what turns the text between the markers into the right one."""
    rows = measured(plan)
    return {
        plan.root / RESULTS: {
            "runs": lambda _: runs_text(plan, rows),
            "not run": lambda _: missing_text(plan, rows),
        },
        plan.root / README: {"own figures": lambda old: models_text(plan, rows, old)},
        plan.root / PERFORMANCE: {"bench": lambda _: bench_text(plan)},
    }


def replaced(text: str, name: str, render: Callable[[str], str], path: Path) -> str:
    """`text` with what is between the markers `name` rendered anew; as it is without them."""
    edges = [
        re.search(rf"^<!-- {re.escape(name)}: {edge}(?:,[^\n]*)? -->\n?", text, re.MULTILINE)
        for edge in ("begin", "end")
    ]
    if edges == [None, None]:
        return text
    begin, end = edges
    if begin is None or end is None or end.start() < begin.end():
        raise UserError(f"{path}: the markers '{name}: begin' and '{name}: end' do not fit")
    inner = render(text[begin.end() : end.start()])
    return f"{text[: begin.end()]}{inner.strip()}\n{text[end.start() :]}"


def measured(plan: Plan) -> dict[str, dict[str, Any]]:
    """What was measured of each training, by name, as `summary` has it; finished or not.

    Where some seeds are finished, the others wait until they are.

    Raises:
        UserError: results of another configuration than the plan's.
    """
    found = {}
    for row in plan.trainings:
        done = {seed: epochs_done(plan.folder(row, seed)) for seed in row.seeds}
        most = max(done.values())
        folders = [plan.folder(row, seed) for seed in row.seeds if done[seed] == most]
        if most == 0:
            continue
        for seed in row.seeds:
            _check_same(plan, row, seed)
        (found[row.name],) = summarize(folders)
    return found


def _check_same(plan: Plan, row: Training, seed: int) -> None:
    """Raises a UserError where what was kept of a seed is of another configuration."""
    folder = plan.folder(row, seed)
    if epochs_done(folder) and (
        different := configs.differences(read_config(folder), plan.config(row, seed))
    ):
        raise UserError(
            f"{folder}: of another configuration than the plan's ({'; '.join(different)}); delete "
            "it, or give the row another name"
        )


def is_finished(row: Mapping[str, Any]) -> bool:
    """Whether a summed-up row has reached its last epoch."""
    return row["epochs_done"] >= row["epochs"]


def runs_text(plan: Plan, rows: Mapping[str, Mapping[str, Any]]) -> str:
    """The table of what was measured, then the command of each row, then the pictures."""
    accuracies, conditions, commands = [], [], []
    for name, summed in rows.items():
        row = plan.row(name)
        assert isinstance(row, Training)
        chosen = " (chosen on the test set)" if summed["selected_on"] == "test" else ""
        epochs = f"{summed['epochs']}"
        if not is_finished(summed):
            epochs = f"{summed['epochs_done']} of {epochs}, going on"
        logs = [Path(folder).relative_to(plan.root) for folder in summed["workdirs"]]
        own = (mean(summed["last"], " %"), mean(summed["best"], " %") + chosen, str(summed["n"]))
        figure = published(row.published)
        accuracies.append((f"`{name}`", f"{row.parameters:,}", epochs, figure, *own))
        conditions.append(
            (
                f"`{name}`",
                _or_dash(summed["last_top5"], " %"),
                _or_dash(summed["last_ece"], " %"),
                mean(summed["seconds"], "", 0),
                _or_dash(summed["compile_seconds"], "", 0),
                summed["hardware"],
                _versions(summed["versions"]),
                ", ".join(f"[{log.name}]({log}/metrics.jsonl)" for log in logs),
            )
        )
        commands.append(command(row))
    if not rows:
        return "Nothing has been measured yet."
    parts = [
        table(_ACCURACIES, accuracies),
        table(_CONDITIONS, conditions),
        "\n".join(["```", *commands, "```"]),
    ]
    if (plan.results / "accuracy.png").exists():
        parts.append(
            "<picture>\n"
            '<source media="(prefers-color-scheme: dark)" srcset="results/accuracy_dark.png">\n'
            '<img alt="Test accuracy against parameters" src="results/accuracy.png">\n'
            "</picture>"
        )
    for name, summed in rows.items():
        picture = plan.folder(plan.row(name)) / "curves.png"
        if is_finished(summed) and picture.exists():
            parts.append(f"![Learning curves of {name}]({picture.relative_to(plan.root)})")
    return "\n\n".join(parts)


def bench_text(plan: Plan) -> str:
    """The table of the bench, every recipe beside PyTorch, measured or not."""
    if BENCH not in plan.rows:
        return "Nothing has been measured yet."
    row = plan.row(BENCH)
    assert isinstance(row, Commands)
    path = plan.folder(row) / "bench.json"
    found: dict[str, Any] = {"rows": []}
    if path.exists():
        try:
            found = parse_json(read_text(path))
        except (OSError, ValueError) as e:
            raise UserError(f"{path}: cannot be read ({e})") from e
    by_recipe = {entry["config"]: entry for entry in found["rows"]}
    words = shlex.split(row.commands[0])
    recipes = words[words.index("--config") + 1].split(",")
    text = table(_BENCHED, [_benched(recipe, by_recipe.get(recipe)) for recipe in recipes])
    if not found["rows"]:
        return text
    machine = found["machine"]
    versions = ", ".join(f"{k} {machine['versions'][k]}" for k in ("jax", "torch"))
    return (
        f"{text}\n\n{machine['device']}, {machine['cores']} cores, load {machine['load'][0]:.1f} "
        f"at the start of the last row; {versions}; medians of n={found['repeats']}."
    )


def _benched(recipe: str, row: Mapping[str, Any] | None) -> tuple[str, ...]:
    name = recipe.removeprefix("configs/")
    if row is None or "error" in row:
        return (f"`{name}`", *["not measured"] * (len(_BENCHED) - 1))
    held = [row.get(key) for key in ("resident_bytes", "torch_resident_bytes")]
    gigabytes = [f"{x / 1e9:.2f}" if isinstance(x, int) else "not measured" for x in held]
    return (
        f"`{name}`",
        str(row["batch"]),
        f"{row['train_images_per_second']:,.1f}",
        f"{row['torch_best_images_per_second']:,.1f} ({row['torch_best']})",
        f"{row['speedup']:.2f}",
        *gigabytes,
    )


def missing_text(plan: Plan, rows: Mapping[str, Mapping[str, Any]]) -> str:
    """The table of what is not measured yet, and what it would take."""
    lines = []
    for row in plan.rows.values():
        needs = " or ".join(
            f"{span(minutes)} on a {d.upper()}" for d, minutes in row.minutes.items()
        )
        if isinstance(row, Training) and row.name not in rows:
            several = f", {len(row.seeds)} seeds" if len(row.seeds) > 1 else ""
            what = f"`{row.recipe}`" + "".join(f" `{o}`" for o in row.overrides)
            if row.trainer != "jaxnets":
                what += f" by {row.trainer}"
            figures = (f"{row.parameters:,}", published(row.published))
            lines.append((f"`{row.name}`", what + several, *figures, f"about {needs}"))
        elif isinstance(row, Commands) and not plan.folder(row).exists():
            modules = ", ".join(sorted({f"`{words.split()[0]}`" for words in row.commands}))
            lines.append((f"`{row.name}`", modules, "", "", f"about {needs}"))
    if not lines:
        return "Everything in the plan has been run."
    return table(("row", "what", "parameters", "published", "a seed takes, guessed"), lines)


def models_text(plan: Plan, rows: Mapping[str, Mapping[str, Any]], old: str) -> str:
    """The table of models, its columns "published ..." and "own ..." written anew."""
    lines = old.strip().splitlines()
    if len(lines) < 2 or not lines[0].startswith("|"):
        raise UserError(f"{plan.root / README}: no table between the markers")
    heads, places = _cells(lines[0]), {}
    for wanted in ("model", "published", "own"):
        found = [i for i, head in enumerate(heads) if head.split(" ")[0] == wanted]
        if len(found) != 1:
            raise UserError(f"{plan.root / README}: the table of models has no column {wanted!r}")
        places[wanted] = found[0]
    by_model: dict[str, list[Training]] = {}
    for row in plan.trainings:
        by_model.setdefault(plan.config(row, row.seeds[0]).model.name, []).append(row)
    out = lines[:2]
    for line in lines[2:]:
        cells = _cells(line)
        of_model = by_model.get(cells[places["model"]].strip("`"), [])
        figures = [row.published for row in of_model if row.published is not None]
        cells[places["published"]] = published(figures[0] if figures else None)
        cells[places["own"]] = "; ".join(_own(plan, r, rows) for r in of_model if r.name in rows)
        cells[places["own"]] = cells[places["own"]] or "not run"
        out.append(f"| {' | '.join(cells)} |")
    return "\n".join(out)


def _own(plan: Plan, row: Training, rows: Mapping[str, Mapping[str, Any]]) -> str:
    summed = rows[row.name]
    count = f", n = {summed['n']}" if summed["n"] > 1 else ""
    done = summed["epochs_done"]
    epochs = f"{done} epochs" if is_finished(summed) else f"{done} of {summed['epochs']} epochs"
    folder = plan.folder(row).relative_to(plan.root)
    return f"{mean(summed['last'], ' %')} [{row.name}]({folder}), {epochs}{count}"


def command(row: Training) -> str:
    """The command of the row's first seed, as a user types it."""
    words = row.arguments(row.recipe, row.seeds[0], f"runs/{row.folder}")
    if row.seeds == (0,):
        words.remove("--config.seed=0")
    lines = textwrap.wrap(
        shlex.join(["python", "-m", f"{row.trainer}.train", *words]),
        94,
        subsequent_indent="    ",
        break_on_hyphens=False,
        break_long_words=False,
    )
    return " \\\n".join(lines)


def published(figure: Published | None) -> str:
    """A published figure as a table has it."""
    return "none" if figure is None else figure.text


def span(minutes: float) -> str:
    """Minutes as people say them.

    >>> span(3), span(90), span(400)
    ('3 min', '1.5 h', '6.7 h')
    """
    return f"{minutes:g} min" if minutes < 60 else f"{minutes / 60:.2g} h"


def _or_dash(figure: Mapping[str, Any], unit: str, digits: int = 2) -> str:
    return "–" if figure["mean"] is None else mean(dict(figure), unit, digits)


def _versions(versions: Mapping[str, str]) -> str:
    shown = ("torch",) if "torch" in versions else ("jax", "flax")
    return ", ".join(f"{name} {versions[name]}" for name in shown if name in versions)


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]
