"""Trains a recipe in JAX and in PyTorch at once, and says how far the two are apart.

    python -m jaxnets.parity --config configs/se_resnet.py --steps 50
    python -m jaxnets.parity --config configs/se_resnet.py --steps 50 --config.dtype=float64

Same initial weights, batches, augmentation and dropout masks.  In float64 the two agree to
rounding, and a difference beyond the bound is a mistake; in float32 rounding alone sets them apart,
more with every step.  Writes parity.json (a row a step: loss, learning rate, gradient norm,
relative distance of parameters and of BatchNorm statistics) and parity.png.

    python -m jaxnets.parity --model se_resnet --jax runs/se_resnet --torch se_resnet.pth

compares what every layer of two checkpoints returns instead: --model NAME --help says more.

Exit codes: 0 within the bound, or no bound; 1 beyond it; 2 a mistake in the command.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from jaxnets import cli
from jaxnets import config as configs
from jaxnets.errors import UserError

# Of float64, by optimizer.  A bias in front of a BatchNorm has no gradient but rounding, and Adam
# divides that by almost nothing: what it does to such a bias is noise, though without effect.
TOLERANCES = {"sgd": 1e-8, "adam": 1e-6, "adamw": 1e-6}
FLAGS = (
    configs.Flag("steps", "N", "optimizer steps to compare (default: 50)", int, 50),
    configs.Flag(
        "out", "DIR", "where the report goes (default: runs/, the recipe's name, _parity)"
    ),
    configs.Flag(
        "tolerance", "X", "the bound (default: 1e-8 in float64, 1e-6 with Adam; else none)", float
    ),
)


def main(argv: Sequence[str]) -> int:
    """Runs the comparison that the flags ask for; returns its exit code."""
    given = {arg.lstrip("-").partition("=")[0] for arg in argv if arg.startswith("-")}
    mode = next((mode for flag, mode in _MODES.items() if flag in given), trainings)
    return mode(argv)


def trainings(argv: Sequence[str]) -> int:
    """Compares two trainings of a recipe."""
    parsed = configs.parse(argv, usage=__doc__, flags=FLAGS)
    if parsed is None:
        return 0
    config, flags = parsed
    if flags["steps"] < 1:
        raise UserError(f"--steps {flags['steps']}: at least 1")
    tolerance = flags["tolerance"]
    if tolerance is None and config.dtype == "float64":
        tolerance = TOLERANCES.get(config.optim.name)
    try:
        import torch  # noqa: F401
    except ImportError as e:
        raise UserError("jaxnets.parity needs torch: pip install torch") from e
    from tqdm import tqdm

    from jaxnets import runtime

    runtime.setup(config.dtype)

    from jaxnets.parity import report
    from jaxnets.parity.run import compare

    quiet = not sys.stderr.isatty()
    with tqdm(total=flags["steps"], unit="step", leave=False, disable=quiet) as bar:

        def seen(row) -> None:
            bar.set_postfix(loss=f"{row.jax.loss:.3f}", apart=f"{row.parameters:.1e}")
            bar.update()

        rows = compare(config, flags["steps"], seen)
    verdict = report.judge(rows, config.dtype, tolerance)
    print(report.table(rows))
    folder = Path(flags["out"] or f"runs/{config.name}_parity")
    for path in report.write(folder, config, rows, tolerance, verdict):
        print(f"wrote {path}")
    print(verdict.text)
    return 0 if verdict.ok else 1


def layers(argv: Sequence[str]) -> int:
    """Compares two checkpoints layer by layer."""
    from jaxnets.parity import layers_command

    return layers_command.main(argv)


# What is compared, by the flag that names it.
_MODES = {"config": trainings, "model": layers}


if __name__ == "__main__":
    cli.run(main)
