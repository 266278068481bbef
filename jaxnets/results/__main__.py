"""Sums up runs, and writes the tables and pictures of the results.

    python -m jaxnets.results runs/se_resnet_0 runs/se_resnet_1 runs/se_resnet_2
    python -m jaxnets.results runs/fast_* --target 95.6 --json
    python -m jaxnets.results --write

Runs that differ in nothing but the seed share a row: mean and standard deviation (n - 1) of the
test accuracy after the last epoch and at the best one, and the seconds of training, without
compilation and evaluation.  A best epoch that the test set chose is marked: it reads high.  A run
that is named twice, or beside a copy of itself, counts once.

--write takes what jaxnets.reproduce left in results/ and writes the tables of RESULTS.md and
README.md, between their markers, results/accuracy.png and the learning curves of finished rows.
"""

from collections.abc import Sequence
from pathlib import Path

from jaxnets import cli
from jaxnets.errors import UserError
from jaxnets.results import plan as plans
from jaxnets.results.summary import markdown, summarize


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns its exit code."""
    args = _parser().parse_args(argv)
    if args.write:
        if args.workdirs or args.json or args.target is not None:
            raise UserError("--write: what is in results/, no workdirs, --target or --json")
        from jaxnets.results import pages, pictures

        plan = plans.read(args.plan)
        for path in (*pages.write(plan), *pictures.write(plan)):
            print(f"wrote {path}")
        return 0
    if not args.workdirs:
        raise UserError("no workdir: name one or more runs, or --write the tables of results/")
    rows = summarize(args.workdirs, args.target)
    if args.json:
        cli.print_json(args.json, {"rows": rows})
    else:
        print(markdown(rows, args.target))
    return 0


def _parser() -> cli.Parser:
    parser = cli.Parser("jaxnets.results", __doc__)
    add = parser.add_argument
    add("workdirs", nargs="*", type=Path, metavar="WORKDIR")
    add(
        "--target",
        type=cli.real(0, 100),
        metavar="PERCENT",
        help="also the seconds to this test accuracy",
    )
    cli.add_json(parser, "instead of Markdown")
    add("--write", action="store_true", help="write tables and pictures out of results/")
    add(
        "--plan",
        type=Path,
        default=plans.DEFAULT,
        metavar="FILE",
        help=f"with --write: whose results (default: {plans.DEFAULT})",
    )
    return parser


if __name__ == "__main__":
    cli.run(main)
