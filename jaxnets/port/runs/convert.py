"""A whole training run from one framework to the other, written, read back, compared, and run."""

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnets import config as configs
from jaxnets.errors import UserError
from jaxnets.models.torch_names import StateDict
from jaxnets.port import orbax
from jaxnets.port.adapters import compare
from jaxnets.port.files import check_destination, is_folder, place, writing
from jaxnets.port.runs.averages import COUNT
from jaxnets.port.runs.read import TrainingRun, read, with_accuracy
from jaxnets.port.runs.write import BEST, LAST, write_file, write_torch_workdir, write_workdir
from jaxnets.port.verify import Differences, differences
from jaxnets.port.weights import workdir_file
from jaxnets.runs.log import METRICS
from jaxnets.runs.workdir import CONFIG, check_workdir


class PortedRun(NamedTuple):
    """The result of porting a run."""

    run: TrainingRun
    detected_from: str
    """Where the configuration comes from."""
    adapted: list[str]
    """What had another form in the source, a line each."""
    best: int | None
    """The step of the best checkpoint, if it went along."""
    differences: Differences


def port_run(
    src: Path,
    dst: Path,
    *,
    checkpoint: str = "last",
    config: Any = None,
    step: int | None = None,
    force: bool = False,
) -> PortedRun:
    """Writes all that the training in `src` resumes from to `dst`, for either trainer.

    Weights, optimizer, schedule, the sums of an unfinished epoch, progress, configuration and log,
    and the best checkpoint.  Before `dst` gets its name it is read back and compared bit for bit,
    and both frameworks compute the same logits from source and destination.

    Args:
        src: a workdir, a checkpoint in one, or a .pt file with an optimizer.
        dst: a workdir for jaxnets.train; X/last.pt, in a workdir X for torch_ref.train; or another
            .pt file, which then is the checkpoint alone.
        checkpoint: of a workdir: "last", "best" or a step.
        config: the configuration, for a file that holds none.
        step: optimizer steps done, where the file does not record them.
        force: replace `dst`.

    Raises:
        UserError: what does not fit, in one line; `dst` is then what it was.
    """
    src, dst = workdir_file(Path(src), checkpoint), Path(dst)
    _check_destination(dst, force)
    source = read(src, checkpoint, config=config, step=step)
    run = with_accuracy(source.run, source.log)
    is_file = not is_folder(dst) and dst.name != LAST
    best = None if is_file else _best(src, run, source.log)
    found: list[Differences] = []

    def check(written: Path, best_written: Path) -> None:
        back = read(written).run
        compare_runs(back, run)
        if best is not None:
            compare_runs(read(best_written, "best").run, best)
        found.append(
            differences(run.model, run.weights, back.weights, written_by_jax=is_folder(dst))
        )

    def write_twins(temporary: Path) -> None:
        write_torch_workdir(temporary, run, best, source.log)

    def check_twins(temporary: Path) -> None:
        check(temporary / LAST, temporary / BEST)

    if is_file:
        place(dst, lambda a: write_file(a, run, source.log), lambda a: check(a, a))
    elif is_folder(dst):
        place(dst, lambda a: write_workdir(a, run, best, source.log), lambda a: check(a, a))
    elif not dst.parent.exists():
        place(dst.parent, write_twins, check_twins)
    else:
        known = check_workdir(dst.parent, run.config, "torch_ref.train")
        # Of a run that trained nothing: its configuration goes with its empty log.
        taken_over = not known and (dst.parent / CONFIG).exists()
        temporary = dst.parent / f".port.{os.getpid()}"
        with writing(dst, temporary):
            write_twins(temporary)
            check_twins(temporary)
            # What training resumes from comes last: until then the run is the one before.
            for file in sorted(temporary.iterdir(), key=lambda file: file.name == LAST):
                target = dst.with_name(file.name)
                if force or taken_over or file.name == LAST or not target.exists():
                    os.replace(file, target)
    best_step = None if best is None else best.step
    return PortedRun(run, source.detected_from, source.adapted, best_step, found[0])


def _check_destination(dst: Path, force: bool) -> None:
    if dst.suffix == ".safetensors":
        raise UserError(f"{dst}: holds weights only: give X/last.pt, or a folder without suffix")
    if dst.name == LAST and not dst.parent.exists():
        if not dst.parent.parent.is_dir():
            raise UserError(f"{dst.parent}: no folder {dst.parent.parent} to write into")
    elif force and is_folder(dst) and dst.is_dir():
        inside = {entry.name for entry in dst.iterdir()}
        if not inside <= {CONFIG, METRICS, "checkpoints", "best"}:
            raise UserError(f"{dst}: holds more than a ported run; choose another name")
    else:
        check_destination(dst, force)


def _best(src: Path, run: TrainingRun, log: Path) -> TrainingRun | None:
    """The run where it was best so far, if it lies beside `src`."""
    step = run.rest["progress"].get("best_step", 0)
    if step == run.step:
        return run
    try:
        if src.is_dir():
            best = read(orbax.resolve(src, "")[0], str(step)).run
        elif src.name == LAST:
            best = read(src.with_name(BEST)).run
        else:
            return None
    except UserError:
        return None  # there is none: training resumes without it
    return with_accuracy(best, log) if best.step == step else None


def compare_runs(back: TrainingRun, run: TrainingRun) -> None:
    """Raises a UserError if anything that was read back is not what was meant."""
    arrays, meant = _arrays(back), _arrays(run)
    same = arrays.keys() == meant.keys() and back.step == run.step
    same = same and (back.model, back.totals, back.rest) == (run.model, run.totals, run.rest)
    same = same and back.loss_scale == run.loss_scale
    if not same or configs.to_json(back.config) != configs.to_json(run.config):
        raise UserError("reading it back gave another run; is the disk sound?")
    for kind, values in meant.items():
        compare(arrays[kind], values)


def _arrays(run: TrainingRun) -> dict[str, StateDict]:
    slow = {} if run.optimizer.slow is None else {"slow": run.optimizer.slow}
    averages = {
        kind: {**average.weights, COUNT: np.array(average.count)}
        for kind, average in run.averages.items()
    }
    return {"weights": run.weights, **run.optimizer.moments, **slow, **averages}
