"""Evaluates a trained network, or several as an ensemble, on its test set.

    python -m jaxnets.evaluate --workdir runs/x
    python -m jaxnets.evaluate --workdir runs/x --checkpoint last --split val
    python -m jaxnets.evaluate --workdir runs/a runs/b runs/c --output runs/abc
    python -m jaxnets.evaluate --workdir runs/x --tta flip_translate
    python -m jaxnets.evaluate --weights se_resnet_small

Prints loss, accuracy, top-5 and the per-class report, and writes metrics.json, curves.png and
confusion.png into <workdir>/report, or into --output.  Results of any other checkpoint than the
best, or of another split than test, go into their own folder, such as <workdir>/report-last.  A
validation split, if config.data.val_fraction made one, is reported too.

With --tta, test-time augmentation, the figures stand with and without it; the report is without.

An ensemble's probabilities are the mean of its members'.  Its report, and that of weights that lie
in no workdir, is written only into --output.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxnets import cli
from jaxnets.errors import renamed
from jaxnets.files.atomic import check_folder, write_text, writing
from jaxnets.inference.tta import TTA
from jaxnets.runs.log import METRICS, read_rows
from jaxnets.runs.workdir import read_config, report_folder

if TYPE_CHECKING:
    from jaxnets.inference.network import Member

SPLITS = {"test": "test set", "val": "validation split"}


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns its exit code."""
    parser = cli.Parser("jaxnets.evaluate", __doc__)
    cli.add_networks(parser)
    add = parser.add_argument
    add("--split", choices=SPLITS, default="test", help="what to report on (default: test)")
    add("--data-dir", help="where the data lies, if not where training found it")
    add(
        "--output", type=Path, metavar="DIR", help="where to write (default: report in the workdir)"
    )
    add("--tta", choices=TTA, default="none", help="also average over views of each image")
    args = parser.parse_args(argv)
    cli.check_networks(args)
    for workdir in args.workdir:
        read_config(workdir)
    only = args.workdir[0] if len(args.workdir) == 1 and not args.weights else None
    folder = args.output or (only and report_folder(only, args.checkpoint, args.split))
    if folder is not None:  # before the minutes that an evaluation may take
        check_folder(folder, f"--output {folder}")

    from jaxnets.data.identity import describe
    from jaxnets.port.weights import load_networks
    from jaxnets.report.sections.classes import format_report
    from jaxnets.runs.workdir import note_older
    from jaxnets.tables import terminal_width

    members = load_networks(args)
    config = members[0].config
    if args.data_dir is not None:
        config.data.dir = args.data_dir
    for note in (note for member in members for note in member.notes):
        print(f"note: {note}", file=sys.stderr)
    with (
        renamed({"config.data.dir": "--data-dir"}),
        cli.naming_batch(f"--config.eval_batch_size={config.eval_batch_size}"),
    ):
        which = args.checkpoint if args.workdir else None
        metrics = {"checkpoint": which} | measure(members, config, args.split, args.tta)
    for origin in metrics.get("members", [metrics]):
        if origin["data_changed"]:
            print(describe(origin["workdir"], origin["data_changed"]), file=sys.stderr)
    print(_heading(metrics))
    print(format_report(metrics, terminal_width()))
    if folder is None:
        print("nothing written; --output DIR keeps the report")
        return 0
    for path in write_report(folder, metrics, only):
        print(f"wrote {path}")
    if only is not None:
        note_older(folder / "summary.json", metrics["step"], "python -m jaxnets.report")
    return 0


def evaluate(config: Any, workdir: Path, which: str, split: str = "test") -> dict[str, Any]:
    """Loss, accuracy and per-class figures of a checkpoint on its data, ready for JSON.

    Args:
        config: says which data; the network is built from the workdir's own.
        which: "best", "last" or a step.
        split: "test" or "val".

    Raises:
        UserError: no such checkpoint or split, data of other classes than the network's, or a
            validation split that it may have been trained on.
    """
    from jaxnets.inference.network import load_member

    return {"checkpoint": which} | measure([load_member(workdir, which)], config, split)


def headline(config: Any, workdir: Path, which: str) -> dict[str, Any]:
    """Step, epoch, loss, accuracy, top5 and calibration error (ece) on the test set of `config`.

    The figures of `evaluate` that stand for a run; without scikit-learn.  Raises: as `evaluate`.
    """
    from jaxnets.inference import evaluation, scores
    from jaxnets.inference.network import load_member

    member = load_member(workdir, which)
    found = evaluation.evaluate([member], config)
    step = {"step": member.step, "epoch": member.meta.get("epoch")}
    return step | scores.headline(found.logs[0], found.labels)


def measure(
    members: Sequence["Member"], config: Any, split: str = "test", tta: str = "none"
) -> dict[str, Any]:
    """As `evaluate`, of networks already loaded; the mean of their probabilities counts.

    Of several networks it also says, under "members", how good each is alone.  All figures are
    without test-time augmentation, but for those under "tta", which stand beside theirs.
    """
    from jaxnets.inference.evaluation import evaluate
    from jaxnets.inference.network import log_probabilities
    from jaxnets.inference.scores import log_mean

    found = evaluate(members, config, split)
    data, labels, names = found.data, found.labels, members[0].class_names
    origins = [
        {"workdir": str(m.workdir), "step": m.step, "epoch": m.meta.get("epoch")}
        | {"model": m.config.model.name, "data_changed": changed}
        for m, changed in zip(members, found.changed, strict=True)
    ]
    metrics = {
        "data": data.source,
        "split": split,
        "selected_on": _selected_on(members),
        **_scores(log_mean(found.logs), labels, names),
    }
    if tta != "none":
        images = data.test_images if split == "test" else data.val_images
        logs = log_probabilities(members, images, config.eval_batch_size, tta=tta)
        metrics["tta"] = {"kind": tta} | _headline(_scores(logs, labels, names))
    if split == "test" and data.val_images is not None and found.same_val:
        logs = log_probabilities(members, data.val_images, config.eval_batch_size)
        metrics["val"] = _headline(_scores(logs, data.val_labels, names))
    if len(members) == 1:
        return origins[0] | metrics
    alone = [_headline(_scores(logs, labels, names)) for logs in found.logs]
    return {"members": [a | b for a, b in zip(origins, alone, strict=True)]} | metrics


def write_report(folder: Path, metrics: dict[str, Any], run: Path | None = None) -> list[Path]:
    """Writes metrics.json and the figures into a folder, with the curves of `run`; their paths."""
    from jaxnets.report.sections.confusion import plot_confusion
    from jaxnets.report.sections.curves import drawable, plot_curves

    # Before anything is written.  Stopped in its first epoch, a run has nothing to draw.
    log = run is not None and run / METRICS
    curves = {run.resolve().name: read_rows(log)} if log and log.exists() else {}
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        written = [folder / "metrics.json", folder / "confusion.png"]
        write_text(written[0], json.dumps(metrics, indent=2) + "\n")
        names = [row["name"] for row in metrics["classes"]]
        plot_confusion(np.array(metrics["confusion"]), names, written[1])
        if drawable(curves):
            written.append(folder / "curves.png")
            plot_curves(curves, written[-1])
    return written


def _selected_on(members: Sequence["Member"]) -> str | None:
    """The split that chose the checkpoints; "test" if it chose any, None if they were just last."""
    return max((m.selected_on for m in members), key=(None, "val", "test").index)


def _scores(logs: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """Loss and report of log probabilities (N, K)."""
    from jaxnets.inference.scores import classification_report, loss

    return {"loss": loss(logs, labels), **classification_report(logs, labels, names)}


def _headline(scores: dict[str, Any]) -> dict[str, Any]:
    return {key: scores[key] for key in ("n", "loss", "accuracy", "top5")}


def _heading(metrics: dict[str, Any]) -> str:
    """What was evaluated on what, and the figures above the table."""
    which = "" if metrics["checkpoint"] is None else f", checkpoint {metrics['checkpoint']}"
    of = f"{SPLITS[metrics['split']]} of {metrics['n']:,} images"
    if "members" in metrics:
        lines = [f"ensemble of {len(metrics['members'])}{which}: {of}"]
        lines += [
            f"{_line(member)}   {member['workdir']} (step {member['step']})"
            for member in metrics["members"]
        ]
        lines.append(f"{_line(metrics)}   ensemble")
    else:
        at = f"step {metrics['step']}"
        if metrics["epoch"] is not None:
            at += f", epoch {metrics['epoch']}"
        lines = [f"{metrics['workdir']}{which} ({at}): {of}", _line(metrics)]
    if "tta" in metrics:
        lines[-1] += "   without test-time augmentation"
        lines.append(f"{_line(metrics['tta'])}   with --tta {metrics['tta']['kind']}")
    if "val" in metrics:
        val = metrics["val"]
        lines.append(f"{_line(val)}   {SPLITS['val']} of {val['n']:,} images")
    return "\n".join(lines) + "\n"


def _line(figures: dict[str, Any]) -> str:
    return (
        f"loss {figures['loss']:.4f}   accuracy {figures['accuracy']:.2%}   "
        f"top-5 {figures['top5']:.2%}"
    )


if __name__ == "__main__":
    cli.run(main)
