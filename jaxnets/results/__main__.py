"""Sums up runs, and writes the tables and pictures of the results.

    python -m jaxnets.results runs/se_resnet_0 runs/se_resnet_1 runs/se_resnet_2
    python -m jaxnets.results runs/fast_* --target 95.6 --json
    python -m jaxnets.results --write
    python -m jaxnets.results runs/se_resnet_small_seed0 --publish se_resnet_small

Runs that differ in nothing but the seed share a row: mean and standard deviation (n - 1) of the
test accuracy after the last epoch, with the 95 % interval of that mean by Student's t, and at the
best one, and the seconds of training, without compilation and evaluation.  A best epoch that the
test set chose is marked: it reads high.  A run
that is named twice, or beside a copy of itself, counts once.

--write takes what jaxnets.reproduce left in results/ and writes the tables of RESULTS.md and
README.md, between their markers, results/accuracy.png and the learning curves of finished rows.

--publish writes a run's network to weights/NAME.safetensors, evaluates it, and adds recipe, test
figures, seed, commit, versions and SHA-256 to weights/index.json.  Of the last epoch, which nothing
chose, if --checkpoint does not name another.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from jaxnets import cli
from jaxnets.errors import UserError
from jaxnets.results import plan as plans
from jaxnets.results.summary import markdown, summarize


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns its exit code."""
    args = _parser().parse_args(argv)
    if args.publish is None and (args.commit or args.force or args.checkpoint != "last"):
        raise UserError("--checkpoint, --commit and --force are about --publish NAME")
    if args.publish is not None:
        return _publish(args)
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


def _publish(args: argparse.Namespace) -> int:
    if len(args.workdirs) != 1 or args.write or args.json or args.target is not None:
        raise UserError("--publish: one workdir, and no --write, --target or --json")
    from jaxnets.devices import runtime

    runtime.setup()

    from jaxnets.pretrained import index
    from jaxnets.results.publish import publish

    entry = publish(
        args.workdirs[0], args.publish, args.checkpoint, commit=args.commit, force=args.force
    )
    test = entry.record["test"]
    print(
        f"{entry.name}: {entry.model}, epoch {entry.record['epoch']} of {entry.record['epochs']}; "
        f"accuracy {test['accuracy']:.2%} of {test['n']:,} test images"
    )
    print(f"wrote {index.folder() / entry.file} ({entry.size / 1e6:.1f} MB)")
    print(f"wrote {index.folder() / index.INDEX}")
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
    plans.add_flag(parser, "with --write: whose results")
    add("--publish", metavar="NAME", help="add the run's network to weights/ by that name")
    add("--checkpoint", default="last", metavar="last|best|STEP", help="to publish (default: last)")
    add("--commit", help="of the code that trained it, where the run's record lacks it")
    add("--force", action="store_true", help="replace published weights of that name")
    return parser


if __name__ == "__main__":
    cli.run(main)
