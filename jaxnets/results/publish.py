"""A run's network added to the weights that come with the project: its file, and its entry."""

import dataclasses
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from jaxnets.data import Dataset, load
from jaxnets.errors import UserError
from jaxnets.inference.network import (
    Member,
    check_classes,
    load_member,
    log_probabilities,
    of_weights,
)
from jaxnets.inference.scores import headline
from jaxnets.models.torch_names import to_state_dict
from jaxnets.pretrained import index, weights
from jaxnets.pretrained.index import Entry
from jaxnets.results.record import best_row, chosen_on
from jaxnets.runs.log import METRICS, first_start, read_rows
from jaxnets.runs.workdir import read_config

LICENSE = "Apache-2.0"
FIRST = 1000
"""So many test images are what a test evaluates anew."""
_MOST = 30_000_000  # bytes of all files: they are part of the repository
_NAME = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*")


def publish(
    workdir: Path, name: str, which: str = "last", *, commit: str | None = None, force: bool = False
) -> Entry:
    """Writes weights/`name`.safetensors and its entry in the index.

    The file is read back and evaluated on the test set before the index names it.

    Args:
        workdir: a run of jaxnets.train, finished or cut.
        which: its checkpoint: "last", "best" or a step.
        commit: of the code that trained it, where its record does not say it.
        force: replace weights of that name.

    Raises:
        UserError: no such run or checkpoint, weights that are not float32, one that is there
            already, or too many bytes.
    """
    if not _NAME.fullmatch(name):
        raise UserError(f"--publish {name}: a name has small letters, digits and single _")
    known = index.read()
    path = index.folder() / f"{name}{weights.SUFFIX}"
    if (name in known or path.exists()) and not force:
        raise UserError(f"--publish {name}: is there already; --force replaces it")
    config, start = read_config(workdir), first_start(workdir)
    commit = commit or start.get("commit")
    if commit is None:
        raise UserError(f"{workdir}: its record does not say its commit; name it by --commit")
    member = load_member(workdir, which)
    tensors = to_state_dict(member.model())
    for key, value in tensors.items():
        if value.dtype not in (np.float32, np.int64):
            raise UserError(f"{workdir}: {key} is {value.dtype}; float32 is published")
    size = sum(value.nbytes for value in tensors.values())
    others = sum(entry.size for entry in known.values() if entry.file and entry.name != name)
    if size + others > _MOST:
        raise UserError(
            f"--publish {name}: {(size + others) / 1e6:.1f} MB in all, more than {_MOST / 1e6:.0f}"
        )
    log = _log(workdir, member)
    meta = {key: member.meta[key] for key in ("class_names", "epoch", "data") if key in member.meta}
    meta |= {"step": member.step, "epoch": log["epoch"], "selected_on": member.selected_on}
    data = load(config)
    check_classes(member, data.class_names, data.source)
    sha256 = weights.save(path, tensors, config, meta)
    entry = Entry(
        name,
        model=config.model.name,
        num_classes=member.num_classes,
        options=weights.options_of(config),
        sha256=sha256,
        size=path.stat().st_size,
        file=path.name,
    )
    logs, labels = _log_probabilities(path, data), data.test_labels
    record = {
        "data": config.data.name,
        "parameters": member.num_parameters,
        **_trained(start, config),
        **log,
        "test": _figures(logs, labels),
        f"first_{FIRST}": _figures(logs[:FIRST], labels[:FIRST]),
        "commit": commit,
        "published": datetime.now(UTC).date().isoformat(),
        "license": LICENSE,
    }
    entry = dataclasses.replace(entry, record=record)
    index.write({**known, name: entry})
    return entry


def _trained(start: dict[str, Any], config: Any) -> dict[str, Any]:
    words = start.get("command", "").split()
    recipe = words[words.index("--config") + 1] if "--config" in words[:-1] else config.name
    return {
        "recipe": recipe,
        "command": start.get("command"),
        "seed": config.seed,
        "hardware": start.get("hardware"),
        "versions": start.get("versions"),
    }


def _log(workdir: Path, member: Member) -> dict[str, Any]:
    """The epoch of the weights, of how many, and the best one, with what chose it."""
    rows: Sequence[dict[str, Any]] = [
        row for row in read_rows(workdir / METRICS) if row["step"] <= member.step
    ]
    if not rows or rows[-1]["step"] != member.step:
        raise UserError(f"{workdir}: step {member.step} is not the end of an epoch in its log")
    best = best_row(rows)
    return {
        "epoch": rows[-1]["epoch"],
        "epochs": member.config.num_epochs,
        "finished": rows[-1]["epoch"] >= member.config.num_epochs,
        "selected_on": member.selected_on,
        "best": {
            "epoch": best["epoch"],
            "accuracy": best["eval/accuracy"],
            "selected_on": chosen_on(rows),
        },
    }


def _log_probabilities(path: Path, data: Dataset) -> np.ndarray:
    """Of the weights in a file, on the test images."""
    return log_probabilities([of_weights(weights.load(path))], data.test_images)


def _figures(logs: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    return {key: round(value, 6) for key, value in headline(logs, labels).items()}
