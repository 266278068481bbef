"""Trains a recipe.

    python -m jaxnets.train --config configs/se_resnet.py
    python -m jaxnets.train --config configs/se_resnet.py --config.num_epochs=3 --workdir runs/x
    python -m jaxnets.train --config configs/quickstart.py --seeds 5 --workdir runs/five

Several processes, on one host or on many, train as one: the same command for each, --distributed
and, without a cluster such as SLURM, --coordinator, --num-processes and --process-id.

--seeds N trains N seeds from config.seed on, one after the other, in WORKDIR/seed0 and so on, and
then prints their mean, standard deviation and 95 % interval, as jaxnets.results does.

The same command resumes from the last checkpoint.  Writes into the workdir: config.json, the run
record starts.jsonl (command, date, hardware, versions of each start), metrics.jsonl, TensorBoard
events, checkpoints/<step> (the last ones) and best/<step>.
"""

import contextlib
from collections.abc import Sequence
from typing import Any

from jaxnets import cli
from jaxnets.data.identity import check_same
from jaxnets.devices import distributed, rendezvous
from jaxnets.errors import UserError
from jaxnets.runs import console
from jaxnets.runs.log import record_start
from jaxnets.runs.workdir import check_workdir, held
from jaxnets.train import seeds

_MODULE = "jaxnets.train"


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns its exit code."""
    parser = cli.trainer(_MODULE, __doc__)
    parser.add_argument(
        "--seeds",
        type=cli.whole(1, 1000),
        metavar="N",
        help="train so many seeds, from config.seed on, each in a folder of --workdir",
    )
    distributed.add_flags(parser)
    args, config = cli.training(parser, argv)
    if config is None:
        return 0
    if args.seeds is not None:
        return _seeds(args, config)

    from jaxnets.devices import runtime

    # The digits are trained on in seconds: compiling them is what takes time.
    runtime.setup(config.dtype, one_heap=config.data.name != "digits")
    with distributed.processes(args, config), cli.naming_batch(*cli.batches(config)):
        return _run(argv, args, config)


def _seeds(args: Any, config: Any) -> int:
    """Trains several seeds, and sums them up once all are trained."""
    if args.distributed:
        raise UserError("--seeds: one process trains them; leave out --distributed")
    seeds.check(args.workdir)
    given = [f"--config={args.config}", *args.overrides]
    if args.init is not None:
        given += [f"--init={args.init}", *["--init-strict"] * args.init_strict]
    code = seeds.train(given, config, args.workdir, args.seeds, lambda s: print(s, flush=True))
    folders = seeds.workdirs(args.workdir, args.seeds)
    if code == 0 and all(seeds.finished(folder, config) for folder in folders):
        from jaxnets.results.summary import markdown, summarize

        print(markdown(summarize(folders)))
    return code


def _run(argv: Sequence[str], args: Any, config: Any) -> int:
    import jax

    from jaxnets.checkpoints.store import latest_meta
    from jaxnets.devices import machine
    from jaxnets.port.start import read as read_start
    from jaxnets.train.loop import train
    from jaxnets.train.task import build

    workdir = args.workdir
    with contextlib.ExitStack() as stack:
        with distributed.together():
            stored = latest_meta(workdir)
            start, drawn = None if stored or args.init is None else read_start(args.init), []

            def fill(model: Any) -> None:
                drawn.extend(start.fill(model, strict=args.init_strict))

            run = build(config, fill=start and fill)  # what is invalid is called so first
            check_workdir(workdir, config, _MODULE)
            check_same(stored.get("data"), run.identity, workdir, run.data.source)
            if distributed.is_main():
                stack.enter_context(held(workdir, config, _MODULE))
                params = sum(p.size for p in run.state.params.values())
                devices = f"{jax.device_count()} {jax.default_backend()} device(s)"
                if jax.process_count() > 1:
                    devices += f" of {jax.process_count()} processes"
                print(console.opening(config, params, run.data, devices, workdir))
                found = {"parameters": params, "epochs": config.num_epochs}
                if start is not None:
                    found["init"] = start.origin | {"drawn_anew": drawn}
                    print(console.initial(start.path, drawn))
                elif args.init is not None:
                    print(console.not_initial(args.init, workdir))
                record_start(workdir, _MODULE, argv, machine.of_a_run() | found)
        distributed.check_same("the data", (run.data.train_labels, run.data.test_labels))
        devices = run.task.layout.devices
        if len(devices) > 1 and devices[0].platform == "cpu" and jax.process_count() == 1:
            rendezvous.expect_late_devices()
        return train(config, run, workdir)


if __name__ == "__main__":
    cli.run(main)
