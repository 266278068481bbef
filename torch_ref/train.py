"""Trains the PyTorch twin of a recipe.

    python -m torch_ref.train --config configs/se_resnet.py
    python -m torch_ref.train --config configs/se_resnet.py --init weights.pt --workdir runs/x

The same configuration as `jaxnets.train`, the same batches in the same order with the same random
augmentation, and the same log, so that the curves of the two compare.  The same command resumes
from last.pt.  Trains on one GPU if there is one; config.parallel and config.devices have no effect.
Writes into the workdir: config.json, metrics.jsonl, TensorBoard events, last.pt and best.pt; with
--init also the run record starts.jsonl, which says where the weights are from.
"""

from collections.abc import Sequence
from typing import Any

from jaxnets import cli
from jaxnets.data import load
from jaxnets.data.identity import check_same, identity
from jaxnets.errors import UserError
from jaxnets.runs import console
from jaxnets.runs.log import record_start
from jaxnets.runs.workdir import check_workdir, held

_MODULE = "torch_ref.train"


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns its exit code."""
    parser = cli.trainer(_MODULE, __doc__, suffix="_torch")
    args, config = cli.training(parser, argv)
    if config is None:
        return 0
    workdir = args.workdir
    try:
        import torch
    except ImportError as e:
        raise UserError("torch_ref.train needs torch: pip install torch") from e

    from torch_ref import start
    from torch_ref.checkpoint import LAST, read_data
    from torch_ref.loop import train
    from torch_ref.task import build

    data = load(config)
    resumes = (workdir / LAST).exists()
    weights = None if resumes or args.init is None else start.read(args.init)
    drawn: list[str] = []

    def fill(net: Any) -> None:
        drawn.extend(start.fill(net, args.init, weights, strict=args.init_strict))

    # What is invalid is called so first.
    task = build(config, data, fill=None if weights is None else fill)
    check_workdir(workdir, config, _MODULE)
    check_same(read_data(workdir / LAST), identity(data), workdir, data.source)
    with held(workdir, config, _MODULE), cli.naming_batch(*cli.batches(config)):
        parameters = sum(p.numel() for p in task.net.parameters())
        device = f"torch {torch.__version__} on {task.device.type}"
        print(console.opening(config, parameters, data, device, workdir))
        if weights is not None:
            found = {"parameters": parameters, "epochs": config.num_epochs, "hardware": device}
            found["init"] = start.origin(args.init) | {"drawn_anew": drawn}
            record_start(workdir, _MODULE, argv, found)
            print(console.initial(args.init, drawn))
        elif args.init is not None:
            print(console.not_initial(args.init, workdir))
        return train(config, task, data, workdir)


if __name__ == "__main__":
    cli.run(main)
