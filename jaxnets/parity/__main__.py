"""Trains a recipe in JAX and in PyTorch at once, and prints how far the two differ.

    python -m jaxnets.parity --config configs/se_resnet.py --steps 50
    python -m jaxnets.parity --config configs/se_resnet.py --steps 50 --config.dtype=float64

Both get the same initial weights, batches, augmentation and dropout masks.  In float64 they agree
to rounding, and a difference beyond the bound is a mistake.  In float32 rounding alone drives them
apart, more with every step.  Writes parity.png and parity.json, a row a step: loss, learning rate,
gradient norm, relative distance of the parameters and of BatchNorm's statistics.

    python -m jaxnets.parity --model se_resnet --jax runs/se_resnet --torch se_resnet.pth

compares instead what every layer of two checkpoints returns on the same images: in float64, where a
mistake stands out from rounding, and in float32.  The weights of a single checkpoint go to both
sides.  EQUAL means: the parameters are the same, and all layers agree within 1e-10 in float64 and
1e-4 in float32.  Writes layers.json and layers.png.

Exit codes: 0 within the bound, or no bound; 1 beyond it; 2 a mistake in the command.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from jaxnets import cli
from jaxnets.errors import UserError
from jaxnets.files.atomic import check_folder
from jaxnets.parity import layers_command

# Of float64, by optimizer.  The gradient of a bias in front of a BatchNorm is rounding alone.  Adam
# divides it by almost nothing, so such a bias is noise, which has no effect.  Muon may leave the
# biases to AdamW.
TOLERANCES = {"sgd": 1e-8, "adam": 1e-6, "adamw": 1e-6, "muon": 1e-6}
_TRAININGS, _LAYERS = {"steps": 50, "tolerance": None}, layers_command.DEFAULTS


def main(argv: Sequence[str]) -> int:
    """Runs the comparison that the flags ask for; returns its exit code."""
    args = _parser().parse_args(argv)
    mode, others = ("--config", _LAYERS) if args.model is None else ("--model", _TRAININGS)
    if args.model is not None and (args.config or args.overrides or args.print_config):
        raise UserError("--model and --config: compare layers, or trainings")
    for name, default in others.items():
        if getattr(args, name) != default:
            raise UserError(f"--{name.replace('_', '-')}: not with {mode}")
    return trainings(args) if args.model is None else layers_command.run(args)


def _parser() -> cli.Parser:
    parser = cli.Parser("jaxnets.parity", __doc__, aliases={"--out": "--output"})
    parser.add_recipe()
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="where the report goes (default: runs/, the recipe's name, _parity; or the model's, "
        "_layers)",
    )
    add = parser.add_argument_group("two trainings, with --config").add_argument
    add("--steps", type=cli.whole(1), metavar="N", help="optimizer steps to compare (default: 50)")
    add(
        "--tolerance",
        type=cli.real(0),
        metavar="X",
        help="the bound (default: 1e-8 in float64, 1e-6 with Adam or Muon; else none)",
    )
    layers_command.add_flags(parser)
    parser.set_defaults(**_TRAININGS, **_LAYERS)
    return parser


def trainings(args: argparse.Namespace) -> int:
    """Compares two trainings of a recipe."""
    config = cli.recipe(args)
    if config is None:
        return 0
    folder = args.output or Path(f"runs/{config.name}_parity")
    tolerance = args.tolerance
    if tolerance is None and config.dtype == "float64":
        tolerance = TOLERANCES.get(config.optim.name)
    check_folder(folder, f"--output {folder}")
    try:
        import torch  # noqa: F401
    except ImportError as e:
        raise UserError("jaxnets.parity needs torch: pip install torch") from e
    try:
        from tqdm import tqdm
    except ImportError:
        from jaxnets.runs.console import NoBar as tqdm

    from jaxnets.devices import runtime

    runtime.setup(config.dtype)

    from jaxnets.parity import report
    from jaxnets.parity.trainings import compare

    quiet = not sys.stderr.isatty()
    with (
        cli.naming_batch(f"--config.batch_size={config.batch_size}"),
        tqdm(total=args.steps, unit="step", leave=False, disable=quiet) as bar,
    ):

        def seen(row) -> None:
            bar.set_postfix(loss=f"{row.jax.loss:.3f}", apart=f"{row.parameters:.1e}")
            bar.update()

        rows = compare(config, args.steps, seen)
    verdict = report.judge(rows, config.dtype, tolerance)
    print(report.table(rows))
    print(verdict.text)
    for path in report.write(folder, config, rows, tolerance, verdict):
        print(f"wrote {path}")
    return 0 if verdict.ok else 1


if __name__ == "__main__":
    cli.run(main)
