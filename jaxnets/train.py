"""Trains a recipe.

    python -m jaxnets.train --config configs/se_resnet.py
    python -m jaxnets.train --config configs/se_resnet.py --config.num_epochs=3 --workdir runs/x

Several processes, on one host or on many, train as one: the same command for each, --distributed
and, where no cluster such as SLURM says it, --coordinator, --num-processes and --process-id.

The same command run again goes on from the last checkpoint.  Writes into the workdir: config.json,
starts.jsonl (command, hardware and versions of each start), metrics.jsonl, TensorBoard events,
checkpoints/<step> (the last ones) and best/<step>.
"""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxnets import cli, console, distributed, starts
from jaxnets import config as configs
from jaxnets.aside import write_text
from jaxnets.workdir import CONFIG, check_workdir, claim


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns its exit code."""
    parsed = configs.parse(argv, usage=__doc__, flags=(configs.WORKDIR, *distributed.FLAGS))
    if parsed is None:
        return 0
    config, flags = parsed
    workdir = Path(flags["workdir"] or f"runs/{config.name}")

    from jaxnets import runtime

    # The digits are trained on in seconds: compiling them is what takes time.
    runtime.setup(config.dtype, one_heap=config.data.name != "digits")
    with distributed.processes(flags, config):
        return _run(argv, config, workdir)


def _run(argv: Sequence[str], config: Any, workdir: Path) -> int:
    import jax

    from jaxnets.task import build
    from jaxnets.train_loop import train

    with contextlib.ExitStack() as stack:
        with distributed.together():
            stored = check_workdir(workdir, config, "jaxnets.train")
            run = build(config)
            if distributed.is_main():
                stack.callback(claim(workdir).close)
                params = sum(p.size for p in run.state.params.values())
                devices = f"{jax.device_count()} {jax.default_backend()} device(s)"
                if jax.process_count() > 1:
                    devices += f" of {jax.process_count()} processes"
                if not stored:
                    write_text(workdir / CONFIG, configs.to_json(config) + "\n")
                print(console.opening(config, params, run.data, devices, workdir))
                starts.record(workdir, starts.describe("jaxnets.train", argv, parameters=params))
        distributed.check_same("the data", (run.data.train_labels, run.data.test_labels))
        return train(config, run, workdir)


if __name__ == "__main__":
    cli.run(main)
