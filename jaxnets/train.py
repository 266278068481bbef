"""Trains a recipe.

    python -m jaxnets.train --config configs/se_resnet.py
    python -m jaxnets.train --config configs/se_resnet.py --config.num_epochs=3 --workdir runs/x

The same command run again goes on from the last checkpoint.  Writes into the workdir: config.json,
metrics.jsonl, TensorBoard events, checkpoints/<step> (the last ones) and best/<step>.
"""

from collections.abc import Sequence
from pathlib import Path

from jaxnets import cli, console
from jaxnets import config as configs
from jaxnets.run_log import write_aside
from jaxnets.workdir import CONFIG, check_workdir, claim


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns its exit code."""
    parsed = configs.parse(argv, usage=__doc__)
    if parsed is None:
        return 0
    config, flags = parsed
    workdir = Path(flags["workdir"] or f"runs/{config.name}")

    from jaxnets import runtime

    runtime.setup(config.dtype)

    from jaxnets.task import build
    from jaxnets.train_loop import train

    stored = check_workdir(workdir, config, "jaxnets.train")
    run = build(config)
    lock = claim(workdir)
    try:
        print(configs.to_json(config))
        import jax

        params = sum(p.size for p in run.state.params.values())
        devices = f"{jax.device_count()} {jax.default_backend()} device(s)"
        print(console.opening(config, params, run.data, devices, workdir))
        if not stored:
            write_aside(workdir / CONFIG, configs.to_json(config) + "\n")
        return train(config, run, workdir)
    finally:
        lock.close()


if __name__ == "__main__":
    cli.run(main)
