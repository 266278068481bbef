"""Trains one recipe with many settings: a grid, or a search that optuna leads.

    python -m jaxnets.sweep --config quickstart --grid model.se=none,stem --workdir sweeps/a
    python -m jaxnets.sweep --ablation s1_ladder --seeds 3 --workdir sweeps/s1
    python -m jaxnets.sweep --config se_resnet --space configs/spaces/se_resnet.py \\
        --config.data.val_fraction=0.1 --trials 50 --budget 5000000 --workdir sweeps/b
    python -m jaxnets.sweep --show sweeps/b --export best.py

--grid trains every combination; of keys that hold lists, and wherever there is one, semicolons part
the values.  --space names a file with space(trial, config), which sets keys of the configuration to
what it asks of the trial; settings are compared, and given up early, on the validation split alone.
--ablation names a file with RECIPE and SETTINGS, trained like a grid.
Settings over --budget (parameters) or --macs are never trained.

Each run is an ordinary one of jaxnets.train, of WORKDIR/trialN/recipe.py in WORKDIR/trialN/seedK.
The same command goes on where it stopped; begun again meanwhile, here or on another machine that
reaches the --storage, it is another worker.  Failed runs are named and do not end it (exit code 1);
those of a grid are tried again by the next call.

--show prints what was found, and writes tables, pictures and one HTML page into WORKDIR/report.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxnets import cli
from jaxnets.errors import UserError
from jaxnets.sweep import storage

_LARGEST = 10**15


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns its exit code."""
    args = _parser().parse_args(argv)
    storage.need_optuna()
    if args.show is not None:
        return _show(args)
    if args.export is not None or args.latency:
        raise UserError("--export, --latency: of a sweep that --show names")
    rows = _ablation(args)
    config = cli.recipe(args)
    if config is None:
        return 0
    return _sweep(args, config, rows)


def _parser() -> cli.Parser:
    parser = cli.Parser("jaxnets.sweep", __doc__)
    parser.add_recipe()
    add = parser.add_argument
    add("--grid", action="append", default=[], metavar="KEY=V,V", help="values of a key; again")
    add("--space", metavar="FILE.py", help="settings that optuna proposes, or the name of a space")
    add("--ablation", metavar="FILE.py", help="named settings of a recipe, or the name of a file")
    add("--trials", type=cli.whole(1), metavar="N", help="settings to train; may be raised later")
    add("--seeds", type=cli.whole(1, 1000), default=1, metavar="N", help="runs a setting")
    add("--workdir", type=Path, metavar="DIR", help="where everything goes")
    add("--storage", metavar="URL", help="optuna's, or journal:///FILE (default: in the workdir)")
    add("--budget", type=cli.real(1, _LARGEST), metavar="N", help="parameters at most")
    add("--macs", type=cli.real(1, _LARGEST), metavar="N", help="multiply-accumulates at most")
    add("--sampler", choices=storage.SAMPLERS, help="of a space (default: tpe)")
    add("--pruner", choices=storage.PRUNERS, help="of a space (default: asha)")
    add("--show", type=Path, metavar="DIR", help="what a sweep has found so far")
    add("--export", type=Path, metavar="FILE.py", help="with --show: the best as a recipe")
    add("--latency", action="store_true", help="with --show: measure the front's latencies here")
    return parser


def _ablation(args: Any) -> Any:
    """The settings that --ablation names; it names the recipe too."""
    if args.ablation is None:
        return None
    if args.config is not None:
        raise UserError("--ablation: names its recipe itself; leave --config out")
    from jaxnets.sweep import ablation

    args.config, rows = ablation.read(ablation.named(args.ablation, "ablations"))
    return rows


def _sweep(args: Any, config: Any, rows: Any) -> int:
    from jaxnets.sweep import definition, worker

    sweep = _defined(args, config, rows)
    with storage.alone(sweep.workdir):
        definition.check_workdir(sweep)
        study = storage.open_study(
            sweep.url,
            sweep.study,
            make=True,
            sampler=storage.sampler(sweep.sampler),
            pruner=storage.pruner(sweep.pruner, config.num_epochs),
        )
        definition.check_study(study, sweep)
        worker.fill(study, sweep)
    code = worker.work(study, sweep, dict(os.environ))
    if code < 128:
        _write(study, sweep)
    return code


def _defined(args: Any, config: Any, rows: Any) -> Any:
    """The sweep that the command describes; `rows` are the settings of an ablation."""
    from jaxnets.sweep import ablation, grid, space
    from jaxnets.sweep.definition import Sweep

    if args.workdir is None:
        raise UserError("--workdir: where the sweep goes, e.g. --workdir sweeps/a")
    if bool(args.grid) + (args.space is not None) + (rows is not None) != 1:
        raise UserError("--grid, --space or --ablation: one of them says which settings to train")
    if args.space is None:
        for flag in ("trials", "sampler", "pruner"):
            if getattr(args, flag) is not None:
                raise UserError(f"--{flag}: of a --space; a grid is trained whole")
    if args.grid:
        search: Any = grid.parse(args.config, args.overrides, args.grid)
    elif rows is not None:
        search = ablation.Ablation(args.config, tuple(args.overrides), rows)
        grid.check(search, "--ablation")
    else:
        if args.trials is None:
            raise UserError("--trials: how many settings of the space to train")
        if not config.data.val_fraction:
            raise UserError(
                "--space: settings are compared on a validation split, never on the test set; "
                "give --config.data.val_fraction=0.1"
            )
        path = ablation.named(args.space, "spaces")
        search = space.read(path, args.config, tuple(args.overrides))
    return Sweep(
        workdir=args.workdir,
        search=search,
        config=config,
        seeds=args.seeds,
        trials=args.trials,
        budget=None if args.budget is None else int(args.budget),
        macs=None if args.macs is None else int(args.macs),
        sampler=args.sampler or "tpe",
        pruner="none" if args.space is None else args.pruner or "asha",
        url=args.storage or storage.default(args.workdir),
    )


def _write(study: Any, sweep: Any) -> None:
    """The table of what a sweep has found, printed and written."""
    from jaxnets.sweep import found, page

    rows = found.rows(study, sweep.described())
    found.print_table(rows)
    written = found.write(rows, sweep.workdir)
    written += page.write_picture(rows, sweep.workdir, is_listed=sweep.is_listed)
    for path in written:
        print(f"wrote {path}")


def _show(args: Any) -> int:
    from jaxnets.sweep import definition, found, page

    given = [
        args.config,
        args.grid,
        args.space,
        args.ablation,
        args.trials,
        args.workdir,
        args.budget,
        args.macs,
    ]
    if any(given) or args.overrides:
        raise UserError("--show: takes only --export, --latency and --storage beside it")
    kept = definition.read(args.show)
    url = args.storage or kept["storage"]
    if url is None:
        raise UserError("--storage: the sweep's URL, which has a password and is not kept")
    study = storage.open_study(url, kept["study"])
    rows = found.rows(study, kept["sweep"])
    if not rows:
        raise UserError(f"{args.show}: no trial yet")
    best = found.done(rows)
    if args.export is not None and not best:
        raise UserError(f"--export: no trial of {args.show} is done yet")
    shown = page.gather(study, rows, kept, args.show, latency=args.latency)
    page.print_shown(shown)
    for path in page.write(shown, args.show / "report"):
        print(f"wrote {path}")
    if args.export is not None:
        page.export(shown, args.export)
        print(f"wrote {args.export}: trial {best[0].number}")
    return 0


if __name__ == "__main__":
    cli.run(main)
