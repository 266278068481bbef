"""Ports weights or whole training runs between frameworks and files, and verifies the result.

    python -m jaxnets.port net.pth net.safetensors
    python -m jaxnets.port runs/x se_resnet.pt --checkpoint last
    python -m jaxnets.port se_resnet.pth ported --model se_resnet --option num_channels=16
    python -m jaxnets.port runs/x runs/x_torch/last.pt --with-optimizer
    python -m jaxnets.port runs/x_torch/last.pt runs/y --with-optimizer

SRC and DST are each a training run's folder, a .pt or .pth (bare, or under net, state_dict, model,
model_state_dict), or a .safetensors; a DST of another name is an orbax folder, which load_weights
and this command read.  DST is read back and compared bit for bit, and both frameworks compute the
same logits, before it gets its name.

SRC may also be an orbax checkpoint of another program, or a folder with one per step: params and
batch_stats of NNX or Linen, an nnx.State, or a train state, as orbax's StandardCheckpointer,
PyTreeCheckpointer and CheckpointManager write them.

--with-optimizer moves all that training resumes from: momentum or Adam's moments,
Lookahead's slow weights and phase, the schedule's position, BatchNorm's counters, epoch, step, the
sums of an unfinished epoch, progress, configuration, log and the best checkpoint.  SRC is a run's
folder or a .pt; DST a new folder, for jaxnets.train, or X/last.pt, for torch_ref.train --workdir X.
A .pt of another program works if its "optimizer" is the state_dict of torch.optim's SGD (with
momentum), Adam or AdamW; --config (and --config.KEY=VALUE) then names the recipe to resume with.

Adapters, used where the shapes prove them right, and named in the output:
    squeeze-and-excitation of linear layers, (out, in), for that of 1x1 convolutions,
    (out, in, 1, 1), in se_resnet and mish_se_resnet18, and the reverse in dense_se_resnet; under
    the names se, seblock, se_block, se_layer, selayer or se_module, with layers conv1, conv2; fc1,
    fc2; linear1, linear2; 0, 2; 1, 3; or the latter two within fc, se or excitation
kuangliu/pytorch-cifar's ResNet18 and its {net, acc, epoch} need none.

Where names or shapes do not fit, the error is followed by all of them: - missing (and the nearest
name), ~ of another shape, + unexpected.
"""

import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxnets import cli
from jaxnets.errors import UserError

if TYPE_CHECKING:
    from jaxnets.port.verify import Differences


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns its exit code."""
    args = _parser().parse_args(argv)
    if args.model is None and (args.option or args.num_classes is not None):
        raise UserError("--option and --num-classes are about one model: name it with --model")
    if not args.with_optimizer and (args.config or args.overrides or args.step is not None):
        raise UserError("--config and --step are about a run: add --with-optimizer")
    if args.with_optimizer and (args.model or args.dtype):
        raise UserError("--model and --dtype: a run keeps those of its configuration")

    from jaxnets.devices import runtime

    runtime.setup()
    return _run(args) if args.with_optimizer else _weights(args)


def _weights(args: Any) -> int:
    from jaxnets.config.networks import parse_options
    from jaxnets.port.guess import Model
    from jaxnets.port.weights import port

    model = None
    if args.model is not None:
        model = Model(args.model, args.num_classes, parse_options(args.model, args.option))
    done = port(
        args.src,
        args.dst,
        model=model,
        checkpoint=args.checkpoint or "best",
        dtype=args.dtype,
        force=args.force,
    )
    dtypes = Counter(value.dtype.name for value in done.state_dict.values())
    print(f"model    {done.model} (from {done.detected_from})")
    if done.detected_from.endswith("shapes") and done.model.defaults:
        assumed = ", ".join(f"{k}={v}" for k, v in done.model.defaults.items())
        print(f"assumed  {assumed}: weights do not show it")
    _print_adapted(done.adapted)
    print(
        f"wrote    {args.dst}: {', '.join(f'{n} {dtype}' for dtype, n in dtypes.items())} tensors"
    )
    _print_verified(done.differences)
    return 0


def _run(args: Any) -> int:
    from jaxnets.port.files import is_folder
    from jaxnets.port.runs.convert import port_run

    config = None
    if args.config:
        config = cli.recipe(args)
        if config is None:
            return 0
    elif args.overrides:
        raise UserError(f"{args.overrides[0]}: overrides a recipe: name it with --config")
    done = port_run(
        args.src,
        args.dst,
        checkpoint=args.checkpoint or "last",
        config=config,
        step=args.step,
        force=args.force,
    )
    run = done.run
    print(f"model    {run.model} (from {done.detected_from})")
    _print_adapted(done.adapted)
    moments = ", ".join(f"{len(values)} {kind}" for kind, values in run.optimizer.moments.items())
    look = run.config.optim.lookahead
    slow = "" if run.optimizer.slow is None else f", slow weights of Lookahead (k={look.k})"
    print(f"moved    {run.config.optim.name} at step {run.step}: {moments or 'no moments'}{slow}")
    best = "" if done.best is None else f", and the best one, of step {done.best}"
    print(f"wrote    {args.dst}: the checkpoint of step {run.step}{best}")
    _print_verified(done.differences)
    trainer, workdir = "jaxnets.train", args.dst
    if not is_folder(args.dst):
        trainer, workdir = "torch_ref.train", args.dst.parent
    if is_folder(args.dst) or args.dst.name == "last.pt":
        command = shlex.join(["python", "-m", trainer, "--workdir", str(workdir)])
        print(f"next: {command}, with the --config of the run")
    return 0


def _print_adapted(notes: Sequence[str]) -> None:
    for note in notes:
        print(f"adapted: {note}")


def _print_verified(apart: "Differences") -> None:
    print(
        f"verified every bit read back; logits up to {apart.largest:.3g}, {apart.between}: largest "
        f"difference {apart.float32:.2g} in float32, {apart.float64:.2g} in float64"
    )


def _parser() -> cli.Parser:
    parser = cli.Parser("jaxnets.port", __doc__)
    parser.add_argument("src", type=Path, metavar="SRC", help="what to read")
    parser.add_argument("dst", type=Path, metavar="DST", help="what to write")
    parser.add_argument("--model", metavar="NAME", help="whose weights they are (default: guessed)")
    parser.add_argument(
        "--option", action="append", default=[], metavar="K=V", help="an option of the model"
    )
    parser.add_argument(
        "--num-classes", type=cli.whole(1), metavar="N", help="logits (default: as many as in SRC)"
    )
    parser.add_argument(
        "--checkpoint",
        metavar="best|last|STEP",
        help="of a run (default: best; with --with-optimizer last)",
    )
    parser.add_argument(
        "--dtype", metavar="DTYPE", help="float16, bfloat16, float32, float64 (default: SRC's)"
    )
    parser.add_argument(
        "--with-optimizer", action="store_true", help="move a whole run, to be resumed there"
    )
    parser.add_recipe()  # of a run in a .pt of another program
    parser.add_argument(
        "--step",
        type=cli.whole(0),
        metavar="N",
        help="optimizer steps done, if the .pt of another program does not record them",
    )
    parser.add_argument("--force", action="store_true", help="replace DST")
    return parser


if __name__ == "__main__":
    cli.run(main)
