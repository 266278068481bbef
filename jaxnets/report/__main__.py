"""Writes a report on one run, or on several beside one another.

    python -m jaxnets.report --workdir runs/x
    python -m jaxnets.report --workdir runs/x runs/y --output comparison

Learning curves, confusion, scores, mistakes, calibration and augmentation: one page, index.html,
that needs no connection, and each section as PNG and JSON beside it.  Files of an earlier report
are replaced.  Any other checkpoint than the best has its own folder, such as <workdir>/report-last.
Several runs are reported only into --output.
"""

from collections.abc import Sequence
from pathlib import Path

from jaxnets import cli
from jaxnets.errors import UserError, renamed
from jaxnets.files.atomic import check_folder
from jaxnets.runs.workdir import note_older, report_folder


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns its exit code."""
    parser = cli.Parser("jaxnets.report", __doc__)
    cli.add_workdirs(parser)
    parser.add_argument(
        "--checkpoint", default="best", metavar="best|last|STEP", help="default: best"
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="default: report/ in the workdir, if it is one"
    )
    parser.add_argument("--data-dir", help="where the data lies, if not where training found it")
    args = parser.parse_args(argv)
    if args.output is None and len(args.workdir) > 1:
        raise UserError("--output: where to write the report on several runs")
    output = args.output or report_folder(args.workdir[0], args.checkpoint)

    from jaxnets.report.run import check_runs, read_runs

    check_runs(args.workdir, args.checkpoint)
    check_folder(output, f"--output {output}")  # before the minutes that an evaluation may take
    with (
        renamed({"config.data.dir": "--data-dir"}),
        cli.naming_batch("config.eval_batch_size of the run"),
    ):
        runs = read_runs(args.workdir, args.checkpoint, args.data_dir)
    for run in runs:
        chosen = f", chosen on {run.selected_on}" if run.selected_on else ""
        print(
            f"{run.name}, checkpoint {run.checkpoint} (step {run.step}, epoch {run.epoch})"
            f"{chosen}: accuracy {run.scores['accuracy']:.2%}, "
            f"loss {run.loss:.4f}, ECE {run.calibration['ece']:.2%}"
        )
    written = write_report(output, runs)
    print(f"wrote {written[-1]} and {len(written) - 1} figures and tables beside it")
    if len(runs) == 1:
        note_older(output / "metrics.json", runs[0].step, "python -m jaxnets.evaluate")
    return 0


def write_report(output: Path, runs: Sequence) -> list[Path]:
    """Writes all files of a report on `runs` (RunData each); returns their paths, the page last.

    The sections of one run lie in `output`, those of several in a folder each.
    """
    from jaxnets.report import page
    from jaxnets.report.sections import (
        augmentation,
        calibration,
        classes,
        confusion,
        curves,
        distribution,
        mistakes,
        training,
    )

    about_a_run = (
        training.section,
        confusion.section,
        classes.section,
        mistakes.pairs,
        mistakes.confident_mistakes,
        mistakes.miscalibrated_mistakes,
        calibration.section,
        distribution.section,
        augmentation.section,
    )
    chapters = [page.Chapter(run, [make(run) for make in about_a_run]) for run in runs]
    overview = [curves.section({run.name: run.records for run in runs})]
    overview += [training.differences(runs)] if len(runs) > 1 else []
    folders = [output if len(runs) == 1 else output / run.name for run in runs]
    placed = [(output, section) for section in overview]
    placed += [(f, s) for f, c in zip(folders, chapters, strict=True) for s in c.sections]
    picture = page.drawn([section for _, section in placed])
    html = page.render(overview, chapters, picture)
    written = [page.write_json(output / "summary.json", [run.summary() for run in runs])]
    for folder, section in placed:
        written += page.write_section(folder, section, picture)
    return [*written, page.write_page(output, html)]


if __name__ == "__main__":
    cli.run(main)
