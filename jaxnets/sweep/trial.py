"""One trial: its setting is measured, trained with each seed, and judged."""

import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from optuna.trial import Trial

from jaxnets.errors import UserError
from jaxnets.files.atomic import make_folder, write_text
from jaxnets.files.regular import read_text
from jaxnets.results.record import epochs_done
from jaxnets.results.summary import summarize
from jaxnets.runs import children
from jaxnets.runs.log import METRICS, read_rows
from jaxnets.runs.workdir import claim
from jaxnets.sweep import recipe, size
from jaxnets.sweep.definition import Sweep
from jaxnets.sweep.space import Refused

RECIPE = "recipe.py"
_PATIENCE = 120.0  # seconds for a training whose worker was killed to save and end
_EVERY = 0.5  # seconds between two looks at a log


class Failed(Exception):
    """Runs of a trial ended with an error; it says which, and why."""


class Interrupted(Exception):
    """A signal told this process to end; the run has saved."""

    def __init__(self, signal: int):
        super().__init__(signal)
        self.signal = signal


class Pruned(Exception):
    """The pruner ended a trial; it says when."""


class Run(NamedTuple):
    """What a finished run reached; accuracies in per cent.

    val: at its best epoch on the validation split, where there is one.
    last, best: on the test set, after the last and the best epoch.
    """

    seed: int
    epochs: int
    val: float | None
    last: float
    best: float
    seconds: float


def setting(trial: Any) -> str:
    """What is said of a trial's setting."""
    return ", ".join(f"{key}={value}" for key, value in trial.params.items())


def run(sweep: Sweep, trial: Trial, origin: int, environment: Mapping[str, str]) -> float:
    """Trains a trial's runs as far as they are not done; its value, an accuracy of 0..1.

    That on the validation split, or, without one, on the test set after the last epoch.

    Raises:
        Refused: the setting is not to be trained.
        Pruned, Failed, Interrupted: what ended it.
        UserError: the space raises, or the workdir cannot be written.
    """
    config = sweep.propose(trial)
    found = _size(sweep, config)
    for key, value in found._asdict().items():
        trial.set_user_attr(key, value)
    folder = sweep.folder(origin)
    about = f"Trial {origin} of the sweep {sweep.study}.\n\n{setting(trial)}"
    trial.set_user_attr("recipe", recipe.text(config, about))
    make_folder(folder)
    write_text(folder / RECIPE, recipe.text(config, about))
    print(
        f"trial {origin}: {setting(trial)} ({found.parameters:,} parameters, "
        f"{found.macs / 1e6:,.2f} M MACs)",
        flush=True,
    )
    runs, errors = [], []
    for seed in range(config.seed, config.seed + sweep.seeds):
        watch = None
        if not sweep.is_listed and seed == config.seed:
            watch = _Watch(trial, folder / f"seed{seed}", config.num_epochs)
        try:
            runs.append(_train(folder, seed, config.num_epochs, environment, watch))
        except Failed as e:
            errors.append(f"seed {seed}: {e}")
            print(f"  FAILED {errors[-1]}", flush=True)
            if not sweep.is_listed:
                break
        else:
            print(f"  {said(runs[-1])}", flush=True)
        trial.set_user_attr("runs", [run._asdict() for run in runs])
    if errors:
        raise Failed("; ".join(errors))
    return statistics.fmean(r.last if r.val is None else r.val for r in runs) / 100


def said(run: Run) -> str:
    """A run in a line."""
    val = "" if run.val is None else f"validation {run.val:.2f} %, "
    return (
        f"seed {run.seed}: {val}test {run.last:.2f} % after {run.epochs} epochs, {run.seconds:.0f}s"
    )


def _size(sweep: Sweep, config: Any) -> size.Size:
    """The network's size, if it is within the budgets."""
    try:
        found = size.measure(config)
    except UserError as e:
        raise Refused(str(e)) from e
    for what, count, most in (
        ("parameters", found.parameters, sweep.budget),
        ("MACs", found.macs, sweep.macs),
    ):
        if most is not None and count > most:
            raise Refused(f"{count:,} {what}, more than {most:,}")
    return found


def _train(
    folder: Path, seed: int, epochs: int, environment: Mapping[str, str], watch: "_Watch | None"
) -> Run:
    """One run, to its end."""
    workdir = folder / f"seed{seed}"
    if epochs_done(workdir) < epochs:
        _wait_for(workdir)
        args = ["--config", str(folder / RECIPE), f"--config.seed={seed}"]
        output, ends = folder / f"seed{seed}.log", watch or (lambda: False)
        ended = children.train(
            [*args, "--workdir", str(workdir)], environment, output=output, ends=ends
        )
        if ended.signal:
            raise Interrupted(ended.signal)
        if watch is not None and watch.pruned is not None:
            raise Pruned(f"after {watch.pruned} of {epochs} epochs")
        if ended.code or epochs_done(workdir) < epochs:
            raise Failed(f"{_reason(output, ended.code)} (all of it: {output})")
    if watch is not None:
        watch.report()
    try:
        (row,) = summarize([workdir])
    except UserError as e:
        raise Failed(str(e)) from e
    values = {key: (row[key]["values"] or [None])[0] for key in ("val", "last", "best", "seconds")}
    return Run(seed, row["epochs_done"], **values)


def _wait_for(workdir: Path) -> None:
    """Until nobody trains there: the run of a worker that was killed saves and ends."""
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            claim(workdir).close()
            return
        except UserError as e:
            if time.monotonic() > until:
                raise Failed(str(e)) from e
            time.sleep(_EVERY)


def _reason(output: Path, code: int) -> str:
    """The last line of what a run said before it failed."""
    try:
        lines = [line for line in read_text(output, errors="replace").splitlines() if line.strip()]
    except OSError:
        lines = []
    errors = [line for line in lines if line.startswith("error: ")] or lines
    return errors[-1].removeprefix("error: ").strip() if errors else f"ended with {code}"


class _Watch:
    """Tells the trial of each epoch in a run's log; called, it says whether to end the run.

    pruned: the epoch after which the pruner gave the trial up.
    """

    def __init__(self, trial: Trial, workdir: Path, epochs: int):
        self._trial, self._path, self._epochs = trial, workdir / METRICS, epochs
        self._reported, self._looked = 0, 0.0
        self.pruned: int | None = None

    def __call__(self) -> bool:
        if self.pruned is None and time.monotonic() - self._looked > _EVERY:
            self._looked = time.monotonic()
            self.report(prune=True)
        return self.pruned is not None

    def report(self, *, prune: bool = False) -> None:
        """The epochs that are new in the log."""
        try:
            rows = read_rows(self._path)
        except OSError:  # not begun
            return
        for row in rows:
            epoch, accuracy = row.get("epoch"), row.get("val/accuracy")
            if epoch is None or accuracy is None or epoch <= self._reported:
                continue
            self._trial.report(accuracy, int(epoch))
            self._reported = epoch
            if prune and epoch < self._epochs and self._trial.should_prune():
                self.pruned = int(epoch)
                return
