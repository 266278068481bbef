"""What a report shows of a run: log, checkpoint, logits, samples; read once."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxnets.augment.pipeline import make_augment
from jaxnets.augment.samples import Samples, read_samples
from jaxnets.checkpoints.store import find
from jaxnets.config import decisive_keys
from jaxnets.data.identity import describe
from jaxnets.devices import runtime
from jaxnets.inference.evaluation import evaluate
from jaxnets.inference.network import load_member
from jaxnets.inference.scores import calibration, classification_report, loss
from jaxnets.report.sections.curves import Record, read_metrics
from jaxnets.runs.log import METRICS, first_start
from jaxnets.runs.workdir import read_config


class RunData(NamedTuple):
    """One run's checkpoint on its test set."""

    name: str
    workdir: Path
    model: str
    source: str
    checkpoint: str
    step: int
    epoch: int
    selected_on: str | None
    """Which split chose this checkpoint as the best: "val" or "test"; None if none did."""
    parameters: int
    class_names: tuple[str, ...]
    records: list[Record]
    images: np.ndarray
    """uint8 (N, H, W, 3), the test set."""
    labels: np.ndarray
    """(N,)."""
    probabilities: np.ndarray
    """float64 (N, K)."""
    scores: dict[str, Any]
    """What `classification_report` found."""
    calibration: dict[str, Any]
    """What `calibration` found."""
    loss: float
    """Mean cross entropy in nats, without label smoothing."""
    samples: Samples
    config: dict[str, Any]
    """The keys that decide the run's numbers, flat."""
    start: dict[str, Any]
    """Its first start: command, date, hardware, versions; empty for a run that kept no list."""

    @property
    def epochs(self) -> int | float:
        """How many the log has; the checkpoint may be of an earlier one."""
        return max(row.get("epoch", 0) for row in self.records)

    def summary(self) -> dict[str, Any]:
        """The run in a few numbers, ready for JSON."""
        return {
            "run": self.name,
            "workdir": str(self.workdir),
            "model": self.model,
            "parameters": self.parameters,
            "data": self.source,
            "split": "test",
            "images": len(self.labels),
            "checkpoint": self.checkpoint,
            "step": self.step,
            "epoch": self.epoch,
            "epochs": self.epochs,
            "selected_on": self.selected_on,
            "accuracy": self.scores["accuracy"],
            "top5": self.scores["top5"],
            "loss": self.loss,
            "ece": self.calibration["ece"],
        }


def check_runs(workdirs: Sequence[Path], checkpoint: str = "best") -> None:
    """Raises a UserError if one of the runs has no configuration, log or such checkpoint."""
    for workdir in workdirs:
        read_config(workdir)
        read_metrics(workdir / METRICS)
        find(workdir, checkpoint)


def read_runs(
    workdirs: Sequence[Path], checkpoint: str = "best", data_dir: str | None = None
) -> list[RunData]:
    """The runs of the report, evaluated once each; named after their folders.

    Args:
        checkpoint: "best", "last" or a step.
        data_dir: where the data lies, if not where training found it.

    Raises:
        UserError: as `check_runs`; data that is missing or of other classes.
    """
    names = run_names(workdirs)
    return [_read(w, n, checkpoint, data_dir) for w, n in zip(workdirs, names, strict=True)]


def run_names(workdirs: Sequence[Path]) -> list[str]:
    """The folders' own names; a number tells those of the same name apart.

    >>> run_names([Path("a/x"), Path("b/x"), Path("y")])
    ['x', 'x-2', 'y']
    """
    names: list[str] = []
    for workdir in workdirs:
        name, count = workdir.resolve().name, 1
        while (own := name if count == 1 else f"{name}-{count}") in names:
            count += 1
        names.append(own)
    return names


def _read(workdir: Path, name: str, which: str, data_dir: str | None) -> RunData:
    runtime.setup(read_config(workdir).dtype)
    member = load_member(workdir, which)
    config = member.config
    if data_dir is not None:
        config.data.dir = data_dir
    data, labels, (logs,), (changed,), _ = evaluate([member], config)
    if changed:
        print(describe(workdir, changed), file=sys.stderr)
    probabilities = np.exp(logs)
    return RunData(
        name=name,
        workdir=workdir,
        model=config.model.name,
        source=data.source,
        checkpoint=which,
        step=member.step,
        epoch=member.meta.get("epoch", 0),
        selected_on=member.selected_on,
        parameters=member.num_parameters,
        class_names=member.class_names,
        records=read_metrics(workdir / METRICS),
        images=data.test_images,
        labels=labels,
        probabilities=probabilities,
        scores=classification_report(logs, labels, member.class_names),
        calibration=calibration(probabilities, labels),
        loss=loss(logs, labels),
        samples=read_samples(
            make_augment(config.augment), data.train_images, data.train_labels, config
        ),
        config=decisive_keys(config),
        start=first_start(workdir),
    )
