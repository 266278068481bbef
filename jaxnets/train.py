"""Trains a recipe.

    python -m jaxnets.train --config configs/se_resnet.py
    python -m jaxnets.train --config configs/se_resnet.py --config.num_epochs=3 --workdir runs/x

The same command run again goes on from the last checkpoint.  Writes into the workdir: config.json,
metrics.jsonl, TensorBoard events, checkpoints/<step> (the last ones) and best/<step>.
"""

import fcntl
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxnets import cli
from jaxnets import config as configs
from jaxnets.errors import UserError
from jaxnets.run_log import write_aside

CONFIG = "config.json"


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns its exit code."""
    parsed = configs.parse(argv, usage=__doc__)
    if parsed is None:
        return 0
    config, workdir = parsed[0], Path(parsed[1])

    from jaxnets import runtime

    runtime.setup(config.dtype)

    from jaxnets.task import build
    from jaxnets.train_loop import train

    stored = check_workdir(workdir, config)
    run = build(config)
    lock = claim(workdir)
    try:
        print(configs.to_json(config))
        import jax

        sizes = " + ".join(f"{len(x):,}" for x in (run.data.train_images, run.data.test_images))
        params = sum(p.size for p in run.state.params.values())
        print(
            f"{config.model.name}: {params:,} parameters; {run.data.source}: {sizes} images; "
            f"{jax.device_count()} {jax.default_backend()} device(s); workdir {workdir}"
        )
        if not stored:
            write_aside(workdir / CONFIG, configs.to_json(config) + "\n")
        return train(config, run, workdir)
    finally:
        lock.close()


def check_workdir(workdir: Path, config: Any) -> bool:
    """Whether `workdir` holds a run of this configuration; a UserError if it is another's."""
    path = workdir / CONFIG
    if not path.exists():
        if workdir.exists() and not workdir.is_dir():
            raise UserError(f"--workdir {workdir}: not a folder")
        return False
    try:
        old = configs.from_json(path.read_text())
    except (ValueError, OSError) as e:
        raise UserError(f"{path}: cannot be read ({e}); choose another --workdir") from e
    different = configs.differences(old, config)
    if different:
        raise UserError(
            f"--workdir {workdir} holds a run of another configuration: {'; '.join(different)}. "
            "Choose another --workdir, or delete that one"
        )
    return True


def claim(workdir: Path):
    """Makes the workdir and locks it against a second process until the returned file is closed."""
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        lock = open(workdir / ".lock", "w")  # noqa: SIM115 - held until the run ends
    except OSError as e:
        raise UserError(f"--workdir {workdir}: cannot be written ({e.strerror})") from e
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as e:
        lock.close()
        raise UserError(f"--workdir {workdir}: another process is training there") from e
    return lock


if __name__ == "__main__":
    cli.run(main)
