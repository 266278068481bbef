"""Measures how fast recipes train and evaluate here, alone or beside their PyTorch twins.

    python -m jaxnets.bench --config configs/se_resnet.py
    python -m jaxnets.bench --config configs/se_resnet.py --against torch --batch 128,512,2048
    python -m jaxnets.bench --config configs/se_resnet.py,configs/resnet18.py --dtype bfloat16

Random images of the data set's shape, already on the device; training is whole steps, augmentation
and optimizer included. The sides take turns after a warm-up, each row in a process of its own; the
table has medians over the repeats, +- the distance of their quartiles. Operations are two for each
multiply-accumulate of convolutions and linear layers, and three times that for training; "of
product" is their share of what a large matrix product reaches in the same run. PyTorch is the twin
in channels last, as it is ("eager") and by torch.compile; speedups are against the faster one.

Exit codes: 0 measured, 1 some row could not be, 2 a mistake in the command.
"""

import functools
import json
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from jaxnets import cli
from jaxnets import config as configs
from jaxnets.aside import write_text
from jaxnets.bench.case import Case, Effort, cases, dtypes, numbers
from jaxnets.errors import UserError, unknown

FLAGS = (
    configs.Flag("against", "torch", "measure the PyTorch twins too"),
    configs.Flag("batch", "N,N,...", "batch sizes (default: the recipe's)"),
    configs.Flag("dtype", "T,T,...", "float32, bfloat16, float64 (default: the recipe's)"),
    configs.Flag("json", "FILE", "write the rows there; an existing file is kept"),
    configs.Flag("force", "", "replace an existing file", bool, False),
    configs.Flag("repeats", "N", "measurements of each kind (default: 5)", int, 5),
    configs.Flag("seconds", "S", "that one of them lasts, roughly (default: 1)", float, 1.0),
    configs.Flag(
        "compile_limit", "S", "for one program of torch.compile (default: 600)", float, 600.0
    ),
)


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns its exit code."""
    parsed = parse(argv)
    if parsed is None:
        return 0
    found, flags = parsed
    effort = Effort(flags["repeats"], flags["seconds"], flags["compile_limit"])
    machine, rows = None, []
    for case, outcome in measured(found, effort, flags["against"] is not None):
        if isinstance(outcome, str):
            config = json.loads(case.config)
            place = {"batch": config["batch_size"], "dtype": config["dtype"]}
            row = {"model": config["model"]["name"], "config": case.spec, **place}
            rows.append(row | {"error": outcome})
            print(f"  not measured: {outcome}", flush=True)
        else:
            machine, row = outcome
            rows.append(row)
        if flags["json"]:
            head = {"command": ["python", "-m", "jaxnets.bench", *argv], **effort._asdict()}
            result = {**head, "machine": machine, "rows": rows}
            write_text(Path(flags["json"]), json.dumps(result, indent=2) + "\n")

    from jaxnets.bench.show import show_result

    show_result(machine, rows, effort)
    return 1 if any("error" in row for row in rows) else 0


def parse(argv: Sequence[str]) -> tuple[list[Case], dict[str, Any]] | None:
    """The cases of all recipes, and the flags; None where help or a configuration was shown."""
    specs, rest = _recipes(argv)
    found, flags = [], {}
    for spec in specs or [None]:
        given = rest if spec is None else ["--config", spec, *rest]
        parsed = configs.parse(given, usage=__doc__, flags=FLAGS)
        if parsed is None:
            return None
        config, flags = parsed
        batches = numbers(
            "--batch", str(config.batch_size if flags["batch"] is None else flags["batch"])
        )
        found += cases(config, spec, batches, dtypes("--dtype", flags["dtype"] or config.dtype))
    if flags["against"] not in (None, "torch"):
        raise unknown("--against", flags["against"], ["torch"])
    for name, least in (("repeats", 1), ("seconds", 1e-3), ("compile_limit", 1e-3)):
        if not least <= flags[name] <= 86400:
            raise UserError(f"--{name} {flags[name]:g}: from {least:g} to 86,400")
    if flags["json"]:
        path = Path(flags["json"])
        if path.exists() and not flags["force"]:
            raise UserError(f"--json {path}: exists; name another file, or replace it with --force")
        if not path.parent.is_dir():
            raise UserError(f"--json {path}: no such folder; make it first")
    return found, flags


def _recipes(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """The recipes of every --config, which may list several, and the other arguments."""
    specs, rest, args = [], [], iter(argv)
    for arg in args:
        name, equals, given = arg.partition("=")
        if name in ("--config", "-config"):
            specs += (given if equals else next(args, "")).split(",")
        else:
            rest.append(arg)
    return specs, rest


def measured(
    found: Sequence[Case], effort: Effort, against_torch: bool
) -> Iterator[tuple[Case, tuple[dict, dict] | str]]:
    """Every case with its machine and row, or with why there is none.

    Several go to a process each: none finds the memory or the programs of another, and one that the
    system kills takes no other with it.
    """
    if against_torch:
        _require_torch()
    if len(found) == 1:
        yield found[0], measure_here(found[0], effort, against_torch)
        return
    for case in found:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            try:
                outcome = pool.submit(measure_here, case, effort, against_torch).result()
            except UserError:
                raise
            except Exception as e:
                outcome = f"{type(e).__name__}: {' '.join(str(e).split())[:300]}"
        yield case, outcome


def measure_here(case: Case, effort: Effort, against_torch: bool) -> tuple[dict, dict]:
    """The case's machine and row, measured in this process."""
    from jaxnets.bench.measure import measure

    return measure(case, effort, against_torch, functools.partial(print, flush=True))


def _require_torch() -> None:
    if find_spec("torch") is None:
        raise UserError(
            "--against torch: torch is not installed; pip install torch, or leave it out"
        )


if __name__ == "__main__":
    cli.run(main)
