"""Reproduces the results: runs what is missing in the plan, and keeps what comes out.

    python -m jaxnets.reproduce --list
    python -m jaxnets.reproduce --next
    python -m jaxnets.reproduce --minutes 30
    python -m jaxnets.reproduce cifar100:v3 --device gpu

Takes the rows named, or the next missing one in the plan's order for the device; with --minutes, as
many as fit.  Each run has a workdir under runs/, where the same command goes on; several seeds are
trained one after the other.  Within the minutes there is time left to save, evaluate and write.

Into results/ROW/seedK/ go, at the end of a run or when it is cut, config.json, metrics.jsonl,
starts.jsonl (command, hardware, versions) and figures.json: epochs done, loss, accuracy, top-5 and
calibration error on the test set after the last and the best epoch, seconds of training, compiling
and in all.  Then the tables of RESULTS.md and README.md and the pictures are written anew.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence

from jaxnets import cli
from jaxnets.errors import UserError
from jaxnets.reproduce import commands, state, training
from jaxnets.results import pages, pictures, record
from jaxnets.results import plan as plans
from jaxnets.results.plan import Commands, Plan, Row, Training

_LEAST = 0.05
"""Minutes below which nothing is begun."""


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns its exit code."""
    started = time.monotonic()
    args = _parser().parse_args(argv)
    plan = plans.read(args.plan)
    named = [plan.row(name) for name in args.rows]
    if args.next and (named or args.list):
        raise UserError("--next: no row that is named, and no --list")
    if args.list:
        state.show(plan, args.device, named)
        return 0
    environment = _environment(args.device)
    device = _device(args.device, environment)
    deadline = None if args.minutes is None else started + 60 * args.minutes
    rows = named or _in_order(plan, device, many=deadline is not None)
    code, began = _run(plan, rows, deadline, environment)
    if began == 0 and code == 0:
        print("nothing is missing" + ("" if named else f" in the plan for a {device}"))
    if began:
        _write(plan)
    return code


def _parser() -> cli.Parser:
    parser = cli.Parser("jaxnets.reproduce", __doc__)
    add = parser.add_argument
    add("rows", nargs="*", metavar="ROW")
    add("--device", choices=plans.DEVICES, help="default: what jax finds")
    add(
        "--minutes",
        type=cli.real(0.1, 1e6),
        metavar="M",
        help="stop within so many (default: one row, as long as it takes)",
    )
    add("--next", action="store_true", help="the next missing row, as without a ROW")
    add("--list", action="store_true", help="what is done, what is missing, what it would take")
    plans.add_flag(parser, "what there is to run")
    return parser


def _in_order(plan: Plan, device: str, *, many: bool) -> Iterator[Row]:
    """The missing rows, or the first of them."""
    for row in map(plan.row, plan.order[device]):
        if state.of(plan, row).missing:
            yield row
            if not many:
                return


def _run(
    plan: Plan,
    rows: Sequence[Row] | Iterator[Row],
    deadline: float | None,
    environment: Mapping[str, str],
) -> tuple[int, int]:
    """Runs what is missing of the rows; the exit code, and how many processes were begun."""
    began = 0
    for row in rows:
        for seed in row.seeds if isinstance(row, Training) else (0,):
            if _is_done(plan, row, seed):
                continue
            left = None if deadline is None else (deadline - time.monotonic()) / 60
            if left is not None and left < _LEAST:
                return 0, began
            began += 1
            if isinstance(row, Commands):
                code = commands.run(plan, row, deadline, environment)
            else:
                print(f"{row.name}, seed {seed}", flush=True)
                ended = training.train(str(plan.path), row.name, seed, left, environment)
                code = 128 + ended.signal if ended.signal else ended.code
            if code or not _is_done(plan, row, seed):
                return code, began
    return 0, began


def _is_done(plan: Plan, row: Row, seed: int) -> bool:
    if isinstance(row, Training):
        return record.is_done(plan, row, seed)
    assert isinstance(row, Commands)
    return commands.is_done(plan, row)


def _write(plan: Plan) -> None:
    """The tables, and the pictures where what draws them is installed."""
    written = pages.write(plan)
    try:
        written += pictures.write(plan)
    except UserError as e:
        print(f"note: no pictures ({e})", file=sys.stderr)
    for path in [*written, *pages.write(plan)]:  # which name pictures that are there
        print(f"wrote {path}")


def _environment(device: str | None) -> dict[str, str]:
    """That of the rows' processes."""
    hidden = {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {}
    return os.environ | hidden


def _device(asked: str | None, environment: Mapping[str, str]) -> str:
    """The device that rows will run on, asked of jax in a process that lets go of it again."""
    if asked == "cpu":
        return asked
    probe = [sys.executable, "-c", "import jax; print(jax.default_backend())"]
    done = subprocess.run(probe, env=environment, capture_output=True, text=True, check=False)
    found = done.stdout.strip()
    if done.returncode or not found:
        last = done.stderr.strip().splitlines()[-1:] or ["no answer"]
        raise UserError(f"jax finds no device: {last[0]}; --device cpu takes none but the CPU")
    if asked == "gpu" and found != "gpu":
        raise UserError(
            f"--device gpu: jax finds only a {found} here; install jax[cuda], or leave it"
        )
    return "gpu" if found == "gpu" else "cpu"


if __name__ == "__main__":
    cli.run(main)
