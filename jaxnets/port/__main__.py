"""Ports weights between training runs, PyTorch files and safetensors, and proves it.

    python -m jaxnets.port net.pth net.safetensors
    python -m jaxnets.port runs/x se_resnet.pt --checkpoint last
    python -m jaxnets.port se_resnet.pth ported --model se_resnet --option num_channels=16

SRC and DST are each a training run's folder, a .pt or .pth (bare, or under net, state_dict, model,
model_state_dict), or a .safetensors; a DST without suffix is an orbax folder, which load_weights
and this command read.  DST is read back and compared bit for bit, and both frameworks compute the
same logits, before it gets its name.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from jaxnets import cli
from jaxnets.errors import UserError


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns its exit code."""
    args = _parser().parse_args(argv)
    if args.model is None and (args.option or args.num_classes is not None):
        raise UserError("--option and --num-classes are about one model: name it with --model")

    from jaxnets import runtime

    runtime.setup()

    from jaxnets.models.options import parse_options
    from jaxnets.port.convert import port
    from jaxnets.port.guess import Model

    model = None
    if args.model is not None:
        model = Model(args.model, args.num_classes, parse_options(args.model, args.option))
    done = port(
        args.src,
        args.dst,
        model=model,
        checkpoint=args.checkpoint,
        dtype=args.dtype,
        force=args.force,
    )
    dtypes = Counter(value.dtype.name for value in done.state_dict.values())
    print(f"model    {done.model} ({done.told_by})")
    if done.told_by.endswith("shapes") and done.model.defaults:
        assumed = ", ".join(f"{k}={v}" for k, v in done.model.defaults.items())
        print(f"assumed  {assumed}: weights do not show it")
    print(
        f"wrote    {args.dst}: {', '.join(f'{n} {dtype}' for dtype, n in dtypes.items())} tensors"
    )
    apart = done.differences
    print(
        f"verified every bit read back; logits up to {apart.largest:.3g}, {apart.between}: largest "
        f"difference {apart.float32:.2g} in float32, {apart.float64:.2g} in float64"
    )
    return 0


def _parser() -> cli.Parser:
    parser = cli.Parser(prog="jaxnets.port", description=__doc__)
    parser.add_argument("src", type=Path, metavar="SRC", help="what to read")
    parser.add_argument("dst", type=Path, metavar="DST", help="what to write")
    parser.add_argument("--model", metavar="NAME", help="whose weights they are (default: guessed)")
    parser.add_argument(
        "--option", action="append", default=[], metavar="K=V", help="an option of the model"
    )
    parser.add_argument(
        "--num-classes", type=int, metavar="N", help="logits (default: as many as in SRC)"
    )
    parser.add_argument(
        "--checkpoint", default="best", metavar="best|last|STEP", help="of a run; default: best"
    )
    parser.add_argument(
        "--dtype", metavar="DTYPE", help="float16, bfloat16, float32, float64 (default: SRC's)"
    )
    parser.add_argument("--force", action="store_true", help="replace DST")
    return parser


if __name__ == "__main__":
    cli.run(main)
