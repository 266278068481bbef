"""Evaluates a trained network on its test set.

    python -m jaxnets.evaluate --workdir runs/x
    python -m jaxnets.evaluate --workdir runs/x --checkpoint last

Prints loss, accuracy, top-5 and the per-class report, and writes into <workdir>/report:
metrics.json, curves.png, confusion.png.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxnets import cli
from jaxnets import config as configs
from jaxnets.errors import UserError
from jaxnets.run_log import METRICS, write_aside
from jaxnets.workdir import CONFIG


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns its exit code."""
    parser = cli.Parser(prog="jaxnets.evaluate", description=__doc__)
    parser.add_argument("--workdir", type=Path, required=True, help="a run of jaxnets.train")
    parser.add_argument(
        "--checkpoint", default="best", metavar="best|last|STEP", help="default: best"
    )
    parser.add_argument("--data-dir", help="where the data lies, if not where training found it")
    args = parser.parse_args(argv)
    config = read_config(args.workdir)
    if args.data_dir is not None:
        config.data.dir = args.data_dir

    from jaxnets import runtime

    runtime.setup(config.dtype)
    metrics = evaluate(config, args.workdir, args.checkpoint)

    from jaxnets.report.classification import format_report

    print(
        f"{args.workdir}, checkpoint {metrics['checkpoint']} (step {metrics['step']}, epoch "
        f"{metrics['epoch']}): test set of {metrics['n']:,} images"
    )
    print(
        f"loss {metrics['loss']:.4f}   accuracy {metrics['accuracy']:.2%}   "
        f"top-5 {metrics['top5']:.2%}\n"
    )
    print(format_report(metrics))
    for path in write_report(args.workdir, metrics):
        print(f"wrote {path}")
    return 0


def read_config(workdir: Path) -> Any:
    """The configuration that a run was started with."""
    path = workdir / CONFIG
    try:
        return configs.from_json(path.read_text())
    except FileNotFoundError as e:
        raise UserError(
            f"--workdir {workdir}: no {CONFIG} there; give the folder of a training run"
        ) from e
    except (OSError, ValueError) as e:
        raise UserError(f"{path}: cannot be read ({e})") from e


def evaluate(config: Any, workdir: Path, which: str) -> dict[str, Any]:
    """Loss, accuracy and per-class figures of a checkpoint on the test set, ready for JSON.

    Args:
        which: "best", "last" or a step.
    """
    from jaxnets import checkpoint
    from jaxnets.evaluation import Evaluator
    from jaxnets.report.classification import classification_report
    from jaxnets.task import build, eval_params
    from jaxnets.train_step import Totals

    folder, step = checkpoint.find(workdir, which)
    # The devices are those here, not those that the run was trained on.
    config.parallel, config.devices = "jit", None
    run = build(config)
    (state, _), meta = checkpoint.restore(workdir, which, (run.state, Totals.zero()))
    labels = run.data.test_labels
    result = Evaluator(run.task, run.data.test_images, labels, config.eval_batch_size)(
        eval_params(config, state), state.stats
    )
    return {
        "workdir": str(workdir),
        "checkpoint": which,
        "step": step,
        "epoch": meta["epoch"],
        "model": config.model.name,
        "data": run.data.source,
        "split": "test",
        "selected_on": "test" if folder.name == checkpoint.BEST else None,
        "loss": result.loss,
        **classification_report(result.logits, labels, run.data.class_names),
    }


def write_report(workdir: Path, metrics: dict[str, Any]) -> list[Path]:
    """Writes metrics.json and the figures into <workdir>/report; returns their paths."""
    from jaxnets.report.confusion import plot_confusion
    from jaxnets.report.curves import plot_curves, read_metrics

    report = workdir / "report"
    try:
        report.mkdir(exist_ok=True)
        written = [report / "metrics.json", report / "confusion.png"]
        write_aside(written[0], json.dumps(metrics, indent=2) + "\n")
        names = [row["name"] for row in metrics["classes"]]
        plot_confusion(np.array(metrics["confusion"]), names, written[1])
        if (workdir / METRICS).exists():
            written.append(report / "curves.png")
            plot_curves({workdir.name: read_metrics(workdir / METRICS)}, written[-1])
    except OSError as e:
        raise UserError(f"{report}: cannot be written ({e.strerror})") from e
    return written


if __name__ == "__main__":
    cli.run(main)
