"""What a comparison of two trainings found: the verdict, a table, a figure, JSON."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxnets.files.atomic import write_text, writing
from jaxnets.parity.trainings import Row, Side
from jaxnets.report.figure import COLOURS, GREY, STYLE, save

HEADER = (
    "  step         lr   jax: loss  grad norm  torch: loss  grad norm  "
    "apart: parameters  statistics"
)


class Verdict(NamedTuple):
    """Whether the comparison passed, and the line to print."""

    ok: bool
    text: str


def judge(rows: Sequence[Row], dtype: str, tolerance: float | None) -> Verdict:
    """Whether parameters and statistics stay within `tolerance` in every step; None: no bound."""
    for row in rows:
        if not math.isfinite(row.parameters + row.statistics):
            return Verdict(False, f"NOT FINITE: parameters or statistics after step {row.step}")
    apart = (
        f"at most {max(r.parameters for r in rows):.2g} (parameters) and "
        f"{max(r.statistics for r in rows):.2g} (BatchNorm statistics) apart in {len(rows)} steps"
    )
    drift = (
        f"; in {dtype} rounding alone sets two runs apart and every step magnifies it: "
        "--config.dtype=float64 tells that from a mistake"
    )
    hint = "" if dtype == "float64" else drift
    if tolerance is None:
        return Verdict(True, f"NO BOUND: {apart}{hint}")
    beyond = [r for r in rows if max(r.parameters, r.statistics) > tolerance]
    if not beyond:
        return Verdict(True, f"EQUAL within {tolerance:.2g}: {apart}")
    where = f"beyond {tolerance:.2g} from step {beyond[0].step} on, most in {beyond[0].furthest}"
    return Verdict(False, f"DIFFERENT: {where}; {apart}{hint}")


def line(row: Row) -> str:
    """A row under HEADER."""
    sides = [
        f"{_fixed(side.loss, width, 6)} {_fixed(side.grad_norm, 10, 4)}"
        for side, width in ((row.jax, 11), (row.torch, 12))
    ]
    return (
        f"{row.step:6d} {_fixed(row.jax.lr, 10, 6)} {' '.join(sides)} "
        f"{row.parameters:18.2e} {row.statistics:11.2e}"
    )


def _fixed(value: float, width: int, digits: int) -> str:
    """With so many digits after the point, or with an exponent where those do not fit."""
    text = f"{value:{width}.{digits}f}"
    return text if len(text) <= width else f"{value:{width}.2e}"


def table(rows: Sequence[Row], most: int = 10) -> str:
    """The rows, or some of them, evenly chosen with the first and the last, under HEADER."""
    count = min(most, len(rows))
    chosen = {round(i * (len(rows) - 1) / max(count - 1, 1)) for i in range(count)}
    return "\n".join([HEADER, *(line(rows[i]) for i in sorted(chosen))])


def write(
    folder: Path, config: Any, rows: Sequence[Row], tolerance: float | None, verdict: Verdict
) -> list[Path]:
    """Writes parity.json and, with matplotlib, parity.png into `folder`; returns their paths."""
    import jax
    import torch

    def plain(row: Row) -> dict[str, Any]:
        return row._asdict() | {"jax": row.jax._asdict(), "torch": row.torch._asdict()}

    content = {
        "verdict": verdict.text,
        "ok": verdict.ok,
        "tolerance": tolerance,
        "versions": {"jax": jax.__version__, "torch": torch.__version__},
        "config": config.to_dict(),
        "rows": [plain(row) for row in rows],
    }
    paths = [folder / "parity.json", folder / "parity.png"]
    with writing(f"--output {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        write_text(paths[0], json.dumps(content, indent=1) + "\n")
    try:
        plot(rows, paths[1], f"{config.name}, {config.dtype}", tolerance)
    except ImportError:  # no matplotlib
        return paths[:1]
    return paths


def plot(rows: Sequence[Row], path: Path, title: str, tolerance: float | None = None) -> Path:
    """Draws the two losses over one another, and the distances on a logarithmic scale."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    steps = [row.step for row in rows]
    with rc_context(STYLE):
        figure = Figure(figsize=(11, 4.4), layout="constrained")
        figure.suptitle(title)
        losses, distances = figure.subplots(1, 2)
        losses.plot(steps, [r.jax.loss for r in rows], color=COLOURS[0], linewidth=4, label="JAX")
        torch_line = {"color": COLOURS[1], "linewidth": 1.5, "linestyle": (0, (4, 2))}
        losses.plot(steps, [r.torch.loss for r in rows], **torch_line, label="PyTorch")
        losses.set(title="Training loss", xlabel="step", ylabel="loss of the batch (nats)")
        curves = {
            "parameters": [r.parameters for r in rows],
            "statistics": [r.statistics for r in rows],
            "loss": [_relative(r.jax, r.torch, "loss") for r in rows],
            "gradient norm": [_relative(r.jax, r.torch, "grad_norm") for r in rows],
        }
        for (label, values), colour in zip(curves.items(), COLOURS, strict=False):
            marker = {"marker": "o", "markersize": 3} if len(rows) <= 30 else {}
            distances.plot(steps, values, color=colour, label=label, **marker)
        if tolerance is not None:
            distances.axhline(tolerance, color=GREY, linestyle=":", label="bound")
        distances.set(title="JAX against PyTorch", xlabel="step", ylabel="relative difference")
        distances.set_yscale("log")
        for axes in (losses, distances):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=3)
        return save(figure, path)


def _relative(in_jax: Side, in_torch: Side, field: str) -> float:
    a, b = getattr(in_jax, field), getattr(in_torch, field)
    return abs(a - b) / abs(b) if b else abs(a)
