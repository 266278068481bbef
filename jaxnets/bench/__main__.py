"""Measures how fast recipes train and evaluate here, alone or beside their PyTorch twins.

    python -m jaxnets.bench --config configs/se_resnet.py
    python -m jaxnets.bench --config configs/se_resnet.py --against torch --batch 128,512,2048
    python -m jaxnets.bench --config configs/se_resnet.py,configs/resnet18.py --dtype bfloat16
    python -m jaxnets.bench --deploy --config configs/se_resnet.py --json deploy.json

Random images of the data set's shape lie on the device; training is whole steps, with augmentation
and optimizer.  JAX and PyTorch take turns after a warm-up; each row has a process of its own.  The
table shows medians over the repeats, +- the distance of their quartiles.  A multiply-accumulate of
a convolution or linear layer counts as two operations, in training as six; "of product" is their
share of the operations that a large matrix product reaches in the same run.  PyTorch is the twin in
channels last, as it is ("eager") and by torch.compile; speedups are against the faster one.

--deploy measures exported networks instead, on the CPU: jitted by JAX, in torch as it is and
compiled, in onnxruntime in float32 and int8; for each the time of an image at batch 1 and 64
(--batch), on one thread and on all, the file's size, and the peak memory of a process that opens
the file and does nothing else.  Weights are the initial ones: the time does not depend on them.
--fire does so for Fire modules beside 3x3 convolutions of the same maps.

Exit codes: 0 measured, 1 some row could not be, 2 a mistake in the command.
"""

import argparse
import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from jaxnets import cli
from jaxnets.bench.case import Budget, Case, cases, dtypes, numbers
from jaxnets.bench.rows import measured
from jaxnets.errors import UserError
from jaxnets.files.atomic import check_file, write_text
from jaxnets.files.regular import parse_json

_DAY = 86400.0
_DEPLOY_BATCHES = "1,64"


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns its exit code."""
    args = _parser().parse_args(argv)
    if args.deploy or args.fire:
        return _deploy(args, argv)
    if args.picture:
        raise UserError("--picture: is about --deploy")
    found = parse(args)
    if not found:
        return 0
    budget = Budget(args.repeats, args.seconds, args.compile_limit)
    head = {"command": ["python", "-m", "jaxnets.bench", *argv], **budget._asdict()}
    machine, rows, unwritten = None, [], None
    for case, outcome in measured(found, budget, args.against is not None, args.memory):
        if isinstance(outcome, str):
            config = json.loads(case.config)
            place = {"batch": config["batch_size"], "dtype": config["dtype"]}
            row = {"model": config["model"]["name"], "config": case.spec, **place}
            rows.append(row | {"error": outcome})
            print(f"  not measured: {outcome}", flush=True)
        else:
            machine, row = outcome
            rows.append(row)
        unwritten = _kept(args.json, {**head, "machine": machine, "rows": rows})

    from jaxnets.bench.show import show_result

    show_result(machine, rows, budget)
    if unwritten is not None:
        raise unwritten
    return 1 if any("error" in row for row in rows) else 0


def _kept(path: Path | None, result: dict) -> UserError | None:
    """Writes what is measured so far; if that fails, why: the next row may bring them all."""
    try:
        if path is not None:
            write_text(path, json.dumps(result, indent=2) + "\n")
    except UserError as e:
        return e
    return None


def _deploy(args: argparse.Namespace, argv: Sequence[str]) -> int:
    """Exported networks, or Fire modules: nothing of training."""
    from jaxnets.export.files import FORMATS, require

    flag = "--fire" if args.fire else "--deploy"
    for other, given in (
        ("--against", args.against), ("--dtype", args.dtype), ("--memory", args.memory),
    ):  # fmt: skip
        if given:
            raise UserError(f"{other}: is about training; leave it out with {flag}")
    if args.fire and (args.deploy or args.config or args.picture or args.print_config):
        raise UserError("--fire: measures modules; leave out --deploy, --config and --picture")
    batches = numbers("--batch", args.batch or _DEPLOY_BATCHES)
    budget = Budget(args.repeats, args.seconds, args.compile_limit)
    if args.fire:
        from jaxnets.bench.deploy import fire
        from jaxnets.bench.deploy.show import show_fire as show

        found = fire.measured(fire.PLACES, batches, budget)
    else:
        from jaxnets.bench.deploy.measure import Case, measured
        from jaxnets.bench.deploy.show import draw, pictures
        from jaxnets.bench.deploy.show import show_rows as show
        from jaxnets.config import to_json

        cases = [Case(to_json(config), spec) for spec, config in cli.recipes(args)]
        if not cases:
            return 0
        for path in pictures(args.picture) if args.picture else ():
            _check_output("--picture", path, args.force)
        found = measured(cases, batches, budget)
    packages = [name for how in FORMATS.values() for name in (*how.writes, *how.runs)]
    require(dict.fromkeys(packages), flag)
    _check_output("--json", args.json, args.force)
    head = {"command": ["python", "-m", "jaxnets.bench", *argv], **budget._asdict()}
    machine, rows, unwritten = None, [], None
    for where, more in found:
        machine = machine or where
        rows += more
        unwritten = _kept(args.json, {**head, "machine": machine, "rows": rows})
    show(machine, rows)
    if args.picture:
        draw(rows, args.picture)
    if unwritten is not None:
        raise unwritten
    return 1 if any("error" in row for row in rows) else 0


def parse(args: argparse.Namespace) -> list[Case]:
    """The cases of all recipes; none where configurations were shown instead."""
    found = []
    for spec, config in cli.recipes(args):
        batches = numbers("--batch", args.batch or str(config.batch_size))
        found += cases(config, spec, batches, dtypes("--dtype", args.dtype or config.dtype))
    if args.against is not None and find_spec("torch") is None:
        raise UserError(
            "--against torch: torch is not installed; pip install torch, or leave it out"
        )
    if found:
        _check_output("--json", args.json, args.force)
    return found


def _check_output(flag: str, path: Path | None, force: bool) -> None:
    """Before the work: raises a UserError where a file could or should not be written."""
    if path is None:
        return
    if path.exists() and not (force or _holds_nothing(path)):
        raise UserError(f"{flag} {path}: exists; name another file, or replace it with --force")
    check_file(path, f"{flag} {path}")


def _holds_nothing(path: Path) -> bool:
    """Whether a file is one of this command's in which no row was measured."""
    try:
        rows = parse_json(path.read_bytes())["rows"]
        return bool(rows) and all(set(row) >= {"config", "error"} for row in rows)
    except (ValueError, LookupError, TypeError):
        return False


def _parser() -> cli.Parser:
    parser = cli.Parser("jaxnets.bench", __doc__)
    parser.add_recipe(many=True)
    add = parser.add_argument
    add("--against", choices=("torch",), help="measure the PyTorch twins too")
    add("--deploy", action="store_true", help="measure exported networks instead")
    add("--fire", action="store_true", help="measure Fire modules and plain convolutions instead")
    add("--picture", type=Path, metavar="FILE.png", help="of --deploy, and one for dark paper")
    add("--batch", metavar="N,N,...", help="batch sizes (default: the recipe's; deploy: 1,64)")
    add(
        "--dtype",
        metavar="T,T,...",
        help="float32, bfloat16, float64 (default: the recipe's)",
    )
    add("--json", type=Path, metavar="FILE", help="write the rows there; an existing file is kept")
    add("--force", action="store_true", help="replace an existing file")
    add("--memory", action="store_true", help="also what a training of each side holds (CPU)")
    add(
        "--repeats",
        type=cli.whole(1, 86400),
        default=5,
        metavar="N",
        help="measurements of each kind (default: 5)",
    )
    add(
        "--seconds",
        type=cli.real(1e-3, _DAY),
        default=1.0,
        metavar="S",
        help="that one of them lasts, roughly (default: 1)",
    )
    add(
        "--compile-limit",
        type=cli.real(1e-3, _DAY),
        default=600.0,
        metavar="S",
        help="for one program of torch.compile (default: 600)",
    )
    return parser


if __name__ == "__main__":
    cli.run(main)
