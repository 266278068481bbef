"""Trainings of sweeps that take no time, and workers that can be killed."""

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from jaxnets import cli
from jaxnets import config as configs
from jaxnets.runs import children
from jaxnets.runs.children import Ended
from jaxnets.runs.log import METRICS, read_rows
from jaxnets.sweep import __main__ as sweep
from jaxnets.sweep import claims, size, worker

TINY = Path(__file__).parent / "tiny_config.py"
FAILS = 0.666
"""A learning rate with which trainings fail."""
PACE = "pace"
"""A file here says how many seconds an epoch takes."""
BEGUN = "begun.txt"
"""A line for each training that was begun."""


def accuracy(config, epoch: int) -> float:
    """What a training reaches: more with a rate near .1, wider networks and later epochs."""
    reached = 0.9 - min(abs(config.optim.lr - 0.1), 0.4) + 0.001 * config.model.num_channels
    return round((reached + 0.001 * config.seed) * epoch / config.num_epochs, 6)


def train(
    args: Sequence[str], environment: Mapping[str, str], output: Path, ends: Callable[[], bool]
) -> Ended:
    """In the place of `children.train`: a log of the epochs, and nothing else."""
    parser = cli.Parser("jaxnets.train", None)
    parser.add_recipe()
    parser.add_argument("--workdir", type=Path)
    found = parser.parse_args(args)
    config, workdir = cli.recipe(found), found.workdir
    workdir.mkdir(parents=True, exist_ok=True)
    with open(BEGUN, "a") as begun:
        begun.write(f"{workdir}\n")
    if config.optim.lr == FAILS:
        output.write_text("compiling ...\nerror: the loss is no longer finite\n")
        return Ended(2, 0, False)
    (workdir / "config.json").write_text(configs.to_json(config))
    log = workdir / METRICS
    done = len(read_rows(log)) if log.exists() else 0
    for epoch in range(done + 1, config.num_epochs + 1):
        if Path(PACE).exists():
            time.sleep(float(Path(PACE).read_text()))
        reached = accuracy(config, epoch)
        row = {"step": epoch, "epoch": epoch, "seconds": float(epoch), "eval/loss": 1 - reached}
        row |= {"eval/accuracy": reached - 0.05}
        if config.data.val_fraction:
            row |= {"val/loss": 1 - reached, "val/accuracy": reached}
        with open(log, "a") as file:
            file.write(json.dumps(row) + "\n")
        if ends():
            return Ended(143, 0, True)
    return Ended(0, 0, False)


def main(argv: Sequence[str]) -> int:
    """`python -m jaxnets.sweep`, in a process that trains in no time and imports no jax."""
    children.train = train
    size.measure = lambda config: size.Size(1000 * config.model.num_channels, 10_000)
    worker.PAUSE = 0.05
    claims.BEAT = 0.2
    return sweep.main(argv)


if __name__ == "__main__":
    assert sys.argv
    cli.run(main)
