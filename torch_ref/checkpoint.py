"""Checkpoints of the twin: one file each, `last.pt` to resume from and `best.pt`.

    net         state_dict
    optimizer   of torch_ref.optim: torch's own, the scheduler's, Lookahead's slow weights
    averages    of the weights, by kind: state_dicts of torch.optim.swa_utils.AveragedModel
    scaler      of the loss, with float16: state_dict of torch.amp.GradScaler
    acc         test accuracy in per cent when it was last measured, else None
    epoch       complete ones
    step        optimizer steps
    config      the configuration, as dictionaries
    class_names, totals (of an epoch that is not complete), progress
    data        what tells it from others: jaxnets.data.identity

All is plain data: `torch.load(path, weights_only=True)` opens it.
"""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from jaxnets.errors import UserError
from jaxnets.files import pt_file
from jaxnets.files.atomic import atomic_write
from jaxnets.runs.log import Progress
from torch_ref.step import Task, Totals

LAST, BEST = "last.pt", "best.pt"


def save(path: Path, task: Task, rest: Mapping[str, Any]) -> None:
    """An atomic write of the task's state and `rest`.  Raises: as `atomic_write`."""
    content = {"net": task.net.state_dict(), "optimizer": task.optimizer.state_dict(), **rest}
    if task.averages:
        content["averages"] = {kind: a.state_dict() for kind, a in task.averages.items()}
    if task.scaler.is_enabled():
        content["scaler"] = task.scaler.state_dict()
    buffer = io.BytesIO()  # torch.save does not say by itself that a disk is full
    torch.save(content, buffer)
    kept = "; the one before is kept" if path.exists() else ""
    with atomic_write(path, advice=kept) as temporary:
        temporary.write_bytes(buffer.getvalue())  # a view in a traceback crashes Python 3.12.1


def read_data(path: Path) -> Any:
    """What a checkpoint says of its data; None if it says nothing, or cannot be read."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True).get("data")
    except Exception:  # absent, or for `restore` to name
        return None


def restore(path: Path, task: Task) -> dict[str, Any]:
    """Loads the task's state; returns the rest of the checkpoint."""
    try:
        content = pt_file.load(torch, path, task.device)
        task.net.load_state_dict(content.pop("net"))
        task.optimizer.load_state_dict(content.pop("optimizer"))
        averages = content.pop("averages", {})
        for kind, average in task.averages.items():
            average.load_state_dict(averages[kind])
        scaler = content.pop("scaler", {})
        if task.scaler.is_enabled():
            task.scaler.load_state_dict(scaler)
        _check_rest(content)
    except Exception as e:
        reason = " ".join(str(e).split())[:200]
        raise UserError(
            f"{path}: the checkpoint cannot be read ({reason}); delete it to start again"
        ) from e
    return content


def _check_rest(content: Mapping[str, Any]) -> None:
    """Raises an exception of any kind if it is not what `save` was given."""
    step, acc = content["step"], content["acc"]
    totals, progress = content["totals"], Progress(**content["progress"])
    numbers = [*totals, *progress, *([] if acc is None else [acc])]
    if type(step) is not int or not 0 <= step < 2**31:
        raise ValueError(f"step {step}")
    if len(totals) != len(Totals._fields) or not all(type(n) in (int, float) for n in numbers):
        raise ValueError("its totals, progress or accuracy are no numbers")
