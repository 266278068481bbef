"""One seed of a training in its own process: train, evaluate, keep what came out."""

import importlib
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from jaxnets.results import record
from jaxnets.results.plan import Training, read
from jaxnets.runs import children
from jaxnets.runs.children import Ended
from jaxnets.runs.log import METRICS, STARTS, read_rows, record_start
from jaxnets.runs.workdir import read_config

RUNS = Path("runs")
_PATIENCE = 30.0  # seconds that a training, which keeps its time itself, may take beyond it
_COMPILING = "/jax/core/compile/backend_compile_duration"


def workdir(row: Training, seed: int) -> Path:
    """Where a seed of a row trains."""
    return RUNS / f"{row.folder}_seed{seed}"


def reserve(folder: Path, minutes: float) -> float:
    """Minutes of so many to leave for saving, evaluating and writing.

    Half as much again as that took the calls before; a seventh of the time where there was none.
    """
    known = [call.closing for call in record.calls(folder)]
    wanted = 1.5 * max(known) / 60 if known else minutes / 7
    return min(max(wanted, 0.05), minutes / 2)


def train(
    plan: str, row: str, seed: int, minutes: float | None, environment: Mapping[str, str]
) -> Ended:
    """`run` in a process of its own, with the minutes that begin now."""
    words = [plan, row, str(seed), "" if minutes is None else f"{minutes:.4f}"]
    deadline = None if minutes is None else time.monotonic() + 60 * minutes + _PATIENCE
    return children.wait(children.command(__name__, *words), environment, deadline)


def main(argv: Sequence[str]) -> int:
    """What that process runs."""
    plan, row, seed, minutes = argv
    return run(plan, row, int(seed), float(minutes) if minutes else None, time.monotonic())


def run(plan_file: str, name: str, seed: int, minutes: float | None, started: float) -> int:
    """Trains a seed of a row for so many minutes at most, and keeps what came out.

    Args:
        started: by time.monotonic, when those minutes began.

    Returns:
        0, also where the minutes ended it, or the trainer's exit code.

    Raises:
        UserError: as the trainer, and where results cannot be written.
    """
    plan = read(Path(plan_file))
    row = plan.row(name)
    assert isinstance(row, Training)
    folder = workdir(row, seed)
    args = row.arguments(plan.recipe(row), seed, str(folder))
    if minutes is not None:
        left = minutes - (time.monotonic() - started) / 60
        args.append(f"--config.stop_after_minutes={max(left - reserve(folder, minutes), 1e-3):.3f}")
    compiling = _Compiling()
    code = _train(row, args, folder)
    trained = time.monotonic()
    epochs = plan.config(row, seed).num_epochs
    cut = record.epochs_done(folder) < epochs
    found = None
    if code == 0 and record.epochs_done(folder):
        found = _evaluated(row, folder)
    if code == 0 or cut:  # else the next call finishes it
        now = time.monotonic()
        call = record.Call(
            datetime.now(UTC).isoformat(sep=" ", timespec="seconds"),
            now - started,
            compiling.seconds,
            now - trained,
        )
        record.add_call(folder, call)
        kept = record.keep(plan, row, seed, folder, found)
        print(_said(row, seed, folder, epochs, kept), flush=True)
    compiling.stop()
    return code


def _train(row: Training, args: list[str], folder: Path) -> int:
    module = "jaxnets.train.__main__" if row.trainer == "jaxnets" else "torch_ref.train"
    main: Callable[[list[str]], int] = importlib.import_module(module).main
    code = main(args)
    if row.trainer != "jaxnets" and not (folder / STARTS).exists():
        from jaxnets.devices import machine

        found = machine.of_a_run()
        versions = found["versions"] | {"torch": metadata.version("torch")}
        more = {"parameters": row.parameters, "versions": versions}
        record_start(folder, "torch_ref.train", args, found | more)
    return code


def _evaluated(row: Training, folder: Path) -> dict[str, dict[str, Any]]:
    """Step, top-5 and calibration error of the last and the best epoch's checkpoints.

    A twin's run is ported first, so that both are evaluated alike.
    """
    if row.trainer == "jaxnets":
        return _figures(folder)
    port: Callable[[list[str]], int] = importlib.import_module("jaxnets.port.__main__").main
    with tempfile.TemporaryDirectory(dir=folder, prefix=".ported") as temporary:
        ported = Path(temporary) / folder.name
        if port([str(folder / "last.pt"), str(ported), "--with-optimizer"]):
            return {}
        return _figures(ported)


def _figures(folder: Path) -> dict[str, dict[str, Any]]:
    from jaxnets.checkpoints import store
    from jaxnets.evaluate import headline

    logged, config = read_rows(folder / METRICS), read_config(folder)
    found: dict[str, dict[str, Any]] = {}
    steps = {"last": logged[-1]["step"], "best": record.best_row(logged)["step"]}
    for which, step in steps.items():
        if which == "best" and step == steps["last"] and "last" in found:
            found[which] = found["last"]
        elif store.find(folder, which)[1] == step:  # not one within an epoch
            found[which] = headline(config, folder, which)
    return found


def _said(row: Training, seed: int, folder: Path, epochs: int, kept: Path | None) -> str:
    done = record.epochs_done(folder)
    where = f"kept in {kept}" if kept is not None else "nothing kept: there is a longer one"
    if not done:
        where = "no epoch finished yet; the same command goes on"
    return f"{row.name}, seed {seed}: {done} of {epochs} epochs; {where}"


class _Compiling:
    """Adds up the seconds that XLA compiles, over all threads, from now on."""

    def __init__(self):
        import jax

        self.seconds = 0.0
        jax.monitoring.register_event_duration_secs_listener(self._listen)

    def _listen(self, event: str, seconds: float, **_: Any) -> None:
        if event == _COMPILING:
            self.seconds += seconds

    def stop(self) -> None:
        """Listens no longer."""
        import jax

        jax.monitoring.unregister_event_duration_listener(self._listen)
