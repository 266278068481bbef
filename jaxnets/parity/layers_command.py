"""Compares a model in JAX and in PyTorch layer by layer, and names the first that departs.

    python -m jaxnets.parity --model se_resnet --jax runs/se_resnet --torch se_resnet.pth
    python -m jaxnets.parity --model se_resnet --option num_channels=16 --torch narrow.safetensors

Given one checkpoint only, its weights go to both sides.  Every layer's result is compared on the
same images, in float64, where a mistake stands out from rounding, and in float32 beside it.
Writes layers.json and layers.png.

Exit codes: 0 equal parameters, all layers within 1e-10 (float64) and 1e-4 (float32); 1 not so;
2 a mistake in the command.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jaxnets import cli
from jaxnets.errors import UserError
from jaxnets.regular import open_file

if TYPE_CHECKING:
    from jaxnets.parity.layers import Model
    from jaxnets.port.names import StateDict

SUFFIXES = (".pt", ".pth", ".safetensors")


def main(argv: Sequence[str]) -> int:
    """Runs the comparison that the flags ask for; returns its exit code."""
    args = _parser().parse_args(argv)
    if args.jax is None and args.torch is None:
        raise UserError("nothing to compare: give --jax CHECKPOINT, --torch FILE, or both")
    if args.batch_size < 1 + args.train:
        raise UserError(f"--batch-size {args.batch_size}: at least {1 + args.train}")
    if args.seed < 0:
        raise UserError(f"--seed {args.seed}: at least 0")
    if args.torch and (args.torch.suffix not in SUFFIXES or args.torch.is_dir()):
        raise UserError(f"--torch {args.torch}: not one of {', '.join(SUFFIXES)}")
    if args.torch_images and not args.images:
        raise UserError("--torch-images: give the other side's with --images")
    try:
        import torch  # noqa: F401
    except ImportError as e:
        raise UserError("jaxnets.parity needs torch: pip install torch") from e

    from jaxnets import runtime

    runtime.setup()

    from jaxnets.models.options import parse_options
    from jaxnets.parity import layers, layers_report
    from jaxnets.port import load

    model = layers.Model(args.model, args.num_classes, parse_options(args.model, args.option))
    ours = _jax_weights(model, args.jax, args.checkpoint) if args.jax else None
    theirs = load(args.torch) if args.torch else ours
    images = _images(args.images) if args.images else _noise(args.batch_size, args.seed)
    torch_images = _images(args.torch_images) if args.torch_images else images
    if images.shape != torch_images.shape:
        raise UserError(
            f"--images {images.shape}, --torch-images {torch_images.shape}: not as many"
        )
    found = layers.compare(
        model, theirs if ours is None else ours, theirs, images, torch_images, train=args.train
    )
    layers_report.show(found)
    folder = Path(args.out or f"runs/{args.model}_layers")
    for path in layers_report.write(folder, model, found, args.train):
        print(f"wrote {path}")
    print(layers_report.verdict(found))
    return 0 if found.ok else 1


def _parser() -> cli.Parser:
    parser = cli.Parser(prog="jaxnets.parity", description=__doc__)
    add = parser.add_argument
    add("--model", required=True, metavar="NAME", help="whose layers they are")
    add("--option", action="append", default=[], metavar="K=V", help="an option of the model")
    add("--num-classes", type=int, metavar="N", help="logits (default: documented)")
    add("--jax", type=Path, metavar="A", help="JAX's weights: a run's folder or a weight file")
    add("--torch", type=Path, metavar="B", help=f"PyTorch's weights: {', '.join(SUFFIXES)}")
    add("--checkpoint", default="best", metavar="best|last|STEP", help="of a run; default: best")
    add("--train", action="store_true", help="in training mode: batch statistics, the same masks")
    add("--images", type=Path, metavar="NPY", help="(N, H, W, 3) normalised (default: noise)")
    add("--torch-images", type=Path, metavar="NPY", help="PyTorch's, if prepared by themselves")
    add("--batch-size", type=int, default=4, metavar="N", help="images of noise (default: 4)")
    add("--seed", type=int, default=0, metavar="N", help="of the noise (default: 0)")
    add("--out", metavar="DIR", help="where the report goes (default: runs/NAME_layers)")
    return parser


def _jax_weights(model: "Model", path: Path, checkpoint: str) -> "StateDict":
    """A checkpoint's weights in float64, through the Flax model."""
    import jax

    from jaxnets.port import load_weights, to_state_dict

    with jax.enable_x64(True):
        return to_state_dict(load_weights(model.build("float64"), path, checkpoint))


def _noise(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, 32, 32, 3))


def _images(path: Path) -> np.ndarray:
    """Images from a .npy file, (N, H, W, 3), or (N, 3, H, W) as PyTorch has them."""
    try:
        with open_file(path) as file:
            images = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as e:
        raise UserError(f"{path}: not a readable .npy file ({e})") from e
    shape = getattr(images, "shape", ())
    if len(shape) == 4 and shape[1] == 3 and shape[3] != 3:
        images = images.transpose(0, 2, 3, 1)
    if len(shape) != 4 or images.shape[3] != 3 or not images.size or images.dtype.kind != "f":
        raise UserError(f"{path}: floats of shape (N, H, W, 3) are needed, not {shape}")
    if images.shape[1:3] != (32, 32):
        raise UserError(f"{path}: images of 32x32 are needed, not {images.shape[1:3]}")
    return images
