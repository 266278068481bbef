"""Whole training runs, written as the trainers write them: a workdir, or last.pt in one."""

import shutil
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxnets import config as configs
from jaxnets.checkpoints import store as checkpoints
from jaxnets.config.loss_scale import read_loss_scaling
from jaxnets.data import load
from jaxnets.data.batches import steps_per_epoch
from jaxnets.errors import UserError
from jaxnets.optim import make_optimizer
from jaxnets.port import orbax
from jaxnets.port.files import require_torch, save_torch, to_tensors
from jaxnets.port.runs import averages, loss_scale, optimizer
from jaxnets.port.runs.read import TrainingRun, trained
from jaxnets.runs.log import METRICS, read_rows
from jaxnets.runs.workdir import CHECKPOINTS, CONFIG
from jaxnets.train.step import Totals, TrainState

LAST, BEST = CHECKPOINTS["torch_ref.train"]


def write_workdir(path: Path, run: TrainingRun, best: TrainingRun | None, log: Path) -> None:
    """A workdir that jaxnets.train resumes from; it must not exist yet.

    Args:
        best: the run where it was best, for `best/`.
        log: the metrics.jsonl so far, if it exists.
    """
    path.mkdir()
    _note(path, run, log)
    with jax.enable_x64(True):  # else float64 is written as float32
        store = checkpoints.Checkpoints(path, keep=1)
        if best is not None:
            store.save_best(best.step, *_jax_checkpoint(best))
        store.save_last(run.step, *_jax_checkpoint(run))


def _jax_checkpoint(run: TrainingRun) -> tuple[tuple[TrainState, Totals], dict[str, Any]]:
    entries = run.entries
    parts = orbax.by_path(run.weights, entries)
    for name, value in parts["stats"].items():
        if name.endswith("num_batches_tracked"):
            if value >= 2**31:
                raise UserError(f"{name} {value}: jaxnets.train counts in 32 bits")
            parts["stats"][name] = value.astype(np.int32)
    params, _ = trained(run.config, entries)
    state = optimizer.to_jax(run.optimizer, params, run.weights)
    state = loss_scale.to_jax(run.loss_scale, state)
    config = run.config
    tx = make_optimizer(
        config.optim,
        config.schedule,
        steps_per_epoch=1,
        num_epochs=config.num_epochs,
        loss_scaling=read_loss_scaling(config),
    ).tx
    wanted = jax.eval_shape(tx.init, {slot.path: parts["params"][slot.path] for slot in params})
    if jax.tree.structure(wanted) != jax.tree.structure(state):
        raise AssertionError("not the optimizer's state")
    state = averages.to_jax(run.averages, state, params, entries)
    totals = Totals(*(np.float32(value) for value in run.totals))
    # The exact sums go along in the metadata: those of PyTorch are float64.
    meta = {**run.rest, "config": config.to_dict(), "totals": list(run.totals)}
    return (TrainState(np.int32(run.step), **parts, opt_state=state), totals), meta


def write_file(path: Path, run: TrainingRun, log: Path) -> None:
    """Writes a checkpoint of torch_ref.train."""
    require_torch(path)
    params, scales = trained(run.config, run.entries)
    state = optimizer.to_torch(run.optimizer, params, _fresh(run, log), scales)
    content = {
        "net": to_tensors(run.weights),
        "optimizer": _tensors(state),
        **({"averages": averages.to_torch(run.averages)} if run.averages else {}),
        **({"scaler": _scaler(run)} if run.loss_scale else {}),
        **run.rest,
        "step": run.step,
        "config": _tuples(run.config.to_dict()),
        "totals": list(run.totals),
    }
    save_torch(path, content)


def _scaler(run: TrainingRun) -> dict[str, Any]:
    return loss_scale.to_torch(run.loss_scale, read_loss_scaling(run.config))


def write_torch_workdir(path: Path, run: TrainingRun, best: TrainingRun | None, log: Path) -> None:
    """A workdir that torch_ref.train resumes from; arguments as of `write_workdir`."""
    path.mkdir()
    _note(path, run, log)
    if best is not None:
        write_file(path / BEST, best, log)
    write_file(path / LAST, run, log)


def _note(workdir: Path, run: TrainingRun, log: Path) -> None:
    (workdir / CONFIG).write_text(configs.to_json(run.config) + "\n")
    if log.exists():
        shutil.copyfile(log, workdir / METRICS)


def _fresh(run: TrainingRun, log: Path) -> dict[str, Any]:
    """The state_dict of a fresh optimizer of the twin, its scheduler advanced to its step."""
    import torch

    import torch_ref.optim

    config = run.config
    try:
        made = torch_ref.optim.make_optimizer(
            [torch.nn.Parameter(torch.zeros(()))],
            config.optim,
            config.schedule,
            steps_per_epoch=_steps_per_epoch(run, log),
            num_epochs=config.num_epochs,
        )
    except (ArithmeticError, LookupError, TypeError, ValueError) as e:
        raise UserError(f"config.optim or config.schedule: {' '.join(str(e).split())}") from e
    with warnings.catch_warnings(action="ignore"):  # that the optimizer has made no step
        # Each rate follows from the last, so the scheduler makes every step, as in training.
        for _ in range(int(min(run.optimizer.count // made.every, made.last))):
            made.scheduler.step()
    return made.state_dict()


def _steps_per_epoch(run: TrainingRun, log: Path) -> int:
    """Steps of an epoch: from the run itself where it shows them, else from its data."""
    epoch, config = run.rest["epoch"], run.config
    for steps in _candidates(run, log):
        if epoch and steps >= 1 and steps == int(steps) and run.step // steps == epoch:
            return int(steps)
    if not epoch and config.schedule.per == "epoch" and run.totals[-1] == run.step:
        return run.step + 1  # still in its first epoch, whose length then does not matter
    return steps_per_epoch(len(load(config).train_labels), config.batch_size)


def _candidates(run: TrainingRun, log: Path) -> Iterator[float]:
    rows = read_rows(log) if log.exists() else []
    yield from (row["step"] / row["epoch"] for row in rows[:1] if row.get("epoch"))
    if run.rest["epoch"]:
        yield (run.step - run.totals[-1]) / run.rest["epoch"]


def _tensors(tree: Any) -> Any:
    """Nested containers with tensors in the place of arrays, images' kernels channels last."""
    import torch

    if isinstance(tree, np.ndarray | np.generic):
        tensor = torch.from_numpy(np.array(tree))
        # As the twin keeps its parameters, so that its optimizer need not go across memory.
        return tensor.to(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
    if isinstance(tree, Counter):  # MultiStepLR's milestones, of which it asks more than of a dict
        return tree
    if isinstance(tree, Mapping):
        return {key: _tensors(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_tensors(value) for value in tree]
    return tree


def _tuples(tree: Any) -> Any:
    """Nested dictionaries out of JSON with tuples in the place of lists, as recipes write them."""
    if isinstance(tree, Mapping):
        return {key: _tuples(value) for key, value in tree.items()}
    return tuple(map(_tuples, tree)) if isinstance(tree, list | tuple) else tree
