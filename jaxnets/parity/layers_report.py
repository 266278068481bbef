"""What a comparison of layers found: tables, a line, JSON, a figure of error against depth."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.markup import escape

from jaxnets.files.atomic import write_text, writing
from jaxnets.parity.layers import BOUNDS, INPUT, Comparison, Model, Row, beyond
from jaxnets.report.figure import COLOURS, GREY, STYLE, save
from jaxnets.tables import show as show_table
from jaxnets.tables import table_of

_FLOOR = 1e-18  # where the figure draws an error of 0


def verdict(found: Comparison) -> str:
    """The verdict in a line: equal or not, where first, and why."""
    bounds = f"{BOUNDS['float64']:.0e} in float64 and {BOUNDS['float32']:.0e} in float32"
    if found.ok:
        worst = (max(getattr(r, d).relative for r in found.layers) for d in ("float64", "float32"))
        text = " and ".join(f"{value:.1e}" for value in worst)
        return f"EQUAL: {len(found.layers) - 1} layers within {bounds} (most: {text})"
    count = len(found.parameters)
    parts = [f"{count} tensors differ" if count > 1 else "1 tensor differs"] if count else []
    if found.first is None:
        return (
            f"DIFFERENT: {parts[0]}, first {found.parameters[0].name}; all layers within {bounds}"
        )
    dtype = "float64" if beyond(found.first, "float64") else "float32"
    apart = getattr(found.first, dtype).relative
    parts.insert(0, f"first in {found.first.name}, {apart:.1e} in {dtype}")
    return f"DIFFERENT: {'; '.join(parts)}. Hint: {found.hint}"


def show(found: Comparison) -> None:
    """Prints the parameters that differ, every layer, and the statistics after training."""
    if found.parameters:
        table = table_of(
            "tensor that differs", "shape", *_HEADINGS, fold="tensor that differs", drop=_DROP
        )
        for row in found.parameters:
            table.add_row(escape(row.name), _shape(row), *_numbers(row.float64))
        show_table(table)
        print()
    else:
        print("parameters   all equal")
    for title, rows in (("layer", found.layers), ("statistic after it", found.statistics)):
        if not rows:
            continue
        headings = (f"{h.removesuffix('>')} {bits}>" for bits in (64, 32) for h in _HEADINGS)
        columns = ("type", "shape") if rows[0].name == INPUT else ("shape",)
        table = table_of(title, *columns, *headings, fold=title, drop=_DROP)
        for row in rows:
            style = "red" if beyond(row) else None
            numbers = *_numbers(row.float64), *_numbers(row.float32)
            kind = (row.type,) if "type" in columns else ()
            table.add_row(escape(row.name), *kind, _shape(row), *numbers, style=style)
        show_table(table)
        print()


_HEADINGS = ("max abs>", "relative>", "cosine>")
# Of what is wide, the least important first; some tables have only part of it.
_DROP = ("cosine 32", "cosine 64", "cosine", "type", "max abs 32", "shape", "max abs 64", "max abs")


def _numbers(error: Any) -> tuple[str, str, str]:
    return f"{error.max_abs:.1e}", f"{error.relative:.1e}", f"{error.cosine:.7f}"


def _shape(row: Row) -> str:
    return "x".join(map(str, row.shape)) or "scalar"


def write(folder: Path, model: Model, found: Comparison, train: bool) -> list[Path]:
    """Writes layers.json and layers.png into `folder`; returns their paths."""
    import jax
    import torch

    content = {
        "verdict": verdict(found),
        "ok": found.ok,
        "first": found.first and found.first.name,
        "hint": found.hint,
        "bounds": BOUNDS,
        "model": {**model._asdict(), "options": dict(model.options)},
        "train": train,
        "versions": {"jax": jax.__version__, "torch": torch.__version__},
        "parameters": [_plain(row) for row in found.parameters],
        "layers": [_plain(row) for row in found.layers],
        "statistics": [_plain(row) for row in found.statistics],
    }
    paths = [folder / "layers.json", folder / "layers.png"]
    with writing(f"--output {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        write_text(paths[0], json.dumps(content, indent=1, allow_nan=False) + "\n")
    mode = "training" if train else "evaluation"
    plot(found, paths[1], f"{model.name}, {mode}: JAX against PyTorch")
    return paths


def _plain(row: Row) -> dict[str, Any]:
    """A row for JSON, with null for what is not finite."""

    def numbers(error: Any) -> dict[str, float | None] | None:
        if error is None:
            return None
        return {k: v if math.isfinite(v) else None for k, v in error._asdict().items()}

    return row._asdict() | {"float32": numbers(row.float32), "float64": numbers(row.float64)}


def plot(found: Comparison, path: Path, title: str) -> Path:
    """Draws the relative error of every layer, float32 and float64, against depth."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    rows = found.layers
    depth = np.arange(len(rows))
    with rc_context(STYLE):
        few = len(rows) <= 60
        figure = Figure(figsize=(11, 6.0 if few else 4.8), layout="constrained")
        axes = figure.subplots()
        for dtype, colour in zip(("float32", "float64"), COLOURS, strict=False):
            values = _drawn(rows, dtype)
            axes.plot(depth, values, color=colour, marker="o", markersize=3, label=dtype)
            bound = {"color": colour, "linestyle": ":", "label": f"bound of {dtype}"}
            axes.axhline(BOUNDS[dtype], **bound)
        if found.first in rows:
            at = rows.index(found.first)
            axes.axvline(at, color=GREY, linestyle="--", label=f"first: {found.first.name}")
        axes.set(title=title, ylabel="relative error (0 at the bottom)", yscale="log")
        axes.set_ylim(bottom=_FLOOR / 3)
        if few:
            axes.set_xticks(depth, [row.name for row in rows], rotation=90, fontsize=8)
        else:
            axes.set_xlabel("layer, in order of execution")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
        return save(figure, path)


def _drawn(rows: Sequence[Row], dtype: str) -> list[float]:
    """The relative errors, 0 at the floor, and a gap where one is not finite."""
    errors = [getattr(row, dtype).relative for row in rows]
    return [max(value, _FLOOR) if math.isfinite(value) else math.nan for value in errors]
